using System.Diagnostics;
using MatFormer.Tests;

namespace MatFormer.Runtime.Tests.Decoding;

public sealed class DecodingTelemetryTests
{
    private const string Room = "MatFormer.Inference";

    [Fact]
    public void AGenerationIsMeasured()
    {
        using var listening = new Listening(Room);
        using var model = new ScriptedModel("hello", promptLength: 3);
        TextGenerator.Generate(model, "abc", new GenerationOptions { Tokens = 5, Temperature = 0 });
        (string, string) its = ("matformer.model", "Scripted");
        Assert.Equal([3.0], listening.Of("matformer.decoding.tokens", its, ("matformer.token.type", "prompt")));
        Assert.Equal([5.0], listening.Of("matformer.decoding.tokens", its, ("matformer.token.type", "generated")));
        var whole = Assert.Single(listening.Of("matformer.decoding.duration", its));
        Assert.InRange(Assert.Single(listening.Of("matformer.decoding.time_to_first_token", its)), 0, whole);
        var activity = Assert.Single(listening.Activities);
        Assert.Equal(("generate Scripted", 3, 5),
            (activity.DisplayName, activity.GetTagItem("matformer.tokens.prompt"), activity.GetTagItem("matformer.tokens.generated")));
        Assert.Equal("first_token", Assert.Single(activity.Events).Name);
        Assert.Null(Activity.Current);
    }

    [Fact]
    public async Task AStreamBelongsToTheActivityOfItsReader()
    {
        using var listening = new Listening(Room);
        using var source = new ActivitySource("reader");
        using var listener = new ActivityListener
        {
            ShouldListenTo = its => its.Name == "reader",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
        };
        ActivitySource.AddActivityListener(listener);
        using var reader = source.StartActivity("read")!;
        using var model = new ScriptedModel("hello");
        await foreach (var _ in TextGenerator.StreamAsync(
            model, "a", new GenerationOptions { Tokens = 4 }, TestContext.Current.CancellationToken))
        {
        }

        Assert.Equal(reader.SpanId, Assert.Single(listening.Activities).ParentSpanId);
        Assert.Same(reader, Activity.Current);
    }

    [Fact]
    public void AFailureIsToldInTheActivity()
    {
        using var listening = new Listening(Room);
        var tokens = 0;
        using var model = new ScriptedModel("hello", beforeToken: () =>
        {
            if (++tokens == 3) throw new InvalidTimeZoneException("broken");
        });
        Assert.Throws<InvalidTimeZoneException>(() => TextGenerator.Generate(model, "a", new GenerationOptions { Tokens = 9 }));
        var activity = Assert.Single(listening.Activities);
        Assert.Equal((ActivityStatusCode.Error, "broken", 2),
            (activity.Status, activity.StatusDescription, activity.GetTagItem("matformer.tokens.generated")));
        Assert.Equal(typeof(InvalidTimeZoneException).FullName, activity.GetTagItem("error.type"));
    }

    [Fact]
    public void NothingIsAllocatedWhileNobodyListens()
    {
        var scheduler = new SchedulerTelemetry(null!, TinyModel.Spec); // only observers ask the scheduler
        var statistics = Enumerable.Range(1, 101).Select(i => new SchedulerStatistics
        {
            Completed = i,
            Cancelled = i,
            Failed = i,
            PromptTokens = i,
            CachedTokens = i,
            GeneratedTokens = i,
            DraftedTokens = i,
            AcceptedTokens = i,
            Passes = i,
            PassSeconds = i,
        }).ToArray();
        Report(statistics[0]);
        var before = GC.GetAllocatedBytesForCurrentThread();
        foreach (var now in statistics.AsSpan(1)) Report(now);
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        scheduler.End(statistics[^1]);

        void Report(SchedulerStatistics now)
        {
            scheduler.Report(now);
            DecodingTelemetry.RecordFirstToken(TinyModel.Spec, 0.5);
            Assert.False(DecodingTelemetry.MeasuresDurations);
            Assert.Null(DecodingTelemetry.Start("generate", TinyModel.Spec, default, budget: null));
        }
    }
}

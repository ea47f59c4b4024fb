using System.Diagnostics;
using System.Text.RegularExpressions;
using MatFormer.Tests;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Trace;

namespace MatFormer.Server.Tests;

public sealed class TelemetryTests
{
    private const string Decoding = "MatFormer.Inference";
    private const string Serving = "MatFormer.Server";
    private const string Chat = "/v1/chat/completions";
    private const string Text = "/v1/completions";

    [Fact]
    public async Task RequestsForTextAreMeasuredByTheConventions()
    {
        using var listening = new Listening(Serving);
        await using var its = await TestServer.Start();
        await its.PostOk(Text, new { model = "TinyLm/M", prompt = "abc", max_tokens = 6 });
        await its.PostOk(Text, new { model = "TinyLm/1*M 1*XL", prompt = "abc", max_tokens = 1 });
        await its.Stream(
            Chat, new { model = "TinyLm", messages = new[] { new { role = "user", content = "hello" } }, max_tokens = 9, stream = true });
        await Models.Until(() => listening.Of("gen_ai.server.request.duration").Count == 3);
        foreach (var (operation, model, output) in new[] { ("text_completion", "M", 6), ("text_completion", "other", 1),
            ("chat", "XL", 9) })
        {
            (string, string)[] tags =
            [
                ("gen_ai.operation.name", operation), ("gen_ai.provider.name", "matformer"), ("gen_ai.request.model", "TinyLm"),
                ("gen_ai.response.model", $"TinyLm/{model}"),
            ];
            var whole = Assert.Single(listening.Of("gen_ai.server.request.duration", tags));
            var first = Assert.Single(listening.Of("gen_ai.server.time_to_first_token", tags));
            Assert.InRange(first, 0, whole);
            Assert.Equal(output > 1 ? 1 : 0, listening.Of("gen_ai.server.time_per_output_token", tags).Count);
            Assert.All(
                listening.Of("gen_ai.server.time_per_output_token", tags), each => Assert.InRange(first + (each * (output - 1)), 0, whole));
            Assert.Equal([(double)output], listening.Of("gen_ai.client.token.usage", [.. tags, ("gen_ai.token.type", "output")]));
        }

        Assert.Equal([3.0, 3, 5], listening.Of("gen_ai.client.token.usage", ("gen_ai.token.type", "input")));
        Assert.Equal([null], listening.Values("gen_ai.server.request.duration", "error.type"));
        Assert.Equal(
            [
                "gen_ai.client.token.usage {token}", "gen_ai.server.request.duration s", "gen_ai.server.time_per_output_token s",
                "gen_ai.server.time_to_first_token s",
            ],
            listening.Instruments);
        var chat = listening.Activities[^1];
        Assert.Equal(("chat TinyLm", "TinyLm/XL"), (chat.DisplayName, chat.GetTagItem("gen_ai.response.model")));
        Assert.Equal((5L, 9, 9), (chat.GetTagItem("gen_ai.usage.input_tokens"),
            chat.GetTagItem("gen_ai.usage.output_tokens"), chat.GetTagItem("gen_ai.request.max_tokens")));
        Assert.Equal(["length"], Assert.IsType<string[]>(chat.GetTagItem("gen_ai.response.finish_reasons")));
        Assert.Equal("TinyLm/1*M 1*XL", listening.Activities[1].GetTagItem("gen_ai.response.model"));
    }

    [Fact]
    public async Task RefusedRequestsHaveTheTypeOfTheirError()
    {
        using var listening = new Listening(Serving);
        await using var its = await TestServer.Start();
        using (await its.Post(Text, "{")) { }
        using (await its.Post(Text, """{"model": "TinyLm/none", "prompt": "x"}""")) { }
        await Models.Until(() => listening.Of("gen_ai.server.request.duration").Count == 2);
        Assert.Equal(["invalid_request", "model_not_found"], listening.Values("gen_ai.server.request.duration", "error.type"));
        Assert.Equal(["gen_ai.server.request.duration s"], listening.Instruments);
        Assert.All(listening.Activities, a => Assert.Equal(ActivityStatusCode.Error, a.Status));
        Assert.Contains("There is no model 'TinyLm/none'", listening.Activities[1].StatusDescription, StringComparison.Ordinal);
    }

    [Fact]
    public async Task EmbeddingsAreMeasured()
    {
        using var listening = new Listening(Serving);
        await using var its = await TestServer.StartEncoder();
        await its.PostOk("/v1/embeddings", new { model = "TinyEncoder/S", input = (string[])["abc", "x"] });
        await Models.Until(() => listening.Activities.Count == 1);
        (string, string)[] tags = [("gen_ai.operation.name", "embeddings"), ("gen_ai.response.model", "TinyEncoder/S")];
        Assert.Single(listening.Of("gen_ai.server.request.duration", tags));
        Assert.Equal([4.0], listening.Of("gen_ai.client.token.usage", [.. tags, ("gen_ai.token.type", "input")]));
        Assert.Equal(["gen_ai.client.token.usage {token}", "gen_ai.server.request.duration s"], listening.Instruments);
    }

    [Fact]
    public async Task TheSchedulerReportsWhatTheMetricsOfTheServerSay()
    {
        using var listening = new Listening(Decoding);
        await using var its = await TestServer.Start(new ModelServerOptions { MaxTokens = int.MaxValue, Scheduler = Models.Patient });
        foreach (var _ in (int[])[1, 2]) await its.PostOk(Text, new { model = "TinyLm/M", prompt = "the same beginning", max_tokens = 6 });
        using (var stop = new CancellationTokenSource())
        {
            var left = its.Post(Text, """{"model": "TinyLm", "prompt": "x", "max_tokens": 1000000, "stream": true}""", stop.Token);
            await Models.Until(() => its.Server.Scheduler.Statistics.Running == 1);
            listening.Observe();
            Assert.Equal(1, listening.Of("matformer.scheduler.active_requests", ("matformer.request.state", "running"))[^1]);
            Assert.Equal(0, listening.Of("matformer.scheduler.active_requests", ("matformer.request.state", "waiting"))[^1]);
            using (await left) await stop.CancelAsync();
        }

        await Models.Until(() => listening.Of("matformer.scheduler.requests", ("matformer.request.outcome", "cancelled")).Count == 1);
        var text = await its.Client.GetStringAsync("/metrics");
        foreach (var type in (string[])["prompt", "cached", "generated"])
            Assert.Equal(InText($"{type}_tokens_total"), listening.Of("matformer.decoding.tokens", ("matformer.token.type", type)).Sum());
        Assert.Equal(InText("passes_total"), listening.Of("matformer.scheduler.passes").Sum());
        Assert.Equal(InText("pass_seconds_total"), listening.Of("matformer.scheduler.pass.time").Sum(), 1e-6);
        Assert.Equal(2, listening.Of("matformer.scheduler.requests", ("matformer.request.outcome", "completed")).Sum());
        Assert.Equal(3, listening.Of("matformer.decoding.time_to_first_token", ("matformer.model", "TinyLm")).Count);
        Assert.True(InText("cached_tokens_total") > 0);

        double InText(string name) => double.Parse(
            Regex.Match(text, $@"^matformer_{name} (\S+)$", RegexOptions.Multiline).Groups[1].Value,
            System.Globalization.CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task RefusedRequestsOfASchedulerAreCounted()
    {
        using var listening = new Listening(Decoding);
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        await scheduler.StopAsync(TimeSpan.Zero);
        Assert.Null(scheduler.TryGenerate("x", TinyLm.Spec.WholeLayers, new GenerationOptions()));
        Assert.Equal([1.0], listening.Of("matformer.scheduler.requests", ("matformer.request.outcome", "refused")));
        Assert.Equal("refused", Assert.Single(listening.Activities).GetTagItem("matformer.request.outcome"));
        listening.Observe();
        Assert.Empty(listening.Of("matformer.scheduler.active_requests")); // a scheduler that has ended is not observed
    }

    [Fact]
    public void DraftedTokensAreCounted()
    {
        using var listening = new Listening(Decoding);
        using var model = Models.New();
        using var engine = DecodingEngine.Create(model);
        var result = TextGenerator.Generate(
            engine, "abc", new GenerationOptions { Tokens = 20, Temperature = 0, Draft = TinyLm.Profile.S.Layers, DraftLength = 3 });
        Assert.Equal([(double)result.Drafts!.Drafted], listening.Of("matformer.decoding.tokens", ("matformer.token.type", "drafted")));
        Assert.Equal(result.Drafts.Accepted, listening.Of("matformer.decoding.tokens", ("matformer.token.type", "accepted")).Sum());
        Assert.Equal([20.0], listening.Of("matformer.decoding.tokens", ("matformer.token.type", "generated")));
        Assert.Single(listening.Of("matformer.decoding.duration", ("matformer.profile", "2*XL")));
        Assert.Equal("2*XL", Assert.Single(listening.Activities).GetTagItem("matformer.profile"));
    }

    [Fact]
    public async Task ARequestInTheSchedulerBelongsToThatOfTheServer()
    {
        using var decoding = new Listening(Decoding);
        using var serving = new Listening(Serving);
        await using var its = await TestServer.Start();
        await its.PostOk(Text, new { model = "TinyLm/Mixed", prompt = "abc", max_tokens = 4 });
        await Models.Until(() => serving.Activities.Count == 1 && decoding.Activities.Count == 1);
        var (outer, inner) = (serving.Activities[0], decoding.Activities[0]);
        Assert.Equal(("text_completion TinyLm", "schedule TinyLm"), (outer.DisplayName, inner.DisplayName));
        Assert.Equal((outer.TraceId, outer.SpanId), (inner.TraceId, inner.ParentSpanId));
        Assert.Equal(["admitted", "first_token"], inner.Events.Select(e => e.Name));
        Assert.Equal(("completed", 3, 4), (inner.GetTagItem("matformer.request.outcome"),
            inner.GetTagItem("matformer.tokens.prompt"), inner.GetTagItem("matformer.tokens.generated")));
        Assert.Equal("1*S 1*XL", inner.GetTagItem("matformer.profile"));
    }

    [Fact]
    public async Task AFailedRequestOfASchedulerSaysWhy()
    {
        using var listening = new Listening(Decoding);
        using var model = Models.New();
        using (TorchSharp.torch.no_grad())
            ((TorchSharp.torch.Tensor)model.named_parameters().First().Item2).fill_(float.NaN);
        await using var scheduler = Models.Scheduler(model, 1);
        var request = scheduler.TryGenerate("x", TinyLm.Spec.WholeLayers, new GenerationOptions())!;
        await Assert.ThrowsAsync<DecodingException>(() => Models.Read(request));
        await Models.Until(() => listening.Of("matformer.scheduler.requests", ("matformer.request.outcome", "failed")).Count == 1);
        var activity = Assert.Single(listening.Activities);
        Assert.Equal((ActivityStatusCode.Error, typeof(DecodingException).FullName, "failed"),
            (activity.Status, activity.GetTagItem("error.type"), activity.GetTagItem("matformer.request.outcome")));
    }

    [Fact]
    public async Task OpenTelemetryExportsMetricsAndTraces()
    {
        var (metrics, traces) = (new List<MetricSnapshot>(), new List<Activity>());
        using var meters = Sdk.CreateMeterProviderBuilder().AddMeter("MatFormer.*").AddInMemoryExporter(metrics).Build();

        // ASP.NET Core has an activity for each request. If nobody samples it, the activities within it are not sampled either.
        using var tracers = Sdk.CreateTracerProviderBuilder()
            .AddSource("MatFormer.*", "Microsoft.AspNetCore").AddInMemoryExporter(traces).Build();
        await using (var its = await TestServer.Start())
        {
            await its.PostOk(Text, new { model = "TinyLm/S", prompt = "abc", max_tokens = 5 });
            await Models.Until(() => traces.Count == 3);
            Assert.True(meters.ForceFlush());
        }

        Assert.Equal(["schedule TinyLm", "text_completion TinyLm"], traces.SkipLast(1).Select(t => t.DisplayName));
        Assert.Equal([traces[1].SpanId, traces[2].SpanId], traces.SkipLast(1).Select(t => t.ParentSpanId));
        var byName = metrics.ToDictionary(m => m.Name);
        var duration = Assert.Single(byName["gen_ai.server.request.duration"].MetricPoints);
        Assert.Equal(("s", 1), (byName["gen_ai.server.request.duration"].Unit, duration.GetHistogramCount()));
        Assert.Equal(15, Buckets(duration)); // the bounds of the conventions, and infinity
        Assert.Equal(14, Buckets(byName["gen_ai.server.time_per_output_token"].MetricPoints[0]));
        Assert.Equal(17, Buckets(byName["gen_ai.server.time_to_first_token"].MetricPoints[0]));
        Assert.Equal(15, Buckets(byName["gen_ai.client.token.usage"].MetricPoints[0]));
        var generated = byName["matformer.decoding.tokens"].MetricPoints
            .Single(point => Tags(point).Contains(new("matformer.token.type", "generated")));
        Assert.Equal(5, generated.GetSumLong());
        Assert.Contains("matformer.scheduler.active_requests", byName.Keys);

        static int Buckets(MetricPoint point)
        {
            var count = 0;
            foreach (var _ in point.GetHistogramBuckets()) count++;
            return count;
        }

        static List<KeyValuePair<string, object?>> Tags(MetricPoint point)
        {
            var tags = new List<KeyValuePair<string, object?>>();
            foreach (var tag in point.Tags) tags.Add(tag);
            return tags;
        }
    }

    [Fact]
    public async Task NothingIsMeasuredWhileNobodyListens()
    {
        await using var its = await TestServer.Start();
        Assert.Null(RequestTelemetry.Start(its.Server, "chat"));
    }
}

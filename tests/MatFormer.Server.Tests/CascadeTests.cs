using System.Collections.Immutable;

namespace MatFormer.Server.Tests;

public sealed class CascadeTests
{
    private static readonly Profile<TinyLm> s_whole = TinyLm.Granularities[^1];

    private static readonly ImmutableArray<ImmutableArray<CascadeLevel>> s_cascades =
    [
        CascadeLevel.Parse<TinyLm>("S:0.3"), CascadeLevel.Parse<TinyLm>("S:0.2,M:0.3"), CascadeLevel.Parse<TinyLm>("Mixed:0.4"), [],
        CascadeLevel.Parse<TinyLm>("M:0"), CascadeLevel.Parse<TinyLm>("S:1"),
    ];

    [Fact]
    public async Task RequestsTogetherGiveTheTextOfEachAlone()
    {
        using var model = Models.New();

        // Prompts are cut, some are longer than the context of 32, and there are more requests than sequences.
        await using var scheduler = Models.Scheduler(model, 3, Models.Patient with { TokensPerPass = 9, PromptTokens = 3, PiecesAhead = 4 });
        string[] prompts = ["a", string.Empty, "a prompt that is longer than the context, of which the end counts"];
        var wanted = new List<string>();
        var requests = new List<Task<(string Text, int Tokens, FinishReason Reason)>>();
        foreach (var cascade in s_cascades)
        {
            foreach (var (i, prompt) in prompts.Index())
            {
                var options = new GenerationOptions { Tokens = 20 + (15 * i), Temperature = i % 2, RepetitionPenalty = 1.3, Seed = i, Cascade = cascade };
                wanted.Add(Models.Alone(model, s_whole, prompt, options));
                requests.Add(Models.Read(scheduler.TryGenerate(prompt, s_whole.Layers, options)));
            }
        }

        var got = await Task.WhenAll(requests);
        Assert.Equal(wanted, got.Select(g => g.Text));
        Assert.InRange(wanted.Distinct().Count(), wanted.Count - 4, wanted.Count); // at 1, the text is that without a cascade
        Assert.All(got, (g, i) => Assert.Equal((20 + (15 * (i % 3)), FinishReason.Length), (g.Tokens, g.Reason)));
        var statistics = scheduler.Statistics;
        Assert.Equal(got.Sum(g => g.Tokens), statistics.GeneratedTokens);
        Assert.InRange(statistics.EscalatedTokens, 20, 2 * statistics.GeneratedTokens);
    }

    [Theory]
    [InlineData("S:0.3", 8)]
    [InlineData("S:1", 8 + 5)]
    public async Task OnlyWhatOneSizeComputedIsReused(string cascade, int cached)
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        var options = new GenerationOptions { Tokens = 6, Cascade = CascadeLevel.Parse<TinyLm>(cascade), LogitBias = s_onlyA };
        Assert.Equal("AAAAAA", (await Models.Read(scheduler.TryGenerate("a prompt", s_whole.Layers, options))).Text);
        var plain = options with { Tokens = 9, LogitBias = ImmutableDictionary<int, double>.Empty };
        foreach (var next in (GenerationOptions[])[plain, plain with { Cascade = [] }])
        {
            // The whole model computed the prompt, so a request without a cascade reuses it too.
            var request = scheduler.TryGenerate("a promptAAAAAA and", s_whole.Layers, next);
            Assert.Equal(Models.Alone(model, s_whole, "a promptAAAAAA and", next), (await Models.Read(request)).Text);
            if (next == plain) Assert.Equal(cached, request!.CachedTokens);
            else Assert.Equal("a promptAAAAAA and".Length - 1, request!.CachedTokens);
        }
    }

    [Fact]
    public async Task ACascadeOfOtherSizesIsRefused()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        var error = Assert.Throws<ArgumentException>(() => scheduler.TryGenerate(
            "x", TinyLm.Granularities[0].Layers, new GenerationOptions { Cascade = CascadeLevel.Parse<TinyLm>("M:0.5") }));
        Assert.Contains("2*M before 2*S, of which it is not a part", error.Message);
    }

    [Fact]
    public async Task AServerAsksSmallerSizesFirst()
    {
        var cascade = CascadeLevel.Parse<TinyLm>("S:0.2,M:0.3");
        var defaults = new GenerationOptions { Cascade = cascade };
        await using var its = await TestServer.Start(new ModelServerOptions { Defaults = defaults, Scheduler = Models.Patient });
        ImmutableArray<CascadeLevel>[] wanted = [[], [cascade[0]], cascade];
        foreach (var (profile, levels) in TinyLm.Granularities.Zip(wanted))
        {
            var answer = await its.PostOk("/v1/completions", new { model = $"TinyLm/{profile.Name}", prompt = "x", max_tokens = 40, temperature = 0 });
            Assert.Equal(
                Models.Alone(its.Model, profile, "x", new GenerationOptions { Tokens = 40, Cascade = levels }),
                answer.GetProperty("choices")[0].GetProperty("text").GetString());
        }

        Assert.Contains($"matformer_escalated_tokens_total {its.Server.Scheduler.Statistics.EscalatedTokens}\n", await its.Client.GetStringAsync("/metrics"));
        Assert.NotEqual(0, its.Server.Scheduler.Statistics.EscalatedTokens);
    }

    private static readonly ImmutableDictionary<int, double> s_onlyA = ImmutableDictionary<int, double>.Empty.Add('A', 100);
}

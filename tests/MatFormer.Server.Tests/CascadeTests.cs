using System.Collections.Immutable;

namespace MatFormer.Server.Tests;

public sealed class CascadeTests
{
    private static readonly Profile<TinyLm> s_whole = TinyLm.Granularities[^1];

    // How sure S is in one case of two.
    private static readonly double s_median = Median();

    private static readonly CascadeLevel s_s = new(TinyLm.Granularities[0].Layers, s_median);

    private static readonly CascadeLevel s_m = new(TinyLm.Granularities[1].Layers, s_median);

    private static readonly ImmutableArray<ImmutableArray<CascadeLevel>> s_cascades =
    [
        [s_s], [s_s, s_m], [new(TinyLm.Profiles[0].Layers, s_median)], [], [s_m with { Threshold = 0 }], [s_s with { Threshold = 1 }],
    ];

    [Fact]
    public async Task RequestsTogetherGiveTheTextOfEachAlone()
    {
        using var model = Models.New();

        // Prompts are cut, some are longer than the context of 32, and there are more requests than sequences.
        await using var scheduler = Models.Scheduler(
            model, 3, Models.Patient with { TokensPerPass = 9, PromptTokens = 3, PiecesAhead = 4 });
        string[] prompts = ["a", string.Empty, "a prompt that is longer than the context, of which the end counts"];
        var wanted = new List<string>();
        var requests = new List<Task<(string Text, int Tokens, FinishReason Reason)>>();
        foreach (var cascade in s_cascades)
        {
            foreach (var (i, prompt) in prompts.Index())
            {
                var options = new GenerationOptions { Tokens = 20 + (15 * i), Temperature = i % 2, RepetitionPenalty = 1.3, Seed = i };
                options = options with { Cascade = cascade };
                wanted.Add(Models.Alone(model, s_whole, prompt, options));
                requests.Add(Models.Read(scheduler.TryGenerate(prompt, s_whole.Layers, options)));
            }
        }

        var got = await Task.WhenAll(requests);
        Assert.Equal(wanted, got.Select(g => g.Text));
        Assert.True(wanted.Distinct().Count() >= 10, "different texts cannot be right by chance"); // at 1, it is the text without a cascade
        Assert.All(got, (g, i) => Assert.Equal((20 + (15 * (i % 3)), FinishReason.Length), (g.Tokens, g.Reason)));
        var statistics = scheduler.Statistics;
        Assert.Equal(got.Sum(g => g.Tokens), statistics.GeneratedTokens);
        Assert.InRange(statistics.EscalatedTokens, 20, 2 * statistics.GeneratedTokens);
    }

    [Theory]
    [InlineData(false, 8)]
    [InlineData(true, 8 + 5)]
    public async Task OnlyWhatOneSizeComputedIsReused(bool isUniform, int cached)
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        var options = new GenerationOptions { Tokens = 6, Cascade = [isUniform ? s_s with { Threshold = 1 } : s_s], LogitBias = s_onlyA };
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
        var defaults = new GenerationOptions { Cascade = [s_s, s_m] };
        await using var its = await TestServer.Start(new ModelServerOptions { Defaults = defaults, Scheduler = Models.Patient });
        ImmutableArray<CascadeLevel>[] wanted = [[], [s_s], [s_s, s_m]];
        foreach (var (profile, levels) in TinyLm.Granularities.Zip(wanted))
        {
            var answer = await its.PostOk(
                "/v1/completions", new { model = $"TinyLm/{profile.Name}", prompt = "x", max_tokens = 40, temperature = 1, seed = 3 });
            Assert.Equal(
                Models.Alone(its.Model, profile, "x", new GenerationOptions { Tokens = 40, Temperature = 1, Seed = 3, Cascade = levels }),
                answer.GetProperty("choices")[0].GetProperty("text").GetString());
        }

        var escalated = its.Server.Scheduler.Statistics.EscalatedTokens;
        Assert.NotEqual(0, escalated);
        Assert.Contains($"matformer_escalated_tokens_total {escalated}\n", await its.Client.GetStringAsync("/metrics"));
    }

    private static double Median()
    {
        using var model = Models.New();
        using var engine = DecodingEngine.Create(model);
        engine.Use(0, TinyLm.Granularities[0]);
        var all = new List<double>();
        for (var next = (int)'x'; engine.Length(0) < engine.Capacity;)
        {
            var row = engine.Append(0, [next]);
            engine.Run();
            var logits = engine.Logits(row).ToArray();
            all.Add(1 / logits.Sum(l => Math.Exp((double)l - logits.Max())));
            next = Array.IndexOf(logits, logits.Max());
        }

        return all.Order().ElementAt(all.Count / 2);
    }

    private static readonly ImmutableDictionary<int, double> s_onlyA = ImmutableDictionary<int, double>.Empty.Add('A', 100);
}

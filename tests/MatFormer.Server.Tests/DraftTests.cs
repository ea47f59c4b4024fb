namespace MatFormer.Server.Tests;

public sealed class DraftTests
{
    private static readonly Profile<TinyLm> s_whole = TinyLm.Granularities[^1];

    [Theory]
    [InlineData(0, "S")]
    [InlineData(0, "Mixed")]
    [InlineData(0.8, "M")]
    public async Task ADraftChangesNoToken(double temperature, string draft)
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 2);
        var options =
            new GenerationOptions { Tokens = 60, Temperature = temperature, Seed = 3, FrequencyPenalty = 0.3, RepetitionPenalty = 1.1 };

        // The texts are longer than the context of 32.
        foreach (var prompt in (string[])["x", "a prompt of some length", string.Empty])
        {
            var drafting = options with { Draft = Profile<TinyLm>.Parse(draft).Layers, DraftLength = 4 };
            var got = await Models.Read(scheduler.TryGenerate(prompt, s_whole.Layers, drafting));
            Assert.Equal((Models.Alone(model, s_whole, prompt, options), 60, FinishReason.Length), got);
        }

        var statistics = scheduler.Statistics;
        Assert.Equal((180, 3), ((int)statistics.GeneratedTokens, (int)statistics.Completed));
        Assert.InRange(statistics.AcceptedTokens, 1, statistics.DraftedTokens);
        Assert.True(statistics.DraftedTokens > statistics.AcceptedTokens, "no drafted token was rejected");
    }

    /// <summary>The whole model drafts for itself with the upper 4 bits of its weights.</summary>
    [Fact]
    public async Task ADraftOfFewerBitsChangesNoToken()
    {
        using var model = Models.New();
        var bits = new DecodingOptions { Weights = DecodingWeights.Nested8, Threads = 2 };
        using var alone = DecodingEngine.Create(model, bits);
        await using var scheduler = new DecodingScheduler(DecodingEngine.Create(model, bits), Models.Patient);
        var options = new GenerationOptions { Tokens = 60, Temperature = 0.8, Seed = 3 };
        var drafting = options with { Draft = s_whole.Layers, DraftWeights = DecodingWeights.Nested4, DraftLength = 4 };
        var got = await Models.Read(scheduler.TryGenerate("a prompt", s_whole.Layers, drafting));
        Assert.Equal((TextGenerator.Generate(alone, "a prompt", options).Text, 60, FinishReason.Length), got);
        Assert.InRange(scheduler.Statistics.AcceptedTokens, 1, scheduler.Statistics.DraftedTokens);

        await using var plain = Models.Scheduler(model, 1);
        var error = Assert.Throws<ArgumentException>(() => plain.TryGenerate("a prompt", s_whole.Layers, drafting));
        Assert.Contains("holds the weights as Float32, not as Nested4", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ASequenceThatWasDraftedForIsReused()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        var options = new GenerationOptions { Tokens = 6, Temperature = 1 };
        var drafting = options with { Draft = TinyLm.Granularities[0].Layers, DraftLength = 3 };
        await Models.Read(scheduler.TryGenerate("a prompt", s_whole.Layers, drafting));
        var next = scheduler.TryGenerate("a prompt", s_whole.Layers, drafting with { Seed = 9 });
        Assert.Equal(Models.Alone(model, s_whole, "a prompt", options with { Seed = 9 }), (await Models.Read(next)).Text);
        Assert.Equal("a prompt".Length - 1, next!.CachedTokens);
    }

    [Fact]
    public async Task AStopStringEndsADraft()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        var options = new GenerationOptions { Tokens = 40, LogitBias = s_onlyA, StopStrings = ["AAAAA"] };
        var drafting = options with { Draft = TinyLm.Granularities[0].Layers, DraftLength = 8 };
        Assert.Equal((string.Empty, 5, FinishReason.Stop), await Models.Read(scheduler.TryGenerate("x", s_whole.Layers, drafting)));
    }

    [Fact]
    public async Task LogProbabilitiesAreThoseOfTheModel()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        var options = new GenerationOptions { Tokens = 20, TopLogProbabilities = 2 };
        var plain = await LogProbabilities(options);
        Assert.Equal(20, plain.Count);
        Assert.Equal(plain, await LogProbabilities(options with { Draft = TinyLm.Granularities[1].Layers, DraftLength = 4 }));

        async Task<List<(int, double)>> LogProbabilities(GenerationOptions its)
        {
            var all = new List<(int, double)>();
            await foreach (var piece in scheduler.TryGenerate("x", s_whole.Layers, its)!.ReadAsync())
                all.AddRange(piece.LogProbabilities.Select(p => (p.Token, p.LogProbability)));
            return all;
        }
    }

    [Fact]
    public async Task ADraftThatIsNoPartOfTheSizeIsRefused()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        Assert.Throws<ArgumentException>(
            () => scheduler.TryGenerate("x", TinyLm.Granularities[0].Layers, new GenerationOptions { Draft = s_whole.Layers }));
    }

    [Fact]
    public async Task AServerDraftsForLargerSizesWithTheSameText()
    {
        var defaults = new GenerationOptions { Draft = TinyLm.Granularities[1].Layers, DraftLength = 4 };
        await using var its = await TestServer.Start(new ModelServerOptions { Defaults = defaults, Scheduler = Models.Patient });
        foreach (var profile in TinyLm.Granularities)
        {
            var before = its.Server.Scheduler.Statistics.DraftedTokens;
            var answer = await its.PostOk(
                "/v1/completions", new { model = $"TinyLm/{profile.Name}", prompt = "x", max_tokens = 40, temperature = 0 });
            Assert.Equal(
                Models.Alone(its.Model, profile, "x", new GenerationOptions { Tokens = 40 }),
                answer.GetProperty("choices")[0].GetProperty("text").GetString());
            Assert.Equal(profile.Name == "XL", its.Server.Scheduler.Statistics.DraftedTokens > before);
        }

        Assert.Contains($"matformer_drafted_tokens_total {its.Server.Scheduler.Statistics.DraftedTokens}\n",
            await its.Client.GetStringAsync("/metrics"));
    }

    private static readonly System.Collections.Immutable.ImmutableDictionary<int, double> s_onlyA =
        System.Collections.Immutable.ImmutableDictionary<int, double>.Empty.Add('A', 100);
}

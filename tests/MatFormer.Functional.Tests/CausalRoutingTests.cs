using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>
/// Tests language models whose tokens choose their hidden units by thresholds. OracleTests compares them with PyTorch, and RoutingTests
/// has what they share with vision transformers.
/// </summary>
public sealed class CausalRoutingTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-causal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>After training, the thresholds hold the budgets on text that was not trained on.</summary>
    [Fact]
    public void ATrainedModelHoldsItsBudgets()
    {
        using var data = TestCorpus.Open(_folder);
        using var model = TrainingRuns.Trained<RoutedBytes>(
            data, new() { Steps = 240, Batch = 8, LearningRate = 3e-3, Objective = Objective.SampledPerLayer });
        var evaluation = Evaluator.Run(model, data, new() { Windows = 64, Continuations = 2 });
        Assert.Equal(["S", "M", "XL", "Mixed", "routed-0.4", "routed-0.7"], evaluation.Rows.Select(row => row.Costs.Name));
        var narrow = evaluation.Rows[0];
        foreach (var row in evaluation.Rows.Where(row => row.Costs.Budget is not null))
        {
            Assert.InRange(row.UsedShare!.Value, row.Costs.Budget!.Value - 0.05, row.Costs.Budget.Value + 0.05);
            Assert.True(row.BitsPerByte < narrow.BitsPerByte + 0.1, $"{row.Costs.Name}: {row.BitsPerByte}, S: {narrow.BitsPerByte}");
        }

        Assert.All(evaluation.Rows.Where(row => row.Costs.Budget is null), row => Assert.Null(row.UsedShare));
        foreach (var (name, weight) in model.named_parameters())
            if (name.EndsWith("router.alpha", StringComparison.Ordinal)) Assert.NotEqual(0, weight.item<float>());
    }

    /// <summary>
    /// Budgets hold after a few steps too, whose routers hardly tell tokens apart: by sorting exactly, and by thresholds within 0.03 on
    /// text that was not trained on. The decoder chooses as the model does.
    /// </summary>
    [Theory]
    [InlineData(4, 0)]
    [InlineData(20, 0.5)]
    [InlineData(60, 1)]
    public void AShortTrainingHoldsItsBudgets(int steps, double routedShare)
    {
        using var data = TestCorpus.Open(_folder);
        using var model = TrainingRuns.Trained<RoutedBytes>(
            data, new() { Steps = steps, Batch = 8, LearningRate = 1e-2, RoutedShare = routedShare });
        using var unrecorded = no_grad();
        var text = new byte[64 * 32];
        data.Validation.Text.Read(0, text);
        var tokens = tensor([.. text.Select(b => (long)b)], [64, 32]);
        foreach (var budget in RoutedBytes.Spec.Routing!.Budgets)
        {
            foreach (var layer in RoutingBudget.Of(RoutedBytes.Spec, budget).Layers) Assert.InRange(layer!.Share, budget - 0.03, budget);
            var streams = Streams.Routed<RoutedBytes>(budget, isCausal: true);
            using var losses = model.Losses(streams, tokens, tokens);
            Assert.InRange(streams.UsedShare!.Value, budget - 0.03, budget + 0.03);

            using var engine = DecodingEngine.Create(model);
            engine.Use(0, budget);
            using var logits = model.Forward(budget, tokens.narrow(0, 0, 1));
            var wanted = logits.flatten().data<float>().ToArray();
            var got = Logits(engine, 0, [.. text.Take(32).Select(b => (int)b)], atOnce: false);
            var largest = wanted.Max(MathF.Abs);
            Assert.All(wanted.Zip(got), pair => Assert.InRange(pair.Second - pair.First, -1e-4f * largest, 1e-4f * largest));
        }
    }

    /// <summary>A step leaves the thresholds as they are.</summary>
    [Fact]
    public void ThresholdsAreSetAfterTheLastStep()
    {
        using var data = TestCorpus.Open(_folder);
        using var model = DrawnModel.New<RoutedBytes>();
        using var trainer = new Trainer<RoutedBytes>(model, new TrainerOptions { Steps = 2, Batch = 2, RoutedShare = 1 });
        trainer.Step(data);
        var thresholds = model.named_parameters().Where(p => p.name.EndsWith("router.thresholds", StringComparison.Ordinal)).ToList();
        Assert.Equal(2, thresholds.Count);
        Assert.All(thresholds, p => Assert.True(p.parameter.isposinf().all().item<bool>()));
        trainer.SetThresholds(data);
        Assert.All(thresholds, p => Assert.True(p.parameter.isfinite().all().item<bool>()));
        var before = LiveTensors.Count();
        trainer.SetThresholds(data);
        Assert.Equal(before, LiveTensors.Count());
    }

    /// <summary>The FLOPs of a token are those of the tokens' mean hidden units, and of the routers.</summary>
    [Fact]
    public void TheFlopsOfABudgetAreThoseOfATokenOnAverage()
    {
        var (spec, routers) = (RoutedBytes.Spec, 2 * 2L * 3 * 32);
        Assert.Equal(RoutedBytes.FlopsPerToken + routers, RoutingBudget.Of(spec, 1).Flops);
        var narrow = RoutingBudget.Of(spec, 0.25).Flops;
        var unused = (2L * 3 * 32 * 48) + (2L * 2 * 32 * 36); // three quarters of three matrices of 64 units, and of two of 48
        Assert.Equal(RoutedBytes.FlopsPerToken + routers - unused, narrow);
        var half = RoutingBudget.Of(spec, 0.625);
        Assert.InRange(half.Flops, (narrow + RoutingBudget.Of(spec, 1).Flops) / 2 * 0.99, (narrow + RoutingBudget.Of(spec, 1).Flops) / 2);
        Assert.Equal(0.7, ProfileCosts.Of<RoutedBytes>(0.7).Budget);
    }

    [Fact]
    public void ALaterTokenChangesNoEarlierLogit()
    {
        using var model = Drawn();
        using var unrecorded = no_grad();
        var tokens = Inputs.Of(RoutedBytes.Spec, 3);
        var before = model.Forward(0.4, tokens);
        var changed = tokens.clone();
        changed.narrow(1, 20, 12).fill_(7);
        var after = model.Forward(0.4, changed);
        Assert.True(allclose(before.narrow(1, 0, 20), after.narrow(1, 0, 20), 1e-4, 1e-5));
        Assert.False(allclose(before.narrow(1, 20, 12), after.narrow(1, 20, 12), 1e-2, 1e-2));

        // Nor do other texts of the batch.
        Assert.True(allclose(before.narrow(0, 0, 1), model.Forward(0.4, tokens.narrow(0, 0, 1)), 1e-4, 1e-5));
    }

    [Fact]
    public void BeforeTrainingEveryTokenTakesTheNarrowestGranularity()
    {
        manual_seed(1);
        using var model = DrawnModel.New<RoutedBytes>();
        using var unrecorded = no_grad();
        var tokens = Inputs.Of(RoutedBytes.Spec, 2);
        var streams = Streams.Routed<RoutedBytes>(0.7, isCausal: true);
        Assert.Null(streams.UsedShare);
        model.Losses(streams, tokens, tokens);
        Assert.Equal(0.25, streams.UsedShare);
    }

    [Fact]
    public void WhatCannotBeRoutedIsRefused()
    {
        using var model = Drawn();
        var tokens = Inputs.Of(RoutedBytes.Spec, 1);
        var undeclared = Assert.Throws<ArgumentException>(() => model.Forward(0.5, tokens));
        Assert.Contains("for the budget 0.5, only for those that it declares: 0.4, 0.7", undeclared.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => model.Forward(0.1, tokens));
        Assert.Throws<ArgumentException>(() => Streams.Routed<RoutedBytes>(0.5));
        var images = Assert.Throws<ArgumentException>(() => Streams.Routed<TokenViT>(0.5, isCausal: true));
        Assert.Contains("is not causal", images.Message, StringComparison.Ordinal);
        using var slice = model.Extract<RoutedBytes.XL>();
        Assert.Throws<NotSupportedException>(() => slice.Forward(0.4, tokens));
        using var ofSlice = DecodingEngine.Create(slice);
        var refused = Assert.Throws<ArgumentException>(() => ofSlice.Use(0, 0.4));
        Assert.Contains("the slice RoutedBytes.XL, which has no routers", refused.Message, StringComparison.Ordinal);
        using var engine = DecodingEngine.Create(model);
        Assert.Throws<ArgumentException>(() => engine.Use(0, 0.5));
        engine.Use(0, 0.4);
        var narrower = new Profile<RoutedBytes>("M", "M M").Layers; // has all heads
        foreach (var options in (GenerationOptions[])[new() { Draft = narrower }, new() { Cascade = [new CascadeLevel(narrower, 0.5)] }])
        {
            var drafted = Assert.Throws<ArgumentException>(() => TextGenerator.Generate(engine, "a", options));
            Assert.Contains("decodes at the budget 0.4", drafted.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void ASavedModelHasItsThresholdsAndItsSlicesHaveNone()
    {
        var path = PathOf("model.safetensors");
        using var model = Drawn();
        model.Save(path);
        using var opened = Checkpoint.OpenUniversal<RoutedBytes>(path);
        using var unrecorded = no_grad();
        var tokens = Inputs.Of(RoutedBytes.Spec, 3);
        Assert.Equal(RoutingTests.Bits(model.Forward(0.4, tokens)), RoutingTests.Bits(opened.Forward(0.4, tokens)));
        foreach (var profile in RoutedBytes.Granularities.Concat(RoutedBytes.Profiles))
        {
            var slice = PathOf(profile.Name + ".safetensors");
            Extraction.ToSafetensors(path, profile, slice);
            using var cut = Checkpoint.Open<RoutedBytes>(slice);
            Assert.DoesNotContain(cut.named_parameters(), p => p.name.Contains("router", StringComparison.Ordinal));
            Assert.Equal(RoutingTests.Bits(model.Forward(profile, tokens)), RoutingTests.Bits(cut.call(tokens)));
        }
    }

    [Fact]
    public void AResumedRunEqualsAnUninterruptedOne()
    {
        using var data = TestCorpus.Open(_folder);
        var options = new TrainerOptions { Steps = 8, Batch = 2, RoutedShare = 0.75, CheckpointEvery = 4 };
        using var trained = TrainingRuns.AssertResumes<RoutedBytes>(data, options, PathOf("whole"), PathOf("half"));
        var thresholds = trained.named_parameters().Where(p => p.name.EndsWith("router.thresholds", StringComparison.Ordinal)).ToList();
        Assert.Contains(thresholds, p => p.parameter.isfinite().any().item<bool>());
    }

    [Fact]
    public void RecomputationChangesNothing()
    {
        using var data = TestCorpus.Open(_folder);
        var options = new TrainerOptions { Steps = 4, Batch = 2, RoutedShare = 1 };
        using var plain = TrainingRuns.Trained<RoutedBytes>(data, options);
        using var recomputed = TrainingRuns.Trained<RoutedBytes>(data, options with { RecomputeActivations = true });
        TrainingRuns.AssertSame(plain, recomputed);
    }

    [Fact]
    public void RoutedStepsAndPassesLeakNoTensors()
    {
        using var data = TestCorpus.Open(_folder);
        var tokens = Inputs.Of(RoutedBytes.Spec, 3);
        TrainingRuns.AssertLeaksNothing<RoutedBytes>(data, 2, model => model.Forward(0.4, tokens));
    }

    [Theory]
    [InlineData(0.4)]
    [InlineData(0.7)]
    public void TheEngineEqualsTheModel(double budget)
    {
        using var model = Drawn();
        using var unrecorded = no_grad();
        var tokens = Inputs.Of(RoutedBytes.Spec, 1);
        var wanted = model.Forward(budget, tokens).flatten().data<float>().ToArray();
        int[] given = [.. tokens.data<long>().Select(token => (int)token)];
        foreach (var bits in (int[])[128, 256, 512])
        {
            if (bits > DecodingKernels.RegisterBits) continue;
            using var engine = DecodingEngine.Create(model, new DecodingOptions { RegisterBits = bits, Threads = 2 });
            engine.Use(0, budget);
            var got = Logits(engine, 0, given, atOnce: true);
            var largest = wanted.Max(MathF.Abs);
            Assert.All(wanted.Zip(got), pair => Assert.InRange(pair.Second - pair.First, -1e-4f * largest, 1e-4f * largest));
        }
    }

    /// <summary>A sequence has the same bits token by token, whatever weights it has and whatever else is in the pass.</summary>
    [Theory]
    [InlineData(DecodingWeights.Float32)]
    [InlineData(DecodingWeights.BFloat16)]
    [InlineData(DecodingWeights.Int8)]
    [InlineData(DecodingWeights.Nested8)]
    public void TokenByTokenEqualsAllAtOnce(DecodingWeights weights)
    {
        using var model = Drawn();
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights, Sequences = 4 });
        int[] given = [.. Inputs.Of(RoutedBytes.Spec, 1).data<long>().Select(token => (int)token)];
        foreach (var sequence in (int[])[0, 1]) engine.Use(sequence, 0.4);
        engine.Use(2, 0.7);
        Assert.Equal((0.4, 0.7, null), (engine.BudgetOf(0), engine.BudgetOf(2), engine.BudgetOf(3)));
        var all = Logits(engine, 0, given, atOnce: true);
        Assert.Equal(all, Logits(engine, 1, given, atOnce: false));

        // Beside sequences of another budget and of a profile.
        var own = Logits(engine, 2, given, atOnce: true);
        engine.Use(3, RoutedBytes.Profile.S);
        var small = Logits(engine, 3, given, atOnce: true);
        for (var sequence = 0; sequence < 4; sequence++) engine.Truncate(sequence, 0);
        int[] firsts = [.. new[] { 0, 2, 3 }.Select(sequence => engine.Append(sequence, given, allLogits: true))];
        engine.Run();
        Assert.Equal(all, Collect(engine, firsts[0], given.Length));
        Assert.Equal(own, Collect(engine, firsts[1], given.Length));
        Assert.Equal(small, Collect(engine, firsts[2], given.Length));

        // A profile ends the budget.
        engine.Use(0, RoutedBytes.Profile.XL);
        Assert.Null(engine.BudgetOf(0));
    }

    /// <summary>Weights of hidden units that no token chooses are not read: not even a number that is none changes anything.</summary>
    [Fact]
    public void ATokenReadsOnlyTheHiddenUnitsThatItChooses()
    {
        using var model = Drawn();
        using var unrecorded = no_grad();
        foreach (var (name, weight) in model.named_parameters())
        {
            if (name.EndsWith("router.thresholds", StringComparison.Ordinal)) weight.fill_(float.PositiveInfinity);
            if (name.EndsWith("up_proj.weight", StringComparison.Ordinal))
                weight.narrow(0, weight.shape[0] / 4, weight.shape[0] * 3 / 4).fill_(float.NaN);
        }

        var tokens = Inputs.Of(RoutedBytes.Spec, 1);
        Assert.True(model.Forward(0.4, tokens).isfinite().all().item<bool>());
        Assert.False(model.forward(tokens).isfinite().any().item<bool>());
        using var engine = DecodingEngine.Create(model);
        engine.Use(0, 0.4);
        int[] given = [.. tokens.data<long>().Select(token => (int)token)];
        Assert.All(Logits(engine, 0, given, atOnce: true), logit => Assert.True(float.IsFinite(logit)));
    }

    [Fact]
    public async Task TheProgramTrainsMeasuresAndGeneratesAtABudget()
    {
        var (text, output) = (PathOf("text"), PathOf("out"));
        TestCorpus.Write(text);
        var train = await Run("train", "--data", text, "--steps", "8", "--batch", "2", "--routed-share", "0.8", "--out", output);
        Assert.True(train.Code == 0, train.Errors);
        var page = Path.Combine(output, "eval.html");
        var eval = await Run(
            "eval", "--out", output, "--data", text, "--windows", "4", "--report", page, "--sweep", "1", "--bits", "8", "--json");
        Assert.True(eval.Code == 0, eval.Errors);
        using var document = JsonDocument.Parse(eval.Output);
        var results = document.RootElement.GetProperty("results").EnumerateArray();
        var routed = results.Where(r => r.GetProperty("kind").GetString() == "routed").ToList();
        Assert.Equal([0.4, 0.7], routed.Select(r => r.GetProperty("budget").GetDouble()));
        Assert.All(routed, r => Assert.InRange(r.GetProperty("used_share").GetDouble(), 0.25, 1));
        Assert.Contains("routed-0.7", await File.ReadAllTextAsync(page), StringComparison.Ordinal);
        var generate = await Run("generate", "--out", output, "--prompt", "the ", "--tokens", "8", "--routing", "0.4", "--json");
        Assert.True(generate.Code == 0, generate.Errors);
        Assert.Contains("at the budget 0.4", generate.Errors, StringComparison.Ordinal);
        foreach (var (says, more) in ((string, string[])[])
            [("only for those that it declares", ["--routing", "0.5"]), ("leave out --profile", ["--routing", "0.4", "--profile", "S"]),
            ("leave out --draft", ["--routing", "0.4", "--draft", "Mixed"])])
        {
            var refused = await Run(["generate", "--out", output, .. more]);
            Assert.Equal(2, refused.Code);
            Assert.Contains(says, refused.Errors, StringComparison.Ordinal);
        }

        static async Task<(int Code, string Output, string Errors)> Run(params string[] arguments)
        {
            using StringWriter output = new(), error = new();
            var code = await ModelProgram.RunAsync<RoutedBytes>(arguments, output, error, CancellationToken.None);
            return (code, output.ToString(), error.ToString());
        }
    }

    // A model whose scores weigh, and of whose tokens each granularity takes some.
    private static RoutedBytes Drawn()
    {
        manual_seed(3);
        var model = DrawnModel.New<RoutedBytes>();
        using var unrecorded = no_grad();
        foreach (var (name, weight) in model.named_parameters())
        {
            if (name.EndsWith("router.alpha", StringComparison.Ordinal)) weight.fill_(0.5);
            else if (name.EndsWith("router.weight", StringComparison.Ordinal)) weight.normal_(0, 2);
            else if (!name.EndsWith("router.thresholds", StringComparison.Ordinal)) weight.add_(randn(weight.shape) * 0.1);
            else weight.copy_(tensor(new[,] { { 0.4f, 0.7f }, { 0.2f, 0.45f } }).logit());
        }

        var streams = Streams.Routed<RoutedBytes>(0.4, isCausal: true);
        var tokens = Inputs.Of(RoutedBytes.Spec, 4);
        model.Losses(streams, tokens, tokens).Dispose();
        Assert.InRange(streams.UsedShare!.Value, 0.3, 0.95);
        return model;
    }

    // The logits after each token, which are appended in one run or one after the other.
    private static float[] Logits(DecodingEngine engine, int sequence, int[] tokens, bool atOnce)
    {
        engine.Truncate(sequence, 0);
        var all = new List<float>();
        foreach (var part in tokens.Chunk(atOnce ? tokens.Length : 1))
        {
            var first = engine.Append(sequence, part, allLogits: true);
            engine.Run();
            all.AddRange(Collect(engine, first, part.Length));
        }

        return [.. all];
    }

    private static float[] Collect(DecodingEngine engine, int first, int count) =>
        [.. Enumerable.Range(first, count).SelectMany(i => engine.Logits(i).ToArray())];

    private string PathOf(string name) => Path.Combine(_folder, name);
}

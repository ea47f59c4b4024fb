using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests.Training;

public sealed class TrainerTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly TextCorpus _corpus;

    public TrainerTests() => _corpus = TextCorpus.Open(_folder.WriteTexts(), _folder["data"]);

    public void Dispose()
    {
        _corpus.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData(1, 2e-4)]
    [InlineData(10, 2e-3)]
    [InlineData(55, 1.1e-3)]
    [InlineData(100, 2e-4)]
    public void TheLearningRateWarmsUpAndFallsAsACosine(long step, double expected) =>
        Assert.Equal(expected, new TrainerOptions { Steps = 100, LearningRate = 2e-3 }.LearningRateAt(step), 12);

    [Theory]
    [InlineData(Objective.Sampled)]
    [InlineData(Objective.Joint)]
    [InlineData(Objective.Split)]
    public void TheLossFalls(Objective objective)
    {
        using var model = Model(1);
        var options = new TrainerOptions { Steps = 150, Batch = 8, LearningRate = 3e-3, Objective = objective };
        using var trainer = new Trainer<TinyModel>(model, options);
        var losses = new Dictionary<string, List<float>>();
        for (var i = 0; i < 150; i++)
        {
            var result = trainer.Step(_corpus);
            Assert.Equal(i + 1, result.Step);
            Assert.Equal(objective != Objective.Sampled ? ["S", "M", "XL"] : [result.Losses[0].Granularity],
                result.Losses.Select(l => l.Granularity));
            foreach (var (granularity, loss) in result.Losses)
                (losses.TryGetValue(granularity, out var list) ? list : losses[granularity] = []).Add(loss);
        }

        Assert.Equal(3, losses.Count);
        Assert.All(losses.Values, l => Assert.True(l.TakeLast(5).Average() < 0.6 * l[0], $"{l[0]} to {l.TakeLast(5).Average()}"));
    }

    [Fact]
    public void ProbabilitiesDecideWhichGranularityIsDrawn()
    {
        using var model = Model(1);
        using var trainer = new Trainer<TinyModel>(model, new TrainerOptions { Steps = 60, Batch = 1, Probabilities = [3, 0, 1] });
        var drawn = Enumerable.Range(0, 60).Select(_ => trainer.Step(_corpus).Losses[0].Granularity).CountBy(g => g).ToDictionary();
        Assert.DoesNotContain("M", drawn.Keys);
        Assert.InRange(drawn["S"], 35, 55);
        Assert.Equal(60, drawn["S"] + drawn["XL"]);
    }

    [Fact]
    public void OnlyTheMatricesOfBlocksDecay()
    {
        // The huge epsilon makes steps along the gradient almost zero, so weight decay alone changes the weights.
        using var model = Model(1);
        var before = model.named_parameters().ToDictionary(p => p.Item1, p => ((Tensor)p.Item2).detach().clone());
        using var trainer = new Trainer<TinyModel>(
            model, new TrainerOptions
            {
                Steps = 1,
                Batch = 1,
                WarmupSteps = 0,
                FinalLearningRate = 1,
                LearningRate = 1e-3,
                WeightDecay = 500,
                Epsilon = 1e9,
                Objective = Objective.Joint
            });
        trainer.Step(_corpus);
        foreach (var (name, parameter) in model.named_parameters())
        {
            using var halved = before[name] * 0.5;
            Assert.True(parameter.detach().allclose(
                name.Contains(".layers.", StringComparison.Ordinal) ? halved : before[name], 1e-4, 1e-6), name);
        }
    }

    [Fact]
    public void MetricsKeepGranularitiesAndAllDigits()
    {
        Fit(new TrainerOptions { Steps = 12, Batch = 2, OutputFolder = _folder["out"] }, out var steps);
        var read = MetricsFile.Read(_folder["out/metrics.jsonl"]).ToList();
        Assert.Equal(steps.SelectMany(s => s.Losses), read.SelectMany(s => s.Losses));
        Assert.All(read, s => Assert.Empty(s.Divergences));
        Assert.Equal(steps.Select(s => (s.Step, s.LearningRate, s.GradientNorm)),
            read.Select(s => (s.Step, s.LearningRate, s.GradientNorm)));
        var curves = TrainingCurves.Read(_folder["out/metrics.jsonl"], ["S", "M", "XL"], LossUnit.BitsPerByte(1));
        Assert.Equal(steps.Select(s => s.Losses[0].Granularity).Distinct().Count(), curves.Count);
    }

    [Fact]
    public void MixesAndDivergencesAreInTheMetrics()
    {
        var options = new TrainerOptions { Steps = 12, Batch = 2, OutputFolder = _folder["out"], Distillation = new() };
        Fit(options with { Objective = Objective.Sandwich }, out var sandwich);
        Assert.All(sandwich, s => Assert.Equal(["S", "XL", "mix"], s.Losses.Select(l => l.Granularity)));
        Assert.All(sandwich, s => Assert.Equal(["S", "mix"], s.Divergences.Select(d => d.Granularity)));
        var read = MetricsFile.Read(_folder["out/metrics.jsonl"]).ToList();
        Assert.Equal(sandwich.SelectMany(s => s.Divergences), read.SelectMany(s => s.Divergences));
        Assert.All(read, s => Assert.Equal(Objective.Sandwich, s.Objective));
        Assert.Equal(["S", "XL", "mix"], TrainingCurves.Read(
            _folder["out/metrics.jsonl"], Planner<TinyModel>.AllNames, LossUnit.BitsPerByte(1)).Select(c => c.Granularity));

        Fit(options with { Objective = Objective.Branching, Steps = 30, Overwrite = true }, out var branching);
        var names = branching.SelectMany(s => s.Losses).Select(l => l.Granularity).Distinct().Order(StringComparer.Ordinal);
        Assert.Equal(["M", "S", "XL", "mix-M", "mix-XL"], names);
    }

    [Fact]
    public void CurvesAreSmoothed()
    {
        using (var metrics = MetricsFile.Open(_folder["metrics.jsonl"], 0))
        {
            for (var step = 1; step <= 1000; step++)
            {
                var (name, loss) = step % 2 == 0 ? ("S", 2f) : ("XL", step % 4 == 1 ? 0.5f : 1.5f);
                metrics.Add(new StepResult(step, Objective.Sampled, [(name, loss)], 1, 1, 1));
            }
        }

        var curves = TrainingCurves.Read(_folder["metrics.jsonl"], ["S", "M", "XL"], LossUnit.BitsPerByte(1));
        Assert.Equal(["S", "XL"], curves.Select(c => c.Granularity));
        Assert.All(curves[0].Points, p => Assert.Equal(2 / Math.Log(2), p.Loss, 9));
        Assert.All(curves[1].Points, p => Assert.InRange(p.Loss, 0.95 / Math.Log(2), 1.05 / Math.Log(2)));
        Assert.InRange(curves[1].Points[^1].Step, 990, 1000);
    }

    [Fact]
    public void ResumingWithOtherOptionsOrTextIsRefused()
    {
        var options = new TrainerOptions { Steps = 5, Batch = 2, OutputFolder = _folder["out"] };
        var result = Fit(options, out _);
        using var model = Model(1);
        foreach (var (changed, says) in new (TrainerOptions, string)[]
        {
            (options with { Batch = 3 }, "training.batch = '2', but now it is '3'"),
            (options with { Steps = 6 }, "training.steps"),
            (options with { Seed = 2 }, "training.seed"),
            (options with { Objective = Objective.Joint }, "training.objective"),
            (options with { LearningRate = 1 }, "training.learning_rate"),
            (options with { LossWeights = [1, 1, 2] }, "training.loss_weights = '', but now it is '1,1,2'"),
            (options with { Distillation = new(0.5, 2) }, "training.distillation_weight"),
        })
        {
            using var other = new Trainer<TinyModel>(model, changed);
            var e = Assert.Throws<CheckpointException>(() => other.Resume(result.Checkpoint!));
            Assert.Contains(says, e.Message, StringComparison.Ordinal);
        }

        using var trainer = new Trainer<TinyModel>(model, options);
        var weights = Assert.Throws<CheckpointException>(() => trainer.Resume(result.Weights!));
        Assert.Contains("is not a training checkpoint", weights.Message, StringComparison.Ordinal);
        trainer.Resume(result.Checkpoint!);
        using var corpus = TextCorpus.Open(_folder.WriteTexts("fewer", 50), _folder["data2"]);
        var data = Assert.Throws<DataException>(() => trainer.Fit(corpus));
        Assert.Contains("resume with the same data", data.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void RecomputationIsRemembered()
    {
        var options = new TrainerOptions { RecomputeActivations = true };
        var stored = options.ToMetadata().Concat(options.ToChangeableMetadata()).ToDictionary(pair => pair.Key, pair => pair.Value);
        Assert.True(TrainerOptions.FromMetadata("checkpoint.safetensors", stored).RecomputeActivations);
    }

    [Fact]
    public void ANewRunDoesNotReplaceAnEarlierOneUnasked()
    {
        var options = new TrainerOptions { Steps = 1, Batch = 2, OutputFolder = _folder["out"] };
        Fit(options, out _);
        var weights = File.ReadAllBytes(_folder["out/model.safetensors"]);
        var e = Assert.Throws<IOException>(() => Fit(options with { Seed = 2 }, out _));
        Assert.Equal($"'{_folder["out"]}' holds a model with 1 trained step; resume from its checkpoint.safetensors, give another "
            + "OutputFolder, or set Overwrite to replace it.", e.Message);
        Assert.Equal(weights, File.ReadAllBytes(_folder["out/model.safetensors"]));
    }

    [Fact]
    public void ARunMayReplaceAnEarlierOneIfTheOptionsAllowIt()
    {
        var options = new TrainerOptions { Steps = 1, Batch = 2, OutputFolder = _folder["out"] };
        Fit(options, out _);
        var weights = File.ReadAllBytes(_folder["out/model.safetensors"]);
        Fit(options with { Seed = 2, Overwrite = true }, out _);
        Assert.NotEqual(weights, File.ReadAllBytes(_folder["out/model.safetensors"]));
    }

    [Fact]
    public void AResumedRunDoesNotReplaceTheModelOfAnotherFolder()
    {
        var options = new TrainerOptions { Steps = 1, Batch = 2, OutputFolder = _folder["out"] };
        var result = Fit(options, out _);
        Fit(options with { OutputFolder = _folder["other"] }, out _);
        using var model = Model(1);
        using var trainer = new Trainer<TinyModel>(model, options with { OutputFolder = _folder["other"] });
        trainer.Resume(result.Checkpoint!);
        Assert.Contains("holds a model", Assert.Throws<IOException>(() => trainer.Fit(_corpus)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TrainingIsRefusedWhileAnotherRunWritesIntoTheFolder()
    {
        using var other = RunFolder.Lock(_folder["out"]);
        var written = _folder[$"out/checkpoint.safetensors.{Guid.NewGuid():N}.tmp"];
        File.WriteAllText(written, "half");
        var options = new TrainerOptions { Steps = 1, Batch = 2, OutputFolder = _folder["out"], Overwrite = true };
        Assert.Contains("Another run", Assert.Throws<IOException>(() => Fit(options, out _)).Message, StringComparison.Ordinal);
        Assert.True(File.Exists(written));
    }

    [Fact]
    public void ALossThatIsNotFiniteStopsBeforeAnythingIsSaved()
    {
        var options = new TrainerOptions { Steps = 5, Batch = 2, MaxSkippedSteps = 0, OutputFolder = _folder["out"] };
        using var model = Model(1);
        using var trainer = new Trainer<TinyModel>(model, options);
        using (no_grad()) ((Tensor)model.named_parameters().First().Item2).fill_(float.NaN);
        var e = Assert.Throws<TrainingException>(() => trainer.Fit(_corpus));
        Assert.Contains("In step 1 the loss of", e.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder["out/checkpoint.safetensors"]));
        Assert.Equal(0, trainer.StepsDone);
    }

    [Fact]
    public void AStepThatIsNotFiniteIsSkippedAndCounted()
    {
        var options =
            new TrainerOptions { Steps = 20, Batch = 2, MaxSkippedSteps = 2, Objective = Objective.Joint, OutputFolder = _folder["out"] };
        using var model = Model(1);
        using var trainer = new Trainer<TinyModel>(model, options);
        var weight = (Tensor)model.named_parameters().First().Item2;
        using var good = weight.detach().clone();
        var spoilt = new HashSet<long> { 3, 6, 7 };
        var seen = new List<StepResult>();
        var result = trainer.Fit(_corpus, step =>
        {
            seen.Add(step);
            using var frozen = no_grad();
            if (!spoilt.Contains(step.Step)) good.copy_(weight);
            if (spoilt.Contains(step.Step + 1)) weight.fill_(float.NaN);
            else if (spoilt.Contains(step.Step)) weight.copy_(good);
        });
        Assert.True(result.Finished);
        Assert.Equal(3, result.Skipped);
        Assert.Equal(3, trainer.StepsSkipped);
        Assert.Equal([3, 6, 7], seen.Where(step => step.Skipped is not null).Select(step => step.Step));
        Assert.All(seen, step => Assert.Equal(step.Skipped is null ? 3 : 0, step.Losses.Length));
        Assert.StartsWith("the loss of XL is NaN", seen[2].Skipped, StringComparison.Ordinal);
        Assert.All(model.named_parameters(), p => Assert.True(((Tensor)p.Item2).isfinite().all().item<bool>()));
        var read = MetricsFile.Read(_folder["out/metrics.jsonl"]).ToList();
        Assert.Equal(seen.Select(step => step.Skipped), read.Select(step => step.Skipped));
        Assert.Equal(20, read.Count);

        using var resumed = new Trainer<TinyModel>(model, options);
        resumed.Resume(result.Checkpoint!);
        Assert.Equal(3, resumed.StepsSkipped);
    }

    [Fact]
    public void SeveralSkippedStepsInARowEndTraining()
    {
        using var model = Model(1);
        using var trainer = new Trainer<TinyModel>(model, new TrainerOptions { Steps = 9, Batch = 2, MaxSkippedSteps = 2 });
        using (no_grad()) ((Tensor)model.named_parameters().First().Item2).fill_(float.NaN);
        var e = Assert.Throws<TrainingException>(() => trainer.Fit(_corpus));
        Assert.Contains("In step 3 the loss of", e.Message, StringComparison.Ordinal);
        Assert.Contains("after 2 skipped steps in a row; train again with a lower learning rate than", e.Message, StringComparison.Ordinal);
        Assert.Equal(2, trainer.StepsDone);
    }

    [Theory]
    [InlineData(Objective.Joint)]
    [InlineData(Objective.Sampled)]
    public void AccumulatedBatchesEqualOneLargeBatch(Objective objective)
    {
        var whole = Losses(new TrainerOptions { Steps = 8, Batch = 6, Objective = objective });
        var parts = Losses(new TrainerOptions { Steps = 8, Batch = 2, Accumulation = 3, Objective = objective });
        Assert.Equal(8, parts.Count);
        for (var i = 0; i < whole.Count; i++)
        {
            Assert.Equal(whole[i].Losses.Select(l => l.Granularity), parts[i].Losses.Select(l => l.Granularity));
            for (var k = 0; k < whole[i].Losses.Length; k++) Assert.Equal(whole[i].Losses[k].Loss, parts[i].Losses[k].Loss, 1e-4);
            Assert.Equal(whole[i].GradientNorm, parts[i].GradientNorm, 1e-3 * whole[i].GradientNorm);
        }

        List<StepResult> Losses(TrainerOptions options)
        {
            using var model = Model(1);
            using var trainer = new Trainer<TinyModel>(model, options);
            var steps = new List<StepResult>();
            trainer.Fit(_corpus, steps.Add);
            return steps;
        }
    }

    [Fact]
    public void TheBestWeightsAreKeptAndTrainingEndsEarly()
    {
        // The learning rate rises until nothing is learnt any more.
        var options = new TrainerOptions
        {
            Steps = 400,
            Batch = 4,
            WarmupSteps = 400,
            LearningRate = 2,
            MaxGradientNorm = 100,
            EvaluateEvery = 5,
            EvaluationWindows = 8,
            Patience = 3,
            OutputFolder = _folder["out"],
        };
        using var model = Model(1);
        using var trainer = new Trainer<TinyModel>(model, options);
        var looks = new List<(long Step, double Loss)>();
        var result = trainer.Fit(_corpus, step =>
        {
            Assert.Equal(step.Step % 5 == 0, !step.Validation.IsEmpty);
            if (step.Validation.IsEmpty) return;
            Assert.Equal(["S", "M", "XL"], step.Validation.Select(loss => loss.Granularity));
            looks.Add((step.Step, step.Validation.Average(loss => (double)loss.Loss)));
        });
        Assert.True(result.Finished && result.StoppedEarly);
        var best = looks.MinBy(look => look.Loss);
        Assert.Equal(best.Step, result.BestStep);
        Assert.Equal(best.Step + (3 * 5), result.Steps);
        Assert.Equal(result.Steps, looks[^1].Step);
        Assert.Equal(_folder["out/best.safetensors"], result.Best);
        using var kept = Checkpoint.OpenUniversal<TinyModel>(result.Best!);
        using var after = new Trainer<TinyModel>(
            kept, options with { Steps = 1, EvaluateEvery = 1, LearningRate = 1e-12, OutputFolder = null });
        var again = after.Fit(_corpus).Last!.Validation.Average(loss => (double)loss.Loss);
        Assert.Equal(best.Loss, again, 1e-4);

        // A resumed run finds that training has ended.
        using var resumed = new Trainer<TinyModel>(model, options);
        resumed.Resume(result.Checkpoint!);
        var nothing = resumed.Fit(_corpus);
        Assert.True(nothing.StoppedEarly && nothing.Last is null);
        Assert.Equal((result.Steps, best.Step), (nothing.Steps, nothing.BestStep));
    }

    [Fact]
    public void OptionsOutOfRangeAreRefused()
    {
        using var model = Model(1);
        foreach (var (options, says) in new (TrainerOptions, string)[]
        {
            (new() { Steps = 0 }, "Steps is 0"),
            (new() { Batch = -1 }, "Batch is -1"),
            (new() { Accumulation = 0 }, "Accumulation is 0"),
            (new() { MaxSkippedSteps = -1 }, "MaxSkippedSteps is -1"),
            (new() { Patience = 2 }, "Patience is 2; it must be 0 unless EvaluateEvery is given"),
            (new() { Batch = 1 << 30 }, "Batch is 1073741824"),
            (new() { LearningRate = double.NaN }, "LearningRate is NaN"),
            (new() { Probabilities = [1, 2] }, "Probabilities is (1, 2)"),
            (new() { Probabilities = [0, 0, 0] }, "Probabilities"),
            (new() { Beta2 = 1 }, "Beta2 is 1"),
            (new() { Objective = (Objective)7 }, "Objective is 7"),
            (new() { Probabilities = [1, 1, 1], Objective = Objective.Joint }, "left out for the objective joint"),
            (new() { LossWeights = [1, 0, 1] }, "LossWeights is (1, 0, 1)"),
            (new() { Reduction = Reduction.Sum }, "Reduction is Sum; it must be Mean for the objective sampled"),
            (new() { Distillation = new(1.5) }, "Distillation.Weight is 1.5"),
            (new() { Distillation = new(0.5, 0) }, "Distillation.Temperature is 0"),
            (new() { MaxGradientNorm = 0 }, "MaxGradientNorm is 0"),
        })
        {
            var e = Assert.Throws<ArgumentException>(() => new Trainer<TinyModel>(model, options));
            Assert.Contains(says, e.Message, StringComparison.Ordinal);
        }
    }

    private static TinyModel Model(long seed)
    {
        manual_seed(seed);
        return TinyModel.Create();
    }

    private TrainingResult Fit(TrainerOptions options, out List<StepResult> steps)
    {
        using var model = Model(1);
        using var trainer = new Trainer<TinyModel>(model, options);
        steps = [];
        return trainer.Fit(_corpus, steps.Add);
    }
}

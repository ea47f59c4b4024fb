using System.Diagnostics;
using System.Runtime.InteropServices;
using MatFormer.Tests;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Tests training, its files and its leaks, in the same way for each kind of model.</summary>
public abstract class TrainingTests<TModel> : IDisposable
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-training-").FullName;
    private TrainingData? _data;

    public static IEnumerable<object[]> Objectives =>
        from objective in Enum.GetValues<Objective>() from distilled in (bool[])[false, true] select (object[])[objective, distilled];

    public void Dispose()
    {
        _data?.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>Opens the training data.</summary>
    protected abstract TrainingData Open(string folder);

    /// <summary>The options with which the model learns something.</summary>
    protected abstract TrainerOptions Learning { get; }

    /// <summary>Adds the options that only this kind of model has.</summary>
    protected virtual TrainerOptions Varied(TrainerOptions options) => options;

    /// <summary>Evaluates a model with the evaluator of its kind.</summary>
    protected abstract void Measure(TModel model, TrainingData data);

    private TrainingData Data => _data ??= Open(_folder);

    // Their losses fall with every objective, whichever granularities its steps train.
    [Theory]
    [MemberData(nameof(Objectives))]
    public void TheNarrowestAndTheWidestGranularityLearn(Objective objective, bool distilled)
    {
        using var model = NewModel(1);
        var before = Losses(model);
        using var trainer = new Trainer<TModel>(model, Learning with { Objective = objective, Distillation = distilled ? new() : null });
        var steps = new List<long>();
        Assert.True(trainer.Fit(Data, result => steps.Add(result.Step)).Finished);
        Assert.Equal(Enumerable.Range(1, Learning.Steps).Select(step => (long)step), steps);
        var after = Losses(model);
        foreach (var end in (Index[])[0, ^1]) Assert.True(after[end] < 0.7 * before[end], $"{before[end]} to {after[end]}");
    }

    [Theory]
    [MemberData(nameof(Objectives))]
    public void AResumedRunEqualsAnUninterruptedOne(Objective objective, bool distilled)
    {
        var options = Varied(new TrainerOptions
        {
            Steps = 12,
            Batch = 4,
            Objective = objective,
            LossWeights = [0.5, 1, 2],
            Distillation = distilled ? new(0.3, 2) : null,
            StochasticDepth = 0.5,
            Accumulation = 2,
            EvaluateEvery = 5,
            EvaluationWindows = 4,
            CheckpointEvery = 4,
            Seed = 3,
        });
        var whole = Fit(options, "whole", isResumed: false, out var steps);
        Assert.True(whole.Finished);
        Assert.Equal(12, steps.Count);

        // The run stops in step 7 without saving, as if it were killed. The checkpoint is of step 4, and the metrics end in an incomplete
        // line.
        Assert.Throws<InvalidTimeZoneException>(() => Fit(options, "killed", isResumed: false, out _, result =>
        {
            if (result.Step == 7) throw new InvalidTimeZoneException("killed");
        }));
        File.AppendAllText(PathOf("killed/metrics.jsonl"), "{\"step\":8,\"loss\":");
        var resumed = Fit(options, "killed", isResumed: true, out var rest);
        Assert.Equal(5, rest[0].Step);
        Same(resumed, "killed");

        // A cancellation token stops the run after step 7.
        using var stop = new CancellationTokenSource();
        var stopped = Fit(options, "stopped", isResumed: false, out _, result =>
        {
            if (result.Step == 7) stop.Cancel();
        }, stop.Token);
        Assert.Equal((7, false, null), (stopped.Steps, stopped.Finished, stopped.Weights));
        Same(Fit(options, "stopped", isResumed: true, out _), "stopped");

        void Same(TrainingResult result, string folder)
        {
            Assert.True(result.Finished);
            Assert.Equal(WrittenLosses("whole"), WrittenLosses(folder));
            foreach (var file in (string[])["checkpoint", "model", "best"])
                Assert.Equal(
                    File.ReadAllBytes(PathOf($"whole/{file}.safetensors")), File.ReadAllBytes(PathOf($"{folder}/{file}.safetensors")));
        }
    }

    /// <summary>A resumed run adds a file, which says that the earlier events of its steps do not count.</summary>
    [Fact]
    public void EventFilesHaveTheNumbersOfTheMetrics()
    {
        var options = Varied(new TrainerOptions
        {
            Steps = 9,
            Batch = 4,
            Objective = Objective.Sandwich,
            Distillation = new(),
            EvaluateEvery = 4,
            EvaluationWindows = 4,
            CheckpointEvery = 4,
            TensorBoard = true,
        });
        var started = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        Assert.Throws<InvalidTimeZoneException>(() => Fit(options, "run", isResumed: false, out _, result =>
        {
            if (result.Step == 6) throw new InvalidTimeZoneException("killed");
        }));
        Fit(options, "run", isResumed: true, out _);
        var files = EventFiles.Read(PathOf("run/tensorboard"));
        Assert.Equal(2, files.Count);
        Assert.All(files, file => Assert.Equal("brain.Event:2", file[0].Version));
        Assert.Equal([1, 2, 3, 4, 5, 6], files[0].Skip(1).Select(e => e.Step));
        Assert.Equal((5, 1), (files[1][1].Step, files[1][1].SessionStatus)); // 1 is START
        Assert.All(files.SelectMany(f => f), e => Assert.InRange(e.Time, started, started + 100_000));
        var counted = files[0].Skip(1).TakeWhile(e => e.Step < 5).Concat(files[1].Skip(2)).ToList();
        var metrics = MetricsFile.Read(PathOf("run/metrics.jsonl")).ToList();
        Assert.Equal(9, metrics.Count);
        Assert.Equal(metrics.Select(m => m.Step), counted.Select(e => e.Step));
        foreach (var (step, its) in metrics.Zip(counted))
        {
            var wanted = new Dictionary<string, float>
            {
                ["learning_rate"] = (float)step.LearningRate,
                ["gradient_norm"] = (float)step.GradientNorm,
            };
            foreach (var (name, numbers) in new[] { ("loss", step.Losses), ("divergence", step.Divergences),
                ("validation", step.Validation) })
            {
                if (numbers.IsEmpty) continue;
                wanted.Add(name, numbers.Average(n => n.Item2));
                foreach (var (granularity, number) in numbers) wanted.Add($"{name}/{granularity}", number);
            }

            Assert.Equal(step.TokensPerSecond, its.Numbers["tokens_per_second"], step.TokensPerSecond * 1e-3);
            Assert.Equal(step.Step is 4 or 8 or 9, its.Numbers.ContainsKey("validation"));
            Assert.Equal(wanted.OrderBy(w => w.Key), its.Numbers.Where(n => n.Key != "tokens_per_second").OrderBy(n => n.Key));
        }

        // A new run replaces the files.
        Fit(options with { Steps = 2, Overwrite = true, TensorBoard = true }, "run", isResumed: false, out _);
        Assert.Equal([0L, 1, 2], Assert.Single(EventFiles.Read(PathOf("run/tensorboard"))).Select(e => e.Step));
    }

    /// <summary>Losses and gradients are the means over the batches. Each batch of pairs has only its own negatives.</summary>
    [Theory]
    [InlineData(Objective.Joint)]
    [InlineData(Objective.Sampled)]
    [InlineData(Objective.Split)]
    public void AnAccumulatedStepIsTheMeanOfItsBatches(Objective objective)
    {
        const int parts = 3;
        using var model = NewModel(1);
        var options = Varied(Learning with { Steps = 4, Batch = 4, Objective = objective, Accumulation = parts });
        using var trainer = new Trainer<TModel>(model, options);
        var (planner, batches) = (new Planner<TModel>(options), Feed.Of(Data).Batches(TModel.Spec, options));
        for (var step = 1; step <= options.Steps; step++)
        {
            var (losses, norm) = Expected(planner.At(step), step);
            var result = trainer.Step(Data);
            Assert.Equal(losses.Count, result.Losses.Length);
            foreach (var (name, loss) in result.Losses) Assert.Equal(losses[name], loss, 1e-5 * losses[name]);
            Assert.Equal(norm, result.GradientNorm, 1e-4 * norm);
        }

        (Dictionary<string, double> Losses, double Norm) Expected(StepPlan plan, int step)
        {
            using var scope = NewDisposeScope();
            var (sums, batch) = (new double[plan.Names.Length], batches.NewBatch());
            for (var part = 1; part <= parts; part++)
            {
                batches.Fill(((step - 1) * parts) + part, batch);
                var (input, targets) = batch.ToTensors(CPU);
                var losses = model.Losses(plan.Streams, input, targets);
                (losses * tensor(plan.Weights.ToArray())).sum().div(parts).backward();
                foreach (var (i, loss) in losses.detach().data<float>().ToArray().Index()) sums[i] += loss / parts;
            }

            var squares = model.parameters().Sum(p => p.grad?.to(ScalarType.Float64).square().sum().item<double>() ?? 0);
            model.zero_grad();
            return (plan.Names.Zip(sums).ToDictionary(), Math.Sqrt(squares));
        }
    }

    [Fact]
    public void TrainedWeightsAndTheirSlicesLoadFromFiles()
    {
        using var model = NewModel(1);
        using (var trainer = new Trainer<TModel>(model, Learning with { Steps = 3, Objective = Objective.Joint, OutputFolder = _folder }))
            Assert.Equal(PathOf("model.safetensors"), trainer.Fit(Data).Weights);
        using var opened = Checkpoint.OpenUniversal<TModel>(PathOf("model.safetensors"));
        using var loaded = NewModel(2);
        loaded.Load(PathOf("model.safetensors"));
        using var named = NewModel(3);
        named.LoadNamed(PathOf("model.safetensors"));
        Assert.Equal(Data.TextTokenizer?.Fingerprint, opened.TokenizerFingerprint);
        using var unrecorded = no_grad();
        var (input, _) = Feed.Of(Data).HeldOut(TModel.Spec, 4, 4).First().ToTensors(CPU);
        foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
        {
            using var scope = NewDisposeScope();
            var expected = Bits(model.Forward(profile, input));
            foreach (var other in (TModel[])[opened, loaded, named]) Assert.Equal(expected, Bits(other.Forward(profile, input)));

            // Extraction in memory, and from file to file, gives the same file.
            var (path, other_) = (PathOf($"{profile.Name}.safetensors"), PathOf($"{profile.Name}-cut.safetensors"));
            using (var copy = model.Extract(profile)) copy.Save(path);
            Extraction.ToSafetensors(PathOf("model.safetensors"), profile, other_);
            Assert.Equal(File.ReadAllBytes(path), File.ReadAllBytes(other_));
            using var slice = Checkpoint.Open<TModel>(path);
            Assert.Equal(expected, Bits(slice.call(input)));
            var isWhole = profile.Layers.AsSpan().SequenceEqual(TModel.Spec.WholeLayers.AsSpan());
            if (!isWhole) Assert.Throws<CheckpointException>(() => loaded.Load(path));

            // Weights in bfloat16 are the nearest values.
            Extraction.ToSafetensors(PathOf("model.safetensors"), profile, other_, WeightEncoding.BFloat16);
            using var rounded = Checkpoint.Open<TModel>(other_);
            foreach (var ((name, weight), (_, half)) in slice.named_parameters().Zip(rounded.named_parameters()))
                Assert.True(((Tensor)weight).to(ScalarType.BFloat16).to(ScalarType.Float32).equal(half).all().item<bool>(), name);
        }
    }

    // Every objective runs a few steps, also with distillation and recomputation. Only live tensors are counted.
    [Fact]
    public void NoObjectiveLeaksTensors()
    {
        using var model = NewModel(1);
        Measure(model, Data);
        foreach (var (objective, distilled) in from o in Enum.GetValues<Objective>() from d in (bool[])[false, true] select (o, d))
        {
            using var trainer = new Trainer<TModel>(model, Varied(new TrainerOptions
            {
                Objective = objective,
                Distillation = distilled ? new() : null,
                Steps = 100,
                Batch = 4,
                StochasticDepth = distilled ? 0.5 : 0,
                RecomputeActivations = distilled,
            }));
            for (var step = 0; step < 5; step++) trainer.Step(Data);
            var tensors = LiveTensors.Count();
            for (var step = 0; step < 20; step++) trainer.Step(Data);
            Assert.True(tensors == Tensor.TotalCount, $"{objective}, {distilled}: {Tensor.TotalCount - tensors} tensors more");
        }

        var before = LiveTensors.Count();
        Measure(model, Data);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void JointTrainingInBFloat16LeaksNoMemory() => LeaksNoMemory(Objective.Joint, ScalarType.BFloat16);

    /// <summary>Asserts that the memory of the process does not grow while a model trains.</summary>
    protected void LeaksNoMemory(Objective objective, ScalarType type)
    {
        using var model = NewModel(1);
        model.ComputeType = type;

        // A step of TorchSharp's operations takes several times as long, but makes so many tensors that a leak shows in fewer steps.
        var stretch = Kernels.Cpu.IsEnabled ? 450 : 150;
        var options = new TrainerOptions { Objective = objective, Steps = 10 * stretch, Batch = 4 };

        // Another run comes first, because the JIT recompiles hot code for a while, and heaps grow to their working size once per process.
        using (var warm = new Trainer<TModel>(model, options))
        {
            for (var step = 0; step < stretch; step++) warm.Step(Data);
        }

        using var trainer = new Trainer<TModel>(model, options);
        for (var step = 0; step < 50; step++) trainer.Step(Data);

        // A leak grows in every stretch of steps, while the rest of the process grows only once.
        var tensors = LiveTensors.Count();
        var growths = new List<double>();
        while (growths.Count < 7 && growths.All(growth => growth > 1.01))
        {
            var resident = Resident();
            for (var step = 0; step < stretch; step++) trainer.Step(Data);
            Assert.Equal(tensors, Tensor.TotalCount);
            growths.Add((double)Resident() / resident);
        }

        Assert.InRange(growths[^1], 0, 1.01);
    }

    private static long Resident()
    {
        LiveTensors.Collect();
        using var process = Process.GetCurrentProcess();
        return process.WorkingSet64;
    }

    private static TModel NewModel(long seed)
    {
        manual_seed(seed);
        return TModel.Create();
    }

    // Returns the validation losses of the granularities, narrowest first.
    private float[] Losses(TModel model)
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        var (input, targets) = Feed.Of(Data).HeldOut(TModel.Spec, 16, 16).First().ToTensors(CPU);
        float[] widestFirst = [.. model.Losses(Streams.Of<TModel>([.. TModel.Granularities.Reverse()]), input, targets).data<float>()];
        return [.. widestFirst.Reverse()];
    }

    private TrainingResult Fit(
        TrainerOptions options, string folder, bool isResumed, out List<StepResult> steps, Action<StepResult>? more = null,
        CancellationToken cancellationToken = default)
    {
        using var model = NewModel(isResumed ? 99 : 1);
        using var trainer = new Trainer<TModel>(model, options with { OutputFolder = PathOf(folder) });
        if (isResumed) trainer.Resume(PathOf(folder + "/checkpoint.safetensors"));
        var seen = new List<StepResult>();
        steps = seen;
        return trainer.Fit(
            Data,
            result =>
            {
                seen.Add(result);
                more?.Invoke(result);
            },
            cancellationToken);
    }

    private List<(long, string)> WrittenLosses(string folder) =>
        [.. MetricsFile.Read(PathOf(folder + "/metrics.jsonl"))
            .Select(s => (s.Step, string.Join(' ', [
                .. s.Losses.Select(l => $"{l.Granularity} {BitConverter.SingleToInt32Bits(l.Loss)}"),
                .. s.Divergences.Select(d => $"{d.Granularity} {BitConverter.SingleToInt32Bits(d.Divergence)}"),
            ])))];

    private static byte[] Bits(Tensor x) => MemoryMarshal.AsBytes(x.contiguous().data<float>().ToArray().AsSpan()).ToArray();

    private string PathOf(string name) => Path.Combine(_folder, name);
}

public sealed class LanguageTrainingTests : TrainingTests<OracleBytes>
{
    protected override TrainerOptions Learning { get; } = new() { Steps = 100, Batch = 8, LearningRate = 5e-3 };

    protected override TrainingData Open(string folder) => TestCorpus.Open(folder);

    protected override void Measure(OracleBytes model, TrainingData data) =>
        Evaluator.Run(model, (TextCorpus)data, new() { Windows = 8, Continuations = 2 });

    // The memory of other kinds of models is watched with bfloat16 alone, because it takes most of the time of these tests.
    [Fact]
    public void SampledTrainingInFloat32LeaksNoMemory() => LeaksNoMemory(Objective.Sampled, ScalarType.Float32);
}

public sealed class NarrowTrainingTests : TrainingTests<NarrowBytes>
{
    protected override TrainerOptions Learning { get; } = new() { Steps = 100, Batch = 8, LearningRate = 5e-3 };

    protected override TrainingData Open(string folder) => TestCorpus.Open(folder);

    protected override void Measure(NarrowBytes model, TrainingData data) =>
        Evaluator.Run(model, (TextCorpus)data, new() { Windows = 8, Continuations = 2 });
}

public sealed class ImageTrainingTests : TrainingTests<OtherViT>
{
    protected override TrainerOptions Learning { get; } = new() { Steps = 100, Batch = 40, LearningRate = 3e-3 };

    protected override TrainingData Open(string folder) => TestImages.Open(folder);

    protected override TrainerOptions Varied(TrainerOptions options) => options with { Mixup = 0.2, LabelSmoothing = 0.1, Shift = 1 };

    protected override void Measure(OtherViT model, TrainingData data) => ImageEvaluator.Run(model, (ImageCorpus)data);
}

public sealed class LookupTrainingTests : TrainingTests<CompressedViT>
{
    protected override TrainerOptions Learning { get; } = new() { Steps = 50, Batch = 40, LearningRate = 3e-3 };

    protected override TrainingData Open(string folder) => TestImages.Open(folder);

    protected override TrainerOptions Varied(TrainerOptions options) => options with { Mixup = 0.2, LabelSmoothing = 0.1, Shift = 1 };

    protected override void Measure(CompressedViT model, TrainingData data) => ImageEvaluator.Run(model, (ImageCorpus)data);
}

public sealed class PairTrainingTests : TrainingTests<ByteEncoder>
{
    protected override TrainerOptions Learning { get; } = new() { Steps = 100, Batch = 32, LearningRate = 5e-3 };

    protected override TrainingData Open(string folder) => TestPairs.Open(folder);

    protected override void Measure(ByteEncoder model, TrainingData data)
    {
        RetrievalEvaluator.Losses(model, (PairCorpus)data, 7);
        TextEmbedder.Of(model, ByteEncoder.Profile.Mixed, data.TextTokenizer!).Embed(["a text", "another, longer text"]);
    }
}

using System.Diagnostics;
using System.Globalization;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Benchmarks;

/// <summary>A byte-level MatLM of DocsLm's shape.</summary>
[MatLM(Layers = 8, Width = 256, Heads = 8, Context = 256, Vocabulary = 256)]
[FeedForward(1024, Activation.SwiGlu)]
[Granularity("S", 128), Granularity("M", 256), Granularity("L", 512), Granularity("XL", 1024)]
internal sealed partial class BenchLm;

/// <summary><see cref="BenchLm"/> twice as wide: four times as large.</summary>
[MatLM(Layers = 8, Width = 512, Heads = 16, Context = 256, Vocabulary = 256)]
[FeedForward(2048, Activation.SwiGlu)]
[Granularity("S", 256), Granularity("M", 512), Granularity("L", 1024), Granularity("XL", 2048)]
internal sealed partial class BenchLm4;

/// <summary><see cref="BenchLm"/> four times as wide: sixteen times as large.</summary>
[MatLM(Layers = 8, Width = 1024, Heads = 32, Context = 256, Vocabulary = 256)]
[FeedForward(4096, Activation.SwiGlu)]
[Granularity("S", 512), Granularity("M", 1024), Granularity("L", 2048), Granularity("XL", 4096)]
internal sealed partial class BenchLm16;

/// <summary>A model so small that its time is the cost of the calls, not of the arithmetic.</summary>
[MatLM(Layers = 8, Width = 16, Heads = 2, Context = 4, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Granularity("S", 8), Granularity("M", 16), Granularity("L", 32), Granularity("XL", 64)]
internal sealed partial class BenchLmCalls;

/// <summary>A model so small that the overhead of autograd and of this library around each operation shows.</summary>
[MatLM(Layers = 4, Width = 64, Heads = 4, Context = 64, Vocabulary = 256)]
[FeedForward(256, Activation.SwiGlu)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
internal sealed partial class BenchLmSmall;

/// <summary>
/// Compares our training steps with those of plain TorchSharp in the same process, and of plain PyTorch where Python has it, with the same
/// model, batch and dtype. It also compares our objectives with each other. All comparisons run in turns.
/// </summary>
internal static class TrainBenchmark
{
    private const int Batch = 8;
    private const int Turns = 5;
    private const int LeastTurns = 3;

    public static IEnumerable<Result> Run() =>
    [
        .. AgainstPeers<BenchLm>("f32", ScalarType.Float32, new Row(Objective.Joint, 1) { Composite = true }),
        .. AgainstPeers<BenchLm>(
            "bf16", ScalarType.BFloat16,
            new Row(Objective.Joint, 1) { Composite = true },
            new Row(Objective.Sampled, 4) { Composite = true },
            new Row(Objective.Split, 1) { TorchSharp = false }),
        .. AgainstPeers<BenchLm4>(
            "bf16.4x", ScalarType.BFloat16, new Row(Objective.Joint, 1), new Row(Objective.Sampled, 4) { TorchSharp = false }),
        .. Calls(),
        .. Small(),
        .. Scaling(),
        .. Objectives(),
        .. Limits(),
        .. OverheadBenchmark.Run(),
    ];

    // The sides of a turn are our steps, plain TorchSharp's, ours without the native library, and PyTorch's. A missing side takes NaN
    // seconds.
    private static IEnumerable<Result> AgainstPeers<TModel>(string name, ScalarType type, params Row[] rows)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var spec = TModel.Spec;
        if (type == ScalarType.BFloat16 && !Machine.CpuHasBFloat16)
        {
            // A step of a peer would take half a minute.
            Console.Error.WriteLine(
                $"skipped train.*.{name}.vs_*: this CPU has no bf16 instructions, so the peers would compute bf16 in software");
            yield break;
        }

        using var python = PythonPeer.Start(
            "--dtype", type == ScalarType.BFloat16 ? "bf16" : "f32", "--batch", Text(Batch), "--threads", Text(get_num_threads()),
            "--width", Text(spec.Width), "--heads", Text(spec.Blocks[0].Heads), "--hidden", Text(spec.Blocks[0].HiddenWidth));
        if (python is null) PythonPeer.TellMissing($"train.*.{name}.vs_pytorch");
        python?.Time("split", 1); // warm from here on
        foreach (var row in rows)
        {
            using var bench = new Bench<TModel>(type, row.Objective);
            using var plain = row.TorchSharp ? new PlainTorchSharp(spec, type, Batch) : null;
            plain?.TakeOver(bench.Model);
            plain?.Warm();
            bench.Warm();
            var isComposite = row.Composite && Level.IsFused; // otherwise our steps are composite already
            if (isComposite) Level.Composite(bench.Warm);
            var objective = row.Objective.ToString().ToLowerInvariant();
            var times = Benchmarks.Turns.RunWarm(
                Turns,
                LeastTurns,
                () => bench.Time(row.Steps),
                () => plain?.Time(row.Objective, row.Steps) ?? double.NaN,
                () => isComposite ? Level.Composite(() => bench.Time(row.Steps)) : double.NaN,
                () => python?.Time(objective, row.Steps) ?? double.NaN);
            var (ours, composite) = (times[0], times[isComposite ? 2 : 0]);
            var tokens = (double)Batch * spec.Context * row.Steps;
            if (plain is not null) yield return Ratio($"train.{objective}.{name}.vs_torchsharp", ours, times[1], tokens, Level.Name);
            if (row.Composite)
                yield return Ratio($"train.composite.{objective}.{name}.vs_torchsharp", composite, times[1], tokens, Level.CompositeName);
            if (python is not null) yield return Ratio($"train.{objective}.{name}.vs_pytorch", ours, times[3], tokens, Level.Name);
            if (python is null && plain is null)
            {
                var rate = tokens / Benchmarks.Turns.Median(ours);
                var result = new Result($"train.{objective}.{name}.tokens_per_second", rate, "tokens/s", Runs: ours.Length);
                yield return result with { Kernels = Level.Name };
            }
        }
    }

    // The cost of a step without the arithmetic, in the form that runs on a GPU, where the calls may determine the time of a step.
    private static IEnumerable<Result> Calls()
    {
        const int steps = 5;
        using var bench = new Bench<BenchLmCalls>(ScalarType.BFloat16, Objective.Joint, batch: 1);
        using var plain = new PlainTorchSharp(BenchLmCalls.Spec, ScalarType.BFloat16, batch: 1);

        plain.TakeOver(bench.Model);

        // All streams run in one pass, as on a GPU.
        Kernels.Composite.Stacks = true;
        var times = Benchmarks.Turns.Run(
            Turns, () => Level.Composite(() => bench.Time(steps)), () => plain.Time(Objective.Joint, steps));
        Kernels.Composite.Stacks = null;
        yield return Ratio("train.composite.calls.vs_torchsharp", times.Ours, times.Peer, steps, Level.CompositeName);
    }

    private static IEnumerable<Result> Small()
    {
        const int steps = 20;
        foreach (var objective in (Objective[])[Objective.Joint, Objective.Sampled])
        {
            using var bench = new Bench<BenchLmSmall>(ScalarType.Float32, objective);
            bench.Time(steps);
            var rates = Array.ConvertAll(Benchmarks.Turns.RunWarm(Turns, () => bench.Time(steps))[0], seconds => steps / seconds);
            var median = Benchmarks.Turns.Median(rates);
            var spread = (rates.Max() - rates.Min()) / median;
            var name = $"train.small.{objective.ToString().ToLowerInvariant()}.steps_per_second";
            yield return new Result(name, median, "steps/s", Runs: rates.Length, Spread: spread) { Kernels = Level.Name };
        }
    }

    // Tokens per second times parameters, relative to the smallest model, of joint steps in bf16. It shows whether larger models use the
    // machine as well.
    private static IEnumerable<Result> Scaling()
    {
        using var small = new Bench<BenchLm>(ScalarType.BFloat16, Objective.Joint);
        using var medium = new Bench<BenchLm4>(ScalarType.BFloat16, Objective.Joint);
        using var large = new Bench<BenchLm16>(ScalarType.BFloat16, Objective.Joint);
        Func<double>[] warm = [small.Warm, medium.Warm, large.Warm];
        foreach (var step in warm) step();
        var times = Benchmarks.Turns.RunWarm(Turns, () => small.Time(4) / 4, () => medium.Time(1), () => large.Time(1));
        ModelSpec[] specs = [BenchLm.Spec, BenchLm4.Spec, BenchLm16.Spec];
        var parameters = Array.ConvertAll(specs, spec => (double)spec.ParameterCount(spec.WholeLayers.AsSpan()));
        var work = Batch * BenchLm.Spec.Context * parameters[0];
        for (var i = 1; i < specs.Length; i++)
        {
            var perParameter = Array.ConvertAll(times[i], seconds => seconds / parameters[i] * parameters[0]);
            var result = Benchmarks.Turns.Ratio($"train.scaling.{(i == 1 ? "4x" : "16x")}", (perParameter, times[0]), work);
            yield return result with { Unit = "x that of 1x" };
        }
    }

    private static Result Ratio(string name, double[] ours, double[] peer, double unitsPerTurn, string kernels) =>
        Benchmarks.Turns.Ratio(name, (ours, peer), unitsPerTurn) with { Kernels = kernels };

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    // Compares a joint and a branching step with steps of the four sizes as separate models, and with a step of the largest, in bf16.
    private static IEnumerable<Result> Objectives()
    {
        using var joint = new Bench<BenchLm>(ScalarType.BFloat16, Objective.Joint);
        using var branching = new Bench<BenchLm>(ScalarType.BFloat16, Objective.Branching);
        var separate = BenchLm.Granularities.Select(g => new Separate(g, ScalarType.BFloat16)).ToList();
        var plans = new Planner<BenchLm>(new TrainerOptions { Objective = Objective.Branching }).Typical().ToList();
        joint.Time(2);
        branching.Time(4);
        foreach (var model in separate) model.Time();
        var times = Benchmarks.Turns.RunWarm(
            Turns,
            () => joint.Time(1),
            () => plans.Sum(p => p.Share * branching.Time(p.Plan)),
            () => separate[..^1].Sum(model => model.Time()),
            () => separate[^1].Time());
        foreach (var model in separate) model.Dispose();
        var four = times[2].Zip(times[3], (smaller, largest) => smaller + largest).ToArray();
        yield return Benchmarks.Turns.TimeRatio("train.joint.vs_separate", times[0], four);
        yield return Benchmarks.Turns.TimeRatio("train.branching.vs_separate", times[1], four);
        yield return Benchmarks.Turns.TimeRatio("train.joint.vs_xl", times[0], times[3]);
    }

    // The share of a joint bf16 step that its matrix products alone would take, at the rate of our products of large matrices, and the
    // shares of the operations.
    private static IEnumerable<Result> Limits()
    {
        using var joint = new Bench<BenchLm>(ScalarType.BFloat16, Objective.Joint);
        using var large = new LargeProduct();
        joint.Time(2);
        large.Time();
        var times = Benchmarks.Turns.RunWarm(Turns, () => joint.Time(1), large.Time);
        var products = Array.ConvertAll(times[1], seconds => seconds / LargeProduct.Operations * ProductsOfJointStep());
        yield return Benchmarks.Turns.TimeRatio("train.matmul_share", products, times[0]) with { Unit = "of the step" };
        if (!Level.IsFused)
        {
            Console.Error.WriteLine($"skipped train.profile.*: {Kernels.CpuProblem}");
            yield break;
        }

        const int steps = 5;
        CpuLibrary.StartProfile();
        var seconds = joint.Time(steps);
        var parts = CpuLibrary.StopProfile();
        foreach (var (name, part) in parts.OrderByDescending(part => part.Value))
            yield return new Result($"train.profile.{name}", part / seconds, "of the step", Runs: steps);
        yield return new Result("train.profile.other", 1 - (parts.Values.Sum() / seconds), "of the step", Runs: steps);
    }

    // Floating-point operations of the matrix products of a joint step: those of the forward pass, and twice as many for the gradients. The
    // first layer is computed once, for the largest granularity, which contains the others.
    private static double ProductsOfJointStep()
    {
        var spec = BenchLm.Spec;
        var block = spec.Blocks[0];
        var forward = spec.Granularities.Sum(g => spec.Flops(g.Layers.AsSpan()) - block.CostOf(block.Flops, g.Layers[0]))
            + block.CostOf(block.Flops, spec.WholeLayers[0]);
        return 3.0 * forward * Batch * spec.Context;
    }

    /// <summary>An objective and the number of its steps in a turn.</summary>
    private sealed record Row(Objective Objective, int Steps)
    {
        /// <summary>Whether the steps are compared with plain TorchSharp's.</summary>
        public bool TorchSharp { get; init; } = true;

        /// <summary>Whether steps without the native library are compared too.</summary>
        public bool Composite { get; init; }
    }

    /// <summary>Our matrix product where it is fastest: in bf16, with large matrices.</summary>
    private sealed class LargeProduct : IDisposable
    {
        private const int Rows = 4096;
        private const int Width = 1024;
        private const int Calls = 4;
        private readonly Tensor _x = randn(Rows, Width, dtype: ScalarType.BFloat16);
        private readonly Tensor _weight = randn(Width, Width);

        public static double Operations => 2.0 * Rows * Width * Width * Calls;

        public double Time()
        {
            var start = Stopwatch.GetTimestamp();
            for (var call = 0; call < Calls; call++) Kernels.Linear(_x, _weight).Dispose();
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        public void Dispose()
        {
            _x.Dispose();
            _weight.Dispose();
        }
    }

    /// <summary>A model and its trainer, the real one, so that nothing of a step is left out.</summary>
    private sealed class Bench<TModel> : IDisposable
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        private readonly TextCorpus _corpus;
        private readonly Trainer<TModel>[] _turns;
        private int _next;

        public Bench(ScalarType type, Objective objective, int batch = Batch)
        {
            manual_seed(0);
            Model = TModel.Create();
            Model.ComputeType = type;
            var text = Path.Combine(_folder.FullName, "text");
            Directory.CreateDirectory(text);
            var random = new Random(0);
            for (var document = 0; document < 100; document++)
            {
                var letters = Enumerable.Range(0, 4000).Select(_ => (char)random.Next(' ', '~'));
                File.WriteAllText(Path.Combine(text, $"{document}.txt"), string.Concat(letters));
            }

            _corpus = TextCorpus.Open(text, _folder.FullName);
            var options = new TrainerOptions
            {
                Objective = objective,
                Batch = batch,
                Steps = int.MaxValue,
                LearningRate = 1e-3,
                WarmupSteps = 0,
            };

            // Sampled steps train one granularity after the other, as the peers do, so that all sides do the same work.
            var sizes = Enumerable.Range(0, TModel.Granularities.Count);
            _turns = objective != Objective.Sampled
                ? [new Trainer<TModel>(Model, options)]
                : [.. sizes.Select(i => options with { Probabilities = [.. sizes.Select(j => j == i ? 1.0 : 0)] })
                    .Select(only => new Trainer<TModel>(Model, only))];
        }

        public TModel Model { get; }

        /// <summary>Trains the largest granularity for one step, so that the one-time work of the process is done.</summary>
        public double Warm()
        {
            var largest = TModel.Granularities[^1];
            return Time(new StepPlan(Streams.Of(largest), [largest.Name], [1]));
        }

        public double Time(int steps)
        {
            var start = Stopwatch.GetTimestamp();
            for (var step = 0; step < steps; step++) _turns[_next++ % _turns.Length].Step(_corpus);
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        public double Time(StepPlan plan)
        {
            var start = Stopwatch.GetTimestamp();
            _turns[0].Step(_corpus, plan);
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        public void Dispose()
        {
            foreach (var trainer in _turns) trainer.Dispose();
            _corpus.Dispose();
            Model.Dispose();
            _folder.Delete(recursive: true);
        }
    }

    /// <summary>A separate model of one size, and the state of its training steps.</summary>
    private sealed class Separate : IDisposable
    {
        private readonly BenchLm.Submodel _model;
        private readonly FlatWeights _flat;
        private readonly Tensor _first;
        private readonly Tensor _second;
        private readonly long[] _tokens = [.. Enumerable.Range(0, Batch * BenchLm.Spec.Context).Select(i => (long)((i * 7919) % 251))];
        private long _step;

        public Separate(Profile<BenchLm> granularity, ScalarType type)
        {
            manual_seed(0);
            _model = new BenchLm.Submodel(granularity) { ComputeType = type };
            _flat = FlatWeights.Of(_model, [])!;
            (_first, _second) = (zeros_like(_flat.Weights), zeros_like(_flat.Weights));
        }

        public double Time()
        {
            var start = Stopwatch.GetTimestamp();
            using (NewDisposeScope())
            {
                var tokens = tensor(_tokens, [Batch, BenchLm.Spec.Context]);
                _flat.ClearGradients();
                var loss = _model.Loss(tokens, tokens);
                loss.backward();
                KernelNode.ReleaseReturned();
                KernelNode.ThrowFailure();
                _flat.GatherGradients();
                Kernels.ClipGradientNorm(_flat.Gradients, 1);
                Kernels.AdamW(_flat.Weights, _flat.Gradients, _first, _second, 0.1, 1e-3, 0.9, 0.95, 1e-8, ++_step);
                loss.item<float>();
            }

            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        public void Dispose()
        {
            _first.Dispose();
            _second.Dispose();
            _flat.Dispose();
            _model.Dispose();
        }
    }
}

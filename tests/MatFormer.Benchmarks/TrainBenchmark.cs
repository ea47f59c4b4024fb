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

/// <summary>
/// Training steps of ours against plain PyTorch's of the same model, batch and dtype, and of our objectives against each other, in turns.
/// </summary>
internal static class TrainBenchmark
{
    private const int Batch = 8;
    private const int Turns = 5;

    public static IEnumerable<Result> Run()
    {
        var objectives = new[] { (Objective.Joint, 1), (Objective.Sampled, 4), (Objective.Split, 1) };
        foreach (var result in AgainstPyTorch<BenchLm>("f32", ScalarType.Float32, objectives[..1])) yield return result;
        foreach (var result in AgainstPyTorch<BenchLm>("bf16", ScalarType.BFloat16, objectives)) yield return result;
        foreach (var result in AgainstPyTorch<BenchLm4>("bf16.4x", ScalarType.BFloat16, objectives[..2])) yield return result;
        foreach (var result in Scaling()) yield return result;
        foreach (var result in Objectives()) yield return result;
        foreach (var result in Limits()) yield return result;
        foreach (var result in OverheadBenchmark.Run()) yield return result;
    }

    // Steps of each objective, so many to a turn.
    private static IEnumerable<Result> AgainstPyTorch<TModel>(string name, ScalarType type, (Objective Objective, int Steps)[] objectives)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var block = TModel.Spec.Blocks[0];
        using var peer = PythonPeer.Start(
            "--dtype", type == ScalarType.BFloat16 ? "bf16" : "f32", "--batch", Text(Batch), "--threads", Text(get_num_threads()),
            "--width", Text(TModel.Spec.Width), "--heads", Text(block.Heads), "--hidden", Text(block.HiddenWidth));
        if (peer is null) Console.Error.WriteLine($"skipped train.*.{name}.vs_pytorch: no Python here has torch (Debian: apt-get install python3-torch)");
        peer?.Time("split", 1); // warm from here on
        foreach (var (objective, steps) in objectives)
        {
            var objectiveName = objective.ToString().ToLowerInvariant();
            using var bench = new Bench<TModel>(type, objective);
            bench.Time(steps);
            var times = Benchmarks.Turns.RunWarm(Turns, () => bench.Time(steps), () => peer?.Time(objectiveName, steps) ?? double.NaN);
            var tokens = (double)Batch * TModel.Spec.Context * steps;
            if (peer is not null) yield return Benchmarks.Turns.Ratio($"train.{objectiveName}.{name}.vs_pytorch", (times[0], times[1]), tokens);
            else yield return new Result($"train.{objectiveName}.{name}.tokens_per_second", tokens / Benchmarks.Turns.Median(times[0]), "tokens/s", Runs: times[0].Length);
        }
    }

    // Tokens per second times parameters, over that of the smallest: whether larger models use the machine as well. Joint steps in bf16.
    private static IEnumerable<Result> Scaling()
    {
        using var small = new Bench<BenchLm>(ScalarType.BFloat16, Objective.Joint);
        using var medium = new Bench<BenchLm4>(ScalarType.BFloat16, Objective.Joint);
        using var large = new Bench<BenchLm16>(ScalarType.BFloat16, Objective.Joint);
        Func<double>[] sides = [() => small.Time(4) / 4, () => medium.Time(1), () => large.Time(1)];
        foreach (var side in sides) side();
        var times = Benchmarks.Turns.RunWarm(Turns, sides);
        var parameters = new[] { BenchLm.Spec, BenchLm4.Spec, BenchLm16.Spec }.Select(spec => (double)spec.ParameterCount(spec.WholeLayers.AsSpan())).ToArray();
        for (var i = 1; i < sides.Length; i++)
        {
            var perParameter = Array.ConvertAll(times[i], seconds => seconds / parameters[i] * parameters[0]);
            var result = Benchmarks.Turns.Ratio($"train.scaling.{(i == 1 ? "4x" : "16x")}", (perParameter, times[0]), (double)Batch * BenchLm.Spec.Context * parameters[0]);
            yield return result with { Unit = "x that of 1x" };
        }
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    // A joint and a branching step against steps of the four sizes trained apart, as models of their own, and of the largest; bf16.
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

    // How near a joint bf16 step comes to the time that its matrix products would take by themselves, at the rate of our own on large matrices;
    // and which operations take the rest.
    private static IEnumerable<Result> Limits()
    {
        using var joint = new Bench<BenchLm>(ScalarType.BFloat16, Objective.Joint);
        using var large = new LargeProduct();
        joint.Time(2);
        large.Time();
        var times = Benchmarks.Turns.RunWarm(Turns, () => joint.Time(1), large.Time);
        var products = Array.ConvertAll(times[1], seconds => seconds / LargeProduct.Operations * ProductsOfJointStep());
        yield return Benchmarks.Turns.TimeRatio("train.matmul_share", products, times[0]) with { Unit = "of the step" };
#if MATFORMER_LIBTORCH
        const int steps = 5;
        Torch.NativeKernels.StartProfile();
        var seconds = joint.Time(steps);
        var parts = Torch.NativeKernels.StopProfile();
        foreach (var (name, part) in parts.OrderByDescending(part => part.Value))
            yield return new Result($"train.profile.{name}", part / seconds, "of the step", Runs: steps);
        yield return new Result("train.profile.other", 1 - (parts.Values.Sum() / seconds), "of the step", Runs: steps);
#endif
    }

    // Floating-point operations of the matrix products of a joint step: forward, and twice as many for the gradients. The first layer is that
    // of the largest alone, which holds the others.
    private static double ProductsOfJointStep()
    {
        var spec = BenchLm.Spec;
        var block = spec.Blocks[0];
        var forward = spec.Granularities.Sum(g => spec.Flops(g.Layers.AsSpan()) - block.CostOf(block.Flops, g.Layers[0]))
            + block.CostOf(block.Flops, spec.WholeLayers[0]);
        return 3.0 * forward * Batch * spec.Context;
    }

    /// <summary>Our product where it is fastest: bf16, and large in every dimension.</summary>
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

    /// <summary>A model and what trains it: the real trainer, so that nothing of a step is left out.</summary>
    private sealed class Bench<TModel> : IDisposable
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        private readonly TModel _model;
        private readonly TextCorpus _corpus;
        private readonly Trainer<TModel>[] _turns;
        private int _next;

        public Bench(ScalarType type, Objective objective)
        {
            manual_seed(0);
            _model = TModel.Create();
            _model.ComputeType = type;
            var text = Path.Combine(_folder.FullName, "text");
            Directory.CreateDirectory(text);
            var random = new Random(0);
            for (var document = 0; document < 100; document++)
                File.WriteAllText(Path.Combine(text, $"{document}.txt"), string.Concat(Enumerable.Range(0, 4000).Select(_ => (char)random.Next(' ', '~'))));
            _corpus = TextCorpus.Open(text, _folder.FullName);
            var options = new TrainerOptions { Objective = objective, Batch = Batch, Steps = int.MaxValue, LearningRate = 1e-3, WarmupSteps = 0 };

            // Sampled: each granularity in its turn, as the peer does, so that both do the same work.
            _turns = objective != Objective.Sampled
                ? [new Trainer<TModel>(_model, options)]
                : [.. Enumerable.Range(0, 4).Select(i => new Trainer<TModel>(_model, options with { Probabilities = [.. Enumerable.Range(0, 4).Select(j => j == i ? 1.0 : 0.0)] }))];
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
            _model.Dispose();
            _folder.Delete(recursive: true);
        }
    }

    /// <summary>A model of one size alone, and what a step of it needs.</summary>
    private sealed class Separate : IDisposable
    {
        private readonly BenchLm.Submodel _model;
        private readonly Tensor[] _parameters;
        private readonly Tensor[] _first;
        private readonly Tensor[] _second;
        private readonly double[] _decay;
        private readonly long[] _tokens = [.. Enumerable.Range(0, Batch * BenchLm.Spec.Context).Select(i => (long)((i * 7919) % 251))];
        private long _step;

        public Separate(Profile<BenchLm> granularity, ScalarType type)
        {
            manual_seed(0);
            _model = new BenchLm.Submodel(granularity) { ComputeType = type };
            _parameters = [.. _model.parameters()];
            _first = Array.ConvertAll(_parameters, p => zeros_like(p).DetachFromDisposeScope());
            _second = Array.ConvertAll(_parameters, p => zeros_like(p).DetachFromDisposeScope());
            _decay = Array.ConvertAll(_parameters, p => p.dim() > 1 ? 0.1 : 0);
        }

        public double Time()
        {
            var start = Stopwatch.GetTimestamp();
            using (NewDisposeScope())
            {
                var tokens = tensor(_tokens, [Batch, BenchLm.Spec.Context]);
                var loss = _model.Loss(tokens, tokens);
                loss.backward();
                Kernels.ClipGradientNorm(_parameters, 1);
                Kernels.AdamW(_parameters, _first, _second, _decay, 1e-3, 0.9, 0.95, 1e-8, ++_step);
                _model.zero_grad();
                loss.item<float>();
            }

            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        public void Dispose()
        {
            foreach (var moment in _first.Concat(_second)) moment.Dispose();
            _model.Dispose();
        }
    }
}

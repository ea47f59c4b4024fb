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

/// <summary>Training steps of ours against plain PyTorch's of the same model, batch and dtype, in turns.</summary>
internal static class TrainBenchmark
{
    private const int Batch = 8;
    private const int Turns = 5;

    public static IEnumerable<Result> Run()
    {
        foreach (var (type, name) in ((ScalarType, string)[])[(ScalarType.Float32, "f32"), (ScalarType.BFloat16, "bf16")])
        {
            using var peer = PythonPeer.Start("--dtype", name, "--batch", Batch.ToString(CultureInfo.InvariantCulture), "--threads", get_num_threads().ToString(CultureInfo.InvariantCulture));
            if (peer is null) Console.Error.WriteLine($"skipped train.*.{name}.vs_pytorch: no Python here has torch (Debian: apt-get install python3-torch)");
            foreach (var (objective, steps) in ((Objective, int)[])[(Objective.Joint, 1), (Objective.Sampled, 4)])
            {
                var objectiveName = objective.ToString().ToLowerInvariant();
                using var bench = new Bench(type, objective);
                var times = Benchmarks.Turns.Run(Turns, () => bench.Time(steps), () => peer?.Time(objectiveName, steps) ?? double.NaN);
                var tokens = (double)Batch * BenchLm.Spec.Context * steps;
                if (peer is not null) yield return Benchmarks.Turns.Ratio($"train.{objectiveName}.{name}.vs_pytorch", times, tokens);
                else yield return new Result($"train.{objectiveName}.{name}.tokens_per_second", tokens / Benchmarks.Turns.Median(times.Ours), "tokens/s", Runs: Turns);
            }
        }

        foreach (var result in OverheadBenchmark.Run()) yield return result;
    }

    /// <summary>A model and what trains it: the real trainer, so that nothing of a step is left out.</summary>
    private sealed class Bench : IDisposable
    {
        private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        private readonly BenchLm _model;
        private readonly TextCorpus _corpus;
        private readonly Trainer<BenchLm>[] _turns;
        private int _next;

        public Bench(ScalarType type, Objective objective)
        {
            manual_seed(0);
            _model = new BenchLm { ComputeType = type };
            var text = Path.Combine(_folder.FullName, "text");
            Directory.CreateDirectory(text);
            var random = new Random(0);
            for (var document = 0; document < 100; document++)
                File.WriteAllText(Path.Combine(text, $"{document}.txt"), string.Concat(Enumerable.Range(0, 4000).Select(_ => (char)random.Next(' ', '~'))));
            _corpus = TextCorpus.Open(text, _folder.FullName);
            var options = new TrainerOptions { Objective = objective, Batch = Batch, Steps = int.MaxValue, LearningRate = 1e-3, WarmupSteps = 0 };

            // Sampled: each granularity in its turn, as the peer does, so that both do the same work.
            _turns = objective == Objective.Joint
                ? [new Trainer<BenchLm>(_model, options)]
                : [.. Enumerable.Range(0, 4).Select(i => new Trainer<BenchLm>(_model, options with { Probabilities = [.. Enumerable.Range(0, 4).Select(j => j == i ? 1.0 : 0.0)] }))];
        }

        public double Time(int steps)
        {
            var start = Stopwatch.GetTimestamp();
            for (var step = 0; step < steps; step++) _turns[_next++ % _turns.Length].Step(_corpus);
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
}

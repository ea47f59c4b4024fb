using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using static TorchSharp.torch;

namespace MatFormer.Benchmarks;

/// <summary>
/// Compares two ranks of one thread with one process of two threads, with the same global batch, in turns. Two processes that exchange
/// nothing are a bound: no exchange makes two ranks faster than them. It also shows how many bytes of gradients sampled steps send, and
/// which share of the exchange overlaps with the backward pass. It needs an MPI.
/// </summary>
internal static class DistributedBenchmark
{
    /// <summary>The argument with which the benchmark starts itself as two child processes.</summary>
    public const string Child = "distributed-run";

    private const int Ranks = 2;
    private const int Batch = 8;
    private const int Steps = 4;
    private const int Turns = 6;

    private enum Side
    {
        Ranks,
        Apart,
        Alone,
    }

    public static IEnumerable<Result> Run()
    {
        if (Launcher() is not { } launcher)
        {
            Console.Error.WriteLine("skipped distributed.*: there is no mpirun (apt-get install openmpi-bin)");
            yield break;
        }

        foreach (var objective in (Objective[])[Objective.Joint, Objective.Sampled])
        {
            var name = $"distributed.{objective.ToString().ToLowerInvariant()}";
            var turns = Start(launcher, objective);
            double[] Seconds(Side side) => [.. turns.Where(turn => turn.Side == side).Select(turn => turn.Seconds)];
            foreach (var (side, what) in ((Side, string)[])[(Side.Ranks, "2_ranks"), (Side.Apart, "2_ranks_without_exchange")])
            {
                var tokens = (double)Batch * BenchLm.Spec.Context * Steps;
                var ratio = Benchmarks.Turns.Ratio(
                    $"{name}.bf16.{what}.vs_2_threads", (Seconds(side), Seconds(Side.Alone)), tokens);
                yield return ratio with { Kernels = Level.Name };
            }

            var ranks = turns.Where(turn => turn.Side == Side.Ranks).ToList();
            var dense = 4.0 * BenchLm.Spec.ParameterCount(BenchLm.Spec.WholeLayers.AsSpan());
            var sent = ranks[0].Bytes / Steps;
            yield return new Result($"{name}.bytes.vs_dense", sent / dense, "x", sent, dense);
            var overlapped = 1 - (ranks.Sum(turn => turn.Waiting) / ranks.Sum(turn => turn.Exchange));
            yield return new Result($"{name}.overlapped", overlapped, "of the exchange's time", Runs: Turns);
        }
    }

    /// <summary>
    /// Runs in the child processes: trains in turns. The first process prints for each turn the side, the seconds, the bytes, the seconds
    /// of the exchange, and those that it waited.
    /// </summary>
    public static void RunChild(string objective, string folder)
    {
        DistributedTraining.Register();
        using var ranks = Communicators.Connect("mpi");
        using var corpus = TextCorpus.Open(folder, Path.Combine(folder, $"{ranks.Rank}"));
        var options = new TrainerOptions { Objective = Enum.Parse<Objective>(objective), Batch = Batch };
        using var together = new Training(options, corpus, ranks);
        using var apart = new Training(options with { Batch = Batch / Ranks }, corpus);
        using var alone = ranks.Rank == 0 ? new Training(options, corpus) : null;
        for (var turn = 0; turn <= Turns; turn++)
        {
            foreach (var side in Enum.GetValues<Side>())
            {
                ranks.Barrier();
                var start = Stopwatch.GetTimestamp();
                StepCommunication?[] exchanges = [];
                if (side == Side.Alone)
                {
                    // The other process sleeps. To wait for a message would take time from the one that computes.
                    var hasEnded = Path.Combine(folder, $"ended-{turn}");
                    while (alone is null && !File.Exists(hasEnded)) Thread.Sleep(20);
                    set_num_threads(Ranks);
                    if (alone is not null) exchanges = alone.Run();
                    File.Create(hasEnded).Dispose();
                }
                else
                {
                    set_num_threads(1);
                    exchanges = (side == Side.Ranks ? together : apart).Run();
                    ranks.Barrier();
                }

                var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
                if (ranks.Rank > 0 || turn == 0) continue; // the first turn is not counted
                Console.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                    $"result {side} {seconds} {Sum(e => e.Bytes)} {Sum(e => e.Seconds)} {Sum(e => e.WaitingSeconds)}"));

                double Sum(Func<StepCommunication, double> number) => exchanges.Sum(exchange => exchange is null ? 0 : number(exchange));
            }
        }
    }

    private static List<Turn> Start(string launcher, Objective objective)
    {
        var folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        try
        {
            var random = new Random(0);
            File.WriteAllText(
                Path.Combine(folder.FullName, "text.txt"),
                string.Join("\n\n", Enumerable.Range(0, 100).Select(_ => new string(random.GetItems("abcdefgh .,".AsSpan(), 4000)))));
            List<string> command =
                [Environment.ProcessPath!, typeof(DistributedBenchmark).Assembly.Location, Child, objective.ToString(), folder.FullName];
            if (Path.GetFileNameWithoutExtension(command[0]) != "dotnet") command.RemoveAt(1);
            command.InsertRange(0, ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", $"{Ranks}"]);
            var start = new ProcessStartInfo(launcher, command) { RedirectStandardOutput = true };
            start.Environment["OMPI_MCA_btl_vader_single_copy_mechanism"] = "none"; // containers forbid it
            using var process = Process.Start(start)!;
            var written = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            var turns = written.Split('\n').Where(line => line.Contains("result ", StringComparison.Ordinal)).Select(Turn.Parse).ToList();
            if (process.ExitCode != 0 || turns.Count == 0)
                throw new InvalidOperationException("distributed: a run failed; its error message is above");
            return turns;
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static string? Launcher()
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo("mpirun.openmpi", "--version") { RedirectStandardOutput = true })!;
            process.WaitForExit();
            return "mpirun.openmpi";
        }
        catch (Win32Exception)
        {
            return null;
        }
    }

    private readonly record struct Turn(Side Side, double Seconds, double Bytes, double Exchange, double Waiting)
    {
        public static Turn Parse(string line)
        {
            var words = line.Trim().Split(' ');
            var numbers = Array.ConvertAll(words[^4..], word => double.Parse(word, CultureInfo.InvariantCulture));
            return new(Enum.Parse<Side>(words[^5]), numbers[0], numbers[1], numbers[2], numbers[3]);
        }
    }

    // A model and its trainer.
    private sealed class Training : IDisposable
    {
        private readonly BenchLm _model;
        private readonly Trainer<BenchLm> _trainer;
        private readonly TextCorpus _corpus;

        public Training(TrainerOptions options, TextCorpus corpus, ICommunicator? ranks = null)
        {
            manual_seed(1);
            (_model, _corpus) = (new BenchLm { ComputeType = ScalarType.BFloat16 }, corpus);
            _trainer = new Trainer<BenchLm>(_model, options) { Communicator = ranks };
        }

        /// <summary>
        /// Runs the steps of a turn. Sampled steps train one granularity after the other, so that all turns do the same work.
        /// </summary>
        public StepCommunication?[] Run() =>
        [
            .. Enumerable.Range(0, Steps).Select(step => (_trainer.Options.Objective != Objective.Sampled ? _trainer.Step(_corpus)
                : _trainer.Step(_corpus, Alone(BenchLm.Granularities[step % BenchLm.Granularities.Count]))).Communication),
        ];

        public void Dispose()
        {
            _trainer.Dispose();
            _model.Dispose();
        }

        private static StepPlan Alone(Profile<BenchLm> granularity) => new(Streams.Of(granularity), [granularity.Name], [1]);
    }
}

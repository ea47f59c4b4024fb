using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using static TorchSharp.torch;

namespace MatFormer.Benchmarks;

/// <summary>
/// Compares two ranks of one thread with one process of two threads, with the same global batch, in turns. It also shows how many bytes of
/// gradients sampled steps send, and which share of the exchange overlaps with the backward pass. It needs an MPI.
/// </summary>
internal static class DistributedBenchmark
{
    /// <summary>The argument with which the benchmark starts itself as a child process.</summary>
    public const string Child = "distributed-run";

    private const int Ranks = 2;
    private const int Batch = 8;
    private const int Warm = 4;
    private const int Steps = 8;
    private const int Turns = 3;

    public static IEnumerable<Result> Run()
    {
        if (Launcher() is not { } launcher)
        {
            Console.Error.WriteLine("skipped distributed.*: there is no mpirun (apt-get install openmpi-bin)");
            yield break;
        }

        foreach (var objective in (Objective[])[Objective.Joint, Objective.Sampled])
        {
            var name = objective.ToString().ToLowerInvariant();
            var (ours, peer) = (new List<Side>(), new List<Side>());
            for (var turn = 0; turn < Turns; turn++)
            {
                ours.Add(Start(launcher, objective, Ranks));
                peer.Add(Start(null, objective, Ranks));
            }

            double[] Seconds(List<Side> sides) => [.. sides.Select(side => side.Seconds)];
            var ratio = Benchmarks.Turns.Ratio(
                $"distributed.{name}.bf16.2_ranks.vs_2_threads", (Seconds(ours), Seconds(peer)),
                (double)Batch * BenchLm.Spec.Context * Steps);
            yield return ratio with { Kernels = Level.Name };
            var dense = 4.0 * BenchLm.Spec.ParameterCount(BenchLm.Spec.WholeLayers.AsSpan());
            var sent = ours[0].Bytes / Steps;
            yield return new Result($"distributed.{name}.bytes.vs_dense", sent / dense, "x", sent, dense);
            var overlapped = 1 - (ours.Sum(side => side.Waiting) / ours.Sum(side => side.Exchange));
            yield return new Result($"distributed.{name}.overlapped", overlapped, "of the exchange's time", Runs: Turns);
        }
    }

    /// <summary>Runs in the child processes: trains, and prints the seconds, the bytes and the seconds of the exchange.</summary>
    public static void RunChild(string objective, bool isAlone)
    {
        DistributedTraining.Register();
        using var ranks = isAlone ? null : Communicators.Connect("mpi");
        set_num_threads(isAlone ? Ranks : 1);
        var folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        try
        {
            var random = new Random(0);
            File.WriteAllText(
                Path.Combine(folder.FullName, "text.txt"),
                string.Join("\n\n", Enumerable.Range(0, 100).Select(_ => new string(random.GetItems("abcdefgh .,".AsSpan(), 4000)))));
            manual_seed(1);
            using var model = new BenchLm { ComputeType = ScalarType.BFloat16 };
            using var corpus = TextCorpus.Open(folder.FullName, folder.FullName);
            var sizes = Enumerable.Range(0, BenchLm.Granularities.Count).ToList();
            var options = new TrainerOptions { Objective = Enum.Parse<Objective>(objective), Batch = Batch };

            // Sampled steps train one granularity after the other, so that all turns do the same work.
            using var trainer = new Trainer<BenchLm>(model, options) { Communicator = ranks };
            var turn = 0;
            StepResult Step() => options.Objective != Objective.Sampled ? trainer.Step(corpus)
                : trainer.Step(corpus, Alone(BenchLm.Granularities[turn++ % sizes.Count]));
            for (var step = 0; step < Warm; step++) Step();
            var start = Stopwatch.GetTimestamp();
            var exchanges = Enumerable.Range(0, Steps).Select(_ => Step().Communication).ToList();
            var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            if (ranks is { Rank: > 0 }) return;
            var (exchange, waiting) = (exchanges.Sum(e => e?.Seconds ?? 0), exchanges.Sum(e => e?.WaitingSeconds ?? 0));
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"result {seconds} {exchanges.Sum(e => e?.Bytes ?? 0)} {exchange} {waiting}"));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static StepPlan Alone(Profile<BenchLm> granularity) => new(Streams.Of(granularity), [granularity.Name], [1]);

    private static Side Start(string? launcher, Objective objective, int ranks)
    {
        var side = launcher is null ? "alone" : "ranks";
        List<string> command =
            [Environment.ProcessPath!, typeof(DistributedBenchmark).Assembly.Location, Child, objective.ToString(), side];
        if (Path.GetFileNameWithoutExtension(command[0]) != "dotnet") command.RemoveAt(1);
        if (launcher is not null)
            command.InsertRange(0, [launcher, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", $"{ranks}"]);
        var start = new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true };
        start.Environment["OMPI_MCA_btl_vader_single_copy_mechanism"] = "none"; // containers forbid it
        using var process = Process.Start(start)!;
        var written = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        var line = written.Split('\n').FirstOrDefault(line => line.Contains("result ", StringComparison.Ordinal));
        if (process.ExitCode != 0 || line is null)
            throw new InvalidOperationException("distributed: a run failed; its error message is above");
        double[] numbers = [.. line.Split(' ')[1..].Select(number => double.Parse(number, CultureInfo.InvariantCulture))];
        return new(numbers[0], numbers[1], numbers[2], numbers[3]);
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

    private readonly record struct Side(double Seconds, double Bytes, double Exchange, double Waiting);
}

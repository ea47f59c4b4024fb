using System.Diagnostics;
using System.Globalization;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Benchmarks;

/// <summary>
/// Measures the peak memory of joint steps in a separate process: that of the whole process, and the part beyond what the process had
/// before there was a model. The peers are measured in the same way: plain TorchSharp, and PyTorch where Python has it. A further run
/// recomputes activations and shows what that costs in time. The benchmark needs Linux, whose kernel records the peak (VmHWM of
/// /proc/self/status).
/// </summary>
internal static class MemoryBenchmark
{
    /// <summary>The argument with which the benchmark starts itself as a child process.</summary>
    public const string Child = "memory-of-one-run";

    private const string Kept = "kept";
    private const string Recomputed = "recomputed";
    private const string Plain = "plain";
    private const int Batch = 8;
    private const int Steps = 4;

    public static IEnumerable<Result> Run()
    {
        if (!File.Exists("/proc/self/status"))
        {
            Console.Error.WriteLine("skipped memory.*: the peak memory of a process is read from /proc/self/status, which only Linux has");
            yield break;
        }

        // The peers compute bf16 in software where the CPU has none, and a step takes minutes.
        var peersType = Machine.CpuHasBFloat16 ? "bf16" : "f32";
        foreach (var dtype in (string[])["f32", "bf16"])
        {
            var (ours, recomputed) = (OfChild(dtype, Kept), OfChild(dtype, Recomputed));
            if (dtype == peersType)
            {
                foreach (var result in AgainstTorchSharp(dtype, ours)) yield return result;
            }

            yield return new Result(
                $"memory.joint.{dtype}.recomputed.vs_kept", recomputed.Peak / ours.Peak, "x", recomputed.Peak, ours.Peak);
            yield return new Result(
                $"memory.joint.{dtype}.recomputed.model.vs_kept", (recomputed.Peak - recomputed.Before) / (ours.Peak - ours.Before), "x",
                recomputed.Peak - recomputed.Before, ours.Peak - ours.Before);
            yield return new Result(
                $"memory.joint.{dtype}.recomputed.time.vs_kept", recomputed.Seconds / ours.Seconds, "x the time", recomputed.Seconds,
                ours.Seconds);
            var isCompared = dtype == "f32" || peersType == dtype;
            using var peer = isCompared
                ? PythonPeer.Start("--dtype", dtype, "--batch", Text(Batch), "--threads", Text(get_num_threads())) : null;
            if (peer is null)
            {
                if (isCompared) PythonPeer.TellMissing($"memory.joint.{dtype}.vs_pytorch");
                yield return new Result($"memory.joint.{dtype}.mb", ours.Peak, "MB");
                continue;
            }

            // PyTorch has allocated all that it keeps after its first step, and its steps take seconds, so two are enough.
            peer.Time("joint", 2);
            var (before, peak) = (peer.Time("base", 0), peer.Time("peak", 0));
            yield return new Result($"memory.joint.{dtype}.vs_pytorch", ours.Peak / peak, "x", ours.Peak, peak);
            yield return new Result(
                $"memory.joint.{dtype}.model.vs_pytorch", (ours.Peak - ours.Before) / (peak - before), "x", ours.Peak - ours.Before,
                peak - before);
        }
    }

    /// <summary>
    /// Runs in the child process: trains, and prints the megabytes before there was a model, the peak megabytes, and the seconds of the
    /// fastest step.
    /// </summary>
    public static void RunChild(string dtype, string run)
    {
        var type = dtype == "bf16" ? ScalarType.BFloat16 : ScalarType.Float32;
        if (run == Plain)
        {
            RunPlain(type);
            return;
        }

        var folder = Directory.CreateTempSubdirectory("matformer-benchmark-");
        try
        {
            var before = MegabytesBefore();
            var random = new Random(0);
            File.WriteAllText(
                Path.Combine(folder.FullName, "text.txt"),
                string.Join("\n\n", Enumerable.Range(0, 100).Select(_ => new string(random.GetItems("abcdefgh .,".AsSpan(), 4000)))));
            using var model = new BenchLm { ComputeType = type };
            using var corpus = TextCorpus.Open(folder.FullName, folder.FullName);
            using var trainer = new Trainer<BenchLm>(
                model, new TrainerOptions { Objective = Objective.Joint, Batch = Batch, RecomputeActivations = run == Recomputed });
            Tell(before, () =>
            {
                var start = Stopwatch.GetTimestamp();
                trainer.Step(corpus);
                return Stopwatch.GetElapsedTime(start).TotalSeconds;
            });
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    // Compares our steps, with and without the native library, with those of plain TorchSharp.
    private static IEnumerable<Result> AgainstTorchSharp(string dtype, (double Before, double Peak, double Seconds) ours)
    {
        var plain = OfChild(dtype, Plain);
        var composite = Level.IsFused ? OfChild(dtype, Kept, Level.CompositeName) : ours;
        foreach (var (name, run, kernels) in ((string, (double Before, double Peak, double Seconds), string)[])
            [("memory.joint", ours, Level.Name), ("memory.composite.joint", composite, Level.CompositeName)])
        {
            var (own, other) = (run.Peak - run.Before, plain.Peak - plain.Before);
            yield return new Result($"{name}.vs_torchsharp", run.Peak / plain.Peak, "x", run.Peak, plain.Peak) { Kernels = kernels };
            yield return new Result($"{name}.model.vs_torchsharp", own / other, "x", own, other) { Kernels = kernels };
        }
    }

    private static void RunPlain(ScalarType type)
    {
        var before = MegabytesBefore();
        using var plain = new PlainTorchSharp(BenchLm.Spec, type, Batch);
        Tell(before, () => plain.Time(Objective.Joint, 1));
    }

    // The memory of a process that has used libtorch but has no model yet.
    private static double MegabytesBefore()
    {
        using (var first = ones(4, 4)) first.add(first).Dispose();
        return Megabytes("VmRSS");
    }

    private static void Tell(double before, Func<double> step)
    {
        var seconds = Enumerable.Range(0, Steps).Min(_ => step());
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{before} {Megabytes("VmHWM")} {seconds}"));
    }

    private static (double Before, double Peak, double Seconds) OfChild(string dtype, string run, string? kernels = null)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardOutput = true };
        start.ArgumentList.Add(typeof(MemoryBenchmark).Assembly.Location);
        start.ArgumentList.Add(Child);
        start.ArgumentList.Add(dtype);
        start.ArgumentList.Add(run);
        if (kernels is not null) start.Environment[Kernels.LevelVariable] = kernels;
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath) != "dotnet") start.ArgumentList.RemoveAt(0);
        using var process = Process.Start(start)!;
        var written = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new InvalidOperationException($"memory: the run in {dtype} failed; its error message is above");
        double[] numbers = [.. written.Split(' ').Select(number => double.Parse(number, CultureInfo.InvariantCulture))];
        return (numbers[0], numbers[1], numbers[2]);
    }

    // "VmHWM:     123456 kB"
    private static double Megabytes(string key)
    {
        var line = File.ReadLines("/proc/self/status").First(line => line.StartsWith(key + ":", StringComparison.Ordinal));
        return double.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024 / 1e6;
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}

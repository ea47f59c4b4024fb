using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace MatFormer.Distributed.Tests;

/// <summary>
/// Kills a rank at some moment and resumes the run with 1, 2 and 3 ranks. The environment variable <c>MATFORMER_KILLS</c> is the number of
/// moments of the two MPIs together: 3 by default, 10 at most.
/// </summary>
public sealed class KillTests : RankTests
{
    private const int Ranks = 2;

    // A rank, an event, which of these events it is, and milliseconds after it (tests/TinyLm/Killed.cs).
    private static readonly string[] s_moments =
    [
        "0 write 2 0", // while it writes a checkpoint
        "1 wait 28 0", // in the exchange, before the sums of the other rank are there
        "1 wait 31 2", // in the forward or backward pass
        "1 connect 1 0", // before the first step
        "0 gather 3 0", // while the ranks compare their set-ups
        "0 reduce 40 0", // after it has given gradients
        "1 save 2 0", // before moments are collected
        "1 evaluate 2 1", // during an evaluation
        "0 evaluated 1 0", // after an evaluation, before its numbers are written
        "1 barrier 2 0", // at the end, when the weights are written
    ];

    private static int Count { get; } = Environment.GetEnvironmentVariable("MATFORMER_KILLS") is { Length: > 0 } count
        ? Math.Clamp(int.Parse(count, CultureInfo.InvariantCulture), 1, s_moments.Length) : 3;

    [Theory]
    [InlineData(Mpi.Open, 0)]
    [InlineData(Mpi.Mpich, 1)]
    public void AResumedRunEndsAsOneThatNeverStopped(string mpi, int first)
    {
        Mpi.Need(mpi);
        string[] arguments =
        [
            .. Text(30), "--objective", "sampled", "--checkpoint-every", "7", "--evaluate-every", "10", "--distributed", "mpi",
        ];
        var whole = Out("whole");
        Mpi.On(mpi, Ranks, [.. arguments, "--out", whole]).Succeeded();
        TestContext.Current.TestOutputHelper?.WriteLine($"{mpi}, never stopped: {End(whole)}");
        for (var i = first; i < Count; i += 2)
        {
            // Every other run divides the moments, and a resumed run may change that.
            var killed = Out($"killed{i}");
            var run = Mpi.Killed(mpi, Ranks, s_moments[i], [.. arguments, "--out", killed, "--shard-moments", $"{i % 4 < 2}"]);
            Assert.True(run.Code != 0, $"'{s_moments[i]}' did not come.\n{run.Output}\n{run.Errors}");
            WaitForTheEnd(killed);
            var isBegun = File.Exists(Path.Combine(killed, "checkpoint.safetensors"));
            var figures = new List<string>();
            foreach (var ranks in (int[])[1, 2, 3])
            {
                var resumed = Out($"resumed{i}.{ranks}");
                Directory.CreateDirectory(resumed);
                if (Directory.Exists(killed))
                    foreach (var file in Directory.GetFiles(killed)) File.Copy(file, Path.Combine(resumed, Path.GetFileName(file)));
                string[] its = isBegun ? ["train", "--resume", "--distributed", "mpi"] : arguments;
                Mpi.On(mpi, ranks, [.. its, "--out", resumed, "--shard-moments", $"{ranks == 2}"]).Succeeded();
                var losses = LargestDifference(Steps(whole), Steps(resumed));
                var weights = Numbers(whole, "model").Zip(Numbers(resumed, "model"), (one, other) => Math.Abs(one - other)).Max();
                figures.Add(FormattableString.Invariant(
                    $"  {ranks} ranks: losses differ by {losses:g2}, weights by {weights:g2}: {End(resumed)}"));
                Assert.InRange(Math.Max(losses, weights), 0, ranks == Ranks ? 0 : Tolerance);
                Assert.Empty(Directory.GetFiles(resumed, "*.tmp"));
            }

            TestContext.Current.TestOutputHelper?.WriteLine(
                $"{mpi}, killed at '{s_moments[i]}', {(isBegun ? "resumed" : "begun again")}:\n{string.Join('\n', figures)}");
        }
    }

    // Names the losses of the last evaluation and the weights of a run.
    private static string End(string folder)
    {
        var losses = Steps(folder)[^1].GetProperty("validation").EnumerateObject().Select(loss => $"{loss.Name} {loss.Value}");
        var hash = SHA256.HashData(MemoryMarshal.AsBytes<float>(Numbers(folder, "model")));
        return $"{string.Join(", ", losses)}, weights {Convert.ToHexStringLower(hash.AsSpan(0, 8))}";
    }

    // Open MPI's mpirun can end a little earlier than the ranks that it ends. The first rank holds the lock of the folder until its end.
    private static void WaitForTheEnd(string folder)
    {
        var path = Path.Combine(folder, "run.lock");
        var waited = System.Diagnostics.Stopwatch.StartNew();
        while (File.Exists(path))
        {
            try
            {
                using var held = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.None);
                return;
            }
            catch (IOException) when (waited.Elapsed < TimeSpan.FromSeconds(60))
            {
                Thread.Sleep(20);
            }
        }
    }
}

using System.Diagnostics;
using TorchSharp;

namespace MatFormer.Benchmarks;

/// <summary>
/// Measures the cost of one call through TorchSharp, the addition of two 4x4 tensors, against the same call in Python's torch.
/// </summary>
internal static class OverheadBenchmark
{
    private const int Calls = 100_000;

    public static IEnumerable<Result> Run()
    {
        using var peer = PythonPeer.Start();
        if (peer is null) PythonPeer.TellMissing("overhead.vs_python");
        using var small = torch.ones(4, 4);
        for (var warm = 0; warm < 5; warm++) Add(small);
        var times = Turns.Run(7, () => Add(small), () => peer?.Time("add", Calls) ?? double.NaN);
        yield return new Result("overhead.op_us", Turns.Median(times.Ours) / Calls * 1e6, "us", Runs: 7);
        if (peer is not null) yield return Turns.Ratio("overhead.vs_python", times, Calls);
    }

    private static double Add(torch.Tensor small)
    {
        var start = Stopwatch.GetTimestamp();
        for (var call = 0; call < Calls; call++) small.add(small).Dispose();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }
}

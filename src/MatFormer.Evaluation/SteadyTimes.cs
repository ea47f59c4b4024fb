using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// Makes measured times steady. Code is warm before it is timed, and a size that takes longer than a larger one is measured again, because
/// other load on the machine was probably in the way.
/// </summary>
internal static class SteadyTimes
{
    /// <summary>The share by which a size may be slower than a larger one without being measured again.</summary>
    public const double Noise = 0.15;

    /// <summary>How often the sizes that are out of order are measured again, at most.</summary>
    public const int MostRepeats = 3;

    private const int LeastRuns = 2;

    // The runtime compiles hot methods anew after 30 calls and a tenth of a second.
    private static readonly TimeSpan s_leastTime = TimeSpan.FromSeconds(0.3);

    /// <summary>Runs what will be timed, until its first uses are over and its code is compiled for good.</summary>
    /// <param name="run">One run.</param>
    /// <param name="clock">The clock; the system's if null.</param>
    public static void WarmUp(Action run, TimeProvider? clock = null)
    {
        clock ??= TimeProvider.System;
        var start = clock.GetTimestamp();
        for (var runs = 0; runs < LeastRuns || clock.GetElapsedTime(start) < s_leastTime; runs++) run();
    }

    /// <summary>
    /// Measures sizes. Those that are out of order are measured again, a bounded number of times, and the shortest time counts. A size that
    /// stays slower than a larger one keeps its time: it may be so.
    /// </summary>
    /// <param name="sizes">The sizes.</param>
    /// <param name="measure">Returns the times of some of the sizes, which are given by their positions.</param>
    public static double[] Measure(IReadOnlyList<ImmutableArray<LayerSlice>> sizes, Func<IReadOnlyList<int>, double[]> measure)
    {
        int[] all = [.. Enumerable.Range(0, sizes.Count)];
        double[] times = [.. measure(all)];
        for (var repeat = 0; repeat < MostRepeats; repeat++)
        {
            int[] late = [.. all.Where(i => all.Any(j => times[i] > times[j] * (1 + Noise) && sizes[j].Hold(sizes[i])))];
            if (late.Length == 0) break;
            var again = measure(late);
            for (var i = 0; i < late.Length; i++) times[late[i]] = Math.Min(times[late[i]], again[i]);
        }

        return times;
    }
}

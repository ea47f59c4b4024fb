using System.Diagnostics;

namespace Elasticity;

/// <summary>Measures the times of several runs that take turns, so that other programs on the machine slow all of them alike.</summary>
internal static class Turns
{
    /// <summary>
    /// Returns the median seconds of each run, and its time as a share of the reference's in the same round: the median of the rounds. A
    /// first round only warms up.
    /// </summary>
    public static (double Seconds, double Share)[] Of(
        IReadOnlyList<Action> runs, int reference, int rounds, CancellationToken cancellationToken)
    {
        var seconds = runs.Select(_ => new double[rounds]).ToList();
        for (var round = -1; round < rounds; round++)
        {
            for (var i = 0; i < runs.Count; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var start = Stopwatch.GetTimestamp();
                runs[i]();
                if (round >= 0) seconds[i][round] = Stopwatch.GetElapsedTime(start).TotalSeconds;
            }
        }

        return [.. seconds.Select(its => (Median(its), Median(its.Zip(seconds[reference], (own, other) => own / other))))];

        static double Median(IEnumerable<double> values)
        {
            var sorted = values.Order().ToList();
            return sorted[sorted.Count / 2];
        }
    }
}

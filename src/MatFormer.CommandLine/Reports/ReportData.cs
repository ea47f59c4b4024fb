namespace MatFormer;

/// <summary>The data that the report of a demo shows.</summary>
internal sealed record ReportData
{
    public required ModelSpec Spec { get; init; }

    public required Evaluation Evaluation { get; init; }

    /// <summary>The name of the largest granularity.</summary>
    public required string Whole { get; init; }

    public required IReadOnlyList<TrainingCurve> Curves { get; init; }

    public required IReadOnlyList<Sample> Samples { get; init; }

    public required SliceCheck Slice { get; init; }

    /// <summary>The facts about the run, in the order shown.</summary>
    public required IReadOnlyList<(string Name, string Value)> Facts { get; init; }
}

/// <summary>A prompt and its continuation.</summary>
internal sealed record Sample(string Profile, string Prompt, string Text, double TokensPerSecond);

/// <summary>How an extracted, saved and loaded slice compares with the universal model.</summary>
internal sealed record SliceCheck(string Profile, string Path, double Difference, bool Equal);

/// <summary>Smoothed training loss of a granularity.</summary>
internal sealed record TrainingCurve(string Granularity, IReadOnlyList<(double Step, double Loss)> Points);

/// <summary>Reads training curves from metrics.</summary>
internal static class TrainingCurves
{
    private const int MaxBins = 200;

    // The losses of single steps are noisy, so each point is a mean with Gaussian weights. This is the width, as a share of all steps.
    private const double Smoothing = 0.02;

    /// <summary>Returns one smoothed curve for each granularity, narrowest first.</summary>
    /// <param name="path">The path of the metrics file.</param>
    /// <param name="granularities">The names of the granularities.</param>
    /// <param name="unit">The unit of the losses.</param>
    public static IReadOnlyList<TrainingCurve> Read(string path, IReadOnlyList<string> granularities, LossUnit unit)
    {
        if (!File.Exists(path)) return [];
        var last = 1L;
        foreach (var result in MetricsFile.Read(path)) last = Math.Max(last, result.Step);
        var bins = (int)Math.Min(MaxBins, last);
        var sums = granularities.ToDictionary(g => g, _ => new (double Step, double Nats, int Count)[bins], StringComparer.Ordinal);
        foreach (var result in MetricsFile.Read(path))
        {
            var bin = (int)((result.Step - 1) * bins / last);
            foreach (var (granularity, loss) in result.Losses)
            {
                if (!sums.TryGetValue(granularity, out var its)) continue;
                its[bin] = (its[bin].Step + result.Step, its[bin].Nats + loss, its[bin].Count + 1);
            }
        }

        return [.. granularities.Select(g => new TrainingCurve(g, Smooth(sums[g], last, unit))).Where(c => c.Points.Count > 0)];
    }

    private static List<(double Step, double Loss)> Smooth((double Step, double Nats, int Count)[] bins, long last, LossUnit unit)
    {
        var points = new List<(double, double)>();
        foreach (var (step, _, count) in bins)
        {
            if (count == 0) continue;
            var (at, nats, weights) = (step / count, 0.0, 0.0);
            foreach (var other in bins)
            {
                if (other.Count == 0) continue;
                var distance = ((other.Step / other.Count) - at) / (Smoothing * last);
                var weight = Math.Exp(-0.5 * distance * distance);
                nats += weight * other.Nats;
                weights += weight * other.Count;
            }

            points.Add((at, nats / weights * unit.PerNat));
        }

        return points;
    }
}

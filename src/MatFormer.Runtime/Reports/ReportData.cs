namespace MatFormer;

/// <summary>What a report shows.</summary>
internal sealed record ReportData
{
    public required ModelSpec Spec { get; init; }

    public required Evaluation Evaluation { get; init; }

    /// <summary>The name of the largest granularity.</summary>
    public required string Whole { get; init; }

    public required IReadOnlyList<TrainingCurve> Curves { get; init; }

    public required IReadOnlyList<Sample> Samples { get; init; }

    public required SliceCheck Slice { get; init; }

    /// <summary>How it was made, in the order shown.</summary>
    public required IReadOnlyList<(string Name, string Value)> Facts { get; init; }
}

/// <summary>A continued prompt.</summary>
internal sealed record Sample(string Profile, string Prompt, string Text, double TokensPerSecond);

/// <summary>How an extracted, saved and loaded slice compares with the universal model.</summary>
internal sealed record SliceCheck(string Profile, string Path, double Difference, bool Equal);

/// <summary>Smoothed training loss of a granularity, in bits per byte.</summary>
internal sealed record TrainingCurve(string Granularity, IReadOnlyList<(double Step, double Bits)> Points);

/// <summary>Reads training curves from metrics.</summary>
internal static class TrainingCurves
{
    private const int Bins = 120;

    /// <summary>One curve a granularity, narrowest first: means over equal ranges of steps.</summary>
    public static IReadOnlyList<TrainingCurve> Read(string path, IReadOnlyList<string> granularities)
    {
        if (!File.Exists(path)) return [];
        var last = 1L;
        foreach (var result in MetricsFile.Read(path)) last = Math.Max(last, result.Step);
        var bins = (int)Math.Min(Bins, Math.Max(1, last / (2 * granularities.Count)));
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

        return
        [
            .. granularities.Select(g => new TrainingCurve(
                g, [.. sums[g].Where(b => b.Count > 0).Select(b => (b.Step / b.Count, b.Nats / b.Count / Math.Log(2)))])).Where(
                    c => c.Points.Count > 0),
        ];
    }
}

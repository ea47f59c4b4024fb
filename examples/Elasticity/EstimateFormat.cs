using Paper;

namespace Elasticity;

/// <summary>Formats estimates of differences.</summary>
internal static class EstimateFormat
{
    /// <summary>Formats an estimate with its sign and four digits, such as +0.0012 ± 0.0003.</summary>
    public static string Signed4(this Estimate estimate) =>
        double.IsNaN(estimate.Mean) ? string.Empty : estimate.Format("+0.0000;-0.0000;0.0000");

    /// <summary>
    /// Says in words which differences of losses are beyond their intervals, such as "better (S, M) and worse (L)". Below zero is better.
    /// </summary>
    public static string Verdict(
        IEnumerable<(string Name, Estimate Difference)> differences, string below = "better", string above = "worse")
    {
        var all = differences.ToList();
        if (all.Exists(d => d.Difference.IsAlone)) return $"not known to be {below} or {above} (one seed has no interval)";
        var groups = all
            .GroupBy(d => d.Difference.IsNegative ? below : d.Difference.IsPositive ? above : $"neither {below} nor {above}").ToList();
        return groups is [var one]
            ? one.Key
            : Join(groups.Select(g => $"{g.Key} ({string.Join(", ", g.Select(d => d.Name))})"), "and");
    }

    /// <summary>Joins words with commas, and the last one with a word, as in "S, M and L".</summary>
    public static string Join(IEnumerable<string> words, string last)
    {
        var all = words.ToList();
        return all.Count < 2 ? string.Concat(all) : $"{string.Join(", ", all[..^1])} {last} {all[^1]}";
    }
}

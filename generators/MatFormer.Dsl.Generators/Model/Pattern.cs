using System.Globalization;

namespace MatFormer.Generators.Model;

/// <summary>Writes profiles as a user writes them.</summary>
internal static class Pattern
{
    /// <summary>Widths as runs of granularities, such as <c>4*S 4*M</c>.</summary>
    public static string Format(ModelSpec spec, IReadOnlyList<int> widths)
    {
        var runs = new List<string>();
        for (var start = 0; start < widths.Count;)
        {
            var end = start;
            while (end < widths.Count && widths[end] == widths[start]) end++;
            var name = spec.Granularities.First(g => g.Width == widths[start]).Name;
            runs.Add((end - start).ToString(CultureInfo.InvariantCulture) + "*" + name);
            start = end;
        }

        return string.Join(" ", runs);
    }
}

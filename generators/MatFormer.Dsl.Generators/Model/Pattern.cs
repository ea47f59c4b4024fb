using System.Globalization;

namespace MatFormer.Generators.Model;

/// <summary>Writes profiles as a user writes them.</summary>
internal static class Pattern
{
    /// <summary>What a pattern names the layers that it leaves out.</summary>
    public const string Skip = nameof(Skip);

    /// <summary>Runs of granularities, such as <c>4*S 4*M</c>.</summary>
    public static string Format(ModelSpec spec, IReadOnlyList<int> choices) => Format([.. spec.Granularities.Select(g => g.Name)], choices);

    /// <summary>The same, by the names of the granularities.</summary>
    public static string Format(IReadOnlyList<string> granularities, IReadOnlyList<int> choices) => string.Join(
        " ",
        Runs(choices).Select(run => run.Count.ToString(CultureInfo.InvariantCulture) + "*"
            + (run.Item == ProfileSpec.Skip ? Skip : granularities[run.Item])));

    /// <summary>Equal items that follow each other.</summary>
    public static IEnumerable<(int Count, T Item)> Runs<T>(IReadOnlyList<T> items)
    {
        for (var start = 0; start < items.Count;)
        {
            var end = start;
            while (end < items.Count && EqualityComparer<T>.Default.Equals(items[end], items[start])) end++;
            yield return (end - start, items[start]);
            start = end;
        }
    }
}

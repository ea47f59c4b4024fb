using System.Globalization;

namespace MatFormer.Generators.Model;

/// <summary>Writes profiles as users write them.</summary>
internal static class Pattern
{
    /// <summary>The name that stands for a layer that is left out.</summary>
    public const string Skip = nameof(Skip);

    /// <summary>Returns runs of granularities, such as <c>4*S 4*M</c>.</summary>
    public static string Format(ModelSpec spec, IReadOnlyList<int> choices) => Format([.. spec.Granularities.Select(g => g.Name)], choices);

    /// <summary>Returns runs of granularities, which are given by name.</summary>
    public static string Format(IReadOnlyList<string> granularities, IReadOnlyList<int> choices) => string.Join(
        " ",
        Runs(choices).Select(run => run.Count.ToString(CultureInfo.InvariantCulture) + "*"
            + (run.Item == ProfileSpec.Skip ? Skip : granularities[run.Item])));

    /// <summary>Returns runs of equal items that follow each other.</summary>
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

using MatFormer.Generators.Model;

namespace MatFormer.Generators.Writing;

/// <summary>The generated class of the blocks of one kind.</summary>
/// <param name="Name"><c>Block</c>, or, if there are several kinds, <c>Block4</c> with the number of the first layer.</param>
/// <param name="Block">The properties that the blocks have in common.</param>
/// <param name="Layers">The layers of the blocks.</param>
internal sealed record BlockKind(string Name, BlockSpec Block, IReadOnlyList<int> Layers)
{
    /// <summary>The layers in prose, such as <c>layers 0-3, 6</c>.</summary>
    public string LayersText => (Layers.Count == 1 ? "layer " : "layers ") + string.Join(", ", Ranges.Select(r => r.First == r.Last
        ? Literals.Digits(r.First)
        : Literals.Digits(r.First) + "-" + Literals.Digits(r.Last)));

    /// <summary>The layers as a C# pattern, such as <c>(&gt;= 0 and &lt;= 3) or 6</c>.</summary>
    public string LayerPattern => string.Join(" or ", Ranges.Select(r => r.First == r.Last
        ? Literals.Digits(r.First)
        : $"(>= {Literals.Digits(r.First)} and <= {Literals.Digits(r.Last)})"));

    private IEnumerable<(int First, int Last)> Ranges
    {
        get
        {
            for (var start = 0; start < Layers.Count;)
            {
                var end = start + 1;
                while (end < Layers.Count && Layers[end] == Layers[end - 1] + 1) end++;
                yield return (Layers[start], Layers[end - 1]);
                start = end;
            }
        }
    }

    /// <summary>Returns the kinds of blocks of a model, in the order of their first layers.</summary>
    public static IReadOnlyList<BlockKind> Of(ModelSpec spec)
    {
        var kinds = spec.Kinds.ToList();
        return kinds.ConvertAll(kind => new BlockKind(
            kinds.Count == 1 ? "Block" : "Block" + Literals.Digits(kind.Layers[0]), kind.Kind, kind.Layers));
    }
}

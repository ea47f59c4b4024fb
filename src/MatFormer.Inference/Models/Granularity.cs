using System.Collections.Immutable;

namespace MatFormer;

/// <summary>One size of a nested model: its name, and the part of each layer that it keeps.</summary>
/// <param name="Name">The name in the declaration, such as <c>S</c>.</param>
/// <param name="Layers">The part of each layer that is kept, first layer first.</param>
public sealed record Granularity(string Name, ImmutableArray<LayerSlice> Layers)
{
    /// <summary>Creates a granularity from runs of layers that keep the same part.</summary>
    public Granularity(string name, params ReadOnlySpan<(int Count, LayerSlice Slice)> runs)
        : this(name, BlockSpec.Expand(runs))
    {
    }
}

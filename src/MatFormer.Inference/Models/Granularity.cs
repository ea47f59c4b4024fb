using System.Collections.Immutable;

namespace MatFormer;

/// <summary>One size of a nested model: its name and what it keeps of every layer.</summary>
/// <param name="Name">The name in the declaration, such as <c>S</c>.</param>
/// <param name="Layers">What is kept of each layer, first layer first.</param>
public sealed record Granularity(string Name, ImmutableArray<LayerSlice> Layers)
{
    /// <summary>A granularity given as runs of layers that keep the same.</summary>
    public Granularity(string name, params ReadOnlySpan<(int Count, LayerSlice Slice)> runs)
        : this(name, BlockSpec.Expand(runs))
    {
    }
}

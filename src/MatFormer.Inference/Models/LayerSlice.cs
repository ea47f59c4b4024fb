using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// The part of one layer that a submodel keeps: the first units along each axis (MatFormer, arXiv 2310.07707, section 3.1). The default
/// value keeps nothing: the layer is left out.
/// </summary>
/// <param name="HiddenWidth">The number of hidden units of the feed-forward.</param>
/// <param name="Heads">The number of attention heads of the queries. The key/value heads that they use are kept too.</param>
public readonly record struct LayerSlice(int HiddenWidth, int Heads)
{
    /// <summary>A layer that is left out: the residual stream bypasses it.</summary>
    public static LayerSlice Skipped => default;

    /// <summary>True if the layer is left out.</summary>
    public bool IsSkipped => HiddenWidth == 0;

    /// <summary>
    /// The number of channels of the residual stream, or 0 for all of them. It is the same in all layers of a profile that are not left
    /// out.
    /// </summary>
    public int Width { get; init; }

    /// <summary>True if this slice keeps everything that <paramref name="other"/> keeps.</summary>
    public bool Holds(LayerSlice other) => HiddenWidth >= other.HiddenWidth && Heads >= other.Heads
        && (Width == 0 || other.IsSkipped || (other.Width > 0 && Width >= other.Width));

    /// <summary>Returns true if the cache of this slice has the keys and values that the other slice reads.</summary>
    internal bool CacheHolds(LayerSlice other) => Heads >= other.Heads;

    /// <summary>Returns true if both slices read the same keys and values.</summary>
    internal bool SharesCache(LayerSlice other) => CacheHolds(other) && other.CacheHolds(this);
}

/// <summary>What the slices of all layers have in common.</summary>
internal static class LayerSlicesExtensions
{
    extension(ImmutableArray<LayerSlice> layers)
    {
        /// <summary>Returns true if these layers keep as many layers as the others, and everything that those keep.</summary>
        public bool Hold(ImmutableArray<LayerSlice> others)
        {
            var hold = !others.IsDefault && others.Length == layers.Length;
            for (var layer = 0; hold && layer < others.Length; layer++) hold = layers[layer].Holds(others[layer]);
            return hold;
        }
    }
}

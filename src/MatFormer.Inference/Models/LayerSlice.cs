namespace MatFormer;

/// <summary>
/// What a submodel keeps of one layer: the first units along each axis (MatFormer, arXiv 2310.07707, section 3.1). The default keeps
/// nothing: the layer is left out.
/// </summary>
/// <param name="HiddenWidth">Hidden units of the feed-forward.</param>
/// <param name="Heads">Attention heads of the queries, with the key/value heads that they use.</param>
public readonly record struct LayerSlice(int HiddenWidth, int Heads)
{
    /// <summary>The layer is left out: the residual stream passes it by.</summary>
    public static LayerSlice Skipped => default;

    /// <summary>True if the layer is left out.</summary>
    public bool IsSkipped => HiddenWidth == 0;

    /// <summary>True if all that <paramref name="other"/> keeps is kept.</summary>
    public bool Holds(LayerSlice other) => HiddenWidth >= other.HiddenWidth && Heads >= other.Heads;
}

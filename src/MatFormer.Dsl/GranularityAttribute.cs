using System;

namespace MatFormer;

/// <summary>
/// Declares one size of the nested model. It keeps the first hidden units of every layer, the first <see cref="Heads"/>, and the first
/// channels of the residual stream (<see cref="Width"/>). Declare the narrowest granularity first. The last one must keep everything. The
/// name becomes the name of a class, such as <c>DocsLm.S</c>. Declare a granularity once for all layers, and again with
/// <see cref="Layers"/> for the layers in which it keeps something else.
/// </summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class GranularityAttribute : Attribute
{
    /// <summary>Declares a granularity by its width.</summary>
    /// <param name="name">An identifier, such as <c>S</c>.</param>
    /// <param name="width">The number of hidden units kept in every layer.</param>
    public GranularityAttribute(string name, int width)
    {
        Name = name;
        HiddenWidth = width;
    }

    /// <summary>Declares a granularity by its share of the feed-forward.</summary>
    /// <param name="name">An identifier, such as <c>S</c>.</param>
    /// <param name="fraction">
    /// The share of the feed-forward's hidden units, above 0 and up to 1.0. It must give a whole number of hidden units.
    /// </param>
    public GranularityAttribute(string name, double fraction)
    {
        Name = name;
        Fraction = fraction;
    }

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>The number of hidden units kept in every layer, or 0 if the granularity is declared by a fraction.</summary>
    public int HiddenWidth { get; }

    /// <summary>The share of the hidden units, or 0 if the granularity is declared by their number.</summary>
    public double Fraction { get; }

    /// <summary>
    /// The number of attention heads kept. Heads that share a key/value head are kept or dropped together. By default all heads are kept.
    /// </summary>
    public int Heads { get; set; }

    /// <summary>
    /// The number of channels of the residual stream kept: of the embeddings, of the norms, and of both sides of every projection. All
    /// layers add to the same stream, so a granularity has one width, and a profile has granularities of one width. By default the whole
    /// stream is kept.
    /// </summary>
    public int Width { get; set; }

    /// <summary>
    /// The layers that this attribute applies to, counted from 0, such as <c>"0-3"</c> or <c>"0,2,4-7"</c>. By default it applies to all
    /// layers that no other declaration of the granularity names.
    /// </summary>
    public string? Layers { get; set; }
}

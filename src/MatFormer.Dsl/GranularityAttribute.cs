using System;

namespace MatFormer;

/// <summary>
/// One size of the nested model: the first hidden units of every layer, and its first <see cref="Heads"/>. Declared narrowest first; the
/// last has all of them. Its name becomes that of a class, such as <c>DocsLm.S</c>. Once for all layers, and again, with
/// <see cref="Layers"/>, for those in which it keeps something else.
/// </summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class GranularityAttribute : Attribute
{
    /// <summary>A granularity by its width.</summary>
    /// <param name="name">An identifier, such as <c>S</c>.</param>
    /// <param name="width">Hidden units kept in every layer.</param>
    public GranularityAttribute(string name, int width)
    {
        Name = name;
        Width = width;
    }

    /// <summary>A granularity by its share of the feed-forward.</summary>
    /// <param name="name">An identifier, such as <c>S</c>.</param>
    /// <param name="fraction">Share of the feed-forward's hidden units, above 0 and up to 1.0; it must give a whole number of them.</param>
    public GranularityAttribute(string name, double fraction)
    {
        Name = name;
        Fraction = fraction;
    }

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>Hidden units kept in every layer; 0 if declared by a fraction.</summary>
    public int Width { get; }

    /// <summary>Share of the hidden units; 0 if declared by width.</summary>
    public double Fraction { get; }

    /// <summary>Attention heads kept, whole groups that share a key/value head; all if not given.</summary>
    public int Heads { get; set; }

    /// <summary>The layers this is for, the first being 0: <c>"0-3"</c>, <c>"0,2,4-7"</c>. All others if not given.</summary>
    public string? Layers { get; set; }
}

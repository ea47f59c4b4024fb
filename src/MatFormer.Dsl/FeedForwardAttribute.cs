using System;

namespace MatFormer;

/// <summary>
/// Declares the feed-forward. Each granularity keeps the first of its hidden units (arXiv 2310.07707, section 3.1). Declare it once for all
/// layers, and again with <see cref="Layers"/> for the layers that have a different one.
/// </summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class FeedForwardAttribute : Attribute
{
    /// <summary>Declares the feed-forward.</summary>
    /// <param name="width">The number of hidden units of the whole model (d_ff), which is the widest granularity.</param>
    /// <param name="activation">The nonlinearity.</param>
    public FeedForwardAttribute(int width, Activation activation)
    {
        Width = width;
        Activation = activation;
    }

    /// <summary>The number of hidden units of the whole model (d_ff).</summary>
    public int Width { get; }

    /// <summary>The nonlinearity.</summary>
    public Activation Activation { get; }

    /// <summary>Whether each projection has a bias. The default is false.</summary>
    public bool Bias { get; set; }

    /// <summary>
    /// The layers that this attribute applies to, counted from 0, such as <c>"0-3"</c> or <c>"0,2,4-7"</c>. By default it applies to all
    /// layers that no other <see cref="FeedForwardAttribute"/> names.
    /// </summary>
    public string? Layers { get; set; }
}

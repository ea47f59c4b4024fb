using System;

namespace MatFormer;

/// <summary>
/// The feed-forward, of which the granularities keep the first hidden units (arXiv 2310.07707, section 3.1). Once for all layers, and
/// again, with <see cref="Layers"/>, for those that have another.
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
    /// <param name="width">Hidden units of the whole model (d_ff), those of the widest granularity.</param>
    /// <param name="activation">Its nonlinearity.</param>
    public FeedForwardAttribute(int width, Activation activation)
    {
        Width = width;
        Activation = activation;
    }

    /// <summary>Hidden units of the whole model (d_ff).</summary>
    public int Width { get; }

    /// <summary>The nonlinearity.</summary>
    public Activation Activation { get; }

    /// <summary>Adds a bias to each projection; false if not given.</summary>
    public bool Bias { get; set; }

    /// <summary>The layers this is for, the first being 0: <c>"0-3"</c>, <c>"0,2,4-7"</c>. All others if not given.</summary>
    public string? Layers { get; set; }
}

using System;

namespace MatFormer;

/// <summary>What attention has beyond the number of heads. Once for all layers, and again, with <see cref="Layers"/>, for some.</summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class AttentionAttribute : Attribute
{
    /// <summary>
    /// Heads of the keys and values (grouped-query attention, arXiv 2305.13245); divides the heads. As many as heads if not given.
    /// </summary>
    public int KeyValueHeads { get; set; }

    /// <summary>
    /// How many tokens, its own included, a token attends to (sliding-window attention, arXiv 2004.05150, section 3.1); all before it if
    /// not given.
    /// </summary>
    public int Window { get; set; }

    /// <summary>
    /// The layers this is for, the first being 0: <c>"0-3"</c>, <c>"0,2,4-7"</c>. What such an attribute does not give is as in the one
    /// without layers. All layers if not given.
    /// </summary>
    public string? Layers { get; set; }

    /// <summary>Width of one head; Width / Heads of the model if not given.</summary>
    public int HeadWidth { get; set; }

    /// <summary>
    /// The base of the rotary angles (RoFormer, arXiv 2104.09864), which learned positions do not use; 10000 if not given.
    /// <see cref="RotaryScalingAttribute"/> slows them down.
    /// </summary>
    public double RotaryBase { get; set; } = 10000;

    /// <summary>RMS-normalises each head of queries and keys before they are turned (arXiv 2302.05442); false if not given.</summary>
    public bool QkNorm { get; set; }

    /// <summary>Adds a bias to the projections of queries, keys, values and output; false if not given.</summary>
    public bool Bias { get; set; }
}

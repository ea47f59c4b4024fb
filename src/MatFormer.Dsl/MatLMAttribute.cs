using System;

namespace MatFormer;

/// <summary>
/// Declares a nested transformer language model on a partial class: a decoder whose feed-forward layers hold smaller ones as prefixes
/// (MatFormer, arXiv 2310.07707). The class needs a <see cref="FeedForwardAttribute"/> and at least two
/// <see cref="GranularityAttribute"/>s.
/// </summary>
/// <remarks>
/// Without other attributes: RMS norms with epsilon 1e-5, rotary positions with base 10000, one key/value head per head, a head tied to the
/// embedding, no biases.
/// </remarks>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class MatLMAttribute : Attribute
{
    /// <summary>Transformer blocks.</summary>
    public int Layers { get; set; }

    /// <summary>Width of the residual stream (d_model).</summary>
    public int Width { get; set; }

    /// <summary>
    /// Attention heads of the queries; divides <see cref="Width"/> unless <see cref="AttentionAttribute.HeadWidth"/> is given.
    /// </summary>
    public int Heads { get; set; }

    /// <summary>The longest sequence, in tokens.</summary>
    public int Context { get; set; }

    /// <summary>The number of different tokens; 256 for bytes.</summary>
    public int Vocabulary { get; set; }
}

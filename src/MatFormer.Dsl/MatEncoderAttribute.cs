using System;

namespace MatFormer;

/// <summary>
/// Declares a nested text encoder on a partial class: a bidirectional transformer that makes one embedding of a text, whose feed-forward
/// layers hold smaller ones as prefixes (MatFormer, arXiv 2310.07707). The class needs a <see cref="FeedForwardAttribute"/> and at least
/// two <see cref="GranularityAttribute"/>s. It learns from pairs of a query and its document, with the other documents of the batch as
/// negatives (arXiv 1807.03748).
/// </summary>
/// <remarks>
/// Without other attributes: RMS norms with epsilon 1e-5, rotary positions with base 10000, one key/value head per head, no biases.
/// </remarks>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class MatEncoderAttribute : Attribute
{
    /// <summary>Transformer blocks.</summary>
    public int Layers { get; set; }

    /// <summary>Width of the residual stream (d_model).</summary>
    public int Width { get; set; }

    /// <summary>
    /// Attention heads of the queries; divides <see cref="Width"/> unless <see cref="AttentionAttribute.HeadWidth"/> is given.
    /// </summary>
    public int Heads { get; set; }

    /// <summary>The longest text, in tokens; longer ones are cut.</summary>
    public int Context { get; set; }

    /// <summary>The number of different tokens; 256 for bytes.</summary>
    public int Vocabulary { get; set; }

    /// <summary>Width of the embedding.</summary>
    public int Embedding { get; set; }

    /// <summary>What of the last hidden states is projected to the embedding; their mean if not given.</summary>
    public Pooling Pooling { get; set; } = Pooling.Mean;

    /// <summary>What cosines are divided by in training, before the softmax over the batch; 0.05 if not given.</summary>
    public double Temperature { get; set; } = 0.05;
}

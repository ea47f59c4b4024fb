using System;

namespace MatFormer;

/// <summary>
/// Declares a nested text encoder on a partial class: a bidirectional transformer that turns a text into one embedding, and whose
/// feed-forward layers contain smaller ones as prefixes (MatFormer, arXiv 2310.07707). The class needs a <see cref="FeedForwardAttribute"/>
/// and at least two <see cref="GranularityAttribute"/>s. It learns from pairs of a query and its document, with the other documents of the
/// batch as negatives (arXiv 1807.03748).
/// </summary>
/// <remarks>
/// The defaults are RMS norms with epsilon 1e-5, rotary positions with base 10000, one key/value head per query head, and no biases.
/// </remarks>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class MatEncoderAttribute : Attribute
{
    /// <summary>The number of transformer blocks.</summary>
    public int Layers { get; set; }

    /// <summary>The width of the residual stream (d_model).</summary>
    public int Width { get; set; }

    /// <summary>
    /// The number of query heads. It must divide <see cref="Width"/> unless <see cref="AttentionAttribute.HeadWidth"/> is given.
    /// </summary>
    public int Heads { get; set; }

    /// <summary>The length of the longest text, in tokens. Longer texts are truncated.</summary>
    public int Context { get; set; }

    /// <summary>The number of different tokens. For bytes it is 256.</summary>
    public int Vocabulary { get; set; }

    /// <summary>The width of the embedding.</summary>
    public int Embedding { get; set; }

    /// <summary>How the last hidden states are pooled before they are projected to the embedding. The default is their mean.</summary>
    public Pooling Pooling { get; set; } = Pooling.Mean;

    /// <summary>The temperature that cosines are divided by in training, before the softmax over the batch. The default is 0.05.</summary>
    public double Temperature { get; set; } = 0.05;
}

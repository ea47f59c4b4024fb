using System;

namespace MatFormer;

/// <summary>
/// Trains prefixes of an encoder's embedding to be embeddings of their own (Matryoshka representation learning, arXiv 2205.13147): the loss
/// is the mean of that of each prefix. Each becomes a member of the model's class <c>Dimension</c>, such as <c>D64</c>.
/// </summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class NestedEmbeddingAttribute : Attribute
{
    /// <summary>Declares the prefixes.</summary>
    /// <param name="dimensions">
    /// Their widths, narrowest first; the last is the whole: <see cref="MatEncoderAttribute.Embedding"/>, or the
    /// <see cref="MatViTAttribute.Width"/> in front of the classifier.
    /// </param>
    public NestedEmbeddingAttribute(params int[] dimensions) => Dimensions = dimensions;

    /// <summary>The widths, narrowest first.</summary>
    public int[] Dimensions { get; }

    /// <summary>How much each prefix's loss counts in the mean; alike if not given.</summary>
    public double[]? Weights { get; set; }
}

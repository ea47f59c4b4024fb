using System;

namespace MatFormer;

/// <summary>
/// Trains prefixes of an encoder's embedding as embeddings (Matryoshka representation learning, arXiv 2205.13147). The loss is the mean of
/// the losses of all prefixes. Each prefix becomes a member of the model's class <c>Dimension</c>, such as <c>D64</c>.
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
    /// The widths of the prefixes, narrowest first. The last one is the whole width: <see cref="MatEncoderAttribute.Embedding"/> of a text
    /// encoder, or <see cref="MatViTAttribute.Width"/> of a vision transformer, whose embedding is the classifier's input.
    /// </param>
    public NestedEmbeddingAttribute(params int[] dimensions) => Dimensions = dimensions;

    /// <summary>The widths of the prefixes, narrowest first.</summary>
    public int[] Dimensions { get; }

    /// <summary>The weight of each prefix's loss in the mean. By default all weights are equal.</summary>
    public double[]? Weights { get; set; }
}

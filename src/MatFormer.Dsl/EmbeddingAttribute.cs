using System;

namespace MatFormer;

/// <summary>Configures the token embedding. Without this attribute, the head is tied to the embedding.</summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class EmbeddingAttribute : Attribute
{
    /// <summary>
    /// Whether the head that computes the logits uses the embedding's weight (Press and Wolf, arXiv 1608.05859). If false, the head has a
    /// separate weight. The default is true.
    /// </summary>
    public bool Tied { get; set; } = true;
}

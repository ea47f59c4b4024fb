using System;

namespace MatFormer;

/// <summary>The token embedding. Tied if not declared.</summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class EmbeddingAttribute : Attribute
{
    /// <summary>
    /// The head that gives the logits uses the embedding's weight (Press and Wolf, arXiv 1608.05859); false gives it one of its own.
    /// True if not given.
    /// </summary>
    public bool Tied { get; set; } = true;
}

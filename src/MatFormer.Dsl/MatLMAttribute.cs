using System;

namespace MatFormer;

/// <summary>
/// Declares a nested transformer language model on a partial class: a decoder whose feed-forward layers contain smaller ones as prefixes
/// (MatFormer, arXiv 2310.07707). The class needs a <see cref="FeedForwardAttribute"/> and at least two
/// <see cref="GranularityAttribute"/>s.
/// </summary>
/// <remarks>
/// The defaults are RMS norms with epsilon 1e-5, rotary positions with base 10000, one key/value head per query head, a head tied to the
/// embedding, and no biases.
/// </remarks>
/// <example>
/// <code>
/// [MatLM(Layers = 4, Width = 64, Heads = 4, Context = 64, Vocabulary = 256)]
/// [FeedForward(256, Activation.SwiGlu)]
/// [Granularity("S", 0.25), Granularity("M", 0.5), Granularity("L", 1.0)]
/// public sealed partial class SmallLm;
/// </code>
/// </example>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class MatLMAttribute : Attribute
{
    /// <summary>The number of transformer blocks.</summary>
    public int Layers { get; set; }

    /// <summary>The width of the residual stream (d_model).</summary>
    public int Width { get; set; }

    /// <summary>
    /// The number of query heads. It must divide <see cref="Width"/> unless <see cref="AttentionAttribute.HeadWidth"/> is given.
    /// </summary>
    public int Heads { get; set; }

    /// <summary>The length of the longest sequence, in tokens.</summary>
    public int Context { get; set; }

    /// <summary>The number of different tokens. For bytes it is 256.</summary>
    public int Vocabulary { get; set; }
}

using System;

namespace MatFormer;

/// <summary>
/// Configures attention, apart from the number of heads. Declare it once for all layers, and again with <see cref="Layers"/> for some of
/// them.
/// </summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class AttentionAttribute : Attribute
{
    /// <summary>
    /// The number of key/value heads (grouped-query attention, arXiv 2305.13245). It must divide the number of query heads. By default it
    /// equals that number.
    /// </summary>
    public int KeyValueHeads { get; set; }

    /// <summary>
    /// The number of tokens, including itself, that a token attends to (sliding-window attention, arXiv 2004.05150, section 3.1). By
    /// default there is no window.
    /// </summary>
    public int Window { get; set; }

    /// <summary>
    /// The layers that this attribute applies to, counted from 0, such as <c>"0-3"</c> or <c>"0,2,4-7"</c>. Values that it does not set are
    /// taken from the attribute without layers. By default it applies to all layers.
    /// </summary>
    public string? Layers { get; set; }

    /// <summary>The width of one head. The default is Width / Heads of the model.</summary>
    public int HeadWidth { get; set; }

    /// <summary>
    /// The base of the rotary angles (RoFormer, arXiv 2104.09864). Learned positions do not use it. The default is 10000. See
    /// <see cref="RotaryScalingAttribute"/> for scaled angles.
    /// </summary>
    public double RotaryBase { get; set; } = 10000;

    /// <summary>
    /// Whether each head of queries and keys is RMS-normalised before it is rotated (arXiv 2302.05442). The default is false.
    /// </summary>
    public bool QkNorm { get; set; }

    /// <summary>
    /// Whether the projections of queries, keys, values and, unless <see cref="OutputBias"/> is false, output have a bias. The default is
    /// false.
    /// </summary>
    public bool Bias { get; set; }

    /// <summary>
    /// Whether the projection of the output has a bias as well. The default is the value of <see cref="Bias"/>. Set it to false for models
    /// like Qwen 2, where only queries, keys and values have biases.
    /// </summary>
    public bool OutputBias { get; set; }
}

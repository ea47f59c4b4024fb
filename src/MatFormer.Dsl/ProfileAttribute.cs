using System;

namespace MatFormer;

/// <summary>
/// Declares a Mix'n'Match profile: a granularity for each layer (arXiv 2310.07707, section 3.3). The name becomes the name of a class, such
/// as <c>DocsLm.Phone</c>.
/// </summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class ProfileAttribute : Attribute
{
    /// <summary>
    /// Declares a profile that the compiler solves. It needs at least one budget. The profile mixes two adjacent granularities, with the
    /// narrower one in the first layers, and is as large as the budgets allow.
    /// </summary>
    /// <param name="name">An identifier, such as <c>Watch</c>.</param>
    public ProfileAttribute(string name) => Name = name;

    /// <summary>Declares a profile by its pattern.</summary>
    /// <param name="name">An identifier, such as <c>Phone</c>.</param>
    /// <param name="pattern">
    /// The granularities, separated by spaces, with the first layer on the left. A run of layers has a count, as in <c>4*S 4*M</c>.
    /// <c>Skip</c> leaves a layer out.
    /// </param>
    public ProfileAttribute(string name, string pattern)
    {
        Name = name;
        Pattern = pattern;
    }

    /// <summary>Declares a profile by its widths.</summary>
    /// <param name="name">An identifier, such as <c>Phone</c>.</param>
    /// <param name="widths">
    /// The number of hidden units of each layer, with the first layer on the left. Each number must be the width of a granularity.
    /// </param>
    public ProfileAttribute(string name, params int[] widths)
    {
        Name = name;
        Widths = widths;
    }

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>The pattern, or null if the profile is declared without one.</summary>
    public string? Pattern { get; }

    /// <summary>The widths, or null if the profile is declared without them.</summary>
    public int[]? Widths { get; }

    /// <summary>The maximum number of parameters, including embeddings, of the solved profile.</summary>
    public long MaxParameters { get; set; }

    /// <summary>The maximum number of parameters, without the embeddings and an untied head, of the solved profile.</summary>
    public long MaxNonEmbeddingParameters { get; set; }

    /// <summary>
    /// The maximum number of FLOPs (a multiply-add counts as two) of one token's forward pass, with attention averaged over a full context.
    /// </summary>
    public long MaxFlopsPerToken { get; set; }

    /// <summary>The maximum number of FLOPs of the forward pass over one image. It is for <see cref="MatViTAttribute"/> only.</summary>
    public long MaxFlopsPerImage { get; set; }

    /// <summary>
    /// The maximum number of FLOPs of the forward pass over one text of full context length. It is for <see cref="MatEncoderAttribute"/>
    /// only.
    /// </summary>
    public long MaxFlopsPerText { get; set; }

    /// <summary>The maximum size of the weights in bytes, stored as <see cref="WeightType"/>.</summary>
    public long MaxWeightBytes { get; set; }

    /// <summary>
    /// The number format that <see cref="MaxWeightBytes"/> assumes. The default is float32, or with <see cref="PrecisionAttribute"/> the
    /// profile's bits.
    /// </summary>
    public WeightType WeightType { get; set; }

    /// <summary>
    /// The bits in which the profile is meant to be stored and decoded: one of those of <see cref="PrecisionAttribute"/>. If it is not
    /// given, <see cref="MaxWeightBytes"/> without a <see cref="WeightType"/> chooses the bits too.
    /// </summary>
    public int Bits { get; set; }

    /// <summary>The maximum share of the feed-forwards' hidden units to keep, above 0 and up to 1.</summary>
    public double FeedForwardShare { get; set; }
}

using System;

namespace MatFormer;

/// <summary>
/// A Mix'n'Match profile: a granularity for each layer (arXiv 2310.07707, section 3.3). Its name becomes that of a class, such as
/// <c>DocsLm.Phone</c>.
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
    /// A profile that the compiler solves; needs one of the budgets, or several. Two adjacent granularities, the narrower in the first
    /// layers, as large as the budgets allow.
    /// </summary>
    /// <param name="name">An identifier, such as <c>Watch</c>.</param>
    public ProfileAttribute(string name) => Name = name;

    /// <summary>A profile by its pattern.</summary>
    /// <param name="name">An identifier, such as <c>Phone</c>.</param>
    /// <param name="pattern">
    /// Granularities separated by spaces, the first layer on the left, runs with a count: <c>4*S 4*M</c>. <c>Skip</c> leaves a layer out.
    /// </param>
    public ProfileAttribute(string name, string pattern)
    {
        Name = name;
        Pattern = pattern;
    }

    /// <summary>A profile by its widths.</summary>
    /// <param name="name">An identifier, such as <c>Phone</c>.</param>
    /// <param name="widths">Hidden units of each layer, the first layer on the left; each the width of a granularity.</param>
    public ProfileAttribute(string name, params int[] widths)
    {
        Name = name;
        Widths = widths;
    }

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>The pattern, or null if declared otherwise.</summary>
    public string? Pattern { get; }

    /// <summary>The widths, or null if declared otherwise.</summary>
    public int[]? Widths { get; }

    /// <summary>The most parameters, embeddings included, that the solved profile may have.</summary>
    public long MaxParameters { get; set; }

    /// <summary>The most parameters, without the embeddings and an untied head, that the solved profile may have.</summary>
    public long MaxNonEmbeddingParameters { get; set; }

    /// <summary>
    /// The most FLOPs (a multiply-add is two) that one token's forward pass may take, attention averaged over a full context.
    /// </summary>
    public long MaxFlopsPerToken { get; set; }

    /// <summary>The most FLOPs that the forward pass over one image may take: of <see cref="MatViTAttribute"/>.</summary>
    public long MaxFlopsPerImage { get; set; }

    /// <summary>
    /// The most FLOPs that the forward pass over one text of the full context may take: of <see cref="MatEncoderAttribute"/>.
    /// </summary>
    public long MaxFlopsPerText { get; set; }

    /// <summary>The most bytes that the weights may take, in <see cref="WeightType"/>.</summary>
    public long MaxWeightBytes { get; set; }

    /// <summary>What <see cref="MaxWeightBytes"/> counts in; float32 if not given.</summary>
    public WeightType WeightType { get; set; }

    /// <summary>The largest share of the feed-forwards' hidden units, above 0 and up to 1, that may be kept.</summary>
    public double FeedForwardShare { get; set; }
}

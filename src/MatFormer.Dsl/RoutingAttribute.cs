using System;

namespace MatFormer;

/// <summary>
/// Lets a model spend compute where an image or a text needs it (Mixture of Nested Experts, arXiv 2407.19985). In each routed layer a
/// learned router scores the tokens of an image or a text. The widest granularity takes the tokens that it scores highest, then the next
/// one, and the narrowest takes the rest. How many tokens each takes follows from a compute budget, the mean share of the hidden units that
/// a token uses, and from the length of a text. One set of weights serves all budgets: <c>model.Forward(0.5, pixels)</c>. Granularities and
/// profiles work as before, without a router.
/// </summary>
/// <remarks>
/// A token of a language model must not depend on later ones. So there granularities choose among all tokens of a batch only in training.
/// At its end, training sets thresholds of the scores for each declared budget. By these each token chooses afterwards, from its own hidden
/// state alone, and the budget holds on average.
/// </remarks>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class RoutingAttribute : Attribute
{
    /// <summary>Declares routing.</summary>
    /// <param name="budgets">
    /// The budgets that training draws from and that <c>eval</c> measures, in increasing order. Each is above the share of the hidden units
    /// that the narrowest granularity has, at most 1. Without budgets they are three: a quarter, a half and three quarters of the way from
    /// that share to 1.
    /// </param>
    public RoutingAttribute(params double[] budgets) => Budgets = budgets;

    /// <summary>The budgets that training draws from and that <c>eval</c> measures, in increasing order.</summary>
    public double[] Budgets { get; }

    /// <summary>
    /// The layers whose feed-forwards are routed, counted from 0, such as <c>"0-3"</c> or <c>"0,2,4-7"</c>. In the other layers every token
    /// uses all hidden units. By default all layers are routed.
    /// </summary>
    public string? Layers { get; set; }
}

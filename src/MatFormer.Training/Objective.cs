using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// How a training step treats the granularities; the choices are not interchangeable (docs/objectives.md). Costs are of one step against
/// one of the largest granularity alone (XL), on average, for feed-forwards of a half, a quarter and an eighth.
/// </summary>
public enum Objective
{
    /// <summary>
    /// One granularity a step, drawn by <see cref="TrainerOptions.Probabilities"/> (MatFormer, arXiv 2310.07707, section 3.2). Costs about
    /// 0.65 XL.
    /// </summary>
    Sampled,

    /// <summary>
    /// All granularities on the same batch, in one stacked pass (equation 2 there without the draw; the sum or mean of MatViT and MatLM).
    /// Costs about 2.6 XL.
    /// </summary>
    Joint,

    /// <summary>
    /// The rows of the batch are divided among the granularities, by <see cref="TrainerOptions.Probabilities"/>, in one stacked pass: our
    /// own. Costs about 0.65 XL.
    /// </summary>
    Split,

    /// <summary>
    /// One submodel a step whose layers draw their granularities apart (Once-for-all, arXiv 1908.09791). Costs about 0.65 XL.
    /// </summary>
    SampledPerLayer,

    /// <summary>
    /// The largest and smallest granularity and a random mix on the same batch (the sandwich rule, arXiv 1903.05134, with layers drawn
    /// apart). Costs about 2.1 XL.
    /// </summary>
    Sandwich,

    /// <summary>
    /// One granularity, drawn by <see cref="TrainerOptions.Probabilities"/>, up to a layer drawn; from there on it and all wider ones, on
    /// the same batch: our own. Costs about 1.3 XL.
    /// </summary>
    Branching,
}

/// <summary>How losses of several streams over the same batch become one.</summary>
public enum Reduction
{
    /// <summary>Their mean.</summary>
    Mean,

    /// <summary>Their sum.</summary>
    Sum,
}

/// <summary>
/// In-place distillation: submodels learn from the largest granularity of the same weights as well as from the text (Universally slimmable
/// networks, arXiv 1903.05134; soft targets of Hinton et al., arXiv 1503.02531). Their loss becomes (1 - Weight) cross-entropy + Weight
/// Temperature^2 KL(XL || submodel) of next-token distributions at that temperature; no gradient flows into XL by it.
/// </summary>
/// <remarks>
/// Where the largest granularity does not run over the same rows (<see cref="Objective.Sampled"/>, <see cref="Objective.Split"/>,
/// <see cref="Objective.SampledPerLayer"/>, <see cref="Objective.Branching"/>), it runs over those of the others once more without
/// gradient, which costs about a third of its training on them. The divergence costs six products with the head a row, a cross-entropy
/// three.
/// </remarks>
/// <param name="Weight">The divergence's share of the loss, above 0, at most 1.</param>
/// <param name="Temperature">Above 0; higher ones weigh the less likely tokens more.</param>
public sealed record Distillation(double Weight = 0.5, double Temperature = 1);

/// <summary>What an objective is made of.</summary>
internal static class Objectives
{
    /// <summary>The name in options, metrics and reports.</summary>
    public static string NameOf(Objective objective) => objective switch
    {
        Objective.Sampled => "sampled",
        Objective.Joint => "joint",
        Objective.Split => "split",
        Objective.SampledPerLayer => "sampled-per-layer",
        Objective.Sandwich => "sandwich",
        Objective.Branching => "branching",
        _ => throw new ArgumentOutOfRangeException(nameof(objective), objective, "There is no such objective."),
    };

    /// <summary>The objective of a name, or null.</summary>
    public static Objective? Parse(string? name) =>
        Enum.GetValues<Objective>().Select(o => (Objective?)o).FirstOrDefault(o => NameOf(o!.Value) == name);

    /// <summary>All names.</summary>
    public static ImmutableArray<string> Names { get; } = [.. Enum.GetValues<Objective>().Select(NameOf)];

    /// <summary>In a few words, for reports.</summary>
    public static string Describe(Objective objective) => NameOf(objective) + objective switch
    {
        Objective.Sampled => ": one granularity a step",
        Objective.Joint => ": all granularities each step",
        Objective.Split => ": the batch divided among the granularities",
        Objective.SampledPerLayer => ": one random granularity a layer",
        Objective.Sandwich => ": the largest, the smallest and a random mix each step",
        _ => ": one granularity up to a random layer, then it and the wider ones",
    };

    /// <summary>True if granularities are drawn by probabilities.</summary>
    public static bool Draws(Objective objective) => objective is Objective.Sampled or Objective.Split or Objective.Branching;

    /// <summary>True if streams share the batch, so that their losses are summed or averaged.</summary>
    public static bool SharesTheBatch(Objective objective) => objective is Objective.Joint or Objective.Sandwich or Objective.Branching;

    /// <summary>True if mixes that are no granularity are drawn layer by layer.</summary>
    public static bool Mixes(Objective objective) => objective is Objective.SampledPerLayer or Objective.Sandwich;

    /// <summary>True if the layers can be mixed into more than the granularities.</summary>
    public static bool CanMix(ModelSpec spec)
    {
        var mixes = 1.0; // layers are many: only its comparison with a small number counts
        for (var layer = 0; layer < spec.Layers; layer++) mixes *= spec.Granularities.Select(g => g.Layers[layer]).Distinct().Count();
        return mixes > spec.Granularities.Length;
    }
}

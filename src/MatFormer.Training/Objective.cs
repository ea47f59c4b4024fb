using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// How a training step treats the granularities. The objectives are not interchangeable (docs/objectives.md). The stated cost is the mean
/// cost of a step relative to a step of the largest granularity alone (XL), for granularities with a half, a quarter and an eighth of its
/// hidden units.
/// </summary>
public enum Objective
{
    /// <summary>
    /// Each step trains one granularity, drawn by <see cref="TrainerOptions.Probabilities"/> (MatFormer, arXiv 2310.07707, section 3.2). A
    /// step costs about 0.65 XL.
    /// </summary>
    Sampled,

    /// <summary>
    /// Each step trains all granularities on the same batch, in one stacked pass (MatFormer, equation 2 without the draw; the sum or mean
    /// of MatViT and MatLM). A step costs about 2.6 XL.
    /// </summary>
    Joint,

    /// <summary>
    /// The rows of the batch are divided among the granularities, by <see cref="TrainerOptions.Probabilities"/>, in one stacked pass. This
    /// objective is ours. A step costs about 0.65 XL.
    /// </summary>
    Split,

    /// <summary>
    /// Each step trains one submodel, whose layers draw their granularities independently (Once-for-all, arXiv 1908.09791). If
    /// granularities have different widths, the width is drawn first. A step costs about 0.65 XL.
    /// </summary>
    SampledPerLayer,

    /// <summary>
    /// Each step trains the largest granularity, the smallest one and a random mix on the same batch (the sandwich rule, arXiv 1903.05134,
    /// with layers drawn independently). A step costs about 2.1 XL.
    /// </summary>
    Sandwich,

    /// <summary>
    /// The first layers are of one granularity, drawn by <see cref="TrainerOptions.Probabilities"/>. From a layer that is also drawn, this
    /// granularity and all wider ones run as separate streams over the same batch. If granularities have different widths, only those of
    /// the drawn one's width do. This objective is ours. A step costs about 1.3 XL.
    /// </summary>
    Branching,
}

/// <summary>How the losses of several streams over the same batch become one loss.</summary>
public enum Reduction
{
    /// <summary>Their mean.</summary>
    Mean,

    /// <summary>Their sum.</summary>
    Sum,
}

/// <summary>
/// In-place distillation: submodels learn from the largest granularity of the same weights as well as from the data (Universally slimmable
/// networks, arXiv 1903.05134; soft targets of Hinton et al., arXiv 1503.02531). Their loss becomes (1 - Weight) cross-entropy + Weight
/// Temperature^2 KL(XL || submodel) of the predicted distributions at that temperature. The divergence sends no gradient into XL.
/// </summary>
/// <remarks>
/// If the largest granularity does not already run over the rows of a submodel (<see cref="Objective.Sampled"/>,
/// <see cref="Objective.Split"/>, <see cref="Objective.SampledPerLayer"/>, <see cref="Objective.Branching"/>), it makes an additional
/// forward pass over these rows without gradient. The pass costs about a third of training the largest granularity on them. Per row, the
/// divergence costs six products with the head, and a cross-entropy costs three.
/// </remarks>
/// <param name="Weight">The divergence's share of the loss, above 0, at most 1.</param>
/// <param name="Temperature">The temperature, above 0. Higher temperatures give less likely tokens more weight.</param>
public sealed record Distillation(double Weight = 0.5, double Temperature = 1);

/// <summary>The names and properties of the objectives.</summary>
internal static class Objectives
{
    /// <summary>Returns an objective's name in options, metrics and reports.</summary>
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

    /// <summary>Returns the objective with a name, or null if there is none.</summary>
    public static Objective? Parse(string? name) =>
        Enum.GetValues<Objective>().Select(o => (Objective?)o).FirstOrDefault(o => NameOf(o!.Value) == name);

    /// <summary>All names.</summary>
    public static ImmutableArray<string> Names { get; } = [.. Enum.GetValues<Objective>().Select(NameOf)];

    /// <summary>Describes an objective in a few words, for reports.</summary>
    public static string Describe(Objective objective) => NameOf(objective) + objective switch
    {
        Objective.Sampled => ": one granularity per step",
        Objective.Joint => ": all granularities each step",
        Objective.Split => ": the batch divided among the granularities",
        Objective.SampledPerLayer => ": one random granularity per layer",
        Objective.Sandwich => ": the largest, the smallest and a random mix each step",
        _ => ": one granularity up to a random layer, then that one and all wider ones",
    };

    /// <summary>True if the objective uses <see cref="TrainerOptions.Probabilities"/>.</summary>
    public static bool Draws(Objective objective) => objective is Objective.Sampled or Objective.Split or Objective.Branching;

    /// <summary>True if the streams of a step run over the same batch, so that their losses are summed or averaged.</summary>
    public static bool SharesTheBatch(Objective objective) => objective is Objective.Joint or Objective.Sandwich or Objective.Branching;

    /// <summary>True if the objective draws mixes layer by layer.</summary>
    public static bool Mixes(Objective objective) => objective is Objective.SampledPerLayer or Objective.Sandwich;

    /// <summary>True if there are mixes other than the granularities.</summary>
    public static bool CanMix(ModelSpec spec) => spec.Granularities.Any(g => CanMix(spec, spec.WidthOf(g.Layers.AsSpan())));

    /// <summary>True if there are mixes of a width other than the granularities of this width.</summary>
    public static bool CanMix(ModelSpec spec, int width)
    {
        var granularities = spec.Granularities.Where(g => spec.WidthOf(g.Layers.AsSpan()) == width).ToList();
        var mixes = 1.0; // a double, because the number may be too large for an integer
        for (var layer = 0; layer < spec.Layers; layer++) mixes *= granularities.Select(g => g.Layers[layer]).Distinct().Count();
        return mixes > granularities.Count;
    }
}

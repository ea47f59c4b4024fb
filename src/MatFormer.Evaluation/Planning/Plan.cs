using System.Collections.Immutable;

namespace MatFormer;

/// <summary>A planned mix, with its predicted and its measured costs; or a routed pass, for comparison.</summary>
/// <param name="Name">The name of the mix if it is a granularity or declared profile, else its pattern.</param>
/// <param name="Pattern">The pattern of the layers, such as <c>2*S 4*M 2*XL</c>.</param>
/// <param name="Layers">The part that the mix keeps of each layer.</param>
/// <param name="IsOnFrontier">True if no other mix that was found is predicted to be both as fast and as good.</param>
/// <param name="Predicted">The costs as predicted by sums over the layers.</param>
/// <param name="Measured">The costs with the measured time and loss.</param>
public sealed record PlannedMix(
    string Name, string Pattern, ImmutableArray<LayerSlice> Layers, bool IsOnFrontier, MixCost Predicted, MixCost Measured)
{
    /// <summary>True for the mix that <see cref="PlanSearch.Learned"/> found.</summary>
    public bool IsLearned { get; init; }

    /// <summary>
    /// True for the mix that the compiler solves the budget to, of two adjacent granularities. Only <see cref="PlanSearch.Learned"/> marks
    /// it, for comparison.
    /// </summary>
    public bool IsSolved { get; init; }

    /// <summary>
    /// The compute budget of a routed pass, which is measured beside the mixes; null for a mix. Nothing is predicted of it:
    /// <see cref="Predicted"/> has what was measured.
    /// </summary>
    public double? Budget { get; init; }
}

/// <summary>The result of <see cref="ProfilePlanner"/>.</summary>
/// <param name="Mixes">
/// The measured mixes, the fastest first: some mixes of the frontier, the granularities and the declared profiles. The routed passes at
/// the declared budgets are among them.
/// </param>
/// <param name="Best">
/// The mix with the lowest measured loss among the measured mixes whose measured costs meet the budget; null if no budget was given.
/// </param>
/// <param name="Searched">The number of increasing mixes. All of them were searched.</param>
/// <param name="IsEvolved">True if the evolutionary search was used too.</param>
/// <param name="FrontierCount">The number of mixes on the frontier.</param>
/// <param name="CacheTokens">
/// For a language model, the number of tokens before the timed token. For a text encoder, the number of tokens of the timed text. 0 for
/// images.
/// </param>
/// <param name="ValidationTokens">The number of tokens on which mixes of a language model were evaluated.</param>
/// <param name="ValidationBytes">The number of bytes of text that these tokens stand for.</param>
public sealed record Plan(
    ImmutableArray<PlannedMix> Mixes, PlannedMix? Best, long Searched, bool IsEvolved, int FrontierCount, int CacheTokens,
    long ValidationTokens, long ValidationBytes)
{
    /// <summary>The number of images or pairs on which mixes of an encoder were evaluated.</summary>
    public long ValidationExamples { get; init; }

    /// <summary>The mean absolute error of the predicted times, as a share of the measured time.</summary>
    public double LatencyError =>
        Predicted.Average(m => Math.Abs(m.Predicted.Milliseconds / m.Measured.Milliseconds - 1));

    /// <summary>The mean absolute error of the predicted losses.</summary>
    public double LossError => Predicted.Average(m => Math.Abs(m.Predicted.Loss - m.Measured.Loss));

    private IEnumerable<PlannedMix> Predicted => Mixes.Where(m => m.Budget is null);
}

using System.Collections.Immutable;

namespace MatFormer;

/// <summary>A mix that was planned: what was predicted of it, and what was then measured.</summary>
/// <param name="Name">The granularity or declared profile that it is, or its pattern.</param>
/// <param name="Pattern">Its layers, such as <c>2*S 4*M 2*XL</c>.</param>
/// <param name="Layers">What it keeps of each layer.</param>
/// <param name="IsOnFrontier">True if none that was found is predicted to be both as fast and as good.</param>
/// <param name="Predicted">What it costs by the sums over its layers.</param>
/// <param name="Measured">The same with the time and loss that it really has.</param>
public sealed record PlannedMix(
    string Name, string Pattern, ImmutableArray<LayerSlice> Layers, bool IsOnFrontier, MixCost Predicted, MixCost Measured);

/// <summary>What <see cref="ProfilePlanner"/> found.</summary>
/// <param name="Mixes">What was measured, the fastest first: some of the frontier, the granularities and the declared profiles.</param>
/// <param name="Best">
/// Of the measured ones that meet the budget, as measured, the one with the lowest loss, as measured; null if no budget was given.
/// </param>
/// <param name="Searched">How many mixes no layer of which is narrower than the one before it there are: all were searched.</param>
/// <param name="IsEvolved">True if others were searched too.</param>
/// <param name="FrontierCount">How many of the mixes that were found are on the frontier.</param>
/// <param name="CacheTokens">Tokens before the one that was timed, or of the text that was; 0 of images.</param>
/// <param name="ValidationTokens">Tokens that mixes of a language model were evaluated on.</param>
/// <param name="ValidationBytes">Bytes of text that these stand for.</param>
public sealed record Plan(
    ImmutableArray<PlannedMix> Mixes, PlannedMix? Best, long Searched, bool IsEvolved, int FrontierCount, int CacheTokens,
    long ValidationTokens, long ValidationBytes)
{
    /// <summary>Images or pairs that mixes of an encoder were evaluated on.</summary>
    public long ValidationExamples { get; init; }

    /// <summary>By what share of the measured time predictions are off, on average.</summary>
    public double LatencyError =>
        Mixes.Average(m => Math.Abs(m.Predicted.Milliseconds / m.Measured.Milliseconds - 1));

    /// <summary>By how much predictions of the loss are off, on average.</summary>
    public double LossError => Mixes.Average(m => Math.Abs(m.Predicted.Loss - m.Measured.Loss));
}

using System.ComponentModel;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>How the tokens of one layer are routed in a pass.</summary>
/// <param name="Weight">The router: (granularities, Width) float32. Its rows score tokens, for the narrowest granularity first.</param>
/// <param name="Scale">How much the score of a token scales what is added to it: (1) float32.</param>
/// <param name="Layer">How many tokens of a sequence take each granularity; with thresholds, how many tokens of the batch.</param>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed record Route(Tensor Weight, Tensor Scale, RoutedLayer Layer)
{
    /// <summary>
    /// (budgets, granularities - 1) float32 of a language model: the score from which each granularity but the narrowest takes a token.
    /// Null if granularities choose among the tokens of a sequence.
    /// </summary>
    public Tensor? Thresholds { get; init; }

    /// <summary>The row of the thresholds that belongs to the budget of the pass.</summary>
    public int Budget { get; init; }

    /// <summary>
    /// True if each token chooses by the thresholds. False if granularities choose among all tokens of the batch, after which the
    /// thresholds follow the choice.
    /// </summary>
    public bool IsCausal { get; init; }

    /// <summary>Counts the hidden units that tokens of a causal route use; null if nobody asks.</summary>
    internal RoutedUse? Use { get; init; }
}

/// <summary>Counts the hidden units that tokens use and those that they could use.</summary>
internal sealed class RoutedUse
{
    private long _used;
    private long _all;

    /// <summary>The share of the hidden units that a token has used on average; null before the first token.</summary>
    public double? Share => _all == 0 ? null : (double)_used / _all;

    /// <summary>Counts the tokens of a layer.</summary>
    public void Add(RoutedLayer layer)
    {
        _used += layer.HiddenUnits;
        _all += (long)layer.Widths[^1] * layer.Tokens.Sum();
    }
}

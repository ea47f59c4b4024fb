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
    /// <summary>How many tokens of each text take each granularity, if texts have different lengths; otherwise null.</summary>
    internal RoutedLayer[]? Texts { get; init; }

    /// <summary>
    /// (budgets, granularities - 1) float32 of a language model: the log-odds of the score from which each granularity but the narrowest
    /// takes a token. Null if granularities choose among the tokens of a sequence.
    /// </summary>
    public Tensor? Thresholds { get; init; }

    /// <summary>The row of the thresholds that belongs to the budget of the pass.</summary>
    public int Budget { get; init; }

    /// <summary>True if each token chooses by the thresholds. False if granularities choose among all tokens of the batch.</summary>
    public bool IsCausal { get; init; }

    /// <summary>Receives the log-odds (1, B*T, granularities) of the tokens; null if nobody asks.</summary>
    internal Action<Tensor>? Scores { get; init; }

    /// <summary>Counts the hidden units that tokens of a causal route use; null if nobody asks.</summary>
    internal RoutedUse? Use { get; init; }
}

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
    /// (budgets, granularities - 1) float32 of a language model: the log-odds of the score from which each granularity but the narrowest
    /// takes a token. Null if granularities choose among the tokens of a sequence.
    /// </summary>
    public Tensor? Thresholds { get; init; }

    /// <summary>The row of the thresholds that belongs to the budget of the pass.</summary>
    public int Budget { get; init; }

    /// <summary>
    /// True if each token chooses by the thresholds. False if granularities choose among all tokens of the batch.
    /// </summary>
    public bool IsCausal { get; init; }

    /// <summary>Receives the log-odds (1, B*T, granularities) of the tokens; null if nobody asks.</summary>
    internal Action<Tensor>? Scores { get; init; }

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

/// <summary>Collects the log-odds of the tokens of several routed passes, to set the thresholds of their budget.</summary>
internal sealed class RoutedScores(RoutingBudget budget, int index) : IDisposable
{
    private readonly Dictionary<int, (Tensor Thresholds, List<Tensor> Parts)> _layers = [];

    /// <summary>Adds the log-odds (1, T, granularities) of a layer.</summary>
    public void Add(int layer, Tensor thresholds, Tensor odds)
    {
        if (!_layers.TryGetValue(layer, out var its)) _layers.Add(layer, its = (thresholds, []));
        its.Parts.Add(odds.alias().DetachFromDisposeScope());
    }

    /// <summary>
    /// Sets the thresholds such that the tokens of all passes together use the budget in each layer. They are quantiles of these tokens. A
    /// mean of the quantiles of batches would not do: where tokens are few in kind, their scores lie in clusters, and a mean lies between.
    /// </summary>
    public void SetThresholds()
    {
        using var unrecorded = no_grad();
        foreach (var (layer, (thresholds, parts)) in _layers)
        {
            using var scope = NewDisposeScope();
            var odds = cat(parts, 1);
            thresholds.select(0, index).copy_(Kernels.Thresholds(odds, budget.Over(layer, checked((int)odds.shape[1])).Tokens));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var (_, parts) in _layers.Values)
            foreach (var part in parts) part.Dispose();
        _layers.Clear();
    }
}

using static TorchSharp.torch;

namespace MatFormer;

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

using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>AdamW (arXiv 1711.05101) over flat weights, with moments that have the same layout as the weights.</summary>
internal sealed class AdamWState(FlatWeights flat, TrainerOptions options) : IDisposable
{
    private const string FirstPrefix = CheckpointHeader.OptimizerPrefix + "exp_avg.";
    private const string SecondPrefix = CheckpointHeader.OptimizerPrefix + "exp_avg_sq.";

    private readonly Tensor _first = zeros_like(flat.Weights).DetachFromDisposeScope();
    private readonly Tensor _second = zeros_like(flat.Weights).DetachFromDisposeScope();

    /// <summary>Updates the weights from their gradients. The weights that decay come first in the flat layout.</summary>
    /// <param name="learningRate">The learning rate of this step.</param>
    /// <param name="step">The number of this step, from 1.</param>
    public void Update(double learningRate, long step)
    {
        Update(0, flat.Decaying, options.WeightDecay, learningRate, step);
        Update(flat.Decaying, flat.Weights.numel() - flat.Decaying, 0, learningRate, step);
    }

    /// <summary>Returns views of a parameter's moments with their names in a checkpoint. The caller disposes the views.</summary>
    public IEnumerable<(string Name, Tensor Moment)> Of(string name, Parameter parameter) =>
        [(FirstPrefix + name, flat.ViewOf(_first, parameter)), (SecondPrefix + name, flat.ViewOf(_second, parameter))];

    /// <inheritdoc/>
    public void Dispose()
    {
        _first.Dispose();
        _second.Dispose();
    }

    private void Update(long first, long count, double decay, double learningRate, long step)
    {
        if (count == 0) return;
        using var weights = flat.Weights.narrow(0, first, count);
        using var gradients = flat.Gradients.narrow(0, first, count);
        using var firstMoments = _first.narrow(0, first, count);
        using var secondMoments = _second.narrow(0, first, count);
        Kernels.AdamW(
            weights, gradients, firstMoments, secondMoments, decay, learningRate, options.Beta1, options.Beta2, options.Epsilon, step);
    }
}

using System.ComponentModel;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Activation checkpointing by layer (Chen et al., arXiv 1604.06174): of each layer only what goes into it is kept for the gradients, the
/// rest is computed once more when they are wanted. One forward and backward pass: given to <c>Losses</c>, then <see cref="Backward"/> in
/// the place of the loss's own.
/// </summary>
public sealed class Recomputation : IDisposable
{
    private readonly List<(Tensor Input, Func<Tensor, Tensor> Layer)> _layers = [];
    private readonly List<Tensor> _kept = [];
    private Tensor? _first;
    private Tensor? _last;

    /// <summary>Takes over what the layers need beside their inputs. Called by generated code.</summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public void Keep(Tensor tensor) => _kept.Add(tensor);

    /// <summary>Runs a layer and keeps its input alone. Called by generated code, layer after layer.</summary>
    /// <param name="x">(B, T, Width).</param>
    /// <param name="layer">From x to (N, T, Width), the same each time.</param>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public Tensor Run(Tensor x, Func<Tensor, Tensor> layer)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(layer);
        _first ??= x.view(x.shape); // with what led to it
        _layers.Add((x.detach(), layer));
        _last?.Dispose();
        using (no_grad()) _last = layer(x);
        _last.requires_grad = true;
        return _last.view(_last.shape);
    }

    /// <summary>
    /// Adds the gradients of <paramref name="loss"/>, a scalar, to those of the model's parameters, as its own <c>backward</c> does where
    /// all is kept: bit for bit the same on the CPU. Once.
    /// </summary>
    /// <exception cref="InvalidOperationException">It was given to no forward pass before, or its gradients are there.</exception>
    public void Backward(Tensor loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        if (_first is null || _last is null)
        {
            throw new InvalidOperationException(
                "Nothing was computed with this Recomputation, or its gradients were taken; make one for each pass, and give it to "
                + "Losses.");
        }

        loss.backward();
        var outer = _last.grad!;
        for (var i = _layers.Count - 1; i >= 0; i--)
        {
            var (kept, layer) = _layers[i];
            using var input = kept.detach();
            input.requires_grad = true;
            using (var output = layer(input)) autograd.backward([output], [outer]);
            outer.Dispose();
            outer = input.grad!;
            kept.Dispose();
            _layers.RemoveAt(i);
        }

        autograd.backward([_first], [outer]);
        outer.Dispose();
        KernelNode.ThrowFailure();
        Dispose();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var (input, _) in _layers) input.Dispose();
        _layers.Clear();
        foreach (var kept in _kept) kept.Dispose();
        _kept.Clear();
        _first?.Dispose();
        _last?.Dispose();
        (_first, _last) = (null, null);
    }
}

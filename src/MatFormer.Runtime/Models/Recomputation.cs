using System.ComponentModel;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Activation checkpointing by layer (Chen et al., arXiv 1604.06174). For the gradients only the input of each layer is kept; the backward
/// pass recomputes the rest. An object serves one forward and backward pass: give it to <c>Losses</c>, then call <see cref="Backward"/>
/// instead of the loss's <c>backward</c>.
/// </summary>
public sealed class Recomputation : IDisposable
{
    private readonly List<Tensor> _kept = [];
    private readonly List<Pass> _passes = [];

    /// <summary>Takes ownership of a tensor that the layers need beside their inputs. Called by generated code.</summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public void Keep(Tensor tensor) => _kept.Add(tensor);

    /// <summary>Runs a layer and keeps only its input. Called by generated code for each layer in turn.</summary>
    /// <param name="x">(B, T, Width).</param>
    /// <param name="layer">Computes (N, T, Width) from x. It must give the same result each time.</param>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public Tensor Run(Tensor x, Func<Tensor, Tensor> layer)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(layer);
        if (_passes.Count == 0) BeginPass();
        return _passes[^1].Run(x, layer);
    }

    /// <summary>Begins the pass of the streams of one width, if there are several.</summary>
    internal void BeginPass() => _passes.Add(new Pass());

    /// <summary>
    /// Ends the pass of the streams of one width. Returns its losses, cut from their graph, so that <see cref="Backward"/> goes back
    /// through one pass after the other and holds the recomputed results of only one.
    /// </summary>
    internal Tensor EndPass(Tensor losses) => _passes[^1].Cut(losses);

    /// <summary>
    /// Adds the gradients of <paramref name="loss"/>, a scalar, to the gradients of the model's parameters. On the CPU they are bit for bit
    /// the gradients that <c>loss.backward</c> computes without checkpointing; up to rounding, if the streams have different widths. This
    /// method can be called once.
    /// </summary>
    /// <exception cref="InvalidOperationException">No forward pass used this object, or its gradients were computed already.</exception>
    public void Backward(Tensor loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        if (_passes.Count == 0)
        {
            throw new InvalidOperationException(
                "This Recomputation has no forward pass to differentiate, or its gradients were computed already; create one for each "
                + "pass and give it to Losses.");
        }

        loss.backward();
        for (var i = _passes.Count - 1; i >= 0; i--) _passes[i].Backward();
        KernelNode.ThrowFailure();
        Dispose();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var pass in _passes) pass.Dispose();
        _passes.Clear();
        foreach (var kept in _kept) kept.Dispose();
        _kept.Clear();
    }

    // The layers of one pass, between the graph before them and the graph after them.
    private sealed class Pass : IDisposable
    {
        private readonly List<(Tensor Input, Func<Tensor, Tensor> Layer)> _layers = [];
        private Tensor? _first;
        private Tensor? _last;
        private Tensor? _losses;
        private Tensor? _leaf;

        // Cuts the graph behind the losses of one of several passes.
        public Tensor Cut(Tensor losses)
        {
            (_losses, _leaf) = (losses, losses.detach());
            _leaf.requires_grad = true;
            return _leaf.view(_leaf.shape);
        }

        public Tensor Run(Tensor x, Func<Tensor, Tensor> layer)
        {
            _first ??= x.view(x.shape); // still connected to the graph before the first layer
            _layers.Add((x.detach(), layer));
            _last?.Dispose();
            using (no_grad()) _last = layer(x);
            _last.requires_grad = true;
            return _last.view(_last.shape);
        }

        // Goes on from the gradient of the last layer's output, which the backward pass of the loss has computed.
        public void Backward()
        {
            if (_losses is not null)
            {
                using var ofLosses = _leaf!.grad!;
                autograd.backward([_losses], [ofLosses]);
            }

            // Stochastic depth may leave out every layer.
            if (_last is null) return;
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

            autograd.backward([_first!], [outer]);
            outer.Dispose();
        }

        public void Dispose()
        {
            foreach (var (input, _) in _layers) input.Dispose();
            _layers.Clear();
            _first?.Dispose();
            _last?.Dispose();
            _losses?.Dispose();
            _leaf?.Dispose();
        }
    }
}

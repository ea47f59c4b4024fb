using static TorchSharp.torch;

namespace MatFormer;

/// <summary>One call of an operation, from its forward pass to its backward pass, and what is kept between the two.</summary>
internal abstract class KernelCall
{
    // The garbage collector sees no tensor's memory. Calls whose gradients nobody asks for are released by it, and so it is run where what
    // is kept has doubled since it ran last.
    private const long Least = 1L << 29;

    private static long s_bytes;
    private static long s_most = Least;

    private readonly List<Tensor> _kept = [];
    private long _bytes;
    private bool _isReleased;

    ~KernelCall() => Release();

    /// <summary>What gradients flow back into, in the order in which <see cref="Backward"/> gives them.</summary>
    public Tensor[] Inputs { get; set; } = [];

    /// <summary>How many inputs there are, also once they are forgotten.</summary>
    public int InputCount { get; protected init; }

    /// <summary>Leaves whose gradients the call itself adds to their <c>grad</c>; null for one that is not there.</summary>
    public Tensor?[] Weights { get; protected init; } = [];

    /// <summary>Runs the forward pass; where gradients are wanted it keeps what the backward pass needs.</summary>
    public abstract Tensor Forward(bool isRecorded);

    /// <summary>Runs the backward pass, once: what was kept is released.</summary>
    /// <exception cref="InvalidOperationException">It has run.</exception>
    public void Differentiate(Tensor gradient, List<Tensor> into)
    {
        if (_isReleased)
        {
            throw new InvalidOperationException(
                "these gradients were computed before, and what they need was released then; run the forward pass again.");
        }

        using var dense = gradient.is_contiguous() ? null : gradient.contiguous();
        try
        {
            Backward(dense ?? gradient, into);
        }
        finally
        {
            Release();
            GC.SuppressFinalize(this);
        }
    }

    /// <summary>Adds the gradients of the inputs to <paramref name="into"/>, given that of the output, contiguous.</summary>
    protected abstract void Backward(Tensor gradient, List<Tensor> into);

    /// <summary>Keeps a tensor for the backward pass: a new reference to the same memory.</summary>
    protected Tensor Keep(Tensor tensor)
    {
        var kept = tensor.detach().DetachFromDisposeScope();
        _kept.Add(kept);
        Count(tensor.numel() * tensor.element_size());
        return kept;
    }

    /// <summary>Memory for the backward pass.</summary>
    protected Tensor Keep(long bytes)
    {
        var kept = empty(bytes, ScalarType.Byte).DetachFromDisposeScope();
        _kept.Add(kept);
        Count(bytes);
        return kept;
    }

    private void Count(long bytes)
    {
        _bytes += bytes;
        if (Interlocked.Add(ref s_bytes, bytes) <= Volatile.Read(ref s_most)) return;

        // Once for the tensors that hold the graph, and once for what the graph held.
        for (var i = 0; i < 2; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Volatile.Write(ref s_most, Math.Max(Least, 2 * Volatile.Read(ref s_bytes)));
    }

    private void Release()
    {
        if (_isReleased) return;
        _isReleased = true;
        foreach (var tensor in _kept) tensor.Dispose();
        Interlocked.Add(ref s_bytes, -_bytes);
    }
}

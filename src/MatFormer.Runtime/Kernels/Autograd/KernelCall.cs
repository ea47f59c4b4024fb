using static TorchSharp.torch;

namespace MatFormer;

/// <summary>One call of an operation: its forward pass, its backward pass, and the tensors kept between the two.</summary>
internal abstract class KernelCall
{
    // The garbage collector does not see the memory of tensors. It releases calls whose gradients are never computed, so it is run whenever
    // the kept memory has doubled since the last run. This is the smallest number of bytes at which it is run.
    private const long Least = 1L << 29;

    private static long s_bytes;
    private static long s_most = Least;

    private readonly List<Tensor> _kept = [];
    private long _bytes;
    private bool _isReleased;

    ~KernelCall() => Release();

    /// <summary>The inputs that receive gradients, in the order in which <see cref="Backward"/> adds their gradients.</summary>
    public Tensor[] Inputs { get; set; } = [];

    /// <summary>The number of inputs, also after <see cref="Inputs"/> was cleared.</summary>
    public int InputCount { get; protected init; }

    /// <summary>The leaves to whose <c>grad</c> the call itself adds gradients; null for each absent weight.</summary>
    public Tensor?[] Weights { get; protected init; } = [];

    /// <summary>Runs the forward pass. If gradients are wanted, it keeps what the backward pass needs.</summary>
    public abstract Tensor Forward(bool isRecorded);

    /// <summary>Runs the backward pass and releases the kept tensors, so it can run only once.</summary>
    /// <exception cref="InvalidOperationException">The backward pass has run before.</exception>
    public void Differentiate(Tensor gradient, List<Tensor> into)
    {
        if (_isReleased)
        {
            throw new InvalidOperationException(
                "They were computed before, which released the tensors that they need; run the forward pass again.");
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

    /// <summary>Adds the gradients of the inputs to <paramref name="into"/>, given the contiguous gradient of the output.</summary>
    protected abstract void Backward(Tensor gradient, List<Tensor> into);

    /// <summary>Keeps a tensor for the backward pass, as a new reference to the same memory.</summary>
    protected Tensor Keep(Tensor tensor)
    {
        var kept = tensor.detach().DetachFromDisposeScope();
        _kept.Add(kept);
        Count(tensor.numel() * tensor.element_size());
        return kept;
    }

    /// <summary>Allocates memory that is kept for the backward pass.</summary>
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

        // The first run releases the tensors that hold the graph, the second one what the graph held.
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

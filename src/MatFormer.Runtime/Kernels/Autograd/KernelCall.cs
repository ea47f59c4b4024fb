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

    private readonly List<Tensor> _dense = [];
    private readonly List<Tensor> _kept = [];
    private long _bytes;
    private bool _isReleased;

    /// <param name="inputs">The inputs that receive gradients, in the order in which <see cref="Backward"/> adds their gradients.</param>
    /// <param name="weights">The leaves to whose <c>grad</c> the call itself adds gradients; null for each absent weight.</param>
    protected KernelCall(Tensor[] inputs, params Tensor?[] weights) => (Inputs, InputCount, Weights) = (inputs, inputs.Length, weights);

    ~KernelCall() => Release();

    /// <summary>The inputs that receive gradients, until the call is recorded.</summary>
    public Tensor[] Inputs { get; set; }

    /// <summary>The number of inputs, also after <see cref="Inputs"/> was cleared.</summary>
    public int InputCount { get; }

    /// <summary>The leaves to whose <c>grad</c> the call itself adds gradients; null for each absent weight.</summary>
    public Tensor?[] Weights { get; }

    /// <summary>Returns the output, connected to autograd if a gradient is wanted. A call runs once.</summary>
    public Tensor Run()
    {
        KernelNode.ThrowFailure();
        var isRecorded = KernelNode.IsWanted(this);
        Tensor output;
        try
        {
            using (no_grad()) output = Forward(isRecorded);
        }
        finally
        {
            foreach (var tensor in _dense) tensor.Dispose();
        }

        return isRecorded ? KernelNode.Record(this, output) : output;
    }

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

    /// <summary>Returns a contiguous tensor of an operand's numbers, which lives until the forward pass has run.</summary>
    protected Tensor Dense(Tensor x)
    {
        using var copy = x.is_contiguous() ? null : x.contiguous();
        var dense = (copy ?? x).detach();
        _dense.Add(dense);
        return dense;
    }

    /// <summary>Keeps a tensor for the backward pass, as a new reference to the same memory.</summary>
    protected Tensor Keep(Tensor tensor) => Own(tensor.detach());

    /// <summary>Allocates memory that is kept for the backward pass.</summary>
    protected Tensor Keep(long bytes) => Own(empty(bytes, ScalarType.Byte));

    private Tensor Own(Tensor tensor)
    {
        _kept.Add(tensor.DetachFromDisposeScope());
        var bytes = tensor.numel() * tensor.element_size();
        _bytes += bytes;
        if (Interlocked.Add(ref s_bytes, bytes) <= Volatile.Read(ref s_most)) return tensor;

        // The first run releases the tensors that hold the graph, the second one what the graph held.
        for (var i = 0; i < 2; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Volatile.Write(ref s_most, Math.Max(Least, 2 * Volatile.Read(ref s_bytes)));
        return tensor;
    }

    private void Release()
    {
        if (_isReleased) return;
        _isReleased = true;
        foreach (var tensor in _kept) tensor.Dispose();
        Interlocked.Add(ref s_bytes, -_bytes);
    }
}

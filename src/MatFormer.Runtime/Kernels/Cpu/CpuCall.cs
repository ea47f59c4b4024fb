using static TorchSharp.torch;

namespace MatFormer;

/// <summary>One call of the native library, from its forward pass to its backward pass, and what is kept between the two.</summary>
internal abstract unsafe class CpuCall
{
    private readonly List<Tensor> _kept = [];
    private long _bytes;
    private bool _isReleased;

    ~CpuCall() => Release();

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
        return kept;
    }

    /// <summary>Memory for the backward pass.</summary>
    protected Tensor Keep(long bytes)
    {
        var kept = empty(bytes, ScalarType.Byte).DetachFromDisposeScope();
        _kept.Add(kept);

        // The garbage collector sees no tensor's memory; where nobody asks for the gradients it is what releases this.
        if (bytes > 0) GC.AddMemoryPressure(bytes);
        _bytes += bytes;
        return kept;
    }

    /// <summary>How the library is told of activations' dtype.</summary>
    protected static long ElementOf(ScalarType dtype) => dtype == ScalarType.Float32 ? 0 : 1;

    /// <summary>How the library is told of a weight.</summary>
    protected static CpuLibrary.Weight Native(Tensor? weight)
    {
        if (weight is null) return default;
        long[] shape = weight.shape;
        if (shape[^1] > 1 && weight.stride(shape.Length - 1) != 1)
            throw new ArgumentException("A weight's rows must be contiguous; make it so with contiguous().", nameof(weight));
        return new CpuLibrary.Weight
        {
            Data = (float*)TensorMemory.Of(weight),
            Rows = shape.Length == 2 ? shape[0] : 1,
            Columns = shape[^1],
            Row = shape.Length == 2 ? weight.stride(0) : shape[^1],
        };
    }

    /// <summary>How the library is told of a norm.</summary>
    protected static CpuLibrary.Norm Native(NormWeights? norm) => norm is not { } there ? default : new CpuLibrary.Norm
    {
        Weight = Native(there.Weight),
        Bias = Native(there.Bias),
        Epsilon = there.Epsilon,
    };

    /// <summary>Tells the library where the weight is now, and where its gradient goes if one is wanted.</summary>
    protected static void Open(ref CpuLibrary.Weight native, Tensor? weight)
    {
        if (weight is null) return;
        native.Data = (float*)TensorMemory.Of(weight);
        if (!weight.requires_grad) return;
        var (gradient, isThere) = Gradients.Open(weight);
        native.Gradient = (float*)gradient;
        native.Add = isThere ? 1 : 0;
    }

    /// <summary>Makes room for the gradient of a weight that is an input, if one is wanted.</summary>
    protected static void Fill(ref CpuLibrary.Weight native, Tensor kept, bool isWanted, List<Tensor> into)
    {
        var gradient = isWanted ? empty(kept.shape, ScalarType.Float32) : null;
        native.Gradient = (float*)TensorMemory.OfOptional(gradient);
        into.Add(gradient!);
    }

    /// <summary>The same for the weights of a norm.</summary>
    protected static void Open(ref CpuLibrary.Norm native, NormWeights? norm)
    {
        if (norm is not { } there) return;
        Open(ref native.Weight, there.Weight);
        Open(ref native.Bias, there.Bias);
    }

    private void Release()
    {
        if (_isReleased) return;
        _isReleased = true;
        foreach (var tensor in _kept) tensor.Dispose();
        if (_bytes > 0) GC.RemoveMemoryPressure(_bytes);
    }
}

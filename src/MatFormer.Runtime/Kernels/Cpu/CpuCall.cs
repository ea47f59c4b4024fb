using static TorchSharp.torch;

namespace MatFormer;

/// <summary>One call of the native library.</summary>
internal abstract unsafe class CpuCall : KernelCall
{
    protected CpuCall(Tensor[] inputs, params Tensor?[] weights)
        : base(inputs, weights) => Kernels.Cpu.UseThreads();

    /// <summary>Returns the library's number for the dtype of activations.</summary>
    protected static long ElementOf(ScalarType dtype) => dtype == ScalarType.Float32 ? 0 : 1;

    /// <summary>Returns the library's description of a weight, with its gradient if that is asked for and wanted.</summary>
    protected static CpuLibrary.Weight Native(Tensor? weight, bool withGradient = false)
    {
        if (weight is null) return default;
        long[] shape = weight.shape;
        if (shape[^1] > 1 && weight.stride(shape.Length - 1) != 1)
            throw new ArgumentException("A weight's rows must be contiguous; make it so with contiguous().", nameof(weight));
        var (gradient, isThere) = withGradient && weight.requires_grad ? Gradients.Open(weight) : default;
        return new CpuLibrary.Weight
        {
            Data = (float*)TensorMemory.Of(weight),
            Gradient = (float*)gradient,
            Add = isThere ? 1 : 0,
            Rows = shape.Length == 2 ? shape[0] : 1,
            Columns = shape[^1],
            Row = shape.Length == 2 ? weight.stride(0) : shape[^1],
        };
    }

    /// <summary>Returns the library's description of a norm.</summary>
    protected static CpuLibrary.Norm Native(NormWeights? norm, bool withGradients = false) => norm is not { } there ? default : new()
    {
        Weight = Native(there.Weight, withGradients),
        Bias = Native(there.Bias, withGradients),
        Epsilon = there.Epsilon,
    };

    /// <summary>Allocates the gradient of a weight that is an input, if one is wanted.</summary>
    protected static void Fill(ref CpuLibrary.Weight native, ReadOnlySpan<long> shape, bool isWanted, List<Tensor> into)
    {
        var gradient = isWanted ? empty(shape, ScalarType.Float32) : null;
        native.Gradient = (float*)TensorMemory.OfOptional(gradient);
        into.Add(gradient!);
    }
}

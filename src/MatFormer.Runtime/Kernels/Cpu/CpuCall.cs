using static TorchSharp.torch;

namespace MatFormer;

/// <summary>One call of the native library.</summary>
internal abstract unsafe class CpuCall : KernelCall
{
    /// <summary>Returns the library's number for the dtype of activations.</summary>
    protected static long ElementOf(ScalarType dtype) => dtype == ScalarType.Float32 ? 0 : 1;

    /// <summary>Returns the library's description of a weight.</summary>
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

    /// <summary>Returns the library's description of a norm.</summary>
    protected static CpuLibrary.Norm Native(NormWeights? norm) => norm is not { } there ? default : new CpuLibrary.Norm
    {
        Weight = Native(there.Weight),
        Bias = Native(there.Bias),
        Epsilon = there.Epsilon,
    };

    /// <summary>Sets the current address of a weight, and the address of its gradient if one is wanted.</summary>
    protected static void Open(ref CpuLibrary.Weight native, Tensor? weight)
    {
        if (weight is null) return;
        native.Data = (float*)TensorMemory.Of(weight);
        if (!weight.requires_grad) return;
        var (gradient, isThere) = Gradients.Open(weight);
        native.Gradient = (float*)gradient;
        native.Add = isThere ? 1 : 0;
    }

    /// <summary>Allocates the gradient of a weight that is an input, if one is wanted.</summary>
    protected static void Fill(ref CpuLibrary.Weight native, Tensor kept, bool isWanted, List<Tensor> into)
    {
        var gradient = isWanted ? empty(kept.shape, ScalarType.Float32) : null;
        native.Gradient = (float*)TensorMemory.OfOptional(gradient);
        into.Add(gradient!);
    }

    /// <summary>Sets the current addresses of a norm's weights, and of their gradients if they are wanted.</summary>
    protected static void Open(ref CpuLibrary.Norm native, NormWeights? norm)
    {
        if (norm is not { } there) return;
        Open(ref native.Weight, there.Weight);
        Open(ref native.Bias, there.Bias);
    }
}

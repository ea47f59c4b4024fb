using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The address of a tensor's numbers.</summary>
internal static partial class TensorMemory
{
    /// <summary>The address of the first number; the tensor must outlive its use.</summary>
    public static nint Of(Tensor tensor) => THSTensor_data(tensor.Handle);

    /// <summary>The same, or 0 where there is no tensor.</summary>
    public static nint OfOptional(Tensor? tensor) => tensor is null ? 0 : Of(tensor);

    // What TorchSharp itself calls; its managed methods give no address of bfloat16 numbers, or of what is not contiguous.
    [LibraryImport("LibTorchSharp")]
    private static partial nint THSTensor_data(nint handle);
}

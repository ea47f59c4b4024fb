using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Returns the addresses of tensors' numbers.</summary>
internal static partial class TensorMemory
{
    /// <summary>Returns the address of the first number. The tensor must outlive the use of the address.</summary>
    public static nint Of(Tensor tensor) => THSTensor_data(tensor.Handle);

    /// <summary>Returns the address of the first number, or 0 if there is no tensor.</summary>
    public static nint OfOptional(Tensor? tensor) => tensor is null ? 0 : Of(tensor);

    // TorchSharp itself calls this function. Its managed methods do not return addresses of bfloat16 or non-contiguous tensors.
    [LibraryImport("LibTorchSharp")]
    private static partial nint THSTensor_data(nint handle);
}

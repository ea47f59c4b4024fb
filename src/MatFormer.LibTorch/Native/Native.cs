using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using static MatFormer.Torch.NativeMethods;

namespace MatFormer.Torch;

/// <summary>What this binding tells about itself, beyond TorchSharp's API.</summary>
public static unsafe class Native
{
    /// <summary>The libtorch that libmatformer_torch was built with, such as "1.13.0".</summary>
    public static string LibTorchVersion { get; } = Marshal.PtrToStringUTF8(mf_version())!;

    /// <summary>How many native tensors managed code holds now: neither disposed nor finalized. For leak tests.</summary>
    public static long LiveTensors => TorchSharp.torch.Tensor.TotalCount;

    /// <summary>Throws what the last failing call on this thread said.</summary>
    /// <exception cref="ExternalException">Always, with libtorch's message.</exception>
    [DoesNotReturn]
    internal static void ThrowLastError()
    {
        var message = Marshal.PtrToStringUTF8(mf_last_error());
        ProcessEnd.AwaitIfEnding();
        throw new ExternalException(message);
    }

    /// <summary>Throws when <paramref name="status"/> is not 0.</summary>
    internal static void Check(int status)
    {
        if (status != 0)
        {
            ThrowLastError();
        }
    }
}

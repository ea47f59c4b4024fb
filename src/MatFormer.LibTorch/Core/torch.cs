using MatFormer.Torch;
using static MatFormer.Torch.NativeMethods;

namespace TorchSharp;

/// <summary>The part of TorchSharp 0.107.0's API that this project uses, over the libtorch that it was built with.</summary>
public static partial class torch
{
    /// <summary>libtorch's version.</summary>
    public static string __version__ => Native.LibTorchVersion;

    public static int get_num_threads() => mf_get_num_threads();

    public static void set_num_threads(int num) => Native.Check(mf_set_num_threads(num));

    public static int get_num_interop_threads() => mf_get_num_interop_threads();

    public static void set_num_interop_threads(int num) => Native.Check(mf_set_num_interop_threads(num));

    public static bool cuda_is_available() => cuda.is_available();

    public static class cuda
    {
        public static bool is_available() => device_count() > 0;

        public static bool is_cudnn_available() => mf_cudnn_is_available() != 0;

        public static int device_count() => mf_cuda_device_count();

        public static void manual_seed(long seed) => Native.Check(mf_cuda_manual_seed(seed));

        public static void manual_seed_all(long seed) => Native.Check(mf_cuda_manual_seed(seed));

        /// <summary>Waits until all work on the device is done.</summary>
        public static void synchronize(Device? device = null) => Native.Check(mf_cuda_synchronize(device?.index ?? -1));
    }
}

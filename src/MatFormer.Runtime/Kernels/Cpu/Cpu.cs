using TorchSharp;
using static TorchSharp.torch;
using Native = MatFormer.CpuLibrary;

namespace MatFormer;

public static partial class Kernels
{
    /// <summary>
    /// The environment variable that chooses the form of operations on the CPU. With <c>composite</c>, the native library is not used.
    /// </summary>
    internal const string LevelVariable = "MATFORMER_KERNELS";

    /// <summary>Why operations on the CPU run as TorchSharp's, which takes several times as long. Null if they are fused.</summary>
    public static string? CpuProblem => Cpu.Problem;

    /// <summary>The fused loops of the native library.</summary>
    internal static unsafe class Cpu
    {
        private static int s_threads;

        public static string? Problem { get; } =
            Environment.GetEnvironmentVariable(LevelVariable) is "composite" ? $"{LevelVariable} is 'composite'" : Native.Problem;

        /// <summary>Whether the native library is used. For tests.</summary>
        public static bool IsEnabled { get; set; } = Problem is null;

        /// <summary>
        /// Returns whether the library runs operations over x: a tensor on the CPU that is not empty. Nothing runs in the library while the
        /// inputs of products are received, which fused loops do not have.
        /// </summary>
        public static bool Takes(Tensor x) =>
            IsEnabled && !ProductInputs.AreWanted && x.device_type == DeviceType.CPU && x.numel() > 0;

        /// <summary>
        /// Returns whether the library can differentiate with these weights. It adds gradients directly to leaves, so a weight that needs a
        /// gradient must be a leaf.
        /// </summary>
        public static bool CanDifferentiate(params ReadOnlySpan<Tensor?> weights)
        {
            foreach (var weight in weights)
            {
                if (weight is { requires_grad: true, is_leaf: false }) return false;
            }

            return true;
        }

        public static void AdamW(
            Tensor parameters, Tensor gradients, Tensor firstMoments, Tensor secondMoments, double decay, double learningRate, double beta1,
            double beta2, double epsilon, long step)
        {
            UseThreads();
            var call = new Native.AdamW
            {
                Parameters = (void*)TensorMemory.Of(parameters),
                Gradients = (void*)TensorMemory.Of(gradients),
                First = (void*)TensorMemory.Of(firstMoments),
                Second = (void*)TensorMemory.Of(secondMoments),
                Count = parameters.numel(),
                Decay = decay,
                LearningRate = learningRate,
                Beta1 = beta1,
                Beta2 = beta2,
                Epsilon = epsilon,
                Step = step,
            };
            Native.Check(Native.mf_adamw_step(&call));
        }

        public static double ClipGradientNorm(Tensor gradients, double max)
        {
            UseThreads();
            var data = (float*)TensorMemory.Of(gradients);
            double squares;
            Native.Check(Native.mf_sum_squares(data, gradients.numel(), &squares));
            double norm = Math.Sqrt(squares), coefficient = max / (norm + 1e-6);
            if (double.IsFinite(norm) && coefficient < 1) Native.Check(Native.mf_scale(data, gradients.numel(), (float)coefficient));
            return norm;
        }

        /// <summary>Makes the library use as many threads as libtorch.</summary>
        internal static void UseThreads()
        {
            var threads = get_num_threads();
            if (threads == s_threads) return;
            Native.Check(Native.mf_set_threads(threads));
            s_threads = threads;
        }
    }
}

namespace MatFormer.Benchmarks;

/// <summary>The form of the operations that runs: fused loops of the native library, or TorchSharp's operations.</summary>
internal static class Level
{
    /// <summary>The name of the form that consists of TorchSharp's operations.</summary>
    public const string CompositeName = "composite";

    /// <summary>Whether the native library runs.</summary>
    public static bool IsFused => Kernels.Cpu.IsEnabled;

    /// <summary>The instruction set of the native library, or <see cref="CompositeName"/>.</summary>
    public static string Name => IsFused ? CpuLibrary.InstructionSets[0] : CompositeName;

    /// <summary>Runs an action without the native library.</summary>
    public static double Composite(Func<double> action)
    {
        var before = Kernels.Cpu.IsEnabled;
        Kernels.Cpu.IsEnabled = false;
        try
        {
            return action();
        }
        finally
        {
            Kernels.Cpu.IsEnabled = before;
        }
    }
}

namespace MatFormer.Benchmarks;

/// <summary>Which form of the operations runs: fused loops of the native library, or TorchSharp's operations.</summary>
internal static class Level
{
    /// <summary>The name of the form that is made of TorchSharp's operations.</summary>
    public const string CompositeName = "composite";

    /// <summary>Whether the native library runs.</summary>
    public static bool IsFused => Kernels.Cpu.IsEnabled;

    /// <summary>The instruction set of the native library, or <see cref="CompositeName"/>.</summary>
    public static string Name => IsFused ? CpuLibrary.InstructionSets[0] : CompositeName;

    /// <summary>Runs something without the native library.</summary>
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

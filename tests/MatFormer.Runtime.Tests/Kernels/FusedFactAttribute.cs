using System.Runtime.CompilerServices;

namespace MatFormer.Runtime.Tests;

/// <summary>
/// A test of the fused kernels themselves. Without the library the test fails, unless the environment variable MATFORMER_NO_COMPILER is
/// set: then it is skipped.
/// </summary>
public sealed class FusedFactAttribute : FactAttribute
{
    public FusedFactAttribute([CallerFilePath] string? file = null, [CallerLineNumber] int line = -1)
        : base(file, line)
    {
        if (Environment.GetEnvironmentVariable("MATFORMER_NO_COMPILER") is { Length: > 0 } && MatFormer.Kernels.Cpu.Problem is { } problem)
            Skip = $"The fused kernels are not available: {problem}.";
    }
}

namespace MatFormer.Runtime.Tests;

/// <summary>
/// A test of the fused kernels themselves. Where MATFORMER_NO_COMPILER says that they are not to be built, it is skipped; anywhere else a
/// missing library makes it fail.
/// </summary>
public sealed class FusedFactAttribute : FactAttribute
{
    public FusedFactAttribute()
    {
        if (Environment.GetEnvironmentVariable("MATFORMER_NO_COMPILER") is { Length: > 0 } && MatFormer.Kernels.Cpu.Problem is { } problem)
            Skip = $"The fused kernels are not there: {problem}.";
    }
}

using System.Diagnostics;
using TorchSharp;

namespace MatFormer.LibTorch.Tests;

public sealed class LoaderTests
{
    [Fact]
    public void ProgramsStartedLaterDoNotInheritOpenMpSettings()
    {
        torch.ones(1).Dispose(); // the library is loaded now
        using var process = Process.Start(new ProcessStartInfo("env") { RedirectStandardOutput = true })!;
        var variables = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        var given = Environment.GetEnvironmentVariable("GOMP_SPINCOUNT");
        Assert.Equal(given is not null, variables.Contains("GOMP_SPINCOUNT=", StringComparison.Ordinal));
        Assert.Contains("PATH=", variables);
    }
}

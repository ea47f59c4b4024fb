using System.Collections;
using System.Diagnostics;

namespace MatFormer.Packages.Tests;

/// <summary>Runs programs as a user's shell would.</summary>
internal static class Command
{
    /// <summary>Runs a program to its end and asserts that its exit code is 0.</summary>
    /// <returns>Its standard output, followed by its standard error.</returns>
    public static async Task<string> Run(
        string folder, IReadOnlyDictionary<string, string> environment, string program, params string[] arguments)
    {
        var (code, output) = await Try(folder, environment, program, arguments);
        Assert.True(code == 0, $"{program} {string.Join(' ', arguments)}: exit code {code}\n{output}");
        return output;
    }

    /// <summary>Runs a program to its end.</summary>
    public static async Task<(int Code, string Output)> Try(
        string folder, IReadOnlyDictionary<string, string> environment, string program, params string[] arguments)
    {
        using var process = Start(folder, environment, program, arguments);
        var errors = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, output + await errors);
    }

    public static Process Start(string folder, IReadOnlyDictionary<string, string> environment, string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };

        // MSBuild started the test host, whose environment has MSBuild's settings. The builds that start here must not inherit them.
        foreach (DictionaryEntry variable in Environment.GetEnvironmentVariables())
        {
            var name = (string)variable.Key;
            if (name.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase) || name is "Configuration" or "VSTEST_CONNECTION_TIMEOUT")
                start.Environment.Remove(name);
        }

        // No build server stays behind, and none loads analyzers that are deleted afterwards.
        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        start.Environment["UseSharedCompilation"] = "false";
        start.Environment["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1";
        start.Environment["DOTNET_CLI_UI_LANGUAGE"] = "en";
        start.Environment["DOTNET_NOLOGO"] = "1";
        foreach (var (name, value) in environment) start.Environment[name] = value;
        return Process.Start(start)!;
    }
}

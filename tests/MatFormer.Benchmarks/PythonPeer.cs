using System.Diagnostics;
using System.Globalization;

namespace MatFormer.Benchmarks;

/// <summary>A Python program in peers/ that keeps running and answers each command with the seconds that it took.</summary>
internal sealed class PythonPeer : IDisposable
{
    // The answers are kept, because importing torch takes seconds and a benchmark starts a peer for each number type.
    private static readonly Dictionary<string, string?> s_pythons = new(StringComparer.Ordinal);

    private readonly Process _process;

    private PythonPeer(Process process, string version)
    {
        _process = process;
        Version = version;
    }

    public string Version { get; }

    /// <summary>Writes to standard error that figures are left out.</summary>
    public static void TellMissing(string figures) =>
        Console.Error.WriteLine($"skipped {figures}: no Python here has torch (Debian: apt-get install python3-torch)");

    /// <summary>Starts the peer that trains and decodes with torch, or returns null if no Python has torch.</summary>
    public static PythonPeer? Start(params string[] arguments) => StartProgram("matlm_pytorch.py", "torch", arguments);

    /// <summary>Starts a peer, or returns null if no Python has the module that the peer needs.</summary>
    public static PythonPeer? StartProgram(string program, string module, params string[] arguments)
    {
        // The system's Python comes first, because the package python3-torch belongs to it and not to the first python3 on PATH.
        if (!s_pythons.TryGetValue(module, out var python))
            s_pythons[module] = python = new[] { "/usr/bin/python3", "python3" }.FirstOrDefault(p => Has(p, module));
        if (python is null) return null;
        var start = new ProcessStartInfo(python) { RedirectStandardInput = true, RedirectStandardOutput = true };
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "peers", program));
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        var process = Process.Start(start)!;
        var version = process.StandardOutput.ReadLine()
            ?? throw new InvalidOperationException("the Python peer ended before it printed its version; its error message is above");
        return new PythonPeer(process, version);
    }

    public double Time(string command, int count)
    {
        _process.StandardInput.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{command} {count}"));
        _process.StandardInput.Flush();
        var answer = _process.StandardOutput.ReadLine()
            ?? throw new InvalidOperationException($"the Python peer ended at the command '{command}'; its error message is above");
        return double.Parse(answer, CultureInfo.InvariantCulture);
    }

    public void Dispose()
    {
        _process.StandardInput.Close();
        _process.WaitForExit();
        _process.Dispose();
    }

    private static bool Has(string python, string module)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(python, ["-c", $"import {module}"]) { RedirectStandardError = true })!;
            process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false; // there is no such program
        }
    }
}

using System.Diagnostics;
using System.Globalization;

namespace MatFormer.Distributed.Tests;

/// <summary>
/// Starts the program TinyLm, alone or as several ranks. Without the MPI that a test wants the test is skipped, except in CI.
/// </summary>
internal static class Mpi
{
    public const string Open = "Open MPI";
    public const string Mpich = "MPICH";

    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(120);
    private static readonly Dictionary<string, string?> s_launchers = new(StringComparer.Ordinal)
    {
        [Open] = Find("mpirun.openmpi", "Open MPI", "OpenRTE"),
        [Mpich] = Find("mpirun.mpich", "HYDRA"),
    };

    /// <summary>Skips the test if an MPI is not installed.</summary>
    public static void Need(string mpi)
    {
        if (s_launchers[mpi] is not null) return;
        var missing = $"{mpi} is not installed (apt-get install openmpi-bin mpich).";
        Assert.True(Environment.GetEnvironmentVariable("CI") is null or "", missing);
        Assert.Skip(missing);
    }

    /// <summary>Runs the program alone.</summary>
    public static Run Alone(params string[] arguments) => Finish(Start("dotnet", [Program, .. arguments]));

    /// <summary>Runs the program on several ranks with the same arguments.</summary>
    public static Run On(string mpi, int ranks, params string[] arguments) => Finish(Begin(mpi, ranks, arguments));

    /// <summary>Runs the program on several ranks, of which one kills itself at a moment (tests/TinyLm/Killed.cs).</summary>
    public static Run Killed(string mpi, int ranks, string moment, params string[] arguments) =>
        Finish(Launch(mpi, ["-n", $"{ranks}", "dotnet", Program, .. arguments], ("MATFORMER_KILL", moment)));

    /// <summary>Begins to run the program on several ranks. The caller calls <see cref="Finish"/>.</summary>
    public static Process Begin(string mpi, int ranks, params string[] arguments) =>
        Launch(mpi, ["-n", $"{ranks}", "dotnet", Program, .. arguments]);

    /// <summary>Runs the program on two ranks with different arguments.</summary>
    public static Run OnTwo(string mpi, string[] first, string[] second) =>
        Finish(Launch(mpi, ["-n", "1", "dotnet", Program, .. first, ":", "-n", "1", "dotnet", Program, .. second]));

    /// <summary>Waits for the end of a run.</summary>
    public static Run Finish(Process process)
    {
        using (process)
        {
            var errors = process.StandardError.ReadToEndAsync();
            var output = process.StandardOutput.ReadToEndAsync();
            var hasEnded = process.WaitForExit(s_patience);
            if (!hasEnded) process.Kill(entireProcessTree: true);
            var run = new Run(process.ExitCode, output.Result, errors.Result);
            Assert.True(hasEnded, $"The run did not end: {run.Output}{run.Errors}");
            return run;
        }
    }

    /// <summary>Returns the process of a rank that runs with an argument.</summary>
    public static int ProcessOf(int rank, string argument)
    {
        foreach (var folder in Directory.EnumerateDirectories("/proc").Where(folder => char.IsAsciiDigit(Path.GetFileName(folder)[0])))
        {
            try
            {
                var command = File.ReadAllText(Path.Combine(folder, "cmdline")).Split('\0');
                if (!command.Contains(argument) || !command[0].EndsWith("dotnet", StringComparison.Ordinal)) continue;
                var environment = File.ReadAllText(Path.Combine(folder, "environ")).Split('\0');
                if (environment.Any(v => v == $"OMPI_COMM_WORLD_RANK={rank}" || v == $"PMI_RANK={rank}"))
                    return int.Parse(Path.GetFileName(folder), CultureInfo.InvariantCulture);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The process has ended.
            }
        }

        throw new InvalidOperationException($"No process has the rank {rank}.");
    }

    private static string Program => Path.Combine(AppContext.BaseDirectory, "TinyLm.dll");

    private static Process Launch(string mpi, string[] arguments, params (string Name, string Value)[] variables)
    {
        Need(mpi);
        string[] flags = mpi == Open ? ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"] : [];
        return Start(s_launchers[mpi]!, [.. flags, .. arguments], variables);
    }

    private static Process Start(string file, string[] arguments, params (string Name, string Value)[] variables)
    {
        var start = new ProcessStartInfo(file, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["OMP_NUM_THREADS"] = "1";
        start.Environment["OMP_WAIT_POLICY"] = "passive";
        start.Environment["OMPI_MCA_btl_vader_single_copy_mechanism"] = "none"; // containers forbid it
        foreach (var (name, value) in variables) start.Environment[name] = value;
        return Process.Start(start)!;
    }

    // Debian has a command for each MPI. Elsewhere there is one command, and its version says what it is.
    private static string? Find(string command, params string[] names)
    {
        foreach (var file in (string[])[command, "mpirun"])
        {
            try
            {
                var start = new ProcessStartInfo(file, "--version") { RedirectStandardOutput = true, RedirectStandardError = true };
                using var process = Process.Start(start)!;
                var version = process.StandardOutput.ReadToEnd();
                process.WaitForExit();
                if (names.Any(name => version.Contains(name, StringComparison.Ordinal))) return file;
            }
            catch (System.ComponentModel.Win32Exception)
            {
                // There is no such command.
            }
        }

        return null;
    }

    /// <summary>What a run wrote, and its exit code.</summary>
    internal sealed record Run(int Code, string Output, string Errors)
    {
        /// <summary>Checks that the run has succeeded.</summary>
        public Run Succeeded()
        {
            Assert.True(Code == 0, $"exit code {Code}\n{Output}\n{Errors}");
            return this;
        }
    }
}

namespace MatFormer.Tests;

/// <summary>Counts what tests compared with other programs. <c>tests/run.sh</c> prints the sum for each program.</summary>
internal static class Oracles
{
    private static readonly string? s_folder = Environment.GetEnvironmentVariable("ORACLE_COUNTS");
    private static readonly Lock s_lock = new();

    /// <summary>Adds a number of compared values to the count of an oracle. Each process has a file of its own.</summary>
    /// <param name="oracle">The program with which they were compared, and what they are.</param>
    /// <param name="values">How many values were compared.</param>
    public static void Compared(string oracle, long values)
    {
        if (s_folder is null) return;
        lock (s_lock) File.AppendAllText(Path.Combine(s_folder, $"{Environment.ProcessId}.oracles"), $"{values} {oracle}\n");
    }
}

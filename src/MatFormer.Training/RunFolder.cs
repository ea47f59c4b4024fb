using System.Diagnostics;
using System.Globalization;

namespace MatFormer;

/// <summary>
/// The output folder of a run, locked. The lock is a file that is held open, so it ends with the process, even if the process is killed.
/// </summary>
internal sealed class RunFolder : IDisposable
{
    public const string CheckpointName = "checkpoint.safetensors";
    public const string WeightsName = "model.safetensors";
    public const string MetricsName = "metrics.jsonl";
    public const string BestName = "best.safetensors";
    public const string TensorBoardName = "tensorboard";

    /// <summary>The files that a new run replaces.</summary>
    public static IReadOnlyList<string> Replaced { get; } = [CheckpointName, WeightsName, BestName];

    private const string LockName = "run.lock";
    private const string ProcessName = "run.pid";

    private readonly string _path;
    private readonly bool _created;
    private readonly FileStream _lock;

    private RunFolder(string path, bool created, FileStream held) => (_path, _created, _lock) = (path, created, held);

    /// <summary>Locks a folder. Creates the folder if it is missing.</summary>
    /// <exception cref="IOException">Another run writes into the folder, or the folder cannot be written to.</exception>
    public static RunFolder Lock(string path)
    {
        if (File.Exists(path)) throw new IOException($"'{path}' is a file, but the output of a run needs a folder; give another path.");
        var created = !Directory.Exists(path);
        Directory.CreateDirectory(path);
        while (true)
        {
            var held = Open(path);

            // A run that ends deletes its lock. A lock on a deleted file would keep no other run out.
            if (File.Exists(held.Name))
            {
                // Nobody can read the locked file, so the process id is in another one.
                File.WriteAllText(Path.Combine(path, ProcessName), Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
                return new RunFolder(path, created, held);
            }

            held.Dispose();
        }
    }

    /// <summary>Describes the weights in a folder that a new run would replace. Returns null if there are none.</summary>
    /// <param name="path">The folder, which may be missing.</param>
    /// <param name="spec">The model that will be trained.</param>
    /// <param name="others">The names of other files that the run would replace.</param>
    /// <returns>What the folder holds, and whether a run of this model can continue it.</returns>
    public static (string What, bool CanResume)? Occupant(string path, ModelSpec spec, params string[] others)
    {
        var names = Replaced.Concat(others).Where(name => File.Exists(Path.Combine(path, name))).ToList();
        if (names.Count == 0) return null;
        if (names[0] == CheckpointName && TrainingCheckpoint.StepsOf(Path.Combine(path, CheckpointName), spec) is { } steps)
            return ($"a model with {Counted.Of(steps, "trained step")}", true);
        return ($"the weights {string.Join(" and ", names)}", false);
    }

    /// <summary>Unlocks the folder. Deletes the folder if <see cref="Lock"/> created it and it is still empty.</summary>
    public void Dispose()
    {
        File.Delete(Path.Combine(_path, ProcessName));
        if (!OperatingSystem.IsWindows()) File.Delete(_lock.Name);
        _lock.Dispose();
        if (_created && !Directory.EnumerateFileSystemEntries(_path).Any()) Directory.Delete(_path);
    }

    private static FileStream Open(string path)
    {
        try
        {
            // Windows cannot delete an open file, except by this option. On other systems the option would delete the file of another run.
            return new FileStream(
                Path.GetFullPath(Path.Combine(path, LockName)), FileMode.OpenOrCreate, FileAccess.Write, FileShare.None, bufferSize: 1,
                OperatingSystem.IsWindows() ? FileOptions.DeleteOnClose : FileOptions.None);
        }
        catch (IOException e) when (IsHeld(e))
        {
            var process = RunningProcess(path) is { } id
                ? string.Create(CultureInfo.InvariantCulture, $", process {id}, ")
                : " ";
            throw new IOException($"Another run{process}is writing in '{path}'; wait until it has ended, or give another folder.", e);
        }
    }

    // Windows: ERROR_SHARING_VIOLATION. Elsewhere the number is EWOULDBLOCK: 11 on Linux, 35 on macOS.
    private static bool IsHeld(IOException e) => e.HResult is unchecked((int)0x80070020) or 11 or 35;

    // A killed run leaves its process id behind, so the process may have ended.
    private static int? RunningProcess(string path)
    {
        try
        {
            var text = File.ReadAllText(Path.Combine(path, ProcessName));
            if (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var id)) return null;
            using var process = Process.GetProcessById(id);
            return id;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }
}

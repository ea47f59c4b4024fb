using System.Runtime.InteropServices;
using System.Runtime.Versioning;

namespace MatFormer;

/// <summary>Keeps files in a folder that is closed to all other users, because the files will be run as code.</summary>
[SupportedOSPlatform("linux")]
internal static partial class PrivateFolder
{
    /// <summary>The user's cache folder for MatFormer, or null if the user has no home.</summary>
    public static string? OfUser()
    {
        // The XDG base directory specification says that relative paths must be ignored.
        if (Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { } cache && Path.IsPathFullyQualified(cache))
            return Path.Combine(cache, "matformer");
        var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile, Environment.SpecialFolderOption.DoNotVerify);
        return home.Length == 0 ? null : Path.Combine(home, ".cache", "matformer");
    }

    /// <summary>Returns the path of a file with this content, and writes the file unless it exists already.</summary>
    /// <remarks>Several processes may call this at once. A file with other content, such as a damaged one, is replaced.</remarks>
    /// <exception cref="IOException">The folder belongs to another user, is open to others, or cannot be used.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder or the file may not be written.</exception>
    public static string Keep(string folder, string name, byte[] content)
    {
        Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        RefuseIfShared(folder);
        var path = Path.Combine(folder, name);
        if (new FileInfo(path) is { Exists: true } file && file.Length == content.Length && File.ReadAllBytes(path).SequenceEqual(content))
            return path;

        AtomicFile.Write(path, stream =>
        {
            File.SetUnixFileMode(stream.SafeFileHandle, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            stream.Write(content);
        });
        return path;
    }

    private static unsafe void RefuseIfShared(string folder)
    {
        // The framework reports a folder's mode but not its owner. Links are not followed, because a link could be redirected.
        FileStatus status;
        if (ReadStatus(AtCurrentFolder, folder, DoNotFollow, BasicStatus, &status) != 0)
            throw new IOException($"'{folder}': {Marshal.GetLastPInvokeErrorMessage()}.");
        if ((status.Mode & TypeMask) != TypeFolder) throw new IOException($"'{folder}' is not a folder.");
        if (status.Owner != EffectiveUser()) throw new IOException($"The folder '{folder}' belongs to another user.");
        if ((status.Mode & RightsOfOthers) != 0) throw new IOException($"The folder '{folder}' is open to other users.");
    }

    // AT_FDCWD, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, S_IFMT, S_IFDIR, S_IRWXG | S_IRWXO. They are the same on every processor.
    private const int AtCurrentFolder = -100, DoNotFollow = 0x100, BasicStatus = 0x7ff;
    private const int TypeMask = 0xf000, TypeFolder = 0x4000, RightsOfOthers = 0x3f;

    // The fields of Linux's struct statx that are used here. Its layout is the same on every processor; that of struct stat is not.
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct FileStatus
    {
        [FieldOffset(20)]
        public uint Owner;

        [FieldOffset(28)]
        public ushort Mode;
    }

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int ReadStatus(int start, string path, int flags, uint mask, FileStatus* status);

    [LibraryImport("libc", EntryPoint = "geteuid")]
    private static partial uint EffectiveUser();
}

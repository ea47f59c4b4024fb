using System.Runtime.InteropServices;
using System.Runtime.Versioning;

namespace MatFormer;

/// <summary>Keeps files in a folder that is closed to everyone but this user: the files will be run as code.</summary>
[SupportedOSPlatform("linux")]
internal static partial class PrivateFolder
{
    /// <summary>The user's cache folder for MatFormer, or null if the user has no home.</summary>
    public static string? OfUser()
    {
        // A relative path is to be ignored, says the XDG base directory specification.
        if (Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { } cache && Path.IsPathFullyQualified(cache))
            return Path.Combine(cache, "matformer");
        var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile, Environment.SpecialFolderOption.DoNotVerify);
        return home.Length == 0 ? null : Path.Combine(home, ".cache", "matformer");
    }

    /// <summary>Gives the path of a file with this content, which is written unless it is there already.</summary>
    /// <remarks>Any number of processes may do this at once. A file with other content, such as a damaged one, is replaced.</remarks>
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
        // The framework tells a folder's mode but not its owner. A link is not followed: it could be made to lead elsewhere.
        FileStatus status;
        if (ReadStatus(AtCurrentFolder, folder, DoNotFollow, BasicStatus, &status) != 0)
            throw new IOException($"'{folder}': {Marshal.GetLastPInvokeErrorMessage()}.");
        if ((status.Mode & TypeMask) != TypeFolder) throw new IOException($"'{folder}' is not a folder.");
        if (status.Owner != EffectiveUser()) throw new IOException($"The folder '{folder}' belongs to another user.");
        if ((status.Mode & RightsOfOthers) != 0) throw new IOException($"The folder '{folder}' is open to other users.");
    }

    // AT_FDCWD, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, S_IFMT, S_IFDIR, S_IRWXG | S_IRWXO: the same on every processor.
    private const int AtCurrentFolder = -100, DoNotFollow = 0x100, BasicStatus = 0x7ff;
    private const int TypeMask = 0xf000, TypeFolder = 0x4000, RightsOfOthers = 0x3f;

    // What is used of Linux's struct statx, whose layout is the same on every processor; that of struct stat is not.
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

using System.ComponentModel;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Loader;
using System.Runtime.Versioning;
using System.Security.Cryptography;

namespace MatFormer;

/// <summary>Lets TorchSharp run on Linux systems whose C++ library is older than the one that TorchSharp was built with.</summary>
/// <remarks>
/// TorchSharp 0.107's libLibTorchSharp.so requires version GLIBCXX_3.4.32 of libstdc++, which Debian 12 and Ubuntu 22.04 lack. It uses
/// nothing of that version: the only symbol is a marker left by the compiler. On such systems a copy without the requirement is loaded.
/// </remarks>
[EditorBrowsable(EditorBrowsableState.Never)]
public static class TorchLibrary
{
    private const string Import = "LibTorchSharp", FileName = "libLibTorchSharp.so", StandardLibrary = "libstdc++.so.6";
    private const string UnusedVersion = "GLIBCXX_3.4.32", UnusedSymbol = "_ZSt21ios_base_library_initv";

    // Part of the copy's name. Raise it with every change of what is written to the copy.
    private const int CopyFormat = 1;

    // The dependencies of TorchSharp's library, in loading order. From the copy's folder the loader would not find them, or would find the
    // libraries of another libtorch version that is installed on the system.
    private static readonly (string FileName, bool Required)[] s_dependencies =
        [("libc10.so", true), ("libtorch_cpu.so", true), ("libc10_cuda.so", false), ("libtorch_cuda.so", false), ("libtorch.so", true)];

    private static readonly Lock s_installing = new();
    private static bool s_installed;

    [SupportedOSPlatform("linux")]
    private static readonly Lazy<(nint Handle, string? Problem)> s_library =
        new(() => Load(SearchFolders(), MappedFiles, PrivateFolder.OfUser(), NativeLibrary.Load));

    /// <summary>
    /// Why TorchSharp's library could not be loaded, or why no copy of it could be kept for the next start. It is meant for a line in an
    /// error message. It is null if neither failed, or if nothing had to be done.
    /// </summary>
    internal static string? Problem => OperatingSystem.IsLinux() && s_library.IsValueCreated ? s_library.Value.Problem : null;

    /// <summary>
    /// On Linux, registers a handler that the runtime calls when the system could not load TorchSharp's library. Generated code calls this
    /// method before a program first uses TorchSharp. Calls after the first do nothing.
    /// </summary>
    [ModuleInitializer]
    [SuppressMessage("Usage", "CA2255", Justification = "The library must be found before anything in this assembly uses TorchSharp.")]
    public static void Install()
    {
        if (!OperatingSystem.IsLinux()) return;
        lock (s_installing)
        {
            if (!s_installed) AssemblyLoadContext.Default.ResolvingUnmanagedDll += Resolve;
            s_installed = true;
        }
    }

    [SupportedOSPlatform("linux")]
    private static nint Resolve(System.Reflection.Assembly assembly, string name) => name == Import ? s_library.Value.Handle : 0;

    /// <summary>Loads TorchSharp's library from a corrected copy.</summary>
    /// <param name="folders">The folders to search for the library and its dependencies.</param>
    /// <param name="mappedFiles">Returns the paths of the files that are loaded already. The C++ library must be among them.</param>
    /// <param name="cache">The folder for the copy, or null. If the folder cannot be used, the copy is temporary.</param>
    /// <param name="load">Loads the library at a path.</param>
    /// <returns>The library's handle, or 0 and the reason. This method throws nothing.</returns>
    [SupportedOSPlatform("linux")]
    internal static (nint Handle, string? Problem) Load(
        IReadOnlyList<string> folders, Func<IReadOnlyList<string>> mappedFiles, string? cache, Func<string, nint> load)
    {
        string? problem = null;
        try
        {
            var path = Find(FileName, folders) ?? throw NotFound(FileName, folders);
            var mapped = mappedFiles();
            var standard = mapped.FirstOrDefault(file => Path.GetFileName(file).StartsWith(StandardLibrary, StringComparison.Ordinal))
                ?? throw NotFound(StandardLibrary, ["this process"]);
            var original = File.ReadAllBytes(path);
            var copy = Correct(path, original, standard);
            var name = $"libLibTorchSharp-{Convert.ToHexStringLower(SHA256.HashData(original))}-{CopyFormat}.so";

            // Two copies of one library in a process would not work together, so a dependency that is loaded already is used.
            string[] near = [Path.GetDirectoryName(path)!, .. folders];
            foreach (var (dependency, required) in s_dependencies)
            {
                if (mapped.Any(file => Path.GetFileName(file) == dependency)) continue;
                if (Find(dependency, near) is { } found) load(found);
                else if (required) throw NotFound(dependency, near);
            }

            if (cache is not null)
            {
                try
                {
                    return (load(PrivateFolder.Keep(cache, name, copy)), null);
                }
                catch (Exception e)
                {
                    // Another folder may still work, for example if this folder's file system does not allow running code.
                    problem = $"The copy of {FileName} in '{cache}' cannot be used: {LastLine(e)}";
                }
            }

            var temporary = Directory.CreateTempSubdirectory("matformer-").FullName;
            try
            {
                return (load(PrivateFolder.Keep(temporary, name, copy)), problem);
            }
            finally
            {
                // A loaded file stays readable to this process after its deletion.
                Directory.Delete(temporary, recursive: true);
            }
        }
        catch (Exception e)
        {
            // The runtime is in the middle of a call, so nothing is thrown. TorchSharp will report a missing library; this is the reason.
            return (0, problem is null ? LastLine(e) : $"{problem} A copy in '{Path.GetTempPath()}' failed too: {LastLine(e)}");
        }
    }

    // Returns the content of a library that this machine can load.
    private static byte[] Correct(string path, byte[] original, string standardPath)
    {
        var library = ReadVersions(path, original);
        var defined = ReadVersions(standardPath, File.ReadAllBytes(standardPath)).Defined;
        var lacking = library.Needed.Where(need => need.Library == StandardLibrary && !defined.Contains(need.Version)).ToArray();
        if (lacking.Length == 0)
            throw new NotSupportedException($"'{standardPath}' has all that '{path}' needs; something else keeps it from loading.");
        return (lacking is [{ Version: UnusedVersion } unused] ? library.Weaken(unused, UnusedSymbol) : null)
            ?? throw new NotSupportedException(
                $"'{path}' needs {string.Join(", ", lacking.Select(need => need.Version))}, which '{standardPath}' lacks.");
    }

    private static ElfVersions ReadVersions(string path, byte[] content) =>
        ElfVersions.Read(content) ?? throw new InvalidDataException($"'{path}' is not a whole 64-bit ELF library.");

    // Returns the folders of the program's native libraries.
    private static string[] SearchFolders()
    {
        var own = ((string?)AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries);
        string[] systems = ["linux-x64", RuntimeInformation.RuntimeIdentifier];
        var beside = systems.Select(system => Path.Combine(AppContext.BaseDirectory, "runtimes", system, "native"));
        return [.. own.Append(AppContext.BaseDirectory).Concat(beside).Select(Path.TrimEndingDirectorySeparator).Distinct()];
    }

    // Returns the files mapped into this process's memory. The C++ library is among them, because it is loaded first.
    private static IReadOnlyList<string> MappedFiles()
    {
        NativeLibrary.Load(StandardLibrary);
        var lines = File.ReadLines("/proc/self/maps").Where(line => line.Contains('/'));
        return [.. lines.Select(line => line[line.IndexOf('/')..]).Distinct()];
    }

    private static string? Find(string file, IEnumerable<string> folders) =>
        folders.Select(folder => Path.Combine(folder, file)).FirstOrDefault(File.Exists);

    private static FileNotFoundException NotFound(string file, IEnumerable<string> folders) =>
        new($"{file} was not found in {string.Join(", ", folders.Distinct())}.");

    // The runtime's messages begin with advice. The system's reason is in their last line.
    private static string LastLine(Exception e) => e.Message.TrimEnd().Split('\n')[^1].TrimEnd('.') + ".";
}

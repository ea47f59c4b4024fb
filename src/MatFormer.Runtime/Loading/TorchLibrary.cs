using System.ComponentModel;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Loader;
using System.Runtime.Versioning;
using System.Security.Cryptography;

namespace MatFormer;

/// <summary>Lets TorchSharp run on Linux systems whose C++ library is older than the one it was built with.</summary>
/// <remarks>
/// TorchSharp 0.107's libLibTorchSharp.so asks for version GLIBCXX_3.4.32 of libstdc++, which Debian 12 and Ubuntu 22.04 lack, though it
/// uses nothing of that version: the only symbol is a mark left by the compiler. Where that is so, a copy is loaded that does without.
/// </remarks>
[EditorBrowsable(EditorBrowsableState.Never)]
public static class TorchLibrary
{
    private const string Import = "LibTorchSharp", FileName = "libLibTorchSharp.so", StandardLibrary = "libstdc++.so.6";
    private const string UnusedVersion = "GLIBCXX_3.4.32", UnusedSymbol = "_ZSt21ios_base_library_initv";

    // Part of the copy's name: raise it with every change of what is written.
    private const int CopyFormat = 1;

    // What TorchSharp's library depends on, each before those that need it. From the folder of the copy the loader would not find them, or
    // worse, find those of a libtorch of another version that the system has.
    private static readonly (string FileName, bool Required)[] s_dependencies =
        [("libc10.so", true), ("libtorch_cpu.so", true), ("libc10_cuda.so", false), ("libtorch_cuda.so", false), ("libtorch.so", true)];

    private static readonly Lock s_installing = new();
    private static bool s_installed;

    [SupportedOSPlatform("linux")]
    private static readonly Lazy<(nint Handle, string? Problem)> s_library =
        new(() => Load(SearchFolders(), MappedFiles, PrivateFolder.OfUser(), NativeLibrary.Load));

    /// <summary>
    /// Why TorchSharp's library could not be loaded, or why no copy of it could be kept for the next start; for a line in an error
    /// message. Null if neither happened, which includes that nothing had to be done.
    /// </summary>
    internal static string? Problem => OperatingSystem.IsLinux() && s_library.IsValueCreated ? s_library.Value.Problem : null;

    /// <summary>
    /// On Linux, registers a handler that the runtime asks for TorchSharp's library after the system could not load it. Generated code
    /// calls this before a program's first use of TorchSharp. Calls after the first do nothing.
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
    /// <param name="folders">Where to look for it and for what it depends on.</param>
    /// <param name="mappedFiles">Gives the paths of what is loaded already. The C++ library must be among them.</param>
    /// <param name="cache">The folder for the copy, or null; if it cannot be used, the copy is temporary.</param>
    /// <param name="load">Loads the library at a path.</param>
    /// <returns>The library's handle, or 0 and the reason. Nothing is thrown.</returns>
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

            // Two of one library in a process would not work together: what somebody has loaded already is what will be used.
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
                    // Another folder may do, also where this one's file system allows no code to be run.
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
                // What is loaded stays readable to this process.
                Directory.Delete(temporary, recursive: true);
            }
        }
        catch (Exception e)
        {
            // The runtime is in the middle of a call: TorchSharp will report that its library is lacking, and this is the reason.
            return (0, problem is null ? LastLine(e) : $"{problem} Nor can a temporary one in '{Path.GetTempPath()}': {LastLine(e)}");
        }
    }

    // The content that this machine can load.
    private static byte[] Correct(string path, byte[] original, string standardPath)
    {
        var library = ReadVersions(path, original);
        var defined = ReadVersions(standardPath, File.ReadAllBytes(standardPath)).Defined;
        var lacking = library.Needed.Where(need => need.Library == StandardLibrary && !defined.Contains(need.Version)).ToArray();
        if (lacking.Length == 0)
            throw new NotSupportedException($"'{standardPath}' has all that '{path}' asks of it; something else keeps it from loading.");
        return (lacking is [{ Version: UnusedVersion } unused] ? library.Weaken(unused, UnusedSymbol) : null)
            ?? throw new NotSupportedException(
                $"'{path}' needs {string.Join(", ", lacking.Select(need => need.Version))}, which '{standardPath}' lacks.");
    }

    private static ElfVersions ReadVersions(string path, byte[] content) =>
        ElfVersions.Read(content) ?? throw new InvalidDataException($"'{path}' is not a whole 64-bit ELF library.");

    // The folders of the program's native libraries.
    private static string[] SearchFolders()
    {
        var own = ((string?)AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries);
        string[] systems = ["linux-x64", RuntimeInformation.RuntimeIdentifier];
        var beside = systems.Select(system => Path.Combine(AppContext.BaseDirectory, "runtimes", system, "native"));
        return [.. own.Append(AppContext.BaseDirectory).Concat(beside).Select(Path.TrimEndingDirectorySeparator).Distinct()];
    }

    // The files in this process's memory, among them the C++ library.
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

    // The runtime's messages begin with advice; the system's own reason is in their last line.
    private static string LastLine(Exception e) => e.Message.TrimEnd().Split('\n')[^1].TrimEnd('.') + ".";
}

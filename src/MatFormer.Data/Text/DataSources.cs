using System.IO.Enumeration;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>Finds the files of a corpus.</summary>
internal static class DataSources
{
    /// <summary>
    /// Finds the files that <c>--data</c> names: a file, all files below a folder, or the matches of a glob with *, ? and **. They are in
    /// ordinal order of their paths.
    /// </summary>
    /// <param name="data">The file, folder or glob.</param>
    /// <param name="exclude">A folder whose files are left out, because models should not learn from what programs write there.</param>
    /// <exception cref="DataException">There are no files.</exception>
    public static List<string> Find(string data, string exclude)
    {
        if (File.Exists(data)) return [Path.GetFullPath(data)];
        if (Directory.Exists(data))
        {
            var all = Below(Path.GetFullPath(data), recurse: true, exclude: exclude);
            return all.Count > 0 ? all : throw new DataException($"The data folder '{data}' has no files; give a folder, file or glob with "
                + "text.");
        }

        if (!data.Contains('*', StringComparison.Ordinal) && !data.Contains('?', StringComparison.Ordinal))
            throw new DataException($"The data '{data}' does not exist; give a file, a folder, or a glob such as 'docs/**/*.md'.");
        var found = Glob(data, exclude);
        return found.Count > 0 ? found : throw new DataException($"No file matches the data glob '{data}'; '**' matches any folders "
            + "and '*' matches any name.");
    }

    /// <summary>Finds the XML documentation of the newest reference packs of the .NET SDK, with the base framework first.</summary>
    /// <exception cref="DataException">No reference pack is installed.</exception>
    public static List<string> SdkDocumentation() => SdkDocumentation(DotnetRoots());

    internal static List<string> SdkDocumentation(IEnumerable<string> roots)
    {
        var searched = new List<string>();
        foreach (var packs in roots.Select(root => Path.Combine(root, "packs")))
        {
            if (!searched.Contains(packs)) searched.Add(packs);
            if (!Directory.Exists(packs)) continue;
            var files = new List<string>();
            var names = Directory.GetDirectories(packs, "*.Ref");
            foreach (var pack in names.OrderBy(p => Path.GetFileName(p) != "Microsoft.NETCore.App.Ref")
                .ThenBy(p => p, StringComparer.Ordinal))
            {
                if (Newest(pack) is { } version && Newest(Path.Combine(version, "ref")) is { } framework)
                    files.AddRange(Below(framework, recurse: false, pattern: "*.xml"));
            }

            if (files.Count > 0) return files;
        }

        throw new DataException(
            $"The XML documentation of the .NET SDK is not in {string.Join(", ", searched.Select(s => $"'{s}'"))}; give training text with "
                + "--data FILE, FOLDER or GLOB.");
    }

    private static IEnumerable<string> DotnetRoots()
    {
        foreach (var variable in new[] { "DOTNET_ROOT", "DOTNET_ROOT_X64", "DOTNET_ROOT_ARM64" })
        {
            if (Environment.GetEnvironmentVariable(variable) is { Length: > 0 } root) yield return root;
        }

        if (Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") is { Length: > 0 } host)
            yield return Path.GetDirectoryName(Path.GetFullPath(host))!;

        // The runtime is in <root>/shared/Microsoft.NETCore.App/<version>/. A program compiled ahead of time relies on the other roots.
        var runtime = RuntimeEnvironment.GetRuntimeDirectory();
        yield return Path.GetFullPath(Path.Combine(runtime, "..", "..", ".."));
        if (OperatingSystem.IsWindows())
        {
            yield return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ProgramFiles), "dotnet");
        }
        else
        {
            yield return "/usr/share/dotnet";
            yield return "/usr/lib/dotnet";
            yield return "/usr/local/share/dotnet";
            yield return Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".dotnet");
        }
    }

    // Returns the subfolder with the highest version, such as 10.0.12 or net10.0. Versions are compared as numbers.
    private static string? Newest(string folder) => !Directory.Exists(folder) ? null : Directory.GetDirectories(folder)
        .Select(path => (Path: path, Name: Path.GetFileName(path)))
        .OrderByDescending(d => Version.TryParse(d.Name.Replace("net", string.Empty, StringComparison.Ordinal).Split('-')[0], out var v) ? v
            : new Version())
        .ThenByDescending(d => d.Name, StringComparer.Ordinal)
        .Select(d => d.Path)
        .FirstOrDefault();

    internal static List<string> Below(string folder, bool recurse, string? exclude = null, string pattern = "*")
    {
        // Hidden files and folders (such as .git) are not training text. Linked folders are not followed, because they could form a cycle.
        var options = new EnumerationOptions
        {
            RecurseSubdirectories = recurse,
            AttributesToSkip = FileAttributes.Hidden | FileAttributes.System,
            IgnoreInaccessible = false,
        };
        var files = new FileSystemEnumerable<string>(folder, static (ref FileSystemEntry entry) => entry.ToFullPath(), options)
        {
            ShouldIncludePredicate = (ref FileSystemEntry entry) =>
                !entry.IsDirectory && FileSystemName.MatchesSimpleExpression(pattern, entry.FileName, ignoreCase: false),
            ShouldRecursePredicate = (ref FileSystemEntry entry) => !entry.Attributes.HasFlag(FileAttributes.ReparsePoint)
                && entry.ToFullPath() != exclude,
        };
        return [.. files.OrderBy(p => p, StringComparer.Ordinal)];
    }

    private static List<string> Glob(string pattern, string exclude)
    {
        var segments = pattern.Replace('\\', '/').Split('/', StringSplitOptions.RemoveEmptyEntries);
        var fixedCount = Array.FindIndex(
            segments, s => s.Contains('*', StringComparison.Ordinal) || s.Contains('?', StringComparison.Ordinal));
        var start = string.Join('/', segments.Take(fixedCount));
        if (pattern.StartsWith('/')) start = "/" + start;
        var root = Path.GetFullPath(start.Length > 0 ? start : ".");
        if (!Directory.Exists(root)) return [];
        var rest = segments[fixedCount..];
        return [.. Below(root, rest.Length > 1 || rest[0] == "**", exclude)
            .Where(f => Matches(Path.GetRelativePath(root, f).Replace('\\', '/').Split('/'), rest))];
    }

    internal static bool Matches(ReadOnlySpan<string> path, ReadOnlySpan<string> pattern)
    {
        if (pattern.IsEmpty) return path.IsEmpty;
        if (pattern[0] == "**")
        {
            // Matches any number of folders and, as the last part, any file.
            if (pattern.Length == 1) return !path.IsEmpty;
            for (var skip = 0; skip <= path.Length; skip++)
            {
                if (Matches(path[skip..], pattern[1..])) return true;
            }

            return false;
        }

        return !path.IsEmpty && FileSystemName.MatchesSimpleExpression(pattern[0], path[0], ignoreCase: false)
            && Matches(path[1..], pattern[1..]);
    }
}

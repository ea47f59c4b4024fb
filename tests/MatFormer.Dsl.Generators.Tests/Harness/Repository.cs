using System.Runtime.CompilerServices;

namespace MatFormer.Generators.Tests.Harness;

/// <summary>Files of this repository, found from where the tests were compiled.</summary>
internal static class Repository
{
    public static string TestProject { get; } = Path.GetDirectoryName(Path.GetDirectoryName(ThisFile()))!;

    public static string Root { get; } = Path.GetFullPath(Path.Combine(TestProject, "..", ".."));

    /// <summary>The text of a file, with \n as line ends.</summary>
    public static string Read(string path) => File.ReadAllText(Path.Combine(Root, path)).ReplaceLineEndings("\n");

    private static string ThisFile([CallerFilePath] string path = "") => path;
}

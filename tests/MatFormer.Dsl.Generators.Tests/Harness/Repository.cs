using System.Runtime.CompilerServices;

namespace MatFormer.Generators.Tests.Harness;

/// <summary>The files of this repository. The compiler writes down where they are.</summary>
internal static class Repository
{
    public static string TestProject { get; } = Path.GetDirectoryName(Path.GetDirectoryName(ThisFile()))!;

    public static string Root { get; } = Path.GetFullPath(Path.Combine(TestProject, "..", ".."));

    /// <summary>Returns the text of a file, with \n as line ends.</summary>
    public static string Read(string path) => File.ReadAllText(Path.Combine(Root, path)).ReplaceLineEndings("\n");

    private static string ThisFile([CallerFilePath] string path = "") => path;
}

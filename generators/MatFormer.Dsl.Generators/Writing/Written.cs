using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Writing;

/// <summary>Tells files that the generator wrote from those of the user.</summary>
internal static class Written
{
    // The folder that the compiler puts generated files into: the full name of the generator.
    private const string Folder = "MatFormer.Generators.MatFormerGenerator/";

    /// <summary>True for a file of generated code.</summary>
    public static bool Is(SyntaxTree tree) => tree.FilePath.Replace('\\', '/').Contains(Folder);

    /// <summary>True for the code that stands in for a mistaken declaration.</summary>
    public static bool IsSkeleton(SyntaxTree tree) => tree.FilePath.EndsWith(".Skeleton.g.cs", StringComparison.Ordinal) && Is(tree);
}

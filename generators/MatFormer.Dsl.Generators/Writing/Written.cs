using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Writing;

/// <summary>Tells generated files from the user's files.</summary>
internal static class Written
{
    // The compiler puts generated files into a folder with the full name of the generator.
    private const string Folder = "MatFormer.Generators.MatFormerGenerator/";

    /// <summary>Returns true for a generated file.</summary>
    public static bool Is(SyntaxTree tree) => tree.FilePath.Replace('\\', '/').Contains(Folder);

    /// <summary>Returns true for the skeleton that stands in for a model with a wrong declaration.</summary>
    public static bool IsSkeleton(SyntaxTree tree) => tree.FilePath.EndsWith(".Skeleton.g.cs", StringComparison.Ordinal) && Is(tree);
}

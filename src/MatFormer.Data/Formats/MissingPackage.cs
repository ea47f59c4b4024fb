namespace MatFormer;

/// <summary>A file is of a format that a package of ours reads, but the program does not use the package.</summary>
internal static class MissingPackage
{
    /// <summary>Returns the exception, which says how to use the package.</summary>
    public static DataException For(string path, string package, string line) => new(
        $"'{path}' is read by the package {package}; add it (dotnet add package {package}) and write {line} before "
        + "ModelProgram.RunAsync, or before the data is opened.");
}

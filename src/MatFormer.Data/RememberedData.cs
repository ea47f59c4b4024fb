namespace MatFormer;

/// <summary>What a file of weights remembers of the data that the model was trained on.</summary>
/// <param name="Path">
/// The absolute path or glob of the data, or null for the XML documentation of the .NET SDK. It is absolute because weights are read from
/// other folders than the one in which they were trained.
/// </param>
/// <param name="Fingerprint">The <see cref="TrainingData.Fingerprint"/> of the data.</param>
internal sealed record RememberedData(string? Path, string Fingerprint)
{
    /// <summary>The key of the path in the metadata of a file.</summary>
    public const string PathKey = "matformer.data.path";

    /// <summary>The key of the fingerprint in the metadata of a file.</summary>
    public const string FingerprintKey = "matformer.data.fingerprint";

    /// <summary>The path as a user would type it here: relative if it lies below the current folder.</summary>
    public string? Near
    {
        get
        {
            // A file may come from another system, or be damaged. Such a path is shown as it is, and is not found.
            if (Path is null || !System.IO.Path.IsPathFullyQualified(Path) || Path.Contains('\0', StringComparison.Ordinal)) return Path;
            var relative = System.IO.Path.GetRelativePath(Environment.CurrentDirectory, Path);
            return relative.StartsWith("..", StringComparison.Ordinal) || System.IO.Path.IsPathRooted(relative) ? Path : relative;
        }
    }

    /// <summary>Returns what a file remembers. Files of earlier versions and imported weights remember nothing.</summary>
    public static RememberedData? In(IReadOnlyDictionary<string, string> metadata) =>
        metadata.TryGetValue(FingerprintKey, out var fingerprint) && metadata.GetValueOrDefault(PathKey) is not ""
            ? new(metadata.GetValueOrDefault(PathKey), fingerprint)
            : null;

    /// <summary>Adds this to the metadata of a file.</summary>
    public void AddTo(Dictionary<string, string> metadata)
    {
        if (Path is not null) metadata.Add(PathKey, Path);
        metadata.Add(FingerprintKey, Fingerprint);
    }

    /// <summary>Returns what the data is: its path in quotes, or the XML documentation of the .NET SDK.</summary>
    public override string ToString() => Near is { } path ? $"'{path}'" : "the XML documentation of the .NET SDK";
}

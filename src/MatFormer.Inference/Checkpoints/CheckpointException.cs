namespace MatFormer;

/// <summary>
/// A weight file or vector index is damaged or of another kind, or it does not fit the model. The message names the file, what is wrong and
/// what to do.
/// </summary>
public sealed class CheckpointException : IOException
{
    /// <summary>Creates the exception with the message <c>'path' problem</c>.</summary>
    public CheckpointException(string path, string problem, Exception? inner = null)
        : base($"'{path}' {problem}", inner) => Path = path;

    /// <summary>The file.</summary>
    public string Path { get; }
}

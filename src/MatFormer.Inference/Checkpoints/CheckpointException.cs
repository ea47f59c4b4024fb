namespace MatFormer;

/// <summary>
/// A weight file or vector index is damaged, foreign, or does not fit the model; the message names the file, what is wrong and what to do.
/// </summary>
public sealed class CheckpointException : IOException
{
    /// <summary>Makes one.</summary>
    public CheckpointException(string path, string problem, Exception? inner = null)
        : base($"'{path}' {problem}", inner) => Path = path;

    /// <summary>The file.</summary>
    public string Path { get; }
}

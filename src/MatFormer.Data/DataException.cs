namespace MatFormer;

/// <summary>Training data is missing, empty, too small or changed; the message names it and says what to do.</summary>
public sealed class DataException : IOException
{
    /// <summary>Makes one.</summary>
    public DataException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}

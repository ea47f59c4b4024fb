namespace MatFormer;

/// <summary>Training data is missing, empty, too small or changed. The message names the data and says what to do.</summary>
public sealed class DataException : IOException
{
    /// <summary>Creates the exception.</summary>
    public DataException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}

namespace MatFormer;

/// <summary>A profile cannot be written in a format. The message names the part that does not fit and says what to do.</summary>
public sealed class ExtractionException : Exception
{
    /// <summary>Creates the exception.</summary>
    public ExtractionException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}

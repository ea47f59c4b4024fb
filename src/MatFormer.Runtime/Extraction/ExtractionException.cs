namespace MatFormer;

/// <summary>A profile cannot be written in a format; the message names the declared part that does not fit and says what to do.</summary>
public sealed class ExtractionException : Exception
{
    /// <summary>Makes one.</summary>
    public ExtractionException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}

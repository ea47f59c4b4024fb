namespace MatFormer;

/// <summary>
/// A tokenizer's file is damaged, of an unsupported kind, or not that of the model; the message names it and says what to do.
/// </summary>
public sealed class TokenizerException : IOException
{
    /// <summary>Makes one.</summary>
    public TokenizerException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}

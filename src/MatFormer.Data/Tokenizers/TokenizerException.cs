namespace MatFormer;

/// <summary>
/// A tokenizer's file is damaged, of an unsupported kind, or not the model's. The message names the file and says what to do.
/// </summary>
public sealed class TokenizerException : IOException
{
    /// <summary>Creates the exception.</summary>
    public TokenizerException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }
}

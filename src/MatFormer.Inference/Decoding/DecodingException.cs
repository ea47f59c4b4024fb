namespace MatFormer;

/// <summary>No token can be chosen from a model's logits. The message says why, and what to do.</summary>
public sealed class DecodingException : Exception
{
    /// <summary>Creates the exception.</summary>
    public DecodingException(string message)
        : base(message)
    {
    }
}

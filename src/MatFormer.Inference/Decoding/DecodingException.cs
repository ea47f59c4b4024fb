namespace MatFormer;

/// <summary>A model gave logits that nothing can be chosen by; the message says which and what to do.</summary>
public sealed class DecodingException : Exception
{
    /// <summary>Makes one.</summary>
    public DecodingException(string message)
        : base(message)
    {
    }
}

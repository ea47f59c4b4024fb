namespace MatFormer;

/// <summary>The exception for ranks that cannot train together. The message names the rank and what is wrong.</summary>
public sealed class DistributedException : Exception
{
    /// <summary>Creates the exception with a message.</summary>
    public DistributedException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception with a message and its cause.</summary>
    public DistributedException(string message, Exception inner)
        : base(message, inner)
    {
    }
}

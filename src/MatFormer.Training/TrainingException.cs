namespace MatFormer;

/// <summary>
/// The exception for training that cannot go on because a loss or gradient is not finite. The message says where and what to do.
/// </summary>
public sealed class TrainingException : Exception
{
    /// <summary>Creates the exception with a message.</summary>
    public TrainingException(string message)
        : base(message)
    {
    }
}

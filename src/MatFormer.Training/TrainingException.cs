namespace MatFormer;

/// <summary>Training went wrong: a loss or gradient is not finite; the message says where and what to do.</summary>
public sealed class TrainingException : Exception
{
    /// <summary>Makes one.</summary>
    public TrainingException(string message)
        : base(message)
    {
    }
}

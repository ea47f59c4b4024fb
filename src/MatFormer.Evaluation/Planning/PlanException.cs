namespace MatFormer;

/// <summary>
/// The exception for a plan that cannot be made: no mix meets the budget, or there are too many mixes to search. The message says what is
/// possible.
/// </summary>
public sealed class PlanException : Exception
{
    /// <summary>Creates the exception with a message.</summary>
    public PlanException(string message)
        : base(message)
    {
    }
}

namespace MatFormer;

/// <summary>A plan cannot be made: no mix meets the budgets, or there are too many to search; the message says what there is.</summary>
public sealed class PlanException : Exception
{
    /// <summary>Makes one.</summary>
    public PlanException(string message)
        : base(message)
    {
    }
}

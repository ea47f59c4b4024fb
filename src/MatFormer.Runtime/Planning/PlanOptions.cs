namespace MatFormer;

/// <summary>What to plan.</summary>
public sealed record PlanOptions
{
    /// <summary>What the mix may take; without a limit only the frontier is found.</summary>
    public PlanBudget Budget { get; init; } = new();

    /// <summary>Which mixes are searched.</summary>
    public PlanSearch Search { get; init; }

    /// <summary>Tokens before the one that is timed; half of the context if null.</summary>
    public int? CacheTokens { get; init; }

    /// <summary>The most windows of the validation text, each as long as the context, that mixes are evaluated on.</summary>
    public int Windows { get; init; } = 16;

    /// <summary>How many mixes of the frontier are measured.</summary>
    public int Points { get; init; } = 12;

    /// <summary>Decides what the evolutionary search draws.</summary>
    public long Seed { get; init; } = 1;
}

namespace MatFormer;

/// <summary>What to plan.</summary>
public sealed record PlanOptions
{
    /// <summary>What the mix may take; without a limit only the frontier is found.</summary>
    public PlanBudget Budget { get; init; } = new();

    /// <summary>Which mixes are searched.</summary>
    public PlanSearch Search { get; init; }

    /// <summary>
    /// Of a language model: tokens before the one that is timed; half of the context if null. Of a text encoder: tokens of the text that is
    /// timed; the context if null.
    /// </summary>
    public int? CacheTokens { get; init; }

    /// <summary>The most windows of the validation text, each as long as the context, that mixes are evaluated on.</summary>
    public int Windows { get; init; } = 16;

    /// <summary>The most images or pairs that mixes of an encoder are evaluated on.</summary>
    public int Examples { get; init; } = 1024;

    /// <summary>How many mixes of the frontier are measured.</summary>
    public int Points { get; init; } = 12;

    /// <summary>Decides what the evolutionary search draws.</summary>
    public long Seed { get; init; } = 1;
}

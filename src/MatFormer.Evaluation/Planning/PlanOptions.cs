namespace MatFormer;

/// <summary>The options of planning.</summary>
public sealed record PlanOptions
{
    /// <summary>The limits on the costs of the mix. Without a limit, planning finds only the frontier.</summary>
    public PlanBudget Budget { get; init; } = new();

    /// <summary>Which mixes are searched.</summary>
    public PlanSearch Search { get; init; }

    /// <summary>
    /// For a language model: the number of tokens before the timed token; half of the context if null. For a text encoder: the number of
    /// tokens of the timed text; the context if null.
    /// </summary>
    public int? CacheTokens { get; init; }

    /// <summary>
    /// For a model with compressed tokens: the side of the grid at which mixes are planned; the largest declared grid if null.
    /// <see cref="PlanSearch.Learned"/> needs null.
    /// </summary>
    public int? Grid { get; init; }

    /// <summary>The largest number of windows of validation text for the evaluation of mixes. Each is as long as the context.</summary>
    public int Windows { get; init; } = 16;

    /// <summary>The largest number of images or pairs for the evaluation of an encoder's mixes.</summary>
    public int Examples { get; init; } = 1024;

    /// <summary>The largest number of mixes of the frontier that are measured.</summary>
    public int Points { get; init; } = 12;

    /// <summary>The seed of the evolutionary search.</summary>
    public long Seed { get; init; } = 1;
}

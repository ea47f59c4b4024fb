namespace MatFormer;

/// <summary>What a planned mix may take at most; null is no limit.</summary>
public sealed record PlanBudget
{
    /// <summary>Time of one token: <see cref="MixCost.MillisecondsPerToken"/>.</summary>
    public double? MaxMillisecondsPerToken { get; init; }

    /// <summary>Weights, and keys and values of one sequence: <see cref="MixCost.MemoryBytes"/>.</summary>
    public long? MaxMemoryBytes { get; init; }

    /// <summary>All parameters.</summary>
    public long? MaxParameters { get; init; }

    /// <summary>FLOPs of one token's forward pass.</summary>
    public long? MaxFlopsPerToken { get; init; }

    /// <summary>True if there is a limit.</summary>
    public bool IsGiven => MaxMillisecondsPerToken is not null || MaxMemoryBytes is not null || MaxParameters is not null
        || MaxFlopsPerToken is not null;

    /// <summary>Whether a mix meets all of it.</summary>
    public bool Admits(in MixCost cost) => AdmitsSize(cost) && !(cost.MillisecondsPerToken > MaxMillisecondsPerToken);

    /// <summary>Whether a mix meets all but the time, which alone must be measured.</summary>
    internal bool AdmitsSize(in MixCost cost) =>
        !(cost.MemoryBytes > MaxMemoryBytes) && !(cost.Parameters > MaxParameters) && !(cost.FlopsPerToken > MaxFlopsPerToken);
}

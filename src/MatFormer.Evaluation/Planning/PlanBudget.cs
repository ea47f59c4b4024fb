namespace MatFormer;

/// <summary>What a planned mix may take at most; null is no limit.</summary>
public sealed record PlanBudget
{
    /// <summary>Time of one token, image or text: <see cref="MixCost.Milliseconds"/>.</summary>
    public double? MaxMilliseconds { get; init; }

    /// <summary>Weights, and of a decoder keys and values of one sequence: <see cref="MixCost.MemoryBytes"/>.</summary>
    public long? MaxMemoryBytes { get; init; }

    /// <summary>All parameters.</summary>
    public long? MaxParameters { get; init; }

    /// <summary>FLOPs of the forward pass over one token, image or text.</summary>
    public long? MaxFlops { get; init; }

    /// <summary>True if there is a limit.</summary>
    public bool IsGiven => MaxMilliseconds is not null || MaxMemoryBytes is not null || MaxParameters is not null
        || MaxFlops is not null;

    /// <summary>Whether a mix meets all of it.</summary>
    public bool Admits(in MixCost cost) => AdmitsSize(cost) && !(cost.Milliseconds > MaxMilliseconds);

    /// <summary>Whether a mix meets all but the time, which alone must be measured.</summary>
    internal bool AdmitsSize(in MixCost cost) =>
        !(cost.MemoryBytes > MaxMemoryBytes) && !(cost.Parameters > MaxParameters) && !(cost.Flops > MaxFlops);
}

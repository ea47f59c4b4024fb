namespace MatFormer;

/// <summary>The upper limits on the costs of a planned mix. Null means no limit.</summary>
public sealed record PlanBudget
{
    /// <summary>The limit on the time of one token, image or text: <see cref="MixCost.Milliseconds"/>.</summary>
    public double? MaxMilliseconds { get; init; }

    /// <summary>
    /// The limit on the memory of the weights and, for a language model, of the keys and values of one sequence:
    /// <see cref="MixCost.MemoryBytes"/>.
    /// </summary>
    public long? MaxMemoryBytes { get; init; }

    /// <summary>The limit on the number of all parameters.</summary>
    public long? MaxParameters { get; init; }

    /// <summary>The limit on the FLOPs of the forward pass over one token, image or text.</summary>
    public long? MaxFlops { get; init; }

    /// <summary>True if there is at least one limit.</summary>
    public bool IsGiven => MaxMilliseconds is not null || MaxMemoryBytes is not null || MaxParameters is not null
        || MaxFlops is not null;

    /// <summary>Whether a mix meets all limits.</summary>
    public bool Admits(in MixCost cost) => AdmitsSize(cost) && !(cost.Milliseconds > MaxMilliseconds);

    /// <summary>Whether a mix meets all limits except the time, which is the only cost that must be measured.</summary>
    internal bool AdmitsSize(in MixCost cost) =>
        !(cost.MemoryBytes > MaxMemoryBytes) && !(cost.Parameters > MaxParameters) && !(cost.Flops > MaxFlops);
}

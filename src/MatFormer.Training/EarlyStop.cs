namespace MatFormer;

/// <summary>Which look at the validation data found the least loss, and how many looks have passed since.</summary>
internal readonly record struct EarlyStop(double BestLoss, long BestStep, int LooksSinceBest)
{
    /// <summary>Before the first look.</summary>
    public static EarlyStop None { get; } = new(double.PositiveInfinity, 0, 0);

    /// <summary>After a look.</summary>
    /// <param name="loss">The mean loss of all granularities.</param>
    /// <param name="step">After which step it was taken.</param>
    public EarlyStop After(double loss, long step) =>
        loss < BestLoss ? new(loss, step, 0) : this with { LooksSinceBest = LooksSinceBest + 1 };

    /// <summary>Whether so many looks in a row found no less.</summary>
    /// <param name="patience">How many; 0 to never stop.</param>
    public bool IsReached(int patience) => patience > 0 && LooksSinceBest >= patience;
}

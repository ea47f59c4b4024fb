namespace MatFormer;

/// <summary>The evaluation with the lowest validation loss, and the number of evaluations since then.</summary>
internal readonly record struct EarlyStop(double BestLoss, long BestStep, int LooksSinceBest)
{
    /// <summary>The state before the first evaluation.</summary>
    public static EarlyStop None { get; } = new(double.PositiveInfinity, 0, 0);

    /// <summary>Returns the state after another evaluation.</summary>
    /// <param name="loss">The mean loss of all granularities.</param>
    /// <param name="step">The step after which the loss was measured.</param>
    public EarlyStop After(double loss, long step) =>
        loss < BestLoss ? new(loss, step, 0) : this with { LooksSinceBest = LooksSinceBest + 1 };

    /// <summary>Whether the last <paramref name="patience"/> evaluations brought no improvement.</summary>
    /// <param name="patience">The number of evaluations to wait for an improvement; 0 to never stop.</param>
    public bool IsReached(int patience) => patience > 0 && LooksSinceBest >= patience;
}

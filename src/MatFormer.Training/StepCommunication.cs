namespace MatFormer;

/// <summary>What one step cost to exchange, on this rank.</summary>
/// <param name="Bytes">
/// The bytes that this rank gave: of gradients to the all-reduce and, if the moments are divided, of weights to the all-gather.
/// </param>
/// <param name="Seconds">The time that the exchange took.</param>
/// <param name="WaitingSeconds">
/// The part of this time in which nothing else was computed. The rest overlapped with the backward pass or the optimizer.
/// </param>
public sealed record StepCommunication(long Bytes, double Seconds, double WaitingSeconds)
{
    /// <summary>Returns the cost of two exchanges of one step.</summary>
    internal StepCommunication And(StepCommunication other) =>
        new(Bytes + other.Bytes, Seconds + other.Seconds, WaitingSeconds + other.WaitingSeconds);
}

namespace MatFormer;

/// <summary>What the gradients of one step cost to exchange, on this rank.</summary>
/// <param name="Bytes">The bytes of gradients that this rank gave to the all-reduce.</param>
/// <param name="Seconds">The time that the exchange took.</param>
/// <param name="WaitingSeconds">
/// The part of this time in which nothing else was computed. The rest overlapped with the backward pass.
/// </param>
public sealed record StepCommunication(long Bytes, double Seconds, double WaitingSeconds);

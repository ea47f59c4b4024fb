using System.Collections.Immutable;

namespace MatFormer;

/// <summary>What one training step did.</summary>
/// <param name="Step">Its number, from 1 on.</param>
/// <param name="Objective">Its objective.</param>
/// <param name="Losses">
/// Cross-entropy of each submodel that was trained, nats per token: of granularities, narrowest first, by name, then of mixes, as
/// <c>mix</c>, or <c>mix-L</c> for one that ends in L.
/// </param>
/// <param name="LearningRate">Its learning rate.</param>
/// <param name="GradientNorm">The norm of all gradients before clipping.</param>
/// <param name="TokensPerSecond">Tokens of the batch over the seconds that the step took.</param>
public sealed record StepResult(
    long Step, Objective Objective, ImmutableArray<(string Granularity, float Loss)> Losses, double LearningRate, double GradientNorm,
        double TokensPerSecond)
{
    /// <summary>
    /// With <see cref="Distillation"/>: Temperature^2 KL(largest granularity || submodel) of the submodels in it, by the same names.
    /// </summary>
    public ImmutableArray<(string Granularity, float Divergence)> Divergences { get; init; } = [];

    /// <summary>
    /// Why the step was skipped: what was not finite. Then it has no losses, and the weights are as before. Null if it was not.
    /// </summary>
    public string? Skipped { get; init; }

    /// <summary>
    /// If it was looked at after this step (<see cref="TrainerOptions.EvaluateEvery"/>): the loss of each granularity on validation text,
    /// narrowest first, nats per token.
    /// </summary>
    public ImmutableArray<(string Granularity, float Loss)> Validation { get; init; } = [];
}

/// <summary>How a run ended.</summary>
/// <param name="Steps">Steps done in all, those before a resume included.</param>
/// <param name="Finished">False if it was cancelled before the last step.</param>
/// <param name="Checkpoint">The training checkpoint, or null without an output folder.</param>
/// <param name="Weights">The file with the weights alone, or null if unfinished or without an output folder.</param>
/// <param name="Last">The last step that was run, or null if none was.</param>
public sealed record TrainingResult(long Steps, bool Finished, string? Checkpoint, string? Weights, StepResult? Last)
{
    /// <summary>
    /// True if it ended before the last step, as nothing better was found for long (<see cref="TrainerOptions.Patience"/>).
    /// </summary>
    public bool StoppedEarly { get; init; }

    /// <summary>The file with the weights that were best on validation text, or null if none were looked at.</summary>
    public string? Best { get; init; }

    /// <summary>The step that they are of, or 0.</summary>
    public long BestStep { get; init; }

    /// <summary>Steps that were skipped, in all.</summary>
    public long Skipped { get; init; }
}

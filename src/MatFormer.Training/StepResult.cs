using System.Collections.Immutable;

namespace MatFormer;

/// <summary>What one training step did.</summary>
/// <param name="Step">The step's number, from 1.</param>
/// <param name="Objective">The step's objective.</param>
/// <param name="Losses">
/// The cross-entropy of each trained submodel, in nats per token. Granularities come first, by name, from narrowest to widest. Then come
/// mixes, as <c>mix</c>, or as <c>mix-L</c> for a branch that ends in L. A routed step has one loss,
/// named by its budget, such as <c>routed-0.5</c>.
/// </param>
/// <param name="LearningRate">The step's learning rate.</param>
/// <param name="GradientNorm">The norm of all gradients before clipping.</param>
/// <param name="TokensPerSecond">The number of tokens in all batches of the step, divided by the seconds that the step took.</param>
public sealed record StepResult(
    long Step, Objective Objective, ImmutableArray<(string Granularity, float Loss)> Losses, double LearningRate, double GradientNorm,
        double TokensPerSecond)
{
    /// <summary>
    /// With <see cref="Distillation"/>: Temperature^2 KL(largest granularity || submodel) of each distilled submodel, by the same names.
    /// </summary>
    public ImmutableArray<(string Granularity, float Divergence)> Divergences { get; init; } = [];

    /// <summary>
    /// The reason why the step was skipped (which value was not finite), or null if the step was not skipped. A skipped step has no losses
    /// and leaves the weights unchanged.
    /// </summary>
    public string? Skipped { get; init; }

    /// <summary>
    /// If the model was evaluated after this step (<see cref="TrainerOptions.EvaluateEvery"/>): the loss of each granularity on the
    /// validation data, narrowest first, in nats per token.
    /// </summary>
    public ImmutableArray<(string Granularity, float Loss)> Validation { get; init; } = [];

    /// <summary>What the exchange of gradients cost; null if this process trains alone.</summary>
    public StepCommunication? Communication { get; init; }
}

/// <summary>The outcome of a run.</summary>
/// <param name="Steps">The number of steps done, including those before a resume.</param>
/// <param name="Finished">False if training was cancelled before the last step.</param>
/// <param name="Checkpoint">The training checkpoint, or null without an output folder.</param>
/// <param name="Weights">The file with the weights only, or null if training is unfinished or has no output folder.</param>
/// <param name="Last">The last step that was run, or null if none was.</param>
public sealed record TrainingResult(long Steps, bool Finished, string? Checkpoint, string? Weights, StepResult? Last)
{
    /// <summary>
    /// True if training ended before the last step because the validation loss no longer improved (<see cref="TrainerOptions.Patience"/>).
    /// </summary>
    public bool StoppedEarly { get; init; }

    /// <summary>
    /// The file with the weights that had the lowest validation loss, or null without evaluations or without an output folder.
    /// </summary>
    public string? Best { get; init; }

    /// <summary>The step of the lowest validation loss, or 0 without evaluations.</summary>
    public long BestStep { get; init; }

    /// <summary>The number of skipped steps, including those before a resume.</summary>
    public long Skipped { get; init; }
}

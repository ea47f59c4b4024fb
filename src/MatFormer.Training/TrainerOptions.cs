using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>How a model is trained: AdamW, a linear warm-up, then a cosine down to <see cref="FinalLearningRate"/>.</summary>
public sealed record TrainerOptions
{
    private const string Prefix = "training.";
    private const int MaxTokens = 1 << 28;

    /// <summary>Steps in all; the schedule ends there.</summary>
    public int Steps { get; init; } = 1000;

    /// <summary>Sequences that run at once.</summary>
    public int Batch { get; init; } = 4;

    /// <summary>Batches in a step, one after the other, their gradients averaged: a larger batch in the memory of a small one.</summary>
    public int Accumulation { get; init; } = 1;

    /// <summary>
    /// Keeps for the gradients only what goes into each layer, and computes the rest once more (<see cref="Recomputation"/>): less memory
    /// for a quarter to two fifths more time, and the same results. Not kept in checkpoints, so that a run can go on with it or without.
    /// </summary>
    public bool RecomputeActivations { get; init; }

    /// <summary>How a step treats the granularities.</summary>
    public Objective Objective { get; init; } = Objective.Sampled;

    /// <summary>
    /// How likely each granularity is, narrowest first, in proportion; alike if empty. For <see cref="Objective.Sampled"/>, for
    /// <see cref="Objective.Split"/> its share of the batch, for <see cref="Objective.Branching"/> the one before the streams part.
    /// </summary>
    public ImmutableArray<double> Probabilities { get; init; } = [];

    /// <summary>
    /// What the loss of each granularity is multiplied with, narrowest first; 1 if empty, and for mixes, which are none.
    /// </summary>
    public ImmutableArray<double> LossWeights { get; init; } = [];

    /// <summary>
    /// How the losses of streams over the same batch become one: <see cref="Objective.Joint"/>, <see cref="Objective.Sandwich"/>,
    /// <see cref="Objective.Branching"/>.
    /// </summary>
    public Reduction Reduction { get; init; } = Reduction.Mean;

    /// <summary>Whether and how submodels learn from the largest granularity too; null if not.</summary>
    public Distillation? Distillation { get; init; }

    /// <summary>
    /// Stochastic depth (arXiv 1603.09382): each layer is left out of a step with a probability that rises evenly from layer to layer up to
    /// this of the last one; what those that stay add is divided by their chance to stay. 0 for none.
    /// </summary>
    public double StochasticDepth { get; init; }

    /// <summary>Images: the share of a target that is spread over all classes (arXiv 1512.00567, section 7).</summary>
    public double LabelSmoothing { get; init; }

    /// <summary>
    /// Images: each is mixed with another of its batch, in shares drawn from Beta(this, this) (mixup, arXiv 1710.09412); 0 for none.
    /// </summary>
    public double Mixup { get; init; }

    /// <summary>Images: the most pixels by which each is moved, in any direction, black moving in; 0 for none.</summary>
    public int Shift { get; init; }

    /// <summary>The highest learning rate.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Steps until the highest learning rate; null for a tenth of <see cref="Steps"/>, at most 100.</summary>
    public int? WarmupSteps { get; init; }

    /// <summary>The last learning rate as a share of the highest.</summary>
    public double FinalLearningRate { get; init; } = 0.1;

    /// <summary>Decay of AdamW's first moment.</summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Decay of AdamW's second moment.</summary>
    public double Beta2 { get; init; } = 0.95;

    /// <summary>Added to AdamW's denominator.</summary>
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Weight decay of the matrices in the blocks; norms, biases and embeddings have none.</summary>
    public double WeightDecay { get; init; } = 0.1;

    /// <summary>The largest norm of all gradients together; larger ones are scaled down.</summary>
    public double MaxGradientNorm { get; init; } = 1;

    /// <summary>Decides the order of the text and the granularities; with the model's own seed, the whole run.</summary>
    public long Seed { get; init; } = 1;

    /// <summary>
    /// Steps in a row that may be skipped, since a loss or the gradients are not finite (they leave the weights alone, and are counted);
    /// one more ends training.
    /// </summary>
    public int MaxSkippedSteps { get; init; } = 5;

    /// <summary>
    /// Steps between looks at the validation text, after which the best weights so far are kept in best.safetensors; 0 for none. What
    /// counts is the mean over all granularities.
    /// </summary>
    public int EvaluateEvery { get; init; }

    /// <summary>Sequences of validation text that are looked at.</summary>
    public int EvaluationWindows { get; init; } = 64;

    /// <summary>Looks in a row that find nothing better, after which training ends early; 0 for never.</summary>
    public int Patience { get; init; }

    /// <summary>Steps between checkpoints.</summary>
    public int CheckpointEvery { get; init; } = 100;

    /// <summary>
    /// Where metrics.jsonl, checkpoint.safetensors, model.safetensors, best.safetensors and tokenizer.json are written; nothing is if
    /// null.
    /// </summary>
    public string? OutputFolder { get; init; }

    /// <summary>The learning rate of a step, from 1 on.</summary>
    public double LearningRateAt(long step)
    {
        var warmup = WarmupSteps ?? Math.Min(100, Steps / 10);
        if (step <= warmup) return LearningRate * step / warmup;
        var progress = Math.Min(1.0, (double)(step - warmup) / Math.Max(1, Steps - warmup));
        return LearningRate * (FinalLearningRate + ((1 - FinalLearningRate) * 0.5 * (1 + Math.Cos(Math.PI * progress))));
    }

    /// <summary>Checks all values.</summary>
    /// <param name="spec">The model.</param>
    /// <exception cref="ArgumentException">A value is out of range; the message names it.</exception>
    internal void Validate(ModelSpec spec)
    {
        var granularities = spec.Granularities.Length;
        Check(Steps >= 1, nameof(Steps), Steps, "1 or more");
        Check(Batch >= 1, nameof(Batch), Batch, "1 or more");
        var most = MaxTokens / spec.Context;
        Check(Batch <= most, nameof(Batch), Batch, $"at most {most}, as {spec.Name} has a context of {spec.Context}");
        Check(Accumulation >= 1, nameof(Accumulation), Accumulation, "1 or more");
        Check(MaxSkippedSteps >= 0, nameof(MaxSkippedSteps), MaxSkippedSteps, "0 or more");
        Check(EvaluateEvery >= 0, nameof(EvaluateEvery), EvaluateEvery, "0 or more");
        Check(EvaluationWindows >= 1, nameof(EvaluationWindows), EvaluationWindows, "1 or more");
        Check(Patience >= 0, nameof(Patience), Patience, "0 or more");
        Check(Patience == 0 || EvaluateEvery > 0, nameof(Patience), Patience, "0 unless EvaluateEvery is given");
        Check(Enum.IsDefined(Objective), nameof(Objective), Objective, $"one of {string.Join(", ", Enum.GetNames<Objective>())}");
        Check(
            !Objectives.Mixes(Objective) || Objectives.CanMix(spec), nameof(Objective), Objective,
            $"another one, as the layers of {spec.Name} cannot be mixed into more than its granularities");
        Check(
            Probabilities.IsEmpty
                || (Probabilities.Length == granularities && Probabilities.All(p => p >= 0 && double.IsFinite(p))
                && Probabilities.Sum() > 0),
            nameof(Probabilities),
            $"({string.Join(", ", Probabilities)})",
            $"empty or {granularities} numbers from 0 on, not all 0");
        Check(
            Probabilities.IsEmpty || Objectives.Draws(Objective), nameof(Probabilities), $"({string.Join(", ", Probabilities)})",
            $"empty for the objective {Objective}, which draws none by them");
        Check(
            LossWeights.IsEmpty || (LossWeights.Length == granularities && LossWeights.All(w => w > 0 && double.IsFinite(w))),
            nameof(LossWeights), $"({string.Join(", ", LossWeights)})", $"empty or {granularities} numbers above 0");
        Check(Enum.IsDefined(Reduction), nameof(Reduction), Reduction, "Mean or Sum");
        Check(
            Reduction == Reduction.Mean || Objectives.SharesTheBatch(Objective), nameof(Reduction), Reduction,
            $"Mean for the objective {Objective}, which gives each row of the batch one loss");
        Check(Distillation is null or { Weight: > 0 and <= 1 }, "Distillation.Weight", Distillation?.Weight, "above 0, at most 1");
        Check(
            Distillation is null || (Distillation.Temperature > 0 && double.IsFinite(Distillation.Temperature)), "Distillation.Temperature",
            Distillation?.Temperature, "above 0");
        Check(StochasticDepth is >= 0 and < 1, nameof(StochasticDepth), StochasticDepth, "from 0 to below 1");
        Check(LabelSmoothing is >= 0 and < 1, nameof(LabelSmoothing), LabelSmoothing, "from 0 to below 1");
        Check(Mixup >= 0 && double.IsFinite(Mixup), nameof(Mixup), Mixup, "0 or more");
        Check(
            Shift >= 0 && Shift < (spec.Image?.Size ?? int.MaxValue), nameof(Shift), Shift, $"0 or more, less than {spec.Image?.Size}");
        Check(
            spec.Image is not null || (LabelSmoothing == 0 && Mixup == 0 && Shift == 0), "LabelSmoothing, Mixup or Shift", "given",
            $"0, as {spec.Name} takes no images");
        Check(LearningRate > 0 && double.IsFinite(LearningRate), nameof(LearningRate), LearningRate, "above 0");
        Check(WarmupSteps is null or >= 0, nameof(WarmupSteps), WarmupSteps, "0 or more");
        Check(FinalLearningRate is >= 0 and <= 1, nameof(FinalLearningRate), FinalLearningRate, "from 0 to 1");
        Check(Beta1 is >= 0 and < 1, nameof(Beta1), Beta1, "from 0 to below 1");
        Check(Beta2 is >= 0 and < 1, nameof(Beta2), Beta2, "from 0 to below 1");
        Check(Epsilon > 0 && double.IsFinite(Epsilon), nameof(Epsilon), Epsilon, "above 0");
        Check(WeightDecay >= 0 && double.IsFinite(WeightDecay), nameof(WeightDecay), WeightDecay, "0 or more");
        Check(MaxGradientNorm > 0, nameof(MaxGradientNorm), MaxGradientNorm, "above 0");
        Check(CheckpointEvery >= 1, nameof(CheckpointEvery), CheckpointEvery, "1 or more");
        Check(OutputFolder is not "", nameof(OutputFolder), "''", "a folder, or null");
    }

    /// <summary>The values that decide a run, as a checkpoint keeps them.</summary>
    internal IEnumerable<(string Key, string Value)> ToMetadata() =>
    [
        (Prefix + "steps", Text(Steps)),
        (Prefix + "batch", Text(Batch)),
        (Prefix + "accumulation", Text(Accumulation)),
        (Prefix + "objective", Objective.ToString()),
        (Prefix + "probabilities", string.Join(',', Probabilities.Select(p => Text(p)))),
        (Prefix + "loss_weights", string.Join(',', LossWeights.Select(w => Text(w)))),
        (Prefix + "reduction", Reduction.ToString()),
        (Prefix + "distillation_weight", Distillation is { } weighted ? Text(weighted.Weight) : string.Empty),
        (Prefix + "distillation_temperature", Distillation is { } warm ? Text(warm.Temperature) : string.Empty),
        (Prefix + "stochastic_depth", Text(StochasticDepth)),
        (Prefix + "label_smoothing", Text(LabelSmoothing)),
        (Prefix + "mixup", Text(Mixup)),
        (Prefix + "shift", Text(Shift)),
        (Prefix + "learning_rate", Text(LearningRate)),
        (Prefix + "warmup_steps", WarmupSteps is { } warmup ? Text(warmup) : string.Empty),
        (Prefix + "final_learning_rate", Text(FinalLearningRate)),
        (Prefix + "beta1", Text(Beta1)),
        (Prefix + "beta2", Text(Beta2)),
        (Prefix + "epsilon", Text(Epsilon)),
        (Prefix + "weight_decay", Text(WeightDecay)),
        (Prefix + "max_gradient_norm", Text(MaxGradientNorm)),
        (Prefix + "seed", Text(Seed)),
    ];

    /// <summary>
    /// Values that a checkpoint keeps too, for a run that goes on without being told again; they may change, as they decide no step.
    /// </summary>
    internal IEnumerable<(string Key, string Value)> ToChangeableMetadata() =>
    [
        (Prefix + "evaluate_every", Text(EvaluateEvery)),
        (Prefix + "evaluation_windows", Text(EvaluationWindows)),
        (Prefix + "patience", Text(Patience)),
        (Prefix + "max_skipped_steps", Text(MaxSkippedSteps)),
        (Prefix + "checkpoint_every", Text(CheckpointEvery)),
    ];

    /// <summary>The values that a checkpoint keeps.</summary>
    /// <exception cref="CheckpointException">It is not a training checkpoint, or damaged.</exception>
    internal static TrainerOptions FromMetadata(string path, IReadOnlyDictionary<string, string> metadata) => new()
    {
        Steps = Number<int>(path, metadata, "steps"),
        Batch = Number<int>(path, metadata, "batch"),
        Accumulation = Number<int>(path, metadata, "accumulation"),
        Objective = Enum.TryParse<Objective>(Value(path, metadata, "objective"), out var objective) ? objective
            : throw Damaged(path, "objective"),
        Probabilities = Numbers(path, metadata, "probabilities"),
        LossWeights = Numbers(path, metadata, "loss_weights"),
        Reduction = Enum.TryParse<Reduction>(Value(path, metadata, "reduction"), out var reduction) ? reduction
            : throw Damaged(path, "reduction"),
        Distillation = Value(path, metadata, "distillation_weight").Length == 0 ? null
            : new(Number<double>(path, metadata, "distillation_weight"), Number<double>(path, metadata, "distillation_temperature")),
        StochasticDepth = Later<double>(path, metadata, "stochastic_depth"),
        LabelSmoothing = Later<double>(path, metadata, "label_smoothing"),
        Mixup = Later<double>(path, metadata, "mixup"),
        Shift = Later<int>(path, metadata, "shift"),
        LearningRate = Number<double>(path, metadata, "learning_rate"),
        WarmupSteps = Value(path, metadata, "warmup_steps").Length == 0 ? null : Number<int>(path, metadata, "warmup_steps"),
        FinalLearningRate = Number<double>(path, metadata, "final_learning_rate"),
        Beta1 = Number<double>(path, metadata, "beta1"),
        Beta2 = Number<double>(path, metadata, "beta2"),
        Epsilon = Number<double>(path, metadata, "epsilon"),
        WeightDecay = Number<double>(path, metadata, "weight_decay"),
        MaxGradientNorm = Number<double>(path, metadata, "max_gradient_norm"),
        Seed = Number<long>(path, metadata, "seed"),
        EvaluateEvery = Number<int>(path, metadata, "evaluate_every"),
        EvaluationWindows = Number<int>(path, metadata, "evaluation_windows"),
        Patience = Number<int>(path, metadata, "patience"),
        MaxSkippedSteps = Number<int>(path, metadata, "max_skipped_steps"),
        CheckpointEvery = Number<int>(path, metadata, "checkpoint_every"),
    };

    private static void Check(bool good, string option, object? value, string wanted)
    {
        if (!good)
            throw new ArgumentException(
                string.Create(CultureInfo.InvariantCulture, $"The training option {option} is {value}; it " + $"must be {wanted}."));
    }

    private static string Text(IFormattable value) => value.ToString(null, CultureInfo.InvariantCulture);

    private static string Value(string path, IReadOnlyDictionary<string, string> metadata, string key) =>
        metadata.TryGetValue(Prefix + key, out var value)
        ? value
        : throw new CheckpointException(path, $"is no training checkpoint (its metadata lacks '{Prefix}{key}'); give the "
            + "checkpoint.safetensors of a training run.");

    private static ImmutableArray<double> Numbers(string path, IReadOnlyDictionary<string, string> metadata, string key) =>
        [.. Value(path, metadata, key).Split(',', StringSplitOptions.RemoveEmptyEntries).Select(n => Number<double>(path, key, n))];

    // 0 in checkpoints that are older than the option.
    private static T Later<T>(string path, IReadOnlyDictionary<string, string> metadata, string key)
        where T : struct, IParsable<T> => metadata.TryGetValue(Prefix + key, out var value) ? Number<T>(path, key, value) : default;

    private static T Number<T>(string path, IReadOnlyDictionary<string, string> metadata, string key)
        where T : struct, IParsable<T> => Number<T>(path, key, Value(path, metadata, key));

    private static T Number<T>(string path, string key, string value)
        where T : struct, IParsable<T> => T.TryParse(value, CultureInfo.InvariantCulture, out var number) ? number
            : throw Damaged(path, key);

    private static CheckpointException Damaged(string path, string key) =>
        new(path, $"has a '{Prefix}{key}' in its metadata that cannot be read; it is damaged.");
}

using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>
/// How a model is trained: with AdamW, a linear warm-up, and then a cosine schedule down to <see cref="FinalLearningRate"/>.
/// </summary>
public sealed record TrainerOptions
{
    private const string Prefix = "training.";
    private const int MaxTokens = 1 << 28;

    /// <summary>The number of optimizer steps. The learning rate schedule ends at the last one.</summary>
    public int Steps { get; init; } = 1000;

    /// <summary>The number of sequences, images or pairs in a batch.</summary>
    public int Batch { get; init; } = 4;

    /// <summary>
    /// Gradient accumulation: the number of batches in a step. They run one after the other and their gradients are averaged, so a step
    /// has the effect of a larger batch in the memory of a small one.
    /// </summary>
    public int Accumulation { get; init; } = 1;

    /// <summary>
    /// Activation checkpointing: keeps only the input of each layer for the backward pass and computes the rest again
    /// (<see cref="Recomputation"/>). A step takes less memory, a quarter to two fifths more time, and gives the same results, so a run
    /// can be resumed with or without it.
    /// </summary>
    public bool RecomputeActivations { get; init; }

    /// <summary>How a step treats the granularities.</summary>
    public Objective Objective { get; init; } = Objective.Sampled;

    /// <summary>
    /// The relative weights with which granularities are drawn, narrowest first. All are equally likely if empty. With
    /// <see cref="Objective.Sampled"/> they decide the granularity of a step, with <see cref="Objective.Split"/> the share of the batch
    /// that each granularity gets, and with <see cref="Objective.Branching"/> the granularity of the layers before the streams part.
    /// </summary>
    public ImmutableArray<double> Probabilities { get; init; } = [];

    /// <summary>
    /// The factor of each granularity's loss, narrowest first. All are 1 if empty. The loss of a mix always has the factor 1.
    /// </summary>
    public ImmutableArray<double> LossWeights { get; init; } = [];

    /// <summary>
    /// How the losses of streams over the same batch become one loss. It matters for <see cref="Objective.Joint"/>,
    /// <see cref="Objective.Sandwich"/> and <see cref="Objective.Branching"/>.
    /// </summary>
    public Reduction Reduction { get; init; } = Reduction.Mean;

    /// <summary>
    /// The bits, 32, 8, 4 or 2, that a step rounds weights to before its passes, with gradients as if it had not (straight-through
    /// rounding; MatQuant, arXiv 2502.06786). <see cref="Objective.Joint"/> adds up the gradients at all of them. The other objectives draw
    /// one for each step. 32 leaves weights as they are. Null for the bits of <see cref="PrecisionAttribute"/>, or 32 without it.
    /// </summary>
    public ImmutableArray<int>? Bits { get; init; }

    /// <summary>The factor of the loss at each of <see cref="Bits"/>, in their order. All are 1 if empty.</summary>
    public ImmutableArray<double> BitWeights { get; init; } = [];

    /// <summary>How submodels also learn from the largest granularity; null for no distillation.</summary>
    public Distillation? Distillation { get; init; }

    /// <summary>
    /// Stochastic depth (arXiv 1603.09382): the probability with which the last layer is left out of a batch. The probability rises
    /// linearly over the layers up to this value. The output of a layer that stays is divided by its probability of staying. 0 for none.
    /// </summary>
    public double StochasticDepth { get; init; }

    /// <summary>
    /// Models with <c>[Routing]</c> only: the share of the steps that train a routed pass, at one of the declared budgets, instead of the
    /// streams of <see cref="Objective"/>. The budget is drawn, all with equal probability. Null for a half.
    /// </summary>
    public double? RoutedShare { get; init; }

    /// <summary>Images only: the share of a target that is spread over all classes (arXiv 1512.00567, section 7).</summary>
    public double LabelSmoothing { get; init; }

    /// <summary>
    /// Images only: the parameter alpha of mixup (arXiv 1710.09412). Each image is mixed with another image of its batch, in shares drawn
    /// from Beta(alpha, alpha). 0 for none.
    /// </summary>
    public double Mixup { get; init; }

    /// <summary>
    /// Images only: each image is moved by up to this many pixels in any direction, and black pixels fill the gap. 0 for none.
    /// </summary>
    public int Shift { get; init; }

    /// <summary>The highest learning rate.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>
    /// The number of steps until the highest learning rate is reached; null for a tenth of <see cref="Steps"/>, at most 100.
    /// </summary>
    public int? WarmupSteps { get; init; }

    /// <summary>The last learning rate as a share of the highest.</summary>
    public double FinalLearningRate { get; init; } = 0.1;

    /// <summary>Decay of AdamW's first moment.</summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Decay of AdamW's second moment.</summary>
    public double Beta2 { get; init; } = 0.95;

    /// <summary>The number that is added to AdamW's denominator.</summary>
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Weight decay of the matrices in the blocks; norms, biases and embeddings have none.</summary>
    public double WeightDecay { get; init; } = 0.1;

    /// <summary>The largest allowed norm of all gradients together. Gradients with a larger norm are scaled down to this norm.</summary>
    public double MaxGradientNorm { get; init; } = 1;

    /// <summary>
    /// Decides the order of the examples and what is drawn at random. This seed and the model's own seed decide the whole run.
    /// </summary>
    public long Seed { get; init; } = 1;

    /// <summary>
    /// The number of consecutive steps that may be skipped because a loss or the gradients are not finite. One more ends training with an
    /// exception. A skipped step counts as a step, but leaves the weights unchanged.
    /// </summary>
    public int MaxSkippedSteps { get; init; } = 5;

    /// <summary>
    /// The number of steps between evaluations on the validation data; 0 for no evaluations. An evaluation saves the weights in
    /// best.safetensors if their loss, averaged over all granularities, is the lowest so far.
    /// </summary>
    public int EvaluateEvery { get; init; }

    /// <summary>The number of validation sequences, images or pairs in each evaluation, at most.</summary>
    public int EvaluationWindows { get; init; } = 64;

    /// <summary>Training stops early after this many consecutive evaluations without improvement; 0 for never.</summary>
    public int Patience { get; init; }

    /// <summary>
    /// With several ranks: gradients are rounded to bfloat16 on their way between the ranks, which halves the bytes. Sums stay float32.
    /// </summary>
    public bool GradientsInBFloat16 { get; init; }

    /// <summary>
    /// With several ranks: each rank holds an equal part of AdamW's moments (ZeRO-1). That saves nearly 8 bytes for each weight, and the
    /// ranks send each other the weights that they update. The numbers stay the same.
    /// </summary>
    public bool ShardMoments { get; init; }

    /// <summary>Steps between checkpoints.</summary>
    public int CheckpointEvery { get; init; } = 100;

    /// <summary>
    /// The folder for metrics.jsonl, checkpoint.safetensors, model.safetensors, best.safetensors and tokenizer.json; null to write nothing.
    /// </summary>
    public string? OutputFolder { get; init; }

    /// <summary>
    /// True to write files of events for TensorBoard into the folder <c>tensorboard</c> of <see cref="OutputFolder"/>, with the numbers of
    /// metrics.jsonl.
    /// </summary>
    public bool TensorBoard { get; init; }

    /// <summary>
    /// Lets a new run replace the weights of an earlier run in <see cref="OutputFolder"/>. Without it, training refuses such a folder.
    /// </summary>
    public bool Overwrite { get; init; }

    /// <summary>Returns the learning rate of a step. Steps are numbered from 1.</summary>
    public double LearningRateAt(long step)
    {
        var warmup = WarmupSteps ?? Math.Min(100, Steps / 10);
        if (step <= warmup) return LearningRate * step / warmup;
        var progress = Math.Min(1.0, (double)(step - warmup) / Math.Max(1, Steps - warmup));
        return LearningRate * (FinalLearningRate + ((1 - FinalLearningRate) * 0.5 * (1 + Math.Cos(Math.PI * progress))));
    }

    /// <summary>Returns the smallest share that a granularity with a probability above 0 has of the batch, or of the steps.</summary>
    internal double LeastShare(int granularities) =>
        Probabilities.IsEmpty ? 1.0 / granularities : Probabilities.Where(p => p > 0).Min() / Probabilities.Sum();

    /// <summary>Returns the share of the steps that train a routed pass of a model.</summary>
    internal double RoutedShareOf(ModelSpec spec) => spec.Routing is null ? 0 : RoutedShare ?? 0.5;

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
        var objective = Objectives.NameOf(Objective);
        Check(
            !Objectives.Mixes(Objective) || Objectives.CanMix(spec), nameof(Objective), objective,
            $"another one, as the layers of {spec.Name} cannot be mixed into more than its granularities");
        Check(
            Probabilities.IsEmpty
                || (Probabilities.Length == granularities && Probabilities.All(p => p >= 0 && double.IsFinite(p))
                && Probabilities.Sum() > 0),
            nameof(Probabilities),
            $"({string.Join(", ", Probabilities)})",
            $"left out, or {granularities} numbers from 0 on, not all 0");
        Check(
            Probabilities.IsEmpty || Objectives.Draws(Objective), nameof(Probabilities), $"({string.Join(", ", Probabilities)})",
            $"left out for the objective {objective}, which does not use probabilities");
        Check(
            LossWeights.IsEmpty || (LossWeights.Length == granularities && LossWeights.All(w => w > 0 && double.IsFinite(w))),
            nameof(LossWeights), $"({string.Join(", ", LossWeights)})", $"left out, or {granularities} numbers above 0");
        ImmutableArray<int> bits = BitsOf(spec);
        Check(
            bits.All(b => b is 32 or 8 or 4 or 2) && bits.Distinct().Count() == bits.Length && !bits.IsEmpty, nameof(Bits),
            $"({string.Join(", ", bits)})", "one or more of 32, 8, 4 and 2, each once");
        Check(
            BitWeights.IsEmpty || (BitWeights.Length == bits.Length && BitWeights.All(w => w > 0 && double.IsFinite(w))),
            nameof(BitWeights), $"({string.Join(", ", BitWeights)})",
            $"left out, or {Counted.Of(bits.Length, "number")} above 0, one for each of {string.Join(", ", bits)} bits");
        Check(Enum.IsDefined(Reduction), nameof(Reduction), Reduction, "Mean or Sum");
        Check(
            Reduction == Reduction.Mean || Objectives.SharesTheBatch(Objective), nameof(Reduction), Reduction,
            $"Mean for the objective {objective}, which gives each row of the batch one loss");
        Check(Distillation is null or { Weight: > 0 and <= 1 }, "Distillation.Weight", Distillation?.Weight, "above 0, at most 1");
        Check(
            Distillation is null || (Distillation.Temperature > 0 && double.IsFinite(Distillation.Temperature)), "Distillation.Temperature",
            Distillation?.Temperature, "above 0");
        Check(StochasticDepth is >= 0 and < 1, nameof(StochasticDepth), StochasticDepth, "from 0 to below 1");
        Check(
            RoutedShare is null || spec.Routing is not null, nameof(RoutedShare), RoutedShare,
            $"left out, as {spec.Name} declares no [Routing]");
        Check(RoutedShare is null or (>= 0 and <= 1), nameof(RoutedShare), RoutedShare, "from 0 to 1");
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

    /// <summary>Returns the bits that a model is trained at with these options.</summary>
    internal ImmutableArray<int> BitsOf(ModelSpec spec) => Bits ?? (spec.Precision.IsEmpty ? [32] : spec.Precision);

    /// <summary>Returns the options that decide the result of a run, in the form in which a checkpoint stores them.</summary>
    internal IEnumerable<(string Key, string Value)> ToMetadata() =>
    [
        (Prefix + "steps", Text(Steps)),
        (Prefix + "batch", Text(Batch)),
        (Prefix + "accumulation", Text(Accumulation)),
        (Prefix + "objective", Objective.ToString()),
        (Prefix + "probabilities", string.Join(',', Probabilities.Select(p => Text(p)))),
        (Prefix + "loss_weights", string.Join(',', LossWeights.Select(w => Text(w)))),
        (Prefix + "reduction", Reduction.ToString()),
        (Prefix + "bits", string.Join(',', (Bits ?? []).Select(b => Text(b)))),
        (Prefix + "bit_weights", string.Join(',', BitWeights.Select(w => Text(w)))),
        (Prefix + "distillation_weight", Distillation is { } weighted ? Text(weighted.Weight) : string.Empty),
        (Prefix + "distillation_temperature", Distillation is { } warm ? Text(warm.Temperature) : string.Empty),
        (Prefix + "stochastic_depth", Text(StochasticDepth)),
        (Prefix + "routed_share", RoutedShare is { } routed ? Text(routed) : string.Empty),
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
    /// Returns the options that a resumed run takes from the checkpoint unless they are given again. They may change, because they do not
    /// affect any step.
    /// </summary>
    internal IEnumerable<(string Key, string Value)> ToChangeableMetadata() =>
    [
        (Prefix + "evaluate_every", Text(EvaluateEvery)),
        (Prefix + "evaluation_windows", Text(EvaluationWindows)),
        (Prefix + "patience", Text(Patience)),
        (Prefix + "max_skipped_steps", Text(MaxSkippedSteps)),
        (Prefix + "checkpoint_every", Text(CheckpointEvery)),
        (Prefix + "recompute_activations", RecomputeActivations ? "1" : "0"),
        (Prefix + "tensorboard", TensorBoard ? "1" : "0"),
        (Prefix + "gradients_bf16", GradientsInBFloat16 ? "1" : "0"),
        (Prefix + "shard_moments", ShardMoments ? "1" : "0"),
    ];

    /// <summary>Reads the options that a checkpoint stores.</summary>
    /// <exception cref="CheckpointException">The file is not a training checkpoint, or it is damaged.</exception>
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
        Bits = Later(path, metadata, "bits") is { Length: > 0 } bits ? [.. bits.Select(b => (int)b)] : [32],
        BitWeights = Later(path, metadata, "bit_weights"),
        Distillation = Value(path, metadata, "distillation_weight").Length == 0 ? null
            : new(Number<double>(path, metadata, "distillation_weight"), Number<double>(path, metadata, "distillation_temperature")),
        StochasticDepth = Later<double>(path, metadata, "stochastic_depth"),
        RoutedShare = metadata.GetValueOrDefault(Prefix + "routed_share") is { Length: > 0 } routed
            ? Number<double>(path, "routed_share", routed) : null,
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
        RecomputeActivations = Later<int>(path, metadata, "recompute_activations") != 0,
        TensorBoard = Later<int>(path, metadata, "tensorboard") != 0,
        GradientsInBFloat16 = Later<int>(path, metadata, "gradients_bf16") != 0,
        ShardMoments = Later<int>(path, metadata, "shard_moments") != 0,
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
        : throw new CheckpointException(path, $"is not a training checkpoint (its metadata lacks '{Prefix}{key}'); give the "
            + "checkpoint.safetensors of a training run.");

    private static ImmutableArray<double> Numbers(string path, IReadOnlyDictionary<string, string> metadata, string key) =>
        [.. Value(path, metadata, key).Split(',', StringSplitOptions.RemoveEmptyEntries).Select(n => Number<double>(path, key, n))];

    // Checkpoints that are older than the option have no numbers.
    private static ImmutableArray<double> Later(string path, IReadOnlyDictionary<string, string> metadata, string key) =>
        metadata.ContainsKey(Prefix + key) ? Numbers(path, metadata, key) : [];

    // Checkpoints that are older than the option have no value; it is 0 then.
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

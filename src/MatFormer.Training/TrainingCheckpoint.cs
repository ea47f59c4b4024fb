using System.Globalization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The file that a run resumes from. It holds the weights and the optimizer's moments. Its metadata holds the options, the step, the
/// fingerprint of the data, and the state of early stopping.
/// </summary>
internal static class TrainingCheckpoint
{
    public const string DtypeKey = "training.dtype";

    private const string StepKey = "training.step";
    private const string SkippedKey = "training.skipped";
    private const string BestLossKey = "training.best_loss";
    private const string BestStepKey = "training.best_step";
    private const string WorseKey = "training.looks_since_best";
    private const string DataKey = "training.data";

    /// <summary>The progress of a run.</summary>
    /// <param name="Step">The number of steps done.</param>
    /// <param name="Skipped">How many of these steps were skipped.</param>
    /// <param name="Stop">The state of early stopping.</param>
    /// <param name="Data">The fingerprint of the data.</param>
    public readonly record struct Progress(long Step, long Skipped, EarlyStop Stop, string Data);

    /// <summary>Writes a checkpoint atomically.</summary>
    /// <param name="path">The file.</param>
    /// <param name="model">The model.</param>
    /// <param name="moments">The optimizer's moments.</param>
    /// <param name="options">The options of the run.</param>
    /// <param name="progress">The progress of the run.</param>
    /// <param name="remembered">Metadata of the program that trains. The keys differ from those of the options.</param>
    public static void Save(
        string path, MatFormerModel model, AdamWState.Moments moments, TrainerOptions options, Progress progress,
        IReadOnlyDictionary<string, string> remembered)
    {
        var metadata = Checkpoint.MetadataOf(model);
        foreach (var (key, value) in options.ToMetadata().Concat(options.ToChangeableMetadata())) metadata.Add(key, value);
        foreach (var (key, value) in remembered) metadata.Add(key, value);
        metadata.Add(StepKey, progress.Step.ToString(CultureInfo.InvariantCulture));
        if (progress.Skipped > 0) metadata.Add(SkippedKey, progress.Skipped.ToString(CultureInfo.InvariantCulture));
        if (progress.Stop.BestStep > 0)
        {
            metadata.Add(BestLossKey, progress.Stop.BestLoss.ToString(CultureInfo.InvariantCulture));
            metadata.Add(BestStepKey, progress.Stop.BestStep.ToString(CultureInfo.InvariantCulture));
            metadata.Add(WorseKey, progress.Stop.LooksSinceBest.ToString(CultureInfo.InvariantCulture));
        }

        metadata.Add(DataKey, progress.Data);
        metadata.Add(DtypeKey, model.ComputeType.ToString());
        using var views = NewDisposeScope();
        var weights = model.named_parameters().ToList();
        var theirs = weights.Where(weight => weight.parameter.requires_grad)
            .SelectMany(weight => moments.Of(weight.name, weight.parameter)).ToList();
        foreach (var (_, moment) in theirs) views.Attach(moment);
        Checkpoint.Write(path, metadata, [.. weights.Select(weight => (weight.name, (Tensor)weight.parameter)), .. theirs]);
    }

    /// <summary>Returns the number of steps in a checkpoint of a model, or null if the file is not one.</summary>
    public static long? StepsOf(string path, ModelSpec spec)
    {
        try
        {
            using var reader = SafetensorsReader.Open(path);
            CheckpointHeader.ReadUniversal(reader, spec);
            return Number<long>(path, StepKey, Required(path, reader.Metadata, StepKey));
        }
        catch (CheckpointException)
        {
            return null;
        }
    }

    /// <summary>Reads a checkpoint into a model and an optimizer. If the file does not fit, nothing is changed.</summary>
    /// <param name="path">The file.</param>
    /// <param name="model">The model.</param>
    /// <param name="optimizer">The optimizer.</param>
    /// <param name="options">The options of the resumed run.</param>
    /// <param name="allowsOtherOptions">True if the options and the compute type may differ from those of the checkpoint.</param>
    /// <exception cref="CheckpointException">
    /// The file is damaged, or it belongs to another model or to a run with other options.
    /// </exception>
    public static Progress Load(
        string path, MatFormerModel model, AdamWState optimizer, TrainerOptions options, bool allowsOtherOptions)
    {
        using var reader = SafetensorsReader.Open(path);
        var header = CheckpointHeader.Read(reader, model.Architecture);
        var metadata = reader.Metadata;
        var stored = TrainerOptions.FromMetadata(path, metadata);
        var dtype = Required(path, metadata, DtypeKey);
        if (!allowsOtherOptions)
        {
            foreach (var ((key, now), (_, then)) in options.ToMetadata().Zip(stored.ToMetadata())) CheckSame(path, key, then, now);
            CheckSame(path, DtypeKey, dtype, model.ComputeType.ToString());
        }

        var data = Required(path, metadata, DataKey);
        var step = Number<long>(path, StepKey, Required(path, metadata, StepKey));
        if (!header.IsUniversal || step < 0 || step > stored.Steps)
            throw new CheckpointException(path, "has contradictory metadata; it is damaged.");
        if (step > options.Steps)
        {
            throw new CheckpointException(
                path, $"has {Counted.Of(step, "step")} already, more than the {options.Steps} to train; give more steps.");
        }


        // A run without an evaluation or a skipped step has not written these keys.
        var stop = new EarlyStop(
            Optional(path, metadata, BestLossKey, EarlyStop.None.BestLoss), Optional(path, metadata, BestStepKey, EarlyStop.None.BestStep),
            Optional(path, metadata, WorseKey, EarlyStop.None.LooksSinceBest));
        var progress = new Progress(step, Optional(path, metadata, SkippedKey, 0L), stop, data);

        // All moments are looked up before anything changes.
        var misfits = new Misfits(reader, model.Architecture);
        var entries = new List<(Parameter Parameter, SafetensorsEntry First, SafetensorsEntry Second)>();
        foreach (var (name, parameter) in model.named_parameters())
        {
            if (!parameter.requires_grad) continue;
            var names = AdamWState.NamesOf(name);
            entries.Add((parameter, misfits.Find(names.First, parameter.shape), misfits.Find(names.Second, parameter.shape)));
        }

        Checkpoint.Load(reader, model);
        foreach (var (parameter, first, second) in entries)
        {
            using var firstMoment = Read(reader, first, parameter);
            using var secondMoment = Read(reader, second, parameter);
            optimizer.Set(parameter, firstMoment, secondMoment);
        }

        return progress;
    }

    private static Tensor Read(SafetensorsReader reader, SafetensorsEntry entry, Parameter parameter)
    {
        using var unrecorded = no_grad();
        var moment = empty_like(parameter).DetachFromDisposeScope();
        TensorData.Read(reader, entry, moment);
        return moment;
    }

    private static string Required(string path, IReadOnlyDictionary<string, string> metadata, string key) =>
        metadata.TryGetValue(key, out var value)
        ? value
        : throw new CheckpointException(path, $"is not a training checkpoint (its metadata lacks '{key}'); give the "
            + "checkpoint.safetensors of a training run.");

    private static T Optional<T>(string path, IReadOnlyDictionary<string, string> metadata, string key, T otherwise)
        where T : struct, IParsable<T> =>
        !metadata.TryGetValue(key, out var value) ? otherwise
        : Number<T>(path, key, value);

    private static T Number<T>(string path, string key, string value)
        where T : struct, IParsable<T> =>
        T.TryParse(value, CultureInfo.InvariantCulture, out var number) ? number
        : throw new CheckpointException(path, $"has '{value}' for '{key}' in its metadata, which is not a number; it is damaged.");

    private static void CheckSame(string path, string key, string then, string now)
    {
        if (then != now)
        {
            throw new CheckpointException(
                path, $"belongs to a run with {key} = '{then}', but now it is '{now}'; resume with the same options, or begin a new run "
                    + "in another folder.");
        }
    }
}

using System.Collections.Immutable;
using System.Diagnostics;
using System.Text.Json;
using MatFormer;
using static TorchSharp.torch;

namespace Paper;

/// <summary>The description of one training.</summary>
/// <param name="Name">A name that is unique among the trainings of the same size and seed.</param>
/// <param name="Objective">How a step treats the granularities.</param>
/// <param name="Steps">The number of optimizer steps.</param>
/// <param name="Seed">The seed of the weights, of the order of the text and of what is drawn.</param>
/// <param name="LearningRate">The highest learning rate.</param>
/// <param name="Probabilities">The sampling probabilities of the granularities; equal if empty.</param>
/// <param name="Alone">The only granularity that is trained and measured, as a baseline; null for a universal model.</param>
/// <param name="IsDistilled">True if submodels also learn from the largest granularity.</param>
/// <param name="Points">The number of points of the sweep over mixes; 0 for no sweep.</param>
internal sealed record Training(
    string Name, Objective Objective, int Steps, int Seed, double LearningRate, ImmutableArray<double> Probabilities, string? Alone = null,
    bool IsDistilled = false, int Points = 0)
{
    public static string NameOfBaseline(string granularity) => $"{granularity} alone";
}

/// <summary>The measurements of a granularity or mix.</summary>
internal sealed record Measured(
    string Name, string Pattern, bool IsGranularity, MixShape Shape, long Parameters, long NonEmbeddingParameters, long FlopsPerToken,
    double Nats, double BitsPerByte, double Agreement, double GeneratedAgreement, double Divergence, double ReverseDivergence,
    double? AboveLine);

/// <summary>A training and its results.</summary>
/// <param name="Training">The training.</param>
/// <param name="Data">
/// The fingerprints of the text and the model, the compute type and the number of windows. A stored outcome with another value is not
/// reused.
/// </param>
/// <param name="Tokens">The number of tokens trained on.</param>
/// <param name="Seconds">The seconds of training, without evaluation.</param>
/// <param name="Rows">The measurements.</param>
internal sealed record Outcome(Training Training, string Data, long Tokens, double Seconds, ImmutableArray<Measured> Rows)
{
    public Measured this[string granularity] => Rows.First(r => r.IsGranularity && r.Name == granularity);
}

/// <summary>The settings of all trainings.</summary>
/// <param name="Corpus">The text.</param>
/// <param name="Type">The type of activations and products.</param>
/// <param name="Folder">The folder in which outcomes are stored.</param>
/// <param name="Windows">The number of windows of validation text.</param>
/// <param name="Log">The log, with a line for each training.</param>
internal sealed record Bench(TextCorpus Corpus, ScalarType Type, string Folder, int Windows, TextWriter Log);

/// <summary>A size of the model, independent of the model's type.</summary>
internal abstract class Size
{
    public const int Batch = 16;

    /// <summary>The name of the size.</summary>
    public abstract string Name { get; }

    /// <summary>The names of the granularities, narrowest first.</summary>
    public abstract ImmutableArray<string> Granularities { get; }

    /// <summary>Returns the costs of a granularity.</summary>
    public abstract ProfileCosts CostsOf(string granularity);

    /// <summary>Returns the cost of a step (see <see cref="Compute{TModel}"/>).</summary>
    public abstract double StepCost(Objective objective, ImmutableArray<double> probabilities = default, bool isDistilled = false);

    /// <summary>Trains and measures, or reads the stored outcome.</summary>
    /// <param name="label">The prefix of the training's line in the log.</param>
    /// <param name="training">The training.</param>
    /// <param name="bench">The settings of all trainings.</param>
    /// <param name="cancellationToken">Cancels the training. Nothing is stored in this case.</param>
    public abstract Outcome Run(string label, Training training, Bench bench, CancellationToken cancellationToken);
}

/// <inheritdoc/>
internal sealed class Size<TModel> : Size
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private static Profile<TModel> Whole => TModel.Granularities[^1];

    public override string Name => TModel.Spec.Name;

    public override ImmutableArray<string> Granularities => [.. TModel.Granularities.Select(g => g.Name)];

    public override ProfileCosts CostsOf(string granularity) => ProfileCosts.Of(Profile<TModel>.Parse(granularity), true);

    public override double StepCost(Objective objective, ImmutableArray<double> probabilities, bool isDistilled) =>
        Compute<TModel>.OfStep(objective, probabilities.IsDefault ? [] : probabilities, isDistilled);

    public override Outcome Run(string label, Training training, Bench bench, CancellationToken cancellationToken)
    {
        var data = $"{bench.Corpus.Fingerprint} {bench.Type} {bench.Windows} {TModel.Spec.Fingerprint}";
        var path = FileOf(training.Name, training.Seed, bench, ".json");
        if (File.Exists(path) && Json.Read<Outcome>(path) is { } known && Json.Same(known.Training, training) && known.Data == data)
            return known;
        bench.Log.Write($"{label}{Name}, {training.Name}, seed {training.Seed}: {training.Steps} steps ... ");
        bench.Log.Flush();
        manual_seed(training.Seed);
        using var model = TModel.Create(CPU);
        model.ComputeType = bench.Type;
        var options = new TrainerOptions
        {
            Steps = training.Steps,
            Batch = Batch,
            Objective = training.Objective,
            Probabilities = training.Alone is { } alone
                ? [.. TModel.Granularities.Select(g => g.Name == alone ? 1.0 : 0)] : training.Probabilities,
            Distillation = training.IsDistilled ? new Distillation(0.5, 1) : null,
            LearningRate = training.LearningRate,
            Seed = training.Seed,
        };
        var watch = Stopwatch.StartNew();
        using (var trainer = new Trainer<TModel>(model, options))
        {
            var result = trainer.Fit(bench.Corpus, cancellationToken: cancellationToken);
            if (!result.Finished) throw new OperationCanceledException(cancellationToken);
        }

        var seconds = watch.Elapsed.TotalSeconds;
        var rows = Measure(model, training, bench, cancellationToken);
        var outcome = new Outcome(training, data, (long)training.Steps * Batch * TModel.Spec.Context, seconds, rows);

        // The other baselines of this seed are compared with the largest one, so its weights are saved.
        if (training.Alone == Whole.Name) model.Save(FileOf(training.Name, training.Seed, bench, ".safetensors"));
        Json.Write(path, outcome);
        bench.Log.WriteLine(
            $"{seconds:0} s, {string.Join(", ", rows.Where(r => r.IsGranularity).Select(r => $"{r.Name} {r.Nats:0.000}"))}");
        return outcome;
    }

    private ImmutableArray<Measured> Measure(TModel model, Training training, Bench bench, CancellationToken cancellationToken)
    {
        var options = new EvaluationOptions { Windows = bench.Windows };
        if (training.Alone is { } alone)
        {
            using var whole = alone == Whole.Name ? null
                : (TModel)Checkpoint.OpenUniversal<TModel>(
                    FileOf(Training.NameOfBaseline(Whole.Name), training.Seed, bench, ".safetensors"));
            if (whole is not null) whole.ComputeType = bench.Type;
            return Rows(Evaluator.Run(
                model, [Profile<TModel>.Parse(alone)], bench.Corpus, options, whole, cancellationToken: cancellationToken), null);
        }

        var granularities = Evaluator.Run(model, [.. TModel.Granularities], bench.Corpus, options, cancellationToken: cancellationToken);
        var rows = Rows(granularities, null);
        return training.Points == 0 ? rows
            : rows.AddRange(Rows(
                Evaluator.Run(model, Mixes.Sweep<TModel>(training.Points), bench.Corpus, options, cancellationToken: cancellationToken),
                granularities));
    }

    private static ImmutableArray<Measured> Rows(Evaluation evaluation, Evaluation? line) => [.. evaluation.Rows.Select(r => new Measured(
        r.Costs.Name, r.Costs.Pattern, r.Costs.IsGranularity, r.Costs.Shape, r.Costs.Parameters, r.Costs.NonEmbeddingParameters,
        r.Costs.Flops, r.NatsPerToken, r.BitsPerByte, r.Consistency!.Agreement, r.Consistency.GeneratedAgreement!.Value,
        r.Consistency.Divergence, r.Consistency.ReverseDivergence, line?.ExcessOf(r)))];

    private string FileOf(string name, int seed, Bench bench, string extension) =>
        Path.Combine(bench.Folder, $"{Name} {name} {seed}{extension}".Replace(", ", "-", StringComparison.Ordinal)
            .Replace(' ', '-').Replace('/', '-').ToLowerInvariant());
}

/// <summary>Reads and writes the files of outcomes.</summary>
internal static class Json
{
    private static readonly JsonSerializerOptions s_options = new() { WriteIndented = true };

    public static T? Read<T>(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<T>(File.ReadAllText(path), s_options);
        }
        catch (JsonException e)
        {
            throw new IOException($"'{path}' is damaged ({e.Message}); delete it and run the same command to train again.", e);
        }
    }

    /// <summary>Writes a value as JSON, atomically.</summary>
    public static void Write<T>(string path, T value) => WriteText(path, JsonSerializer.Serialize(value, s_options) + "\n");

    public static void WriteText(string path, string text)
    {
        var temporary = path + ".tmp";
        File.WriteAllText(temporary, text);
        File.Move(temporary, path, overwrite: true);
    }

    public static bool Same<T>(T left, T right) => JsonSerializer.Serialize(left) == JsonSerializer.Serialize(right);
}

using System.Collections.Immutable;
using System.Diagnostics;
using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The commands of a vision transformer's program.</summary>
internal sealed class ImageCommands<TModel>(
    CommandSettings settings, TextWriter output, TextWriter error, CancellationToken cancellationToken)
    : ProgramCommands<TModel>(settings, output, error, cancellationToken)
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private const int EvaluationBatch = 100;

    /// <inheritdoc/>
    protected override TrainerOptions Defaults { get; } = new() { Batch = 128, LearningRate = 2e-3, WeightDecay = 0.05 };

    public void Evaluate()
    {
        var (device, dtype) = Compute();
        CheckGrid();
        using var model = OpenWeights(device);
        model.ComputeType = dtype;
        ImmutableArray<Profile<TModel>> mixes = [.. MixesToSweep(model).Select(AtGrid)];
        var corpus = OpenRemembered(OpenImages);
        var evaluation = Evaluate(model, corpus);
        var data = SayMeasured(corpus, model);
        ImageOutput.Table(Human, evaluation, Whole.Name);
        var sweep = mixes.IsEmpty ? null
            : MixSweep.Of(evaluation, Timed(() => ImageEvaluator.Run((TModel)model, mixes, corpus, BatchOf(), Cancellation)));
        sweep?.Table(Human, Whole.Name);
        WriteReport(() => ImageOutput.Page(
            TModel.Spec, Whole.Name, evaluation, sweep, corpus.Validation, [], null,
            [Typed, ("Weights", Settings.Checkpoint), .. data.Facts, ("Precision", Describe(dtype)), On(device)]));
        WriteEvaluated(data, json => ImageOutput.WriteEvaluation(json, evaluation), sweep);
    }

    public void Plan()
    {
        CheckGrid();
        if (Settings is { Search: PlanSearch.Learned, Grid: not null })
            throw new UsageException("--search learned learns at the largest grid of compressed tokens; leave --grid out.");
        PlanEncoder(OpenImages, Settings.Grid);
    }

    public void Classify()
    {
        if (Settings.Image is not { } path) throw new UsageException("--image is missing; give an image file.");
        var (device, dtype) = Compute();
        var profile = Settings.Profile is { } name ? ParseProfile(name) : null;
        CheckGrid();
        CheckBudget();
        using var model = Checkpoint.Open<TModel>(Settings.Checkpoint, device);
        CheckSlice(model, profile);
        CheckRouters(model);
        var image = TModel.Spec.Image!;
        var raster = RasterImage.Read(path);
        if ((raster.Channels, raster.Height, raster.Width) != (image.Channels, image.Size, image.Size))
        {
            throw new UsageException(
                $"'{path}' has {raster.Height} x {raster.Width} pixels and {Counted.Of(raster.Channels, "channel")}, but "
                    + $"{TModel.Spec.Name} takes {image.Size} x {image.Size} and {image.Channels}; give an image of that size.");
        }

        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        using var view = profile is not null && model is TModel universal ? universal.View(profile) : null;
        var chosen = view ?? model;
        var used = Settings.RoutingBudget is { } routed ? RoutingBudget.NameOf(routed) : chosen.ProfileName;
        chosen.ComputeType = dtype;
        var batch = new ImageBatch(1, (image.Channels, image.Size, image.Size));
        batch.Set(0, raster.Pixels, 0, 0);
        float[] chances = [];
        SteadyTimes.WarmUp(() => chances = Classify());
        var watch = Stopwatch.StartNew();
        Classify();
        var milliseconds = watch.Elapsed.TotalMilliseconds;
        var best = chances.Index().OrderByDescending(c => c.Item).Take(3).ToList();
        Human.WriteLine($"{path}: class " + string.Join(", or ", best.Select(c => Output.Invariant($"{c.Index} ({c.Item:0.0%})")))
            + Output.Invariant($" [{used}, {milliseconds:0.0} ms]"));
        if (!Settings.Json) return;
        Output.Json(Results, json =>
        {
            json.WriteString("image", path);
            json.WriteString("profile", used);
            json.WriteNumber("class", best[0].Index);
            json.WriteStartArray("probabilities");
            foreach (var chance in chances) json.WriteNumberValue(chance);
            json.WriteEndArray();
        });

        float[] Classify()
        {
            using var inner = NewDisposeScope();
            var pixels = batch.ToTensors(device).Input;
            var logits = (Settings.RoutingBudget, Settings.Grid) switch
            {
                ({ } budget, _) => chosen.Forward(budget, pixels),
                (_, { } grid) => chosen.Forward(grid, pixels),
                _ => chosen.call(pixels),
            };
            return logits.softmax(-1).cpu().data<float>().ToArray();
        }
    }

    private void CheckGrid()
    {
        if (Settings.Grid is not { } grid) return;
        try
        {
            TModel.Spec.CheckGrid(grid);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"--grid: {ArgumentProblem.Of(e)}", e);
        }
    }

    /// <inheritdoc/>
    protected override TrainingData Open() => OpenImages();

    /// <inheritdoc/>
    protected override LossUnit UnitOf(TrainingData data) => LossUnit.Nats("image");

    /// <inheritdoc/>
    protected override void Begin(TModel model, TrainingData data)
    {
        Error.WriteLine($"Images: {((ImageCorpus)data).Describe()}.");
        BeginWithInit(model, data);
    }

    /// <inheritdoc/>
    protected override string WriteExtract(Profile<TModel> profile)
    {
        if (Settings.Format == "onnx") return ExtractOnnx(profile);
        CheckNoDimension();
        var encoding = StoredType;
        var isFolder = Settings.Format == "huggingface";
        var path = isFolder ? InOut(FileName(profile)) : SlicePath(profile);
        CheckExtract(path, isFolder);
        if (isFolder) Extraction.ToHuggingFace(Settings.Checkpoint, profile, path, tokenizer: null, encoding);
        else Extraction.ToSafetensors(Settings.Checkpoint, profile, path, encoding);
        return path;
    }

    /// <inheritdoc/>
    protected override void Finish(TrainerOptions options, ScalarType dtype, TrainingData data, TModel universal, TrainingResult result)
    {
        var corpus = (ImageCorpus)data;
        var evaluation = Evaluate(universal, corpus);
        var measured = SayMeasured(corpus, universal);
        ImageOutput.Table(Human, evaluation, Whole.Name);
        var slice = ExtractDeclared(universal, dtype, data);
        var (metrics, report, curve) = (InOut("metrics.jsonl"), InOut("report.html"), InOut("curve.svg"));
        AtomicFile.WriteText(curve, ImageOutput.Chart(TModel.Spec, evaluation).ToSvg());
        AtomicFile.WriteText(report, ImageOutput.Page(
            TModel.Spec, Whole.Name, evaluation, null, corpus.Validation,
            TrainingCurves.Read(metrics, Planner<TModel>.AllNames, UnitOf(data)), slice,
            FactsOf(options, measured, StepsOver(options, corpus.Training.Count, "image"), dtype, universal.Device)));
        string[] files =
        [
            report, curve, .. WeightsOf(result), slice.Path, result.Checkpoint!, metrics,
        ];
        Conclude(result, measured, slice, files, json => ImageOutput.WriteEvaluation(json, evaluation));
    }

    private ImageCorpus OpenImages() => ImageCorpus.Open(
        Settings.Data ?? throw new UsageException("--data is missing; give a folder of images: IDX files like MNIST's, CIFAR-10's binary "
            + "files, or one folder per class."),
        cancellationToken: Cancellation);

    private int BatchOf() => Settings.Batch is { } given && Settings.Command == "eval" ? given : EvaluationBatch;

    private ImageEvaluation Evaluate(MatFormerModel model, ImageCorpus corpus) => Timed(() =>
    {
        var universal = model.IsUniversal ? model as TModel : null;
        var slice = new Profile<TModel>(model.ProfileName, model.Layers);
        return (universal, Settings.Grid) switch
        {
            ({ }, null) => ImageEvaluator.Run(universal, corpus, BatchOf(), Cancellation),
            ({ }, { } grid) => ImageEvaluator.Run(
                universal, [.. TModel.Granularities.Concat(TModel.Profiles).Select(p => p.At(grid))], corpus, BatchOf(), Cancellation),
            (null, null) => ImageEvaluator.RunSlice(model, ProfileCosts.Of(slice, false), corpus, BatchOf(), Cancellation),
            (null, { } grid) => ImageEvaluator.RunSlice(
                model, [ProfileCosts.Of(slice.At(grid), false)], corpus, BatchOf(), Cancellation),
        };
    });

    // A profile at the grid of compressed tokens that is asked for, if there is one.
    private Profile<TModel> AtGrid(Profile<TModel> profile) => Settings.Grid is { } grid ? profile.At(grid) : profile;

    private ImageEvaluation Timed(Func<ImageEvaluation> run)
    {
        var watch = Stopwatch.StartNew();
        var evaluation = run();
        Error.WriteLine(Output.Invariant($"Evaluated on {Counted.Of(evaluation.Images, "image")} in {watch.Elapsed.TotalSeconds:0.0} s."));
        return evaluation;
    }
}

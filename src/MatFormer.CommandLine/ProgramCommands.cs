using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The commands of a model program that all kinds of model have.</summary>
internal abstract class ProgramCommands<TModel>(
    CommandSettings settings, TextWriter output, TextWriter error, CancellationToken cancellationToken)
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private const int CalibrationRepeats = 7;

    protected CommandSettings Settings { get; } = settings;

    protected TextWriter Results { get; private set; } = output;

    protected TextWriter Error { get; private set; } = error;

    protected CancellationToken Cancellation { get; } = cancellationToken;

    // Text for people goes to standard output, or to standard error if --json writes a document to standard output.
    protected TextWriter Human { get; private set; } = settings.Json ? error : output;

    private LineLogger _logger = new(error);
    private ICommunicator? _ranks;
    private int _ranksHere = 1;

    protected static Profile<TModel> Whole => TModel.Granularities[^1];

    public void Train()
    {
        if (Settings.Distributed is not { } kind)
        {
            TrainHere();
            return;
        }

        using var ranks = _ranks = Communicators.Connect(kind);
        try
        {
            Join(ranks);
            TrainHere();
        }
        catch (Exception e) when (e is TrainingException or DistributedException or StoppedException)
        {
            // All ranks end for the same reason, and the first one says it.
            if (ranks.Rank == 0) throw;
        }
        catch (Exception e)
        {
            ranks.Abort(e.Message); // the other ranks would wait for this one
            throw;
        }
    }

    // The first rank alone reports. The warnings of the others carry their rank.
    private void Join(ICommunicator ranks)
    {
        _ranksHere = ranks.AllGather(Environment.MachineName).Count(name => name == Environment.MachineName);
        var processes = ranks.AllGather(Output.Invariant($"{Environment.ProcessId} on {Environment.MachineName}"));
        if (ranks.Rank == 0)
        {
            // Some launchers name only the process of a rank that was killed.
            Error.WriteLine(
                $"Training on {Counted.Of(ranks.Size, "rank")} over {ranks.Description}: process {string.Join(", ", processes)}.");
            return;
        }

        _logger = new LineLogger(Error, LogLevel.Warning, Output.Invariant($"rank {ranks.Rank}: "));
        Results = Human = Error = TextWriter.Null;
    }

    private void TrainHere()
    {
        var checkpoint = Resumed();
        CheckInit();
        var options = Options(checkpoint);
        var (device, dtype) = Compute();
        using var folder = _ranks is { Rank: > 0 } ? null : Occupy();
        if (_ranks is { Rank: > 0 }) _ranks.Barrier(); // the first rank prepares the data
        using var data = OpenData();
        if (_ranks is { Rank: 0 }) _ranks.Barrier();
        var (result, model) = Run(options, checkpoint, device, dtype, data, folder);
        model.Dispose();
        ThrowIfStopped(result, options);
        string[] files =
        [
            .. WeightsOf(result), result.Checkpoint!, .. data.TextTokenizer is null ? [] : (string[])[InOut(Tokenizer.FileName)],
            InOut("metrics.jsonl"), .. options.TensorBoard ? (string[])[InOut(RunFolder.TensorBoardName)] : [],
        ];
        var early = result.StoppedEarly ? ", and stopped because validation no longer improved" : string.Empty;
        var skipped = result.Skipped > 0 ? $", {result.Skipped} of them skipped" : string.Empty;
        var kept = result.Best is not null ? $" Best on validation data: step {result.BestStep}." : string.Empty;
        Human.WriteLine($"Trained {Counted.Of(result.Steps, "step")}{skipped}{early}.{kept} Wrote {string.Join(", ", files)}.");
        if (Settings.Json)
        {
            Output.Json(Results, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                json.WriteNumber("steps", result.Steps);
                json.WriteNumber("skipped", result.Skipped);
                if (result.Best is not null) json.WriteNumber("best_step", result.BestStep);
                new MeasuredData(data, data.Remembered).Write(json);
                if (result.Last is { } last) WriteLosses(json, last);
                WriteFiles(json, files);
            });
        }
    }

    public void Demo()
    {
        var checkpoint = Resumed();
        CheckInit();
        var options = Options(checkpoint);
        var (device, dtype) = Compute();
        using var folder = Occupy(Path.GetFileName(SlicePath(Declared)));
        using var data = OpenData();
        if (checkpoint is null
            && Settings.Steps is null) options = options with { Steps = AffordableSteps(options, device, dtype, data) };
        var (result, model) = Run(options, checkpoint, device, dtype, data, folder);
        using var universal = model;
        ThrowIfStopped(result, options);
        try
        {
            Finish(options, dtype, data, universal, result);
        }
        catch (OperationCanceledException)
        {
            throw Stopped("Interrupted after training");
        }
    }

    /// <summary>The training options that apply unless others are given.</summary>
    protected virtual TrainerOptions Defaults { get; } = new();

    /// <summary>Opens the training data, and checks that it fits the model.</summary>
    protected abstract TrainingData Open();

    /// <summary>Returns the unit in which losses are shown.</summary>
    protected abstract LossUnit UnitOf(TrainingData data);

    /// <summary>Describes the data to the user, and loads the weights of <c>--init</c>.</summary>
    protected abstract void Begin(TModel model, TrainingData data);

    /// <summary>Measures the model that the demo trained, and writes the report.</summary>
    protected abstract void Finish(TrainerOptions options, ScalarType dtype, TrainingData data, TModel universal, TrainingResult result);

    /// <summary>Writes one profile's weights, and returns their path.</summary>
    protected abstract string WriteExtract(Profile<TModel> profile);

    public void Profiles()
    {
        var costs = ProfileCosts.Of<TModel>();
        Output.Table(Human, costs, TModel.Spec.Unit);
        if (Settings.Json)
        {
            Output.Json(Results, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                Output.WriteObjects(json, "profiles", costs, row => Output.WriteCosts(json, row, TModel.Spec.Unit));
            });
        }
    }

    public void Extract()
    {
        if (Settings.Profile is null)
            throw new UsageException($"--profile is missing; {TModel.Spec.Name} has {Names()}, and patterns such as '{Declared.Pattern}'.");
        var profile = ParseProfile(Settings.Profile);
        var path = WriteExtract(profile);
        Human.WriteLine($"Wrote {path}: {ProfileCosts.Of(profile, false).Layout}, {Output.Count(profile.ParameterCount)} parameters.");
        if (Settings.Json)
        {
            Output.Json(Results, json =>
            {
                json.WriteString("file", path);
                Output.WriteCosts(json, ProfileCosts.Of(profile, TModel.Granularities.Contains(profile)), TModel.Spec.Unit);
            });
        }
    }

    /// <summary>Returns the mixes that <c>--sweep</c> asks for, or none without <c>--sweep</c>.</summary>
    protected ImmutableArray<Profile<TModel>> MixesToSweep(MatFormerModel model)
    {
        if (Settings.Sweep is not { } points) return [];
        if (!model.IsUniversal)
        {
            throw new UsageException($"--sweep needs all granularities, but '{Settings.Checkpoint}' is the slice {model.ProfileName}; give "
                + "the universal model's file, or leave --sweep out.");
        }

        var mixes = Mixes.Sweep<TModel>(points, Settings.Seed ?? 1);
        return !mixes.IsEmpty ? mixes
            : throw new UsageException($"--sweep: {TModel.Spec.Name} has no mixes besides its granularities; leave --sweep out.");
    }

    /// <summary>Checks the options of planning that need no weights.</summary>
    protected void CheckPlan()
    {
        CheckPlanName();
        if (Settings.Search == PlanSearch.Learned && !Settings.Budget.IsGiven)
        {
            throw new UsageException($"--search learned finds the mix for a budget, but none is given; give one, such as --max-parameters "
                + $"{(TModel.Granularities[0].ParameterCount + Whole.ParameterCount) / 2}.");
        }
    }

    // A declaration with this name must compile.
    private void CheckPlanName()
    {
        var name = Settings.Name;
        if (!(char.IsLetter(name[0]) || name[0] == '_') || !name.All(c => char.IsLetterOrDigit(c) || c == '_'))
            throw new UsageException($"--name {Quoted(name)} is not a class name; give letters, digits and '_', such as Watch.");
        if (name == ModelSpec.Skip || TModel.Granularities.Concat(TModel.Profiles).Any(p => p.Name == name))
            throw new UsageException($"--name {name} is taken: {TModel.Spec.Name} has {Names()}; give another name.");
    }

    /// <summary>Opens the weights of <c>--checkpoint</c>. The data that they remember apply unless <c>--data</c> is given.</summary>
    protected MatFormerModel OpenWeights(Device device)
    {
        var model = Checkpoint.Open<TModel>(Settings.Checkpoint, device);
        Settings.DefaultData = model.TrainedOn;
        return model;
    }

    /// <summary>Opens the data to measure on. If a file remembers data that cannot be opened now, the error says so.</summary>
    /// <param name="open">Opens the data.</param>
    /// <param name="file">The file that remembers them; null for the weights.</param>
    protected TData OpenRemembered<TData>(Func<TData> open, string? file = null)
        where TData : TrainingData
    {
        try
        {
            return open();
        }
        catch (DataException e) when (Settings.RecallsData)
        {
            throw new UsageException(
                $"{e.Message} These are the data that '{file ?? Settings.Checkpoint}' remembers; give --data with the place where they lie "
                + "now, or with other data.", e);
        }
    }

    /// <summary>Says which data the following numbers are of, and whether the model was trained on them.</summary>
    protected MeasuredData SayMeasured(TrainingData data, MatFormerModel model)
    {
        var measured = new MeasuredData(data, model.TrainedOn);
        measured.Say(Human);
        return measured;
    }

    /// <summary>Opens the universal model, and refuses a slice.</summary>
    protected TModel OpenUniversal(string command, Device device)
    {
        var model = OpenWeights(device);
        if (model.IsUniversal && model is TModel universal) return universal;
        using (model)
        {
            throw new UsageException(
                $"{command} needs all granularities, but '{Settings.Checkpoint}' is the slice {model.ProfileName}; give the universal "
                + "model's file.");
        }
    }

    protected PlanOptions WhatToPlan(int? tokens)
    {
        var options = new PlanOptions { Budget = Settings.Budget, Search = Settings.Search, CacheTokens = tokens };
        return options with
        {
            Seed = Settings.Seed ?? options.Seed,
            Windows = Settings.Windows ?? options.Windows,
            Examples = Settings.Examples ?? options.Examples,
            Points = Settings.Points ?? options.Points,
        };
    }

    /// <summary>Finds the best mix of a vision transformer or text encoder within budgets.</summary>
    /// <param name="open">Opens the data to evaluate on.</param>
    /// <param name="grid">The grid of compressed tokens at which mixes run; null for the largest.</param>
    protected void PlanEncoder<TData>(Func<TData> open, int? grid = null)
        where TData : TrainingData
    {
        CheckPlan();
        if (Settings.TextTokens > TModel.Spec.Context)
        {
            throw new UsageException($"--tokens {Settings.TextTokens} is more than a text can have, because the context of "
                + $"{TModel.Spec.Name} is {TModel.Spec.Context}; give fewer.");
        }

        var (device, dtype) = Compute();
        using var model = OpenUniversal("plan", device);
        model.ComputeType = dtype;
        ProfilePlanner.CheckSizes(TModel.Spec.AtGrid(grid), Settings.Budget);
        using var data = OpenRemembered(open);
        var options = WhatToPlan(Settings.TextTokens) with { Grid = grid };
        var plan = ProfilePlanner.Run(model, data, options, Error.WriteLine, Cancellation);
        var threads = Settings.Threads ?? Machine.Threads;
        var what = TModel.Spec.Image is not null
            ? "one image at a time" + (grid is null ? string.Empty : Output.Invariant($" with {grid} x {grid} compressed tokens"))
            : Output.Invariant($"texts of {Counted.Of(plan.CacheTokens, "token")}, one at a time");
        var conditions = Output.Invariant($"{Describe(dtype)}, {Counted.Of(threads, "thread")}, {what}");
        Show(plan, options, conditions, SayMeasured(data, model), dtype, device, json =>
        {
            json.WriteNumber("threads", threads);
            if (grid is { } side) json.WriteNumber("grid", side);
        });
    }

    /// <summary>Shows a plan: the measurements, the profile to declare, and the command that extracts it.</summary>
    protected void Show(
        Plan plan, PlanOptions options, string conditions, MeasuredData data, ScalarType dtype, Device device,
        Action<Utf8JsonWriter> writeConditions)
    {
        var declaration = plan.Best is { } best ? PlanOutput.Declaration(Settings.Name, best) : null;
        var extract = plan.Best is null ? null : $"extract --checkpoint {Quoted(Settings.Checkpoint)} --profile {Quoted(plan.Best.Name)}";
        PlanOutput.Table(Human, TModel.Spec, plan, options.Budget);
        Human.WriteLine(PlanOutput.Summary(TModel.Spec, plan, conditions));
        if (plan.Best is { } chosen)
        {
            Human.WriteLine();
            Human.WriteLine(declaration is null ? $"The best mix within the budgets is declared already: {chosen.Name}, {chosen.Pattern}."
                : $"To declare the best mix within the budgets:\n  {declaration}");
            Human.WriteLine("To extract it:");
            Human.WriteLine("  " + extract);
        }

        WriteReport(() => PlanOutput.Page(
            TModel.Spec, plan, options.Budget, declaration, conditions,
            [Typed, ("Weights", Settings.Checkpoint), .. data.Facts, ("Precision of the losses", Describe(dtype)), On(device)]));
        if (!Settings.Json) return;
        Output.Json(Results, json =>
        {
            json.WriteString("model", TModel.Spec.Name);
            json.WriteString("checkpoint", Settings.Checkpoint);
            json.WriteString("machine", On(device).Value);
            data.Write(json);
            writeConditions(json);
            json.WriteString("search", Settings.Search.ToString().ToLowerInvariant());
            PlanOutput.WritePlan(json, TModel.Spec, plan, options.Budget);
            if (declaration is not null) json.WriteString("declaration", declaration);
            if (extract is not null) json.WriteString("extract", extract);
            if (Settings.Report is not null) WriteFiles(json, Settings.Report);
        });
    }

    protected static Profile<TModel> Declared => TModel.Profiles is [var first, ..] ? first : TModel.Granularities[0];

    protected static string Names() => string.Join(", ", TModel.Granularities.Concat(TModel.Profiles).Select(p => p.Name));

    // Returns the checkpoint to resume from, or null without --resume.
    private string? Resumed()
    {
        if (!Settings.Resume) return null;
        if (Settings.Init is not null)
            throw new UsageException("--resume continues with the weights of the run, so --init has no use; leave one of them out.");
        if (Settings.Overwrite)
            throw new UsageException("--resume continues the run that --overwrite would replace; leave one of them out.");
        var path = InOut(RunFolder.CheckpointName);
        if (!File.Exists(path))
        {
            throw new UsageException($"--resume: there is no checkpoint '{path}'; give the --out of the run, or leave --resume out.");
        }

        using var reader = SafetensorsReader.Open(path);
        (Settings.Remembered, Settings.DefaultData) = (reader.Metadata, RememberedData.In(reader.Metadata));
        return path;
    }

    // Keeps other runs out of --out. A new run is refused if it would replace weights and --overwrite is not given.
    private RunFolder Occupy(params string[] others)
    {
        var folder = RunFolder.Lock(Settings.Out);
        if (Settings.Resume || Settings.Overwrite || RunFolder.Occupant(Settings.Out, TModel.Spec, others) is not var (what, canResume))
            return folder;
        folder.Dispose();
        throw new UsageException($"'{Settings.Out}' holds {what}. Use "
            + $"{(canResume ? "--resume to continue, " : string.Empty)}another --out, or --overwrite to replace it.");
    }

    // The tokenizer in --out is needed by the weights beside it, such as those of slices.
    private TrainingData OpenData()
    {
        TrainingData data;
        try
        {
            data = Open();
        }
        catch (DataException e) when (Settings.RecallsData)
        {
            throw new UsageException($"{e.Message} The run was started with these data; if they lie elsewhere now, give --data.", e);
        }

        if (Settings.Resume || Settings.Overwrite || data.TextTokenizer is not { } tokenizer) return data;
        try
        {
            CheckReplaces(InOut(Tokenizer.FileName), tokenizer);
            return data;
        }
        catch
        {
            data.Dispose();
            throw;
        }
    }

    // A new run replaces the files that an earlier run left in its folder.
    private void CheckInit()
    {
        if (Settings.Init is not { } path || !Path.Exists(path)) return;
        if (FolderOf(path) == FolderOf(Settings.Out, isFolder: true))
            throw new UsageException($"--init {Quoted(path)} lies in --out, whose files this run replaces; give another --out.");
    }

    // Returns the options of the checkpoint, or the defaults, overridden by the given options. Validate refuses contradictions.
    private TrainerOptions Options(string? checkpoint)
    {
        var options = checkpoint is null ? Defaults : TrainerOptions.FromMetadata(checkpoint, Settings.Remembered);
        if (Settings.Patience is not null && (Settings.EvaluateEvery ?? options.EvaluateEvery) == 0)
            throw new UsageException("--patience counts evaluations on validation data, and there are none; add --evaluate-every 100, or "
                + "leave --patience out.");
        options = options with
        {
            Steps = Settings.Steps ?? options.Steps,
            Batch = Settings.Batch ?? options.Batch,
            Objective = Settings.Objective ?? options.Objective,
            Probabilities = Settings.Probabilities is { } probabilities ? [.. probabilities] : options.Probabilities,
            LossWeights = Settings.LossWeights is { } weights ? [.. weights] : options.LossWeights,
            Reduction = Settings.Reduction ?? options.Reduction,
            Bits = Settings.Bits is { } bits ? [.. bits] : options.Bits,
            BitWeights = Settings.BitWeights is { } bitWeights ? [.. bitWeights] : options.BitWeights,
            Distillation = Distilled(options.Distillation),
            LearningRate = Settings.LearningRate ?? options.LearningRate,
            Seed = Settings.Seed ?? options.Seed,
            StochasticDepth = Settings.StochasticDepth ?? options.StochasticDepth,
            RoutedShare = Settings.RoutedShare ?? options.RoutedShare,
            LabelSmoothing = Settings.LabelSmoothing ?? options.LabelSmoothing,
            Mixup = Settings.Mixup ?? options.Mixup,
            Shift = Settings.Shift ?? options.Shift,
            CheckpointEvery = Settings.CheckpointEvery ?? options.CheckpointEvery,
            Accumulation = Settings.Accumulation ?? options.Accumulation,
            RecomputeActivations = Settings.RecomputeActivations ?? options.RecomputeActivations,
            TensorBoard = Settings.TensorBoard ?? options.TensorBoard,
            GradientsInBFloat16 = Settings.GradientsInBFloat16 ?? options.GradientsInBFloat16,
            ShardMoments = Settings.ShardMoments ?? options.ShardMoments,
            EvaluateEvery = Settings.EvaluateEvery ?? options.EvaluateEvery,
            Patience = Settings.Patience ?? options.Patience,
            OutputFolder = Settings.Out,
            Overwrite = Settings.Overwrite,
        };
        try
        {
            options.Validate(TModel.Spec);
            return options;
        }
        catch (ArgumentException e)
        {
            throw new UsageException(OptionProblem.Of(e), e);
        }
    }

    private Distillation? Distilled(Distillation? given)
    {
        if (Settings.DistillationTemperature is not null && (Settings.Distillation ?? given?.Weight) is null)
            throw new UsageException("--distillation-temperature is given, but nothing is distilled; add --distillation 0.5, or "
                + "leave --distillation-temperature out.");
        if (Settings.Distillation is { } weight) given = (given ?? new Distillation()) with { Weight = weight };
        return Settings.DistillationTemperature is { } temperature ? given! with { Temperature = temperature } : given;
    }

    protected static string Describe(TrainerOptions options)
    {
        var text = Objectives.Describe(options.Objective);
        if (options.Reduction == Reduction.Sum) text += ", summed";
        if (!options.Probabilities.IsEmpty) text += $", probabilities {Numbers(options.Probabilities)}";
        if (!options.LossWeights.IsEmpty) text += $", loss weights {Numbers(options.LossWeights)}";
        ImmutableArray<int> bits = options.BitsOf(TModel.Spec);
        if (bits.Any(b => b != 32)) text += $", weights rounded to {string.Join('/', bits)} bits";
        if (!options.BitWeights.IsEmpty) text += $", bit weights {Numbers(options.BitWeights)}";
        if (options.StochasticDepth > 0) text += Output.Invariant($", stochastic depth {options.StochasticDepth}");
        if (TModel.Spec.Routing is not null) text += Output.Invariant($", {options.RoutedShareOf(TModel.Spec):0.##%} of the steps routed");
        if (options.LabelSmoothing > 0) text += Output.Invariant($", label smoothing {options.LabelSmoothing}");
        if (options.Mixup > 0) text += Output.Invariant($", mixup {options.Mixup}");
        if (options.Shift > 0) text += Output.Invariant($", shifts of up to {Counted.Of(options.Shift, "pixel")}");
        return options.Distillation is { } distillation
            ? text + Output.Invariant(
                $", {distillation.Weight:0.##%} distilled from {Whole.Name} at temperature {distillation.Temperature}")
            : text;

        static string Numbers(ImmutableArray<double> numbers) =>
            string.Join('/', numbers.Select(n => n.ToString(CultureInfo.InvariantCulture)));
    }

    protected (Device Device, ScalarType Dtype) Compute()
    {
        var available = HasCuda();
        if (Settings.Device == "cuda" && !available)
        {
            throw new UsageException(
                "--device cuda: TorchSharp finds no CUDA device here; use --device cpu, or, on a machine with an NVIDIA GPU, the package "
                + "TorchSharp-cuda-linux or TorchSharp-cuda-windows instead of TorchSharp-cpu.");
        }

        var device = Settings.Device != "cpu" && available ? CUDA : CPU;
        set_num_threads(Settings.Threads ?? Math.Max(1, Machine.Threads / _ranksHere));
        var dtype = Settings.Dtype ?? RememberedDtype;
        dtype ??= device.type == DeviceType.CUDA || Machine.CpuHasBFloat16 ? "bf16" : "f32";
        return (device, dtype == "bf16" ? ScalarType.BFloat16 : ScalarType.Float32);
    }

    // This is the first use of TorchSharp, which loads its native library.
    private static bool HasCuda()
    {
        try
        {
            return cuda.is_available();
        }
        catch (Exception e) when (e is TypeInitializationException or NotSupportedException or DllNotFoundException)
        {
            var reason = TorchLibrary.Problem is { } problem ? $" ({problem.TrimEnd('.')})" : string.Empty;
            throw new UsageException(
                $"TorchSharp's native library cannot be loaded{reason}; the program's project must reference TorchSharp-cpu, or for an "
                + "NVIDIA GPU TorchSharp-cuda-linux or TorchSharp-cuda-windows, in version 0.107.0.", e);
        }
    }

    private string? RememberedDtype => Settings.Remembered.GetValueOrDefault(TrainingCheckpoint.DtypeKey) switch
    {
        nameof(ScalarType.BFloat16) => "bf16",
        nameof(ScalarType.Float32) => "f32",
        _ => null,
    };

    protected string InOut(string name) => Path.Combine(Settings.Out, name);

    protected string CheckpointFolder => FolderOf(Settings.Checkpoint);

    // The folder with the tokenizer of a run: the folder of --init if it has a tokenizer, else --out.
    protected string TrainingFolder =>
        Settings.Init is { } init && File.Exists(Path.Combine(FolderOf(init), Tokenizer.FileName)) ? FolderOf(init) : Settings.Out;

    /// <summary>
    /// Returns the tokenizer of <c>--tokenizer</c>, else the one in a folder, else bytes, and checks that it fits the model.
    /// </summary>
    protected Tokenizer FindTokenizer(string folder)
    {
        var path = Settings.Tokenizer ?? Path.Combine(folder, Tokenizer.FileName);
        var isByteLevel = Settings.Tokenizer is null ? !File.Exists(path) : Settings.Tokenizer == "bytes";
        var tokenizer = isByteLevel ? Tokenizer.ByteLevel : Tokenizer.Load(path);
        tokenizer.CheckFits(TModel.Spec);
        return tokenizer;
    }

    /// <summary>Returns the options for learning a tokenizer for the model.</summary>
    protected TokenizerOptions NewTokenizerOptions()
    {
        var vocabulary = Settings.Vocabulary ?? TModel.Spec.Vocabulary;
        if (vocabulary > TModel.Spec.Vocabulary)
        {
            throw new UsageException($"--vocabulary {vocabulary} is more than the {TModel.Spec.Vocabulary} tokens that {TModel.Spec.Name} "
                + $"declares; declare Vocabulary = {vocabulary}, or give a smaller number.");
        }

        var options = new TokenizerOptions { Vocabulary = vocabulary };
        try
        {
            options.Validate();
            return options;
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"{OptionProblem.Of(e)} {TModel.Spec.Name} declares Vocabulary = {TModel.Spec.Vocabulary}.", e);
        }
    }

    // Existing weights need the existing tokenizer.
    protected static void CheckReplaces(string path, Tokenizer tokenizer)
    {
        if (File.Exists(path) && Tokenizer.Load(path).Fingerprint != tokenizer.Fingerprint)
            throw new UsageException($"'{path}' is another tokenizer, which weights beside it may need; give another --out, or delete it.");
    }

    protected void ExtractSafetensors(Profile<TModel> profile, string path, WeightEncoding encoding) =>
        ExtractWithTokenizer(() => Extraction.ToSafetensors(Settings.Checkpoint, profile, path, encoding));

    /// <summary>Writes an encoder's profile as an ONNX file, and returns the path.</summary>
    protected string ExtractOnnx(Profile<TModel> profile)
    {
        if (StoredType != WeightEncoding.Float32)
            throw new UsageException($"--type {Settings.Type} is not available in --format onnx, whose weights are f32; leave --type out.");
        CheckDimension();
        var path = InOut(FileName(profile) + (Settings.Dimension is { } dimension ? Output.Invariant($"-{dimension}") : "") + ".onnx");
        CheckExtract(path);
        ExtractWithTokenizer(() => Extraction.ToOnnx(Settings.Checkpoint, profile, path, Settings.Dimension));
        return path;
    }

    /// <summary>Refuses a <c>--dimension</c> that the model does not declare.</summary>
    protected void CheckDimension()
    {
        if (Settings.Dimension is { } given && !TModel.Spec.EmbeddingDimensions.Contains(given))
        {
            throw new UsageException(
                $"--dimension {given} is not declared; {TModel.Spec.Name} declares "
                    + $"{string.Join(", ", TModel.Spec.EmbeddingDimensions)}.");
        }
    }

    /// <summary>Refuses <c>--dimension</c> for a format whose weights are not cut.</summary>
    protected void CheckNoDimension()
    {
        if (Settings.Dimension is not null)
            throw new UsageException($"--dimension is for --format onnx; --format {Settings.Format} keeps the whole embedding.");
    }

    // The slice needs the tokenizer and the chat template too.
    private void ExtractWithTokenizer(Action extract)
    {
        var source = Path.Combine(CheckpointFolder, Tokenizer.FileName);
        var tokenizer = File.Exists(source) ? Tokenizer.Load(source) : null;
        var copy = InOut(Tokenizer.FileName);
        if (tokenizer is not null) CheckReplaces(copy, tokenizer);
        var chat = ChatFiles(CheckpointFolder, Settings.Out);
        extract();
        tokenizer?.Save(copy);
        WriteAll(chat);
    }

    /// <summary>
    /// Reads the files of a chat template in a folder. Returns their contents and the paths of their copies in another folder. A copy that
    /// would replace another file is refused without <c>--overwrite</c>.
    /// </summary>
    protected List<(string Path, byte[] Content)> ChatFiles(string from, string to)
    {
        var files = new List<(string, byte[])>();
        foreach (var name in (string[])[ChatTemplateFile.ConfigName, ChatTemplateFile.JinjaName])
        {
            var (source, copy) = (Path.Combine(from, name), Path.Combine(to, name));
            if (!File.Exists(source)) continue;
            var content = File.ReadAllBytes(source);
            if (!Settings.Overwrite && File.Exists(copy) && !File.ReadAllBytes(copy).AsSpan().SequenceEqual(content))
                throw new UsageException($"'{copy}' is another file than '{source}'; give another --out, or delete it.");
            files.Add((copy, content));
        }

        return files;
    }

    protected static void WriteAll(List<(string Path, byte[] Content)> files)
    {
        foreach (var (path, content) in files) AtomicFile.Write(path, stream => stream.Write(content));
    }

    // Returns the path of weights if it is a folder, else the folder of the file.
    protected static string FolderOf(string weights, bool isFolder = false)
    {
        var full = Path.GetFullPath(weights);
        return isFolder || Directory.Exists(full) ? Path.TrimEndingDirectorySeparator(full) : Path.GetDirectoryName(full)!;
    }

    // Measures how many steps fit into the time, with a model that is thrown away. The learning rate schedule needs the number of steps
    // before training begins.
    private int AffordableSteps(TrainerOptions options, Device device, ScalarType dtype, TrainingData data)
    {
        using var model = NewModel(options.Seed, device, dtype);
        using var trainer = new Trainer<TModel>(model, options with { OutputFolder = null });
        var seconds = StepTime.Measure(trainer, data, CalibrationRepeats, Cancellation);
        var steps = (int)Math.Clamp(Math.Floor(Settings.Minutes * 60 / seconds / 10) * 10, 10, int.MaxValue);
        Error.WriteLine(Output.Invariant($"A step takes {seconds * 1000:0} ms: {Counted.Of(steps, "step")} in about {Settings.Minutes} min "
            + $"(--steps sets another number)."));
        return steps;
    }

    private (TrainingResult Result, TModel Model) Run(
        TrainerOptions options, string? checkpoint, Device device, ScalarType dtype, TrainingData data, RunFolder? folder)
    {
        var model = NewModel(options.Seed, device, dtype);
        try
        {
            using var trainer = new Trainer<TModel>(model, options, _logger)
            {
                Remembered = Settings.ToMetadata(),
                Folder = folder,
                Communicator = _ranks,
            };
            if (checkpoint is not null)
            {
                trainer.Resume(checkpoint, allowsOtherOptions: true);
                SayChanges(checkpoint, options, dtype);
            }

            Begin(model, data);
            if (_ranks is { Rank: > 0 }) return (trainer.Fit(data, null, Cancellation), model);
            var display = new TrainingDisplay(Error, Planner<TModel>.AllNames, UnitOf(data));
            var result = display.Run(progress => trainer.Fit(data, progress, Cancellation), trainer.StepsDone, options.Steps);
            return (result, model);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    // Options that are given again win. The losses of the resumed run are then others than those of a run that never stopped.
    private void SayChanges(string checkpoint, TrainerOptions options, ScalarType dtype)
    {
        var metadata = Settings.Remembered;
        var then = TrainerOptions.FromMetadata(checkpoint, metadata).ToMetadata()
            .Append((Key: TrainingCheckpoint.DtypeKey, Value: metadata.GetValueOrDefault(TrainingCheckpoint.DtypeKey, string.Empty)));
        var now = options.ToMetadata().Append((Key: TrainingCheckpoint.DtypeKey, Value: dtype.ToString()));
        var changes = then.Zip(now).Where(pair => pair.First.Value != pair.Second.Value)
            .Select(pair => $"{pair.First.Key["training.".Length..]} {OrNone(pair.Second.Value)} (was {OrNone(pair.First.Value)})")
            .ToList();
        if (changes.Count == 0) return;
        Error.WriteLine($"From here on with {string.Join(", ", changes)}, so the losses are not those of the run as it began.");

        static string OrNone(string value) => value.Length == 0 ? "none" : value;
    }

    protected static TModel NewModel(long seed, Device device, ScalarType dtype)
    {
        manual_seed(seed);
        var model = TModel.Create(device);
        model.ComputeType = dtype;
        return model;
    }

    private void ThrowIfStopped(TrainingResult result, TrainerOptions options)
    {
        if (!result.Finished) throw Stopped($"Stopped at step {result.Steps} of {options.Steps}; saved {result.Checkpoint}");
    }

    protected StoppedException Stopped(string what)
    {
        return new StoppedException($"{what}. To resume: {Settings.Command} --resume --out {Quoted(Settings.Out)}");
    }

    protected static string Quoted(string path) => path.Contains(' ', StringComparison.Ordinal) ? $"'{path}'" : path;

    protected static string Describe(ScalarType dtype) => dtype == ScalarType.BFloat16 ? "bfloat16, weights float32" : "float32";

    protected static (double Difference, bool Equal) Compare(
        TModel universal, Profile<TModel> profile, MatFormerModel slice, TrainingData corpus)
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        var (input, _) = Feed.Of(corpus).HeldOut(TModel.Spec, 1, 1).First().ToTensors(universal.Device);
        var ours = Floats(universal.Forward(profile, input));
        var its = Floats(slice.call(input));
        var difference = 0.0;
        for (var i = 0; i < ours.Length; i++) difference = Math.Max(difference, Math.Abs((double)ours[i] - its[i]));
        return (difference, MemoryMarshal.AsBytes<float>(ours).SequenceEqual(MemoryMarshal.AsBytes<float>(its)));
    }

    private static float[] Floats(Tensor logits) => MemoryMarshal.Cast<byte, float>(logits.contiguous().cpu().bytes).ToArray();

    // A profile may be called Best, but best.safetensors holds the best weights of training.
    protected string SlicePath(Profile<TModel> profile)
    {
        var name = FileName(profile);
        var isTaken = RunFolder.Replaced.Append(CommandSettings.IndexName).Contains(name + ".safetensors");
        return InOut(name + (isTaken ? "-slice" : string.Empty) + ".safetensors");
    }

    // A pattern has characters that are awkward in file names.
    protected static string FileName(Profile<TModel> profile) => profile.Name.ToLowerInvariant().Replace('*', 'x').Replace(' ', '-');

    protected static Profile<TModel> ParseProfile(string text, string option = "--profile")
    {
        try
        {
            return Profile<TModel>.Parse(text);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"{option}: {ArgumentProblem.Of(e)}", e);
        }
    }

    /// <summary>The encoding in which weights are stored, from <c>--type</c>.</summary>
    protected WeightEncoding StoredType => Settings.Type switch
    {
        "f16" => WeightEncoding.Float16,
        "bf16" => WeightEncoding.BFloat16,
        "q8_0" => WeightEncoding.Q8,
        "nested8" => WeightEncoding.Nested8,
        "nested4" => WeightEncoding.Nested4,
        _ => WeightEncoding.Float32,
    };

    /// <summary>Refuses <c>--profile</c> if the file is a slice of another profile.</summary>
    protected void CheckSlice(MatFormerModel model, Profile<TModel>? profile)
    {
        if (profile is null || model.IsUniversal || profile.Layers.AsSpan().SequenceEqual(model.Layers.AsSpan())) return;
        throw new UsageException(
            $"'{Settings.Checkpoint}' is already the slice {model.ProfileName}, so it cannot be --profile {profile.Name}; leave "
                + "--profile out, or give the universal model's file.");
    }

    /// <summary>Refuses a <c>--budget</c> that the declared model cannot compute at.</summary>
    protected void CheckBudget()
    {
        if (Settings.RoutingBudget is not { } budget) return;
        if (Settings.Profile is not null)
            throw new UsageException("--budget routes tokens among all sizes, and --profile chooses one; give one of them.");
        try
        {
            RoutingBudget.Of(TModel.Spec, budget);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"--budget: {ArgumentProblem.Of(e)}", e);
        }
    }

    /// <summary>Refuses a <c>--budget</c> for weights that are a slice.</summary>
    protected void CheckRouters(MatFormerModel model)
    {
        if (Settings.RoutingBudget is null || model.IsUniversal) return;
        throw new UsageException($"--budget needs the routers of the universal model, but '{Settings.Checkpoint}' is the slice "
            + $"{model.ProfileName}; give the universal model's file, or leave --budget out.");
    }

    /// <summary>Loads the weights of <c>--init</c>, if it is given.</summary>
    protected void BeginWithInit(TModel model, TrainingData data)
    {
        if (Settings.Init is not { } weights) return;
        var chat = data.TextTokenizer is null ? [] : ChatFiles(FolderOf(weights), Settings.Out);
        var isDense = WarmStart.Load(model, weights, data);
        WriteAll(chat);
        Error.WriteLine($"Beginning with {weights}{(isDense ? ", its hidden units ordered by importance" : string.Empty)}.");
    }

    /// <summary>The command line as the user typed it, as a fact for reports.</summary>
    protected (string Name, string Value) Typed => ("Command", $"{TModel.Spec.Name} {Settings.Typed}".Trim());

    protected static (string Name, string Value) On(Device device) =>
        ("Machine", $"{(device.type == DeviceType.CUDA ? "CUDA device, " : string.Empty)}{Machine.Describe()}");

    /// <summary>Returns the facts about a run that its report lists.</summary>
    protected (string Name, string Value)[] FactsOf(
        TrainerOptions options, MeasuredData data, string steps, ScalarType dtype, Device device) =>
    [
        Typed, .. data.Facts, ("Objective", Describe(options)), ("Steps", steps), ("Seed", Output.Invariant($"{options.Seed}")),
        ("Precision", Describe(dtype)), On(device),
    ];

    /// <summary>Describes the steps of a run, and how often it sees each example.</summary>
    protected static string StepsOver(TrainerOptions options, int examples, string name)
    {
        var batch = options.Batch * options.Accumulation;
        return Output.Invariant(
            $"{options.Steps:n0} of {Counted.Of(batch, name)}, {(double)options.Steps * batch / examples:0.0} times each {name}");
    }

    /// <summary>Returns the weight files that a run wrote: the last weights, and the best ones if the run evaluated.</summary>
    protected static string[] WeightsOf(TrainingResult result) =>
        result.Best is { } best ? [result.Weights!, best] : [result.Weights!];

    /// <summary>Lists the files that the demo wrote, and writes the document of <c>--json</c>.</summary>
    protected void Conclude(
        TrainingResult result, MeasuredData data, SliceCheck slice, string[] files, Action<Utf8JsonWriter> writeEvaluation)
    {
        Human.WriteLine();
        Human.WriteLine("Wrote:");
        foreach (var file in files) Human.WriteLine("  " + file);
        if (!Settings.Json) return;
        Output.Json(Results, json =>
        {
            json.WriteString("model", TModel.Spec.Name);
            json.WriteNumber("steps", result.Steps);
            data.Write(json);
            writeEvaluation(json);
            json.WriteStartObject("extracted");
            json.WriteString("profile", slice.Profile);
            json.WriteNumber("largest_logit_difference", slice.Difference);
            json.WriteBoolean("bit_equal", slice.Equal);
            json.WriteEndObject();
            WriteFiles(json, files);
        });
    }

    /// <summary>Writes the page of <c>--report</c>, if it is given.</summary>
    protected void WriteReport(Func<string> render)
    {
        if (Settings.Report is not { } report) return;
        AtomicFile.WriteText(report, render());
        Human.WriteLine($"Wrote {report}.");
    }

    /// <summary>
    /// Writes the document of <c>--json</c> for an evaluation. It names the given files and the page of <c>--report</c>.
    /// </summary>
    protected void WriteEvaluated(MeasuredData data, Action<Utf8JsonWriter> writeEvaluation, MixSweep? sweep, params string[] files)
    {
        if (!Settings.Json) return;
        Output.Json(Results, json =>
        {
            json.WriteString("model", TModel.Spec.Name);
            json.WriteString("checkpoint", Settings.Checkpoint);
            data.Write(json);
            writeEvaluation(json);
            sweep?.Write(json);
            if (Settings.Report is { } report) files = [.. files, report];
            if (files.Length > 0) WriteFiles(json, files);
        });
    }

    /// <summary>
    /// Refuses to overwrite the weights that are being read or what training wrote, and, without <c>--overwrite</c>, anything else.
    /// </summary>
    protected void CheckExtract(string path, bool isFolder = false)
    {
        var weights = isFolder ? Path.Combine(path, RunFolder.WeightsName) : path;
        if (Path.GetFullPath(weights) == Path.GetFullPath(Settings.Checkpoint))
            throw new UsageException($"'{path}' would replace the weights that it is extracted from; give another --out.");
        if (isFolder ? File.Exists(path) : Directory.Exists(path))
            throw new UsageException($"'{path}' is a {(isFolder ? "file" : "folder")}; give another --out, or delete it.");
        var isExtracted = File.Exists(Path.Combine(path, "config.json")) && !File.Exists(Path.Combine(path, RunFolder.CheckpointName));
        if (isFolder && !isExtracted && RunFolder.Occupant(path, TModel.Spec) is var (what, _))
            throw new UsageException($"'{path}' holds {what}, which the extracted files would replace; give another --out.");
        var isTaken = isFolder ? Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any() : File.Exists(path);
        if (isTaken && !Settings.Overwrite)
            throw new UsageException($"'{path}' already exists; give another --out, or --overwrite to replace it.");
    }

    /// <summary>Extracts the first declared profile, saves it, loads it again and compares it with the universal model.</summary>
    protected SliceCheck ExtractDeclared(TModel universal, ScalarType dtype, TrainingData data)
    {
        var (profile, path) = (Declared, SlicePath(Declared));
        using (var copy = universal.Extract(profile)) copy.Save(path);
        using var slice = Checkpoint.Open<TModel>(path, universal.Device);
        slice.ComputeType = dtype;
        var (difference, equal) = Compare(universal, profile, slice, data);
        var what = TModel.Spec.Kind == ModelKind.TextEncoder ? "embeddings" : "logits";
        Human.WriteLine(Output.Invariant(
            $"{profile.Name}, extracted, saved and loaded again: its {what} {(equal ? "are" : "differ from")} the universal model's own"
            + $"{(equal ? ", bit for bit" : string.Empty)} (largest difference {difference:0.###E+0})."));
        return new SliceCheck(profile.Name, path, difference, equal);
    }

    private static void WriteLosses(Utf8JsonWriter json, StepResult last)
    {
        MetricsFile.WriteNumbers(json, "loss", last.Losses);
        if (!last.Divergences.IsEmpty) MetricsFile.WriteNumbers(json, "divergence", last.Divergences);
        if (!last.Validation.IsEmpty) MetricsFile.WriteNumbers(json, "validation", last.Validation);
    }

    protected static void WriteFiles(Utf8JsonWriter json, params ReadOnlySpan<string> files)
    {
        json.WriteStartArray("files");
        foreach (var file in files) json.WriteStringValue(file);
        json.WriteEndArray();
    }
}

using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The commands of a model program.</summary>
internal sealed class ModelCommands<TModel>(
    CommandSettings settings, TextWriter output, TextWriter error, CancellationToken cancellationToken)
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private const int CalibrationRepeats = 7;

    // What people read goes to standard output, unless a document goes there.
    private readonly TextWriter _human = settings.Json ? error : output;
    private readonly LineLogger _logger = new(error);

    private static Profile<TModel> Whole => TModel.Granularities[^1];

    public void TrainTokenizer()
    {
        var vocabulary = settings.Vocabulary ?? TModel.Spec.Vocabulary;
        if (vocabulary > TModel.Spec.Vocabulary)
        {
            throw new UsageException($"--vocabulary {vocabulary} is more than the {TModel.Spec.Vocabulary} tokens that {TModel.Spec.Name} "
                + $"declares; declare Vocabulary = {vocabulary}, or give a smaller number.");
        }

        var options = new TokenizerOptions { Vocabulary = vocabulary };
        try
        {
            options.Validate();
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"{e.Message} {TModel.Spec.Name} declares Vocabulary = {TModel.Spec.Vocabulary}.", e);
        }

        using var corpus = OpenCorpus(Tokenizer.ByteLevel);
        var tokenizer = Tokenizer.Train(corpus, options, cancellationToken);
        var path = InOut(Tokenizer.FileName);
        if (File.Exists(settings.Checkpoint)) CheckReplaces(path, tokenizer);
        tokenizer.Save(path);
        using var encoded = OpenCorpus(tokenizer);
        var bytesPerToken = encoded.Validation.BytesPerToken;
        _human.WriteLine(Output.Invariant($"Wrote {path}: {tokenizer.VocabularySize:n0} tokens, of {bytesPerToken:0.00} bytes each in the "
            + $"validation text. To use it: train --tokenizer {Quoted(path)}"));
        if (settings.Json)
        {
            Output.Json(output, json =>
            {
                json.WriteString("file", path);
                json.WriteNumber("vocabulary", tokenizer.VocabularySize);
                json.WriteString("fingerprint", tokenizer.Fingerprint);
                json.WriteNumber("validation_bytes_per_token", bytesPerToken);
            });
        }
    }

    public void Import()
    {
        if (settings.From is not { } from)
        {
            throw new UsageException("--from is missing; give a folder of Hugging Face's transformers, a .safetensors file, or the "
                + "index of several.");
        }

        if (settings.Declare)
        {
            Declare(from);
            return;
        }

        var path = settings.Out.EndsWith(".safetensors", StringComparison.Ordinal) ? settings.Out : InOut("model.safetensors");
        var folder = Path.GetDirectoryName(path)!;
        if (FolderOf(path) == FolderOf(from))
            throw new UsageException($"--out is where --from {Quoted(from)} lies; give another --out.");
        if (File.Exists(path)) throw new UsageException($"'{path}' is there already; give another --out, or delete it.");
        var tokenizer = settings.Tokenizer is null && !File.Exists(Path.Combine(FolderOf(from), Tokenizer.FileName))
            ? null
            : FindTokenizer(FolderOf(from));
        var copy = Path.Combine(folder, Tokenizer.FileName);
        if (tokenizer is not null) CheckReplaces(copy, tokenizer);
        else if (settings.Data is not null)
            throw new UsageException($"--data: there is no {Tokenizer.FileName} beside --from to read text by; give --tokenizer.");

        // All that may be wrong with the weights is known before anything is written.
        using var weights = DenseModel.Weights<TModel>(from, tokenizer);
        string order;
        if (settings.Data is null)
        {
            tokenizer?.Save(copy);
            DenseModel.Write(weights, path);
            order = "in the order that they had, in which the first are no better than others; with --data TEXT they are ordered by "
                + "importance";
        }
        else
        {
            var (device, dtype) = Compute(null);
            using var corpus = TextCorpus.Open(settings.Data, folder, tokenizer!, cancellationToken: cancellationToken);
            using var model = NewModel(settings.Seed ?? 1, device, dtype);
            WarmStart.Load(model, from, corpus);
            model.TokenizerFingerprint = tokenizer!.Fingerprint;
            tokenizer.Save(copy);
            model.Save(path);
            order = $"ordered by importance in {corpus.Describe()}";
        }

        if (weights.IsOurs) order = "nested as MatFormer trained them";
        if (DenseModel.ConfigOf(from) is null)
        {
            error.WriteLine($"There is no {DenseConfig.FileName} beside --from: whether it computes what {TModel.Spec.Name} declares "
                + "(rotary base, epsilon, activation, windows) could not be checked.");
        }

        if (tokenizer is null)
            error.WriteLine($"There is no {Tokenizer.FileName} beside --from: without --tokenizer, text is read as bytes.");
        _human.WriteLine($"Wrote {path}: {Output.Count(Whole.ParameterCount)} parameters; hidden units {order}.");
        if (settings.Json)
        {
            Output.Json(output, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                json.WriteNumber("parameters", Whole.ParameterCount);
                json.WriteBoolean("ordered", settings.Data is not null && !weights.IsOurs);
                WriteFiles(json, tokenizer is null ? [path] : [path, copy]);
            });
        }
    }

    private void Declare(string from)
    {
        var declaration = DenseModel.Declare(from, TModel.Spec.Name);
        _human.Write(declaration);
        if (settings.Json) Output.Json(output, json => json.WriteString("declaration", declaration));
    }

    public void Train()
    {
        var checkpoint = Resumed();
        CheckInit();
        var options = Options(checkpoint);
        var tokenizer = FindTokenizer(TrainingFolder);
        var (device, dtype) = Compute(checkpoint);
        using var corpus = OpenCorpus(tokenizer);
        var (result, model) = Run(options, checkpoint, device, dtype, corpus);
        model.Dispose();
        ThrowIfStopped(result, options);
        string[] files =
        [
            result.Weights!, result.Checkpoint!, .. result.Best is { } best ? (string[])[best] : [], InOut(Tokenizer.FileName),
            InOut("metrics.jsonl"),
        ];
        var early = result.StoppedEarly ? ", and stopped as nothing better was found" : string.Empty;
        var skipped = result.Skipped > 0 ? $", {result.Skipped} of them skipped" : string.Empty;
        var kept = result.Best is not null ? $" Best on validation text: step {result.BestStep}." : string.Empty;
        _human.WriteLine($"Trained {result.Steps} steps{skipped}{early}.{kept} Wrote {string.Join(", ", files)}.");
        if (settings.Json)
        {
            Output.Json(output, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                json.WriteNumber("steps", result.Steps);
                json.WriteNumber("skipped", result.Skipped);
                if (result.Best is not null) json.WriteNumber("best_step", result.BestStep);
                if (result.Last is { } last) WriteLosses(json, last);
                WriteFiles(json, files);
            });
        }
    }

    public void Evaluate()
    {
        var (device, dtype) = Compute(null);
        using var model = Checkpoint.Open<TModel>(settings.Checkpoint, device);
        model.ComputeType = dtype;
        if (settings.Weights is { } weights) DecodingEngine.RoundWeights(model, weights);
        var tokenizer = FindTokenizer(CheckpointFolder);
        tokenizer.CheckFits(model);
        using var corpus = OpenCorpus(tokenizer);
        if (settings.Sweep is not null && !model.IsUniversal)
        {
            throw new UsageException($"--sweep needs all granularities, but '{settings.Checkpoint}' is the slice {model.ProfileName}; give "
                + "the universal model's file, or leave --sweep out.");
        }

        var evaluation = Evaluate(model, corpus);
        Output.Table(_human, evaluation, Whole.Name);
        Evaluation? sweep = null;
        if (settings.Sweep is { } points && model is TModel universal)
        {
            var mixes = Mixes.Sweep<TModel>(points, settings.Seed ?? 1);
            if (mixes.IsEmpty)
                throw new UsageException($"--sweep: {TModel.Spec.Name} has no mixes besides its granularities; leave it out.");
            sweep = Timed(() => Evaluator.Run(universal, mixes, corpus, HowMuch, cancellationToken: cancellationToken));
            Output.Table(_human, evaluation, sweep, Whole.Name);
        }

        if (settings.Report is { } report)
        {
            AtomicFile.WriteText(report, HtmlReport.Render(
                TModel.Spec.Name, Whole.Name, evaluation, sweep,
                [
                    ("Command", $"{TModel.Spec.Name} {settings.Typed}".Trim()), ("Weights", settings.Checkpoint),
                    ("Text", corpus.Describe()),
                    ("Precision", Describe(dtype) + (settings.Weights is { } rounded ? $", weights rounded to {rounded}" : null)), ("Machine", Machine.Describe(device)),
                ]));
            _human.WriteLine($"Wrote {report}.");
        }

        if (settings.Json)
        {
            Output.Json(output, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                json.WriteString("checkpoint", settings.Checkpoint);
                Output.WriteEvaluation(json, evaluation);
                if (sweep is not null) Output.WriteSweep(json, evaluation, sweep);
                if (settings.Report is not null) WriteFiles(json, settings.Report);
            });
        }
    }

    public void Plan()
    {
        CheckPlanName();
        if (settings.CacheTokens >= TModel.Spec.Context)
        {
            throw new UsageException($"--tokens {settings.CacheTokens} leaves no room for the one that is timed: the context of "
                + $"{TModel.Spec.Name} is {TModel.Spec.Context}; give fewer.");
        }

        var (device, dtype) = Compute(null);
        var weights = settings.Weights ?? DecodingOptions.WeightsOf(dtype);
        using var model = Checkpoint.Open<TModel>(settings.Checkpoint, device);
        if (!model.IsUniversal || model is not TModel universal)
        {
            throw new UsageException($"plan needs all granularities, but '{settings.Checkpoint}' is the slice {model.ProfileName}; give "
                + "the universal model's file.");
        }

        var tokenizer = FindTokenizer(CheckpointFolder);
        tokenizer.CheckFits(model);
        ProfilePlanner.CheckSizes<TModel>(settings.Budget, weights);
        using var corpus = OpenCorpus(tokenizer);
        var threads = settings.Threads ?? Machine.Threads;
        using var engine = DecodingEngine.Open<TModel>(
            settings.Checkpoint, options: new DecodingOptions { Weights = weights, Threads = threads });
        model.ComputeType = dtype;

        // What is evaluated is what is decoded.
        if (weights != DecodingWeights.Float32) DecodingEngine.RoundWeights(model, weights);
        var options = new PlanOptions
        {
            Budget = settings.Budget,
            Search = settings.Search,
            CacheTokens = settings.CacheTokens,
            Seed = settings.Seed ?? 1,
        };
        options = options with { Windows = settings.Windows ?? options.Windows, Points = settings.Points ?? options.Points };
        var plan = ProfilePlanner.Run(universal, engine, corpus, options, error.WriteLine, cancellationToken);

        var declaration = plan.Best is { } best ? PlanOutput.Declaration(settings.Name, best) : null;
        var extract = plan.Best is null ? null : $"extract --checkpoint {Quoted(settings.Checkpoint)} --profile {Quoted(plan.Best.Name)}";
        var conditions = Output.Invariant($"weights as {NameOf(weights)}, {threads} threads, {plan.CacheTokens} tokens in the cache");
        PlanOutput.Table(_human, plan, options.Budget);
        _human.WriteLine(PlanOutput.Summary(plan, conditions));
        if (plan.Best is { } chosen)
        {
            _human.WriteLine();
            _human.WriteLine(declaration is null ? $"The best that fits is there already: {chosen.Name}, {chosen.Pattern}."
                : $"To declare the best that fits:\n  {declaration}");
            _human.WriteLine("To cut it out:");
            _human.WriteLine("  " + extract);
        }

        if (settings.Report is { } report)
        {
            AtomicFile.WriteText(report, PlanOutput.Page(
                TModel.Spec.Name, plan, options.Budget, declaration, conditions,
                [
                    ("Command", $"{TModel.Spec.Name} {settings.Typed}".Trim()), ("Weights", settings.Checkpoint),
                    ("Text", corpus.Describe()), ("Precision of the losses", Describe(dtype)), ("Machine", Machine.Describe(CPU)),
                ]));
            _human.WriteLine($"Wrote {report}.");
        }

        if (settings.Json)
        {
            Output.Json(output, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                json.WriteString("checkpoint", settings.Checkpoint);
                json.WriteString("machine", Machine.Describe(CPU));
                json.WriteString("weights", NameOf(weights));
                json.WriteNumber("threads", threads);
                json.WriteString("search", settings.Search.ToString().ToLowerInvariant());
                PlanOutput.WritePlan(json, plan, options.Budget);
                if (declaration is not null) json.WriteString("declaration", declaration);
                if (extract is not null) json.WriteString("extract", extract);
                if (settings.Report is not null) WriteFiles(json, settings.Report);
            });
        }
    }

    // A declaration with it must compile.
    private void CheckPlanName()
    {
        var name = settings.Name;
        if (!(char.IsLetter(name[0]) || name[0] == '_') || !name.All(c => char.IsLetterOrDigit(c) || c == '_'))
            throw new UsageException($"--name {Quoted(name)} is no name for a class; give letters, digits and '_', such as Watch.");
        if (name == ModelSpec.Skip || TModel.Granularities.Concat(TModel.Profiles).Any(p => p.Name == name))
            throw new UsageException($"--name {name} is taken: {TModel.Spec.Name} has {Names()}; give another name.");
    }

    private static string NameOf(DecodingWeights weights) => weights switch
    {
        DecodingWeights.Float32 => "f32",
        DecodingWeights.BFloat16 => "bf16",
        _ => "int8",
    };

    public void Profiles()
    {
        var costs = ProfileCosts.Of<TModel>();
        Output.Table(_human, costs);
        if (settings.Json)
        {
            Output.Json(output, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                json.WriteStartArray("profiles");
                foreach (var row in costs)
                {
                    json.WriteStartObject();
                    Output.WriteCosts(json, row);
                    json.WriteEndObject();
                }

                json.WriteEndArray();
            });
        }
    }

    public void Extract()
    {
        if (settings.Profile is null)
            throw new UsageException($"--profile is missing; {TModel.Spec.Name} has {Names()}, and patterns such as '{Declared.Pattern}'.");
        var profile = ParseProfile(settings.Profile);
        var encoding = settings.Type switch
        {
            "f16" => WeightEncoding.Float16,
            "bf16" => WeightEncoding.BFloat16,
            "q8_0" => WeightEncoding.Q8,
            _ => WeightEncoding.Float32,
        };
        if (encoding == WeightEncoding.Q8 && settings.Format != "gguf")
            throw new UsageException($"--type q8_0 is not in --format {settings.Format}; add --format gguf, or give f32, f16 or bf16.");
        var path = settings.Format switch
        {
            "huggingface" => InOut(FileName(profile)),
            "gguf" => InOut($"{FileName(profile)}-{settings.Type}.gguf"),
            _ => SlicePath(profile),
        };
        if (Path.GetFullPath(path) == Path.GetFullPath(settings.Checkpoint))
            throw new UsageException($"'{path}' would replace the weights that it is taken from; give another --out.");
        switch (settings.Format)
        {
            case "huggingface":
                Extraction.ToHuggingFace(settings.Checkpoint, profile, path, TokenizerOfWeights(), encoding);
                break;
            case "gguf":
                Extraction.ToGguf(settings.Checkpoint, profile, path, TokenizerOfWeights(), encoding);
                break;
            default:
                ExtractSafetensors(profile, path, encoding);
                break;
        }

        _human.WriteLine($"Wrote {path}: {profile.Pattern}, {Output.Count(profile.ParameterCount)} parameters.");
        if (settings.Json)
        {
            Output.Json(output, json =>
            {
                json.WriteString("file", path);
                Output.WriteCosts(json, ProfileCosts.Of(profile, TModel.Granularities.Contains(profile)));
            });
        }
    }

    private void ExtractSafetensors(Profile<TModel> profile, string path, WeightEncoding encoding)
    {
        // Whoever uses the slice needs the tokenizer too.
        var source = Path.Combine(CheckpointFolder, Tokenizer.FileName);
        var tokenizer = File.Exists(source) ? Tokenizer.Load(source) : null;
        var copy = InOut(Tokenizer.FileName);
        if (tokenizer is not null) CheckReplaces(copy, tokenizer);
        Extraction.ToSafetensors(settings.Checkpoint, profile, path, encoding);
        tokenizer?.Save(copy);
    }

    // The one beside the weights, or bytes; none if the model has too few tokens for these.
    private Tokenizer? TokenizerOfWeights()
    {
        var path = Path.Combine(CheckpointFolder, Tokenizer.FileName);
        if (File.Exists(path)) return Tokenizer.Load(path);
        return TModel.Spec.Vocabulary >= Tokenizer.ByteLevel.VocabularySize ? Tokenizer.ByteLevel : null;
    }

    public void Generate()
    {
        var (device, dtype) = Compute(null);
        var profile = settings.Profile is { } name ? ParseProfile(name) : null;
        using var model = Checkpoint.Open<TModel>(settings.Checkpoint, device);
        if (profile is not null && !model.IsUniversal && !profile.Layers.AsSpan().SequenceEqual(model.Layers.AsSpan()))
        {
            throw new UsageException(
                $"'{settings.Checkpoint}' is already the slice {model.ProfileName}, so it cannot be --profile {profile.Name}; leave "
                    + "--profile out, or give the universal model's file.");
        }

        using var view = profile is not null && model is TModel universal ? universal.View(profile) : null;
        var chosen = view ?? model;
        chosen.ComputeType = dtype;
        var tokenizer = FindTokenizer(CheckpointFolder);
        tokenizer.CheckFits(chosen);
        var sampling = Sampling(tokenizer, settings.Tokens) with
        {
            Draft = settings.Draft is { } draft ? CheckedDraft(ParseProfile(draft), chosen) : default,
            DraftLength = settings.DraftLength,
        };
        if (settings.DraftLength is not null && settings.Draft is null)
            throw new UsageException("--draft-length is how far a draft runs ahead, but there is none; give --draft too.");
        if (settings.Weights is not null && !DecodingEngine.Supports(chosen))
            throw new UsageException($"--weights is for decoding on the CPU, not on {device}; leave it out, or give --device cpu.");
        using var engine = !DecodingEngine.Supports(chosen) ? null : DecodingEngine.Create(chosen, new DecodingOptions
        {
            Weights = settings.Weights ?? DecodingOptions.WeightsOf(dtype),
            Threads = settings.Threads,
        });
        var prompt = settings.Prompt ?? string.Empty;
        _human.Write(prompt);
        var result = engine is null ? TextGenerator.Generate(chosen, prompt, sampling, Show, cancellationToken)
            : TextGenerator.Generate(engine, prompt, sampling, Show, cancellationToken);
        _human.WriteLine();
        var reason = result.FinishReason.ToString().ToLowerInvariant();
        var drafts = result.Drafts is not { } d ? string.Empty : Output.Invariant(
            $", {d.Acceptance:P0} of {d.Drafted} drafted tokens accepted, {d.MeanLength:0.0} at once");
        error.WriteLine(Output.Invariant(
            $"[{chosen.ProfileName}: {result.Tokens} tokens, {result.TokensPerSecond:0} tokens/s{drafts}, finish: {reason}]"));
        if (settings.Json)
        {
            Output.Json(output, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                json.WriteString("profile", chosen.ProfileName);
                json.WriteString("prompt", prompt);
                json.WriteString("text", result.Text);
                json.WriteString("finish_reason", reason);
                json.WriteNumber("tokens", result.Tokens);
                json.WriteNumber("tokens_per_second", result.TokensPerSecond);
                if (result.Drafts is not { } drafts) return;
                json.WriteNumber("drafted_tokens", drafts.Drafted);
                json.WriteNumber("accepted_tokens", drafts.Accepted);
                json.WriteNumber("draft_length", drafts.MeanLength);
            });
        }

        void Show(string text)
        {
            _human.Write(text);
            _human.Flush();
        }
    }

    private static ImmutableArray<LayerSlice> CheckedDraft(Profile<TModel> draft, MatFormerModel model)
    {
        if (!DecodingEngine.Supports(model))
            throw new UsageException($"--draft is for decoding on the CPU, not on {model.Device}; leave it out, or give --device cpu.");
        try
        {
            DecodingEngine.CheckDraft(draft.Layers, model.Layers, TModel.Spec);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"--draft {draft.Name}: {e.Message}");
        }

        return draft.Layers;
    }

    public void Demo()
    {
        var checkpoint = Resumed();
        CheckInit();
        var options = Options(checkpoint);
        var tokenizer = FindTokenizer(TrainingFolder);
        var (device, dtype) = Compute(checkpoint);
        using var corpus = OpenCorpus(tokenizer);
        if (checkpoint is null
            && settings.Steps is null) options = options with { Steps = AffordableSteps(options, device, dtype, corpus) };
        var (result, model) = Run(options, checkpoint, device, dtype, corpus);
        using var universal = model;
        ThrowIfStopped(result, options);
        try
        {
            Finish(options, dtype, corpus, universal, result);
        }
        catch (OperationCanceledException)
        {
            throw Stopped("Interrupted after training");
        }
    }

    private static Profile<TModel> Declared => TModel.Profiles is [var first, ..] ? first : TModel.Granularities[0];

    private static string Names() => string.Join(", ", TModel.Granularities.Concat(TModel.Profiles).Select(p => p.Name));

    private void Finish(TrainerOptions options, ScalarType dtype, TextCorpus corpus, TModel universal, TrainingResult result)
    {
        var evaluation = Evaluate(universal, corpus);
        Output.Table(_human, evaluation, Whole.Name);

        var profile = Declared;
        var slicePath = SlicePath(profile);
        using (var copy = universal.Extract(profile)) copy.Save(slicePath);

        using var slice = Checkpoint.Open<TModel>(slicePath, universal.Device);
        slice.ComputeType = dtype;
        var (difference, equal) = Compare(universal, profile, slice, corpus);
        _human.WriteLine(Output.Invariant(
            $"{profile.Name}, extracted, saved and loaded again: its logits {(equal ? "are" : "differ from")} the universal model's own"
            + $"{(equal ? ", bit for bit" : string.Empty)} (largest difference {difference:0.###E+0})."));

        var prompt = settings.Prompt ?? DefaultPrompt(corpus);
        var samples = new List<Sample>();
        using (var narrowest = universal.View(TModel.Granularities[0]))
        {
            narrowest.ComputeType = dtype;
            foreach (var model in new[] { narrowest, slice, universal })
            {
                var generated = TextGenerator.Generate(
                    model, prompt, Sampling(corpus.Tokenizer, settings.Tokens), cancellationToken: cancellationToken);
                samples.Add(new Sample(model.ProfileName, prompt, generated.Text, generated.TokensPerSecond));
                _human.WriteLine();
                _human.WriteLine(Output.Invariant($"--- {model.ProfileName}, {generated.TokensPerSecond:0} tokens/s"));
                _human.WriteLine(prompt + generated.Text);
            }
        }

        var metrics = InOut("metrics.jsonl");
        var report = InOut("report.html");
        var curve = InOut("curve.svg");
        var data = new ReportData
        {
            Spec = TModel.Spec,
            Evaluation = evaluation,
            Whole = Whole.Name,
            Curves = TrainingCurves.Read(metrics, Planner<TModel>.AllNames, corpus.Training.BytesPerToken),
            Samples = samples,
            Slice = new SliceCheck(profile.Name, slicePath, difference, equal),
            Facts =
            [
                ("Command", $"{TModel.Spec.Name} {settings.Typed}".Trim()),
                ("Text", corpus.Describe()),
                ("Objective", Describe(options)),
                ("Steps", Output.Invariant($"{options.Steps:n0} of {options.Batch * options.Accumulation} × {TModel.Spec.Context} tokens")),
                ("Seed", Output.Invariant($"{options.Seed}")),
                ("Precision", Describe(dtype)),
                ("Machine", Machine.Describe(universal.Device)),
            ],
        };
        AtomicFile.WriteText(curve, SizeCurve.OfSizes(data.Spec.Name, data.Evaluation).ToSvg());
        AtomicFile.WriteText(report, HtmlReport.Render(data));
        string[] files =
        [
            report, curve, result.Weights!, .. result.Best is { } best ? (string[])[best] : [], slicePath, result.Checkpoint!,
            InOut(Tokenizer.FileName), metrics,
        ];
        _human.WriteLine();
        _human.WriteLine("Wrote:");
        foreach (var file in files) _human.WriteLine("  " + file);
        if (!settings.Json) return;
        Output.Json(output, json =>
        {
            json.WriteString("model", TModel.Spec.Name);
            json.WriteNumber("steps", result.Steps);
            Output.WriteEvaluation(json, evaluation);
            json.WriteStartObject("extracted");
            json.WriteString("profile", profile.Name);
            json.WriteNumber("largest_logit_difference", difference);
            json.WriteBoolean("bit_equal", equal);
            json.WriteEndObject();
            json.WriteStartArray("samples");
            foreach (var sample in samples)
            {
                json.WriteStartObject();
                json.WriteString("profile", sample.Profile);
                json.WriteString("prompt", sample.Prompt);
                json.WriteString("text", sample.Text);
                json.WriteNumber("tokens_per_second", sample.TokensPerSecond);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            WriteFiles(json, files);
        });
    }

    // The checkpoint to go on from, or null.
    private string? Resumed()
    {
        if (!settings.Resume) return null;
        if (settings.Init is not null)
            throw new UsageException("--resume goes on with the run's own weights, so --init has no use; leave one of them out.");
        var path = InOut("checkpoint.safetensors");
        return File.Exists(path) ? path : throw new UsageException($"--resume: there is no '{path}' to go on from; give the --out of the "
            + "run, or leave --resume out.");
    }

    // A new run replaces what an earlier one left in its folder.
    private void CheckInit()
    {
        if (settings.Init is not { } path || !Path.Exists(path)) return;
        if (FolderOf(path) == FolderOf(settings.Out, isFolder: true))
            throw new UsageException($"--init {Quoted(path)} lies in --out, where this run replaces what is there; give another --out.");
    }

    // Those of the checkpoint, overridden by what is given; the trainer refuses what does not fit together.
    private TrainerOptions Options(string? checkpoint)
    {
        var options = new TrainerOptions();
        if (checkpoint is not null)
        {
            using var reader = SafetensorsReader.Open(checkpoint);
            options = TrainerOptions.FromMetadata(checkpoint, reader.Metadata);
        }

        if (settings.Patience is not null && (settings.EvaluateEvery ?? options.EvaluateEvery) == 0)
            throw new UsageException("--patience counts looks at the validation text, and there are none; add --evaluate-every 100, or leave it "
                + "out.");
        options = options with
        {
            Steps = settings.Steps ?? options.Steps,
            Batch = settings.Batch ?? options.Batch,
            Objective = settings.Objective ?? options.Objective,
            Probabilities = settings.Probabilities is { } probabilities ? [.. probabilities] : options.Probabilities,
            LossWeights = settings.LossWeights is { } weights ? [.. weights] : options.LossWeights,
            Reduction = settings.Reduction ?? options.Reduction,
            Distillation = Distilled(options.Distillation),
            LearningRate = settings.LearningRate ?? options.LearningRate,
            Seed = settings.Seed ?? options.Seed,
            CheckpointEvery = settings.CheckpointEvery ?? options.CheckpointEvery,
            Accumulation = settings.Accumulation ?? options.Accumulation,
            RecomputeActivations = settings.RecomputeActivations,
            EvaluateEvery = settings.EvaluateEvery ?? options.EvaluateEvery,
            Patience = settings.Patience ?? options.Patience,
            OutputFolder = settings.Out,
        };
        try
        {
            options.Validate(TModel.Spec);
            return options;
        }
        catch (ArgumentException e)
        {
            throw new UsageException(e.Message, e);
        }
    }

    private Distillation? Distilled(Distillation? given)
    {
        if (settings.DistillationTemperature is not null && (settings.Distillation ?? given?.Weight) is null)
            throw new UsageException("--distillation-temperature is given, but nothing is distilled; add --distillation 0.5, or leave it "
                + "out.");
        if (settings.Distillation is { } weight) given = (given ?? new Distillation()) with { Weight = weight };
        return settings.DistillationTemperature is { } temperature ? given! with { Temperature = temperature } : given;
    }

    private static string Describe(TrainerOptions options)
    {
        var text = Objectives.Describe(options.Objective);
        if (options.Reduction == Reduction.Sum) text += ", summed";
        if (!options.Probabilities.IsEmpty) text += $", probabilities {Numbers(options.Probabilities)}";
        if (!options.LossWeights.IsEmpty) text += $", loss weights {Numbers(options.LossWeights)}";
        return options.Distillation is { } distillation
            ? text + Output.Invariant(
                $", {distillation.Weight:0.##%} distilled from {Whole.Name} at temperature {distillation.Temperature}")
            : text;

        static string Numbers(ImmutableArray<double> numbers) =>
            string.Join('/', numbers.Select(n => n.ToString(CultureInfo.InvariantCulture)));
    }

    private (Device Device, ScalarType Dtype) Compute(string? checkpoint)
    {
        var available = cuda.is_available();
        if (settings.Device == "cuda" && !available)
            throw new UsageException("--device cuda: libtorch finds no CUDA device here; use --device cpu, or a libtorch built for CUDA on "
                + "a machine with a GPU.");
        var device = settings.Device != "cpu" && available ? CUDA : CPU;
        set_num_threads(settings.Threads ?? Machine.Threads);
        var dtype = settings.Dtype ?? (checkpoint is null ? null : DtypeOf(checkpoint));
        dtype ??= device.type == DeviceType.CUDA || Machine.CpuHasBFloat16 ? "bf16" : "f32";
        return (device, dtype == "bf16" ? ScalarType.BFloat16 : ScalarType.Float32);
    }

    private static string? DtypeOf(string checkpoint)
    {
        using var reader = SafetensorsReader.Open(checkpoint);
        return reader.Metadata.GetValueOrDefault(Trainer<TModel>.DtypeKey) switch
        {
            nameof(ScalarType.BFloat16) => "bf16",
            nameof(ScalarType.Float32) => "f32",
            _ => null,
        };
    }

    private string InOut(string name) => Path.Combine(settings.Out, name);

    private string CheckpointFolder => FolderOf(settings.Checkpoint);

    // Where the tokenizer of a run lies: with the weights that it begins with, or with those that it writes.
    private string TrainingFolder =>
        settings.Init is { } init && File.Exists(Path.Combine(FolderOf(init), Tokenizer.FileName)) ? FolderOf(init) : settings.Out;

    // The folder that weights are, or the one that they lie in.
    private static string FolderOf(string weights, bool isFolder = false)
    {
        var full = Path.GetFullPath(weights);
        return isFolder || Directory.Exists(full) ? Path.TrimEndingDirectorySeparator(full) : Path.GetDirectoryName(full)!;
    }

    // The one that is named, or the one in a folder, or bytes; the model can have its tokens.
    private Tokenizer FindTokenizer(string folder)
    {
        var path = settings.Tokenizer ?? Path.Combine(folder, Tokenizer.FileName);
        var isByteLevel = settings.Tokenizer is null ? !File.Exists(path) : settings.Tokenizer == "bytes";
        var tokenizer = isByteLevel ? Tokenizer.ByteLevel : Tokenizer.Load(path);
        tokenizer.CheckFits(TModel.Spec);
        return tokenizer;
    }

    // Weights that are there need the tokenizer that is there.
    private static void CheckReplaces(string path, Tokenizer tokenizer)
    {
        if (File.Exists(path) && Tokenizer.Load(path).Fingerprint != tokenizer.Fingerprint)
            throw new UsageException($"'{path}' is another tokenizer, which weights beside it may need; give another --out, or delete it.");
    }

    private TextCorpus OpenCorpus(Tokenizer tokenizer)
    {
        var corpus = TextCorpus.Open(settings.Data, settings.Out, tokenizer, cancellationToken: cancellationToken);
        try
        {
            corpus.Training.Windows(TModel.Spec.Context);
            corpus.Validation.Windows(TModel.Spec.Context);
        }
        catch
        {
            corpus.Dispose();
            throw;
        }

        return corpus;
    }

    // How many steps fit into the time, by steps of a model that is thrown away: the learning rate needs to know the number beforehand.
    private int AffordableSteps(TrainerOptions options, Device device, ScalarType dtype, TextCorpus corpus)
    {
        using var model = NewModel(options.Seed, device, dtype);
        using var trainer = new Trainer<TModel>(model, options with { OutputFolder = null });
        var seconds = trainer.MeasureSecondsPerStep(corpus, CalibrationRepeats, cancellationToken);
        var steps = (int)Math.Clamp(Math.Floor(settings.Minutes * 60 / seconds / 10) * 10, 10, int.MaxValue);
        error.WriteLine(Output.Invariant($"A step takes {seconds * 1000:0} ms: {steps:n0} steps in about {settings.Minutes} minutes "
            + $"(--steps sets another number)."));
        return steps;
    }

    private (TrainingResult Result, TModel Model) Run(
        TrainerOptions options, string? checkpoint, Device device, ScalarType dtype, TextCorpus corpus)
    {
        var model = NewModel(options.Seed, device, dtype);
        try
        {
            using var trainer = new Trainer<TModel>(model, options, _logger);
            if (checkpoint is not null) trainer.Resume(checkpoint);
            error.WriteLine($"Text: {corpus.Describe()}.");
            if (settings.Tokenizer is null && corpus.Tokenizer.IsByteLevel && TModel.Spec.Vocabulary >= 2 * corpus.Tokenizer.VocabularySize)
            {
                error.WriteLine($"Of the {TModel.Spec.Vocabulary} tokens that {TModel.Spec.Name} declares only bytes are used; the command "
                    + "tokenizer learns more.");
            }

            if (settings.Init is { } weights)
            {
                var isDense = WarmStart.Load(model, weights, corpus);
                error.WriteLine($"Beginning with {weights}{(isDense ? ", its hidden units ordered by importance" : string.Empty)}.");
            }

            var display = new TrainingDisplay(error, Planner<TModel>.AllNames, corpus.Training.BytesPerToken);
            var result = display.Run(progress => trainer.Fit(corpus, progress, cancellationToken), trainer.StepsDone, options.Steps);
            return (result, model);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    private static TModel NewModel(long seed, Device device, ScalarType dtype)
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

    private StoppedException Stopped(string what)
    {
        var data = settings.Data is { } path ? $" --data {Quoted(path)}" : string.Empty;
        var recompute = settings.RecomputeActivations ? " --recompute-activations" : string.Empty;
        return new StoppedException($"{what}. To go on: {settings.Command} --resume --out {Quoted(settings.Out)}{data}{recompute}");
    }

    private static string Quoted(string path) => path.Contains(' ', StringComparison.Ordinal) ? $"'{path}'" : path;

    private Evaluation Evaluate(MatFormerModel model, TextCorpus corpus)
    {
        return Timed(() => model.IsUniversal && model is TModel universal
            ? Evaluator.Run(universal, corpus, HowMuch, cancellationToken: cancellationToken)
            : Evaluator.RunSlice(
                model, ProfileCosts.Of(new Profile<TModel>(model.ProfileName, model.Layers), false), corpus, HowMuch,
                cancellationToken: cancellationToken));
    }

    private EvaluationOptions HowMuch
    {
        get
        {
            var options = new EvaluationOptions();
            return options with { Batch = settings.Batch ?? options.Batch, Windows = settings.Windows ?? options.Windows };
        }
    }

    private Evaluation Timed(Func<Evaluation> run)
    {
        var watch = Stopwatch.StartNew();
        var evaluation = run();
        error.WriteLine(Output.Invariant($"Evaluated on {evaluation.Tokens:n0} tokens ({evaluation.Bytes:n0} bytes) of validation text in "
            + $"{watch.Elapsed.TotalSeconds:0.0} s."));
        return evaluation;
    }

    private static string Describe(ScalarType dtype) => dtype == ScalarType.BFloat16 ? "bfloat16, weights float32" : "float32";

    private static (double Difference, bool Equal) Compare(
        TModel universal, Profile<TModel> profile, MatFormerModel slice, TrainingData corpus)
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        var (input, _) = corpus.HeldOut(TModel.Spec, 1, 1).First().ToTensors(universal.Device);
        var ours = Floats(universal.Forward(profile, input));
        var its = Floats(slice.call(input));
        var difference = 0.0;
        for (var i = 0; i < ours.Length; i++) difference = Math.Max(difference, Math.Abs((double)ours[i] - its[i]));
        return (difference, MemoryMarshal.AsBytes<float>(ours).SequenceEqual(MemoryMarshal.AsBytes<float>(its)));
    }

    private static float[] Floats(Tensor logits) => MemoryMarshal.Cast<byte, float>(logits.contiguous().cpu().bytes).ToArray();

    // The first words of a document that no model has seen.
    private string DefaultPrompt(TextCorpus corpus)
    {
        if (settings.Data is null) return "String.Split(Char)\nSplits a string into ";
        Span<byte> start = stackalloc byte[64];
        corpus.Validation.Text.Read(0, start);
        var text = Encoding.UTF8.GetString(start).TrimEnd('\uFFFD');
        return text.LastIndexOf(' ') is var end && end > 0 ? text[..(end + 1)] : text;
    }

    private GenerationOptions Sampling(Tokenizer tokenizer, int tokens) => new()
    {
        Tokenizer = tokenizer,
        Tokens = tokens,
        Temperature = settings.Temperature,
        TopK = settings.TopK,
        TopP = settings.TopP,
        MinP = settings.MinP,
        RepetitionPenalty = settings.RepetitionPenalty,
        StopStrings = [.. settings.Stop],
        Seed = settings.Seed ?? 1,
    };

    private string SlicePath(Profile<TModel> profile) => InOut(FileName(profile) + ".safetensors");

    // A pattern has signs that make poor file names.
    private static string FileName(Profile<TModel> profile) => profile.Name.ToLowerInvariant().Replace('*', 'x').Replace(' ', '-');

    private static Profile<TModel> ParseProfile(string text)
    {
        try
        {
            return Profile<TModel>.Parse(text);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"--profile: {e.Message.Split(" (Parameter", 2)[0]}", e);
        }
    }

    private static void WriteLosses(Utf8JsonWriter json, StepResult last)
    {
        MetricsFile.WriteNumbers(json, "loss", last.Losses);
        if (!last.Divergences.IsEmpty) MetricsFile.WriteNumbers(json, "divergence", last.Divergences);
        if (!last.Validation.IsEmpty) MetricsFile.WriteNumbers(json, "validation", last.Validation);
    }

    private static void WriteFiles(Utf8JsonWriter json, params ReadOnlySpan<string> files)
    {
        json.WriteStartArray("files");
        foreach (var file in files) json.WriteStringValue(file);
        json.WriteEndArray();
    }
}

using System.Collections.Immutable;
using System.Diagnostics;
using System.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The commands of a language model's program.</summary>
internal sealed class LanguageCommands<TModel>(
    CommandSettings settings, TextWriter output, TextWriter error, CancellationToken cancellationToken)
    : ProgramCommands<TModel>(settings, output, error, cancellationToken)
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    public void TrainTokenizer()
    {
        var options = NewTokenizerOptions();
        using var corpus = OpenCorpus(Tokenizer.ByteLevel);
        var tokenizer = Tokenizer.Train(corpus, options, Cancellation);
        var path = InOut(Tokenizer.FileName);
        if (File.Exists(Settings.Checkpoint)) CheckReplaces(path, tokenizer);
        tokenizer.Save(path);
        using var encoded = OpenCorpus(tokenizer);
        var bytesPerToken = encoded.Validation.BytesPerToken;
        Human.WriteLine(Output.Invariant($"Wrote {path}: {tokenizer.VocabularySize:n0} tokens learnt from {corpus.Source}, of ")
            + Output.Invariant($"{bytesPerToken:0.00} bytes each in its validation text. To use it: train --tokenizer {Quoted(path)}"));
        if (Settings.Json)
        {
            Output.Json(Results, json =>
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
        if (Settings.From is not { } from)
        {
            throw new UsageException("--from is missing; give a folder of Hugging Face's transformers, a .safetensors file, or the "
                + "index of several.");
        }

        if (Settings.Declare)
        {
            Declare(from);
            return;
        }

        var path = Settings.Out.EndsWith(".safetensors", StringComparison.Ordinal) ? Settings.Out : InOut("model.safetensors");
        var folder = Path.GetDirectoryName(path)!;
        if (FolderOf(path) == FolderOf(from))
            throw new UsageException($"--out is the folder of --from {Quoted(from)}; give another --out.");
        if (File.Exists(path)) throw new UsageException($"'{path}' already exists; give another --out, or delete it.");
        var tokenizer = Settings.Tokenizer is null && !File.Exists(Path.Combine(FolderOf(from), Tokenizer.FileName))
            ? null
            : FindTokenizer(FolderOf(from));
        var copy = Path.Combine(folder, Tokenizer.FileName);
        if (tokenizer is not null) CheckReplaces(copy, tokenizer);
        else if (Settings.Data is not null)
            throw new UsageException($"--data: there is no {Tokenizer.FileName} beside --from to encode text with; give --tokenizer.");
        var chat = ChatFiles(FolderOf(from), folder);

        // This finds all problems of the weights before anything is written.
        using var weights = DenseModel.Weights<TModel>(from, tokenizer);
        string order;
        if (Settings.Data is null)
        {
            tokenizer?.Save(copy);
            DenseModel.Write(weights, path);
            order = "in their original order, in which the first are not the most important; with --data TEXT they are ordered by "
                + "importance";
        }
        else
        {
            var (device, dtype) = Compute();
            using var corpus = OpenText(folder, tokenizer!);
            using var model = NewModel(Settings.Seed ?? 1, device, dtype);
            WarmStart.Load(model, from, corpus);
            model.TokenizerFingerprint = tokenizer!.Fingerprint;
            tokenizer.Save(copy);
            model.Save(path);
            order = $"ordered by importance in {corpus.Describe()}";
        }

        WriteAll(chat);
        if (weights.IsOurs) order = "nested as MatFormer trained them";
        if (DenseModel.ConfigOf(from) is null)
        {
            Error.WriteLine($"There is no {DenseConfig.FileName} beside --from, so it was not checked that the model computes what "
                + $"{TModel.Spec.Name} declares (rotary base and scaling, epsilon, activation, windows).");
        }

        if (tokenizer is null)
            Error.WriteLine($"There is no {Tokenizer.FileName} beside --from: without --tokenizer, text is read as bytes.");
        Human.WriteLine($"Wrote {path}: {Output.Count(Whole.ParameterCount)} parameters; hidden units {order}.");
        if (Settings.Json)
        {
            Output.Json(Results, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                json.WriteNumber("parameters", Whole.ParameterCount);
                json.WriteBoolean("ordered", Settings.Data is not null && !weights.IsOurs);
                WriteFiles(json, [path, .. tokenizer is null ? [] : (string[])[copy], .. chat.Select(c => c.Path)]);
            });
        }
    }

    private void Declare(string from)
    {
        var declaration = DenseModel.Declare(from, TModel.Spec.Name);
        Human.Write(declaration);
        if (Settings.Json) Output.Json(Results, json => json.WriteString("declaration", declaration));
    }

    public void Evaluate()
    {
        var (device, dtype) = Compute();
        if (Settings.Bits is not null && Settings.Weights is not null)
            throw new UsageException("--bits and --weights both round the weights; give one of them.");
        using var model = OpenWeights(device);
        model.ComputeType = dtype;
        if (Settings.Weights is { } weights) DecodingEngine.RoundWeights(model, weights);
        var tokenizer = FindTokenizer(CheckpointFolder);
        tokenizer.CheckFits(model);
        using var corpus = OpenRemembered(() => OpenCorpus(tokenizer));
        var mixes = MixesToSweep(model);
        var evaluation = Evaluate(model, corpus);
        var data = SayMeasured(corpus, model);
        Output.Table(Human, evaluation, Whole.Name);
        var precision = AtBits(model, corpus);
        if (!precision.IsEmpty) Output.Table(Human, precision);
        var sweep = mixes.IsEmpty ? null : MixSweep.Of(
            evaluation, Timed(() => Evaluator.Run((TModel)model, mixes, corpus, HowMuch, cancellationToken: Cancellation)));
        sweep?.Table(Human, Whole.Name);
        WriteReport(() => HtmlReport.Render(
            TModel.Spec.Name, Whole.Name, evaluation, sweep,
            [
                Typed, ("Weights", Settings.Checkpoint), .. data.Facts,
                ("Precision", Describe(dtype) + (Settings.Weights is { } rounded ? $", weights rounded to {rounded}" : null)), On(device),
                .. precision.Select(row => (Output.Invariant($"Bits per byte at {row.Bits} bits"), string.Join(
                    ", ", row.Evaluation.Rows.Zip(row.WeightBytes, (result, bytes) =>
                        Output.Invariant($"{result.Costs.Name} {result.BitsPerByte:0.000} ({bytes / 1e6:0.00} MB)"))))),
            ]));
        WriteEvaluated(
            data, json =>
            {
                Output.WriteEvaluation(json, evaluation);
                if (!precision.IsEmpty) Output.WritePrecision(json, precision);
            },
            sweep);
    }

    private ImmutableArray<PrecisionRow> AtBits(MatFormerModel model, TextCorpus corpus)
    {
        if (Settings.Bits is not { } bits) return [];
        var howMuch = HowMuch with { Continuations = 0 };
        return model.IsUniversal && model is TModel universal
            ? PrecisionEvaluator.Run(universal, corpus, bits, howMuch, Cancellation)
            : PrecisionEvaluator.RunSlice(
                model, ProfileCosts.Of(new Profile<TModel>(model.ProfileName, model.Layers), false), corpus, bits, howMuch, Cancellation);
    }

    public void Plan()
    {
        CheckPlan();
        if (Settings.CacheTokens >= TModel.Spec.Context)
        {
            throw new UsageException($"--tokens {Settings.CacheTokens} leaves no room for the timed token: the context of "
                + $"{TModel.Spec.Name} is {TModel.Spec.Context}; give fewer.");
        }

        var (device, dtype) = Compute();
        var weights = Settings.Weights ?? ModelDecoding.WeightsOf(dtype);
        using var universal = OpenUniversal("plan", device);
        var tokenizer = FindTokenizer(CheckpointFolder);
        tokenizer.CheckFits(universal);
        ProfilePlanner.CheckSizes<TModel>(Settings.Budget, weights);
        using var corpus = OpenRemembered(() => OpenCorpus(tokenizer));
        var threads = Settings.Threads ?? Machine.Threads;
        using var engine = DecodingEngine.Open<TModel>(
            Settings.Checkpoint, options: new DecodingOptions { Weights = weights, Threads = threads });
        universal.ComputeType = dtype;

        // The evaluated weights are rounded like the decoded ones.
        if (weights != DecodingWeights.Float32) DecodingEngine.RoundWeights(universal, weights);
        var options = WhatToPlan(Settings.CacheTokens);
        var plan = ProfilePlanner.Run(universal, engine, corpus, options, Error.WriteLine, Cancellation);

        var conditions = $"weights as {weights.ShortName}, {Counted.Of(threads, "thread")}, "
            + $"{Counted.Of(plan.CacheTokens, "token")} in the cache";
        Show(plan, options, conditions, SayMeasured(corpus, universal), dtype, CPU, json =>
        {
            json.WriteString("weights", weights.ShortName);
            json.WriteNumber("threads", threads);
        });
    }

    /// <inheritdoc/>
    protected override TrainingData Open() => OpenCorpus(FindTokenizer(TrainingFolder));

    /// <inheritdoc/>
    protected override LossUnit UnitOf(TrainingData data) => LossUnit.BitsPerByte(((TextCorpus)data).Training.BytesPerToken);

    /// <inheritdoc/>
    protected override void Begin(TModel model, TrainingData data)
    {
        var text = (TextCorpus)data;
        Error.WriteLine($"Text: {text.Describe()}.");
        if (Settings.Tokenizer is null && text.Tokenizer.IsByteLevel && TModel.Spec.Vocabulary >= 2 * text.Tokenizer.VocabularySize)
        {
            Error.WriteLine($"{TModel.Spec.Name} declares {TModel.Spec.Vocabulary} tokens, but only bytes are used; the command "
                + "tokenizer learns a larger vocabulary.");
        }

        BeginWithInit(model, data);
    }

    /// <inheritdoc/>
    protected override string WriteExtract(Profile<TModel> profile)
    {
        var encoding = StoredType;
        if (WeightEncoder.HasBlocks(encoding) && Settings.Format != "gguf")
        {
            throw new UsageException($"--type {Settings.Type} is not available in --format {Settings.Format}; add --format gguf, or give "
                + "f32, f16 or bf16.");
        }

        var path = Settings.Format switch
        {
            "huggingface" => InOut(FileName(profile)),
            "gguf" => InOut($"{FileName(profile)}-{Settings.Type}.gguf"),
            _ => SlicePath(profile),
        };
        CheckExtract(path, isFolder: Settings.Format == "huggingface");
        switch (Settings.Format)
        {
            case "huggingface":
                Extraction.ToHuggingFace(Settings.Checkpoint, profile, path, TokenizerOfWeights(), encoding, ChatOfWeights());
                break;
            case "gguf":
                Extraction.ToGguf(Settings.Checkpoint, profile, path, TokenizerOfWeights(), encoding, ChatOfWeights());
                break;
            default:
                ExtractSafetensors(profile, path, encoding);
                break;
        }

        return path;
    }

    // Returns the tokenizer beside the weights, else bytes, or null if the model has too few tokens for bytes.
    private Tokenizer? TokenizerOfWeights()
    {
        var path = Path.Combine(CheckpointFolder, Tokenizer.FileName);
        if (File.Exists(path)) return Tokenizer.Load(path);
        return TModel.Spec.Vocabulary >= Tokenizer.ByteLevel.VocabularySize ? Tokenizer.ByteLevel : null;
    }

    private string? ChatOfWeights() => ChatTemplateFile.TextIn(CheckpointFolder);

    public void Generate()
    {
        var (device, dtype) = Compute();
        var profile = Settings.Profile is { } name ? ParseProfile(name) : null;
        using var model = Checkpoint.Open<TModel>(Settings.Checkpoint, device);
        CheckSlice(model, profile);
        using var view = profile is not null && model is TModel universal ? universal.View(profile) : null;
        var chosen = view ?? model;
        chosen.ComputeType = dtype;
        var tokenizer = FindTokenizer(CheckpointFolder);
        tokenizer.CheckFits(chosen);
        var sampling = Sampling(tokenizer, Settings.Tokens) with
        {
            Draft = Settings.Draft is { } draft ? CheckedDraft(ParseProfile(draft), chosen) : default,
            DraftWeights = Settings.DraftWeights,
            DraftLength = Settings.DraftLength,
            Cascade = Settings.Cascade is { } cascade ? CheckedCascade(cascade, chosen) : [],
        };
        if (Settings.Draft is not null && Settings.Cascade is not null)
            throw new UsageException("--cascade changes the text that --draft would reproduce; leave one of them out.");
        if (Settings.DraftLength is not null && Settings.Draft is null)
            throw new UsageException("--draft-length needs a draft; give --draft too.");
        if (Settings.DraftWeights is { } drafting) CheckDraftWeights(drafting);
        if (Settings.Weights is not null && !DecodingEngine.Supports(chosen))
            throw new UsageException($"--weights is for decoding on the CPU, not on {device}; leave it out, or give --device cpu.");
        using var engine = !DecodingEngine.Supports(chosen) ? null : DecodingEngine.Create(chosen, new DecodingOptions
        {
            Weights = Settings.Weights
                ?? ((profile?.Bits ?? chosen.ProfileBits) is { } bits ? DecodingWeights.OfBits(bits) : ModelDecoding.WeightsOf(dtype)),
            Threads = Settings.Threads,
        });
        if (Settings.Routing is { } budget) Route(engine, budget, profile);
        WarmUp(engine, chosen, sampling);
        var prompt = Settings.Prompt ?? string.Empty;
        Human.Write(prompt);
        var result = engine is null ? TextGenerator.Generate(chosen, prompt, sampling, Show, Cancellation)
            : TextGenerator.Generate(engine, prompt, sampling, Show, Cancellation);
        Human.WriteLine();
        var reason = result.FinishReason.ToString().ToLowerInvariant();
        var drafts = result.Drafts is not { } d ? string.Empty : Output.Invariant(
            $", {d.Acceptance:P0} of {Counted.Of(d.Drafted, "drafted token")} accepted, {d.MeanLength:0.0} at once");
        var answers = result.Cascade is not { } c ? string.Empty : Output.Invariant($", {c.WidestShare:P0} of them its own");
        var routed = Settings.Routing is { } mean ? Output.Invariant($" at the budget {mean}") : string.Empty;
        Error.WriteLine(Output.Invariant(
            $"[{chosen.ProfileName}{routed}: {Counted.Of(result.Tokens, "token")}{answers}, {result.TokensPerSecond:0} tokens/s{drafts}, ")
            + $"finish: {reason}]");
        if (Settings.Json)
        {
            Output.Json(Results, json =>
            {
                json.WriteString("model", TModel.Spec.Name);
                json.WriteString("profile", chosen.ProfileName);
                if (Settings.Routing is { } share) json.WriteNumber("budget", share);
                if (engine is not null) json.WriteString("weights", engine.Weights.ShortName);
                json.WriteString("prompt", prompt);
                json.WriteString("text", result.Text);
                json.WriteString("finish_reason", reason);
                json.WriteNumber("tokens", result.Tokens);
                json.WriteNumber("tokens_per_second", result.TokensPerSecond);
                if (result.Cascade is { } cascade)
                {
                    var submodels = sampling.Cascade.Select(level => level.Layers).Append(chosen.Layers);
                    Output.WriteObjects(json, "cascade", submodels.Select((layers, i) => (layers, i)), its =>
                    {
                        json.WriteString("pattern", TModel.Spec.FormatPattern(its.layers.AsSpan()));
                        json.WriteNumber("asked", cascade.Asked[its.i]);
                        json.WriteNumber("answered", cascade.Answered[its.i]);
                    });
                }

                if (result.Drafts is not { } drafts) return;
                json.WriteNumber("drafted_tokens", drafts.Drafted);
                json.WriteNumber("accepted_tokens", drafts.Accepted);
                json.WriteNumber("draft_length", drafts.MeanLength);
            });
        }

        void Show(string text)
        {
            Human.Write(text);
            Human.Flush();
        }
    }

    // Lets the tokens of a whole model choose their hidden units.
    private void Route(DecodingEngine? engine, double budget, Profile<TModel>? profile)
    {
        if (Settings.Draft is not null || Settings.Cascade is not null)
            throw new UsageException("--routing lets each token choose its hidden units; leave out --draft and --cascade.");
        if (profile is not null) throw new UsageException("--routing is for the whole model; leave out --profile.");
        if (engine is null) throw new UsageException("--routing is for decoding on the CPU; leave it out, or give --device cpu.");
        try
        {
            engine.Use(0, budget);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"--routing {Output.Invariant($"{budget}")}: {ArgumentProblem.Of(e)}", e);
        }
    }

    private void CheckDraftWeights(DecodingWeights drafting)
    {
        if (Settings.Draft is null) throw new UsageException("--draft-weights needs a draft; give --draft too.");
        if (Settings.Weights is { } weights && weights.Hold(drafting)) return;
        throw new UsageException(
            $"--draft-weights {drafting.ShortName} are a part of nested weights of as many bits or more; give --weights "
            + $"{DecodingWeights.Nested8.ShortName} too.");
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
            throw new UsageException($"--draft {draft.Name}: {ArgumentProblem.Of(e)}");
        }

        return draft.Layers;
    }

    private static ImmutableArray<CascadeLevel> CheckedCascade(string text, MatFormerModel model)
    {
        if (!DecodingEngine.Supports(model))
            throw new UsageException($"--cascade is for decoding on the CPU, not on {model.Device}; leave it out, or give --device cpu.");
        try
        {
            var cascade = CascadeLevel.Parse<TModel>(text);
            DecodingEngine.CheckCascade(cascade, model.Layers, TModel.Spec);
            return cascade;
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"--cascade: {ArgumentProblem.Of(e)}", e);
        }
    }

    public void Calibrate()
    {
        var options = new CascadeCalibrationOptions();
        options = options with
        {
            Thresholds = Settings.Thresholds is { } given ? [.. given] : options.Thresholds,
            Tolerance = Settings.CascadeTolerance ?? options.Tolerance,
            Windows = Settings.Windows ?? options.Windows,
        };
        if (options.Thresholds.Any(t => t is not (>= 0 and <= 1)))
            throw new UsageException("--thresholds must be within 0 and 1; give probabilities such as 0.5,0.8,0.9.");
        var (_, dtype) = Compute();
        var whole = Settings.Profile is { } name ? ParseProfile(name) : null;
        ImmutableArray<Profile<TModel>> narrower = Settings.Cascade is not { } names ? [TModel.Granularities[0]]
            : [.. names.Split(',').Select(n => ParseProfile(n.Trim() is { Length: > 0 } one ? one : n + ",", "--cascade"))];
        using (var reader = SafetensorsReader.Open(Settings.Checkpoint)) Settings.DefaultData = RememberedData.In(reader.Metadata);
        var tokenizer = FindTokenizer(CheckpointFolder);
        using var engine = DecodingEngine.Open<TModel>(Settings.Checkpoint, whole, new DecodingOptions
        {
            Weights = Settings.Weights ?? ModelDecoding.WeightsOf(dtype),
            Threads = Settings.Threads,
            Sequences = Math.Min(options.Windows, 64), // more windows take turns, since each sequence takes memory
        });
        try
        {
            tokenizer.CheckFits(engine.Architecture, engine.TokenizerFingerprint);
            DecodingEngine.CheckCascade([.. narrower.Select(p => new CascadeLevel(p.Layers, 1))], engine.Layers, TModel.Spec);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"--cascade: {ArgumentProblem.Of(e)}", e);
        }

        using var corpus = OpenRemembered(() => OpenCorpus(tokenizer));
        var calibration = CascadeCalibrator.Run(engine, narrower, corpus, options, cancellationToken: Cancellation);
        var data = new MeasuredData(corpus, Settings.DefaultData);
        data.Say(Human);
        Output.Table(Human, calibration, engine.ProfileName);
        var best = calibration.Best;
        var chosen = best.Threshold == 1 ? null : string.Join(',', narrower.Select(p => Output.Invariant($"{p.Name}:{best.Threshold}")));
        Human.WriteLine(Output.Invariant($"Measured on {calibration.Tokens:n0} tokens, weights as {engine.Weights.ShortName}. ")
            + (chosen is null
                ? Output.Invariant($"No cascade within {options.Tolerance} bits per byte of {engine.ProfileName} takes fewer FLOPs.")
                : Output.Invariant($"The cheapest within {options.Tolerance} bits per byte of {engine.ProfileName}: ")
                    + $"--cascade {Quoted(chosen)}"));
        if (!Settings.Json) return;
        Output.Json(Results, json =>
        {
            json.WriteString("model", TModel.Spec.Name);
            json.WriteString("checkpoint", Settings.Checkpoint);
            json.WriteString("profile", engine.ProfileName);
            json.WriteString("weights", engine.Weights.ShortName);
            data.Write(json);
            json.WriteNumber("validation_tokens", calibration.Tokens);
            json.WriteNumber("validation_bytes", calibration.Bytes);
            json.WriteNumber("tolerance", options.Tolerance);
            json.WriteString("cascade", chosen);
            Output.WriteObjects(json, "results", calibration.Rows, row =>
            {
                json.WriteNumber("threshold", row.Threshold);
                json.WriteNumber("bits_per_byte", row.BitsPerByte);
                json.WriteNumber("agreement", row.Agreement);
                json.WriteNumber("flops_per_token", row.Flops);
                json.WriteStartArray("asked");
                foreach (var share in row.Asked) json.WriteNumberValue(share);
                json.WriteEndArray();
                json.WriteStartArray("answered");
                foreach (var share in row.Answered) json.WriteNumberValue(share);
                json.WriteEndArray();
            });
        });
    }

    public void CalibrateWeights()
    {
        var options = new WeightCalibrationOptions();
        options = options with
        {
            Bits = Settings.Bits is { } bits ? [.. bits] : options.Bits,
            BitWeights = Settings.BitWeights is { } factors ? [.. factors] : options.BitWeights,
            Windows = Settings.Windows ?? options.Windows,
        };
        try
        {
            options.Validate();
        }
        catch (ArgumentException e)
        {
            throw new UsageException(OptionProblem.Of(e), e);
        }

        var path = InOut("model.safetensors");
        if (FolderOf(path) == CheckpointFolder)
            throw new UsageException($"--out is the folder of the weights to round; give another --out, and their file as --checkpoint.");
        if (File.Exists(path)) throw new UsageException($"'{path}' already exists; give another --out, or delete it.");
        var (device, dtype) = Compute();
        using var model = OpenUniversal("calibrate-weights", device);
        model.ComputeType = dtype;
        var tokenizer = FindTokenizer(CheckpointFolder);
        tokenizer.CheckFits(model);
        var copy = InOut(Tokenizer.FileName);
        CheckReplaces(copy, tokenizer);
        var chat = ChatFiles(CheckpointFolder, Settings.Out);
        using var corpus = OpenRemembered(() => OpenCorpus(tokenizer));
        var calibration = WeightCalibrator.Run(model, corpus, options, Cancellation);
        tokenizer.Save(copy);
        model.Save(path);
        WriteAll(chat);
        Output.Table(Human, calibration);
        Human.WriteLine(Output.Invariant($"Wrote {path}: weights of 8 bits, rounded by the states at {calibration.Tokens:n0} tokens of ")
            + $"{corpus.Source}. To measure them: eval --checkpoint {Quoted(path)} --bits {string.Join(',', options.Bits)}");
        if (!Settings.Json) return;
        Output.Json(Results, json =>
        {
            json.WriteString("model", TModel.Spec.Name);
            json.WriteString("checkpoint", Settings.Checkpoint);
            json.WriteNumber("training_tokens", calibration.Tokens);
            Output.WriteObjects(json, "matrices", calibration.Matrices, matrix =>
            {
                json.WriteString("name", matrix.Name);
                Output.WriteObjects(json, "errors", calibration.Bits.Select((bits, i) => (Bits: bits, I: i)), its =>
                {
                    json.WriteNumber("bits", its.Bits);
                    json.WriteNumber("rounded", matrix.Plain[its.I]);
                    json.WriteNumber("calibrated", matrix.Calibrated[its.I]);
                });
            });
            WriteFiles(json, [path, copy, .. chat.Select(c => c.Path)]);
        });
    }

    /// <inheritdoc/>
    protected override void Finish(TrainerOptions options, ScalarType dtype, TrainingData data, TModel universal, TrainingResult result)
    {
        var corpus = (TextCorpus)data;
        var evaluation = Evaluate(universal, corpus);
        var measured = SayMeasured(corpus, universal);
        Output.Table(Human, evaluation, Whole.Name);

        var check = ExtractDeclared(universal, dtype, corpus);
        using var slice = Checkpoint.Open<TModel>(check.Path, universal.Device);
        slice.ComputeType = dtype;
        var prompt = Settings.Prompt ?? DefaultPrompt(corpus);
        List<Sample> samples;
        using (var narrowest = universal.View(TModel.Granularities[0]))
        {
            narrowest.ComputeType = dtype;
            samples = Continue([narrowest, slice, universal], prompt, Sampling(corpus.Tokenizer, Settings.Tokens));
        }

        foreach (var sample in samples)
        {
            Human.WriteLine();
            Human.WriteLine(Output.Invariant($"--- {sample.Profile}, {sample.TokensPerSecond:0} tokens/s"));
            Human.WriteLine(prompt + sample.Text);
        }

        var metrics = InOut("metrics.jsonl");
        var report = InOut("report.html");
        var curve = InOut("curve.svg");
        var page = new ReportData
        {
            Spec = TModel.Spec,
            Evaluation = evaluation,
            Whole = Whole.Name,
            Curves = TrainingCurves.Read(metrics, Planner<TModel>.AllNames, UnitOf(corpus)),
            Samples = samples,
            Slice = check,
            Facts = FactsOf(
                options, measured,
                Output.Invariant($"{options.Steps:n0} of {options.Batch * options.Accumulation} × {TModel.Spec.Context} tokens"), dtype,
                universal.Device),
        };
        AtomicFile.WriteText(curve, SizeCurve.OfSizes(page.Spec.Name, page.Evaluation).ToSvg());
        AtomicFile.WriteText(report, HtmlReport.Render(page));
        string[] files =
        [
            report, curve, .. WeightsOf(result), check.Path, result.Checkpoint!,
            InOut(Tokenizer.FileName), metrics,
        ];
        Conclude(result, measured, check, files, json =>
        {
            Output.WriteEvaluation(json, evaluation);
            Output.WriteObjects(json, "samples", samples, sample =>
            {
                json.WriteString("profile", sample.Profile);
                json.WriteString("prompt", sample.Prompt);
                json.WriteString("text", sample.Text);
                json.WriteNumber("tokens_per_second", sample.TokensPerSecond);
            });
        });
    }

    // Continues the prompt with each model. The models take turns, so that other load on the machine affects all of them.
    private List<Sample> Continue(MatFormerModel[] models, string prompt, GenerationOptions sampling)
    {
        const int Turns = 5;
        WarmUp(engine: null, models[0], sampling);
        var texts = new string[models.Length];
        var seconds = SteadyTimes.Measure([.. models.Select(model => model.Layers)], some =>
        {
            double[] shortest = [.. some.Select(_ => double.PositiveInfinity)];
            for (var turn = 0; turn < Turns; turn++)
            {
                for (var i = 0; i < some.Count; i++)
                {
                    var generated = TextGenerator.Generate(models[some[i]], prompt, sampling, cancellationToken: Cancellation);
                    texts[some[i]] = generated.Text;
                    shortest[i] = Math.Min(shortest[i], 1 / generated.TokensPerSecond);
                }
            }

            return shortest;
        });
        return [.. models.Select((model, i) => new Sample(model.ProfileName, prompt, texts[i], 1 / seconds[i]))];
    }

    // A printed speed is that of warm code. A few tokens after an empty prompt take little time, also with a large model.
    private void WarmUp(DecodingEngine? engine, MatFormerModel model, GenerationOptions sampling)
    {
        const int FewTokens = 4;
        var few = sampling with { Tokens = Math.Min(FewTokens, sampling.Tokens) };
        SteadyTimes.WarmUp(() =>
        {
            if (engine is null) TextGenerator.Generate(model, string.Empty, few, cancellationToken: Cancellation);
            else TextGenerator.Generate(engine, string.Empty, few, cancellationToken: Cancellation);
        });
    }

    private TextCorpus OpenCorpus(Tokenizer tokenizer)
    {
        var corpus = OpenText(Settings.Out, tokenizer);
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

    private TextCorpus OpenText(string folder, Tokenizer tokenizer) => TerminalProgress.Open(
        Error, progress => TextCorpus.Open(Settings.Data, folder, tokenizer, progress: progress, cancellationToken: Cancellation));

    private Evaluation Evaluate(MatFormerModel model, TextCorpus corpus)
    {
        return Timed(() => model.IsUniversal && model is TModel universal
            ? Evaluator.Run(universal, corpus, HowMuch, cancellationToken: Cancellation)
            : Evaluator.RunSlice(
                model, ProfileCosts.Of(new Profile<TModel>(model.ProfileName, model.Layers), false), corpus, HowMuch,
                cancellationToken: Cancellation));
    }

    private EvaluationOptions HowMuch
    {
        get
        {
            var options = new EvaluationOptions();
            return options with { Batch = Settings.Batch ?? options.Batch, Windows = Settings.Windows ?? options.Windows };
        }
    }

    private Evaluation Timed(Func<Evaluation> run)
    {
        var watch = Stopwatch.StartNew();
        var evaluation = run();
        Error.WriteLine(Output.Invariant($"Evaluated on {evaluation.Tokens:n0} tokens ({evaluation.Bytes:n0} bytes) of validation text in "
            + $"{watch.Elapsed.TotalSeconds:0.0} s."));
        return evaluation;
    }

    // Returns the first words of the validation text, which the model was not trained on.
    private string DefaultPrompt(TextCorpus corpus)
    {
        if (Settings.Data is null) return "String.Split(Char)\nSplits a string into ";
        Span<byte> start = stackalloc byte[64];
        corpus.Validation.Text.Read(0, start);
        var text = Encoding.UTF8.GetString(start).TrimEnd('\uFFFD');
        return text.LastIndexOf(' ') is var end && end > 0 ? text[..(end + 1)] : text;
    }

    private GenerationOptions Sampling(Tokenizer tokenizer, int tokens) => new()
    {
        Tokenizer = tokenizer,
        Tokens = tokens,
        Temperature = Settings.Temperature,
        TopK = Settings.TopK,
        TopP = Settings.TopP,
        MinP = Settings.MinP,
        RepetitionPenalty = Settings.RepetitionPenalty,
        StopStrings = [.. Settings.Stop],
        Seed = Settings.Seed ?? 1,
    };
}

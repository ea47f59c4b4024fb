using System.Diagnostics;
using System.Text.Json;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The commands of a text encoder's program.</summary>
internal sealed class EncoderCommands<TModel>(
    CommandSettings settings, TextWriter output, TextWriter error, CancellationToken cancellationToken)
    : ProgramCommands<TModel>(settings, output, error, cancellationToken)
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private const int EvaluationBatch = 64;

    /// <inheritdoc/>
    protected override TrainerOptions Defaults { get; } = new() { Batch = 512, LearningRate = 3e-3 };

    public void TrainTokenizer()
    {
        var options = NewTokenizerOptions();
        using var pairs = PairCorpus.Open(Settings.Data, cancellationToken: Cancellation);
        var tokenizer = Tokenizer.Train(pairs, options, Cancellation);
        var path = InOut(Tokenizer.FileName);
        if (File.Exists(Settings.Checkpoint)) CheckReplaces(path, tokenizer);
        tokenizer.Save(path);
        Human.WriteLine(Output.Invariant(
            $"Wrote {path}: {tokenizer.VocabularySize:n0} tokens learnt from {pairs.Source}. To use it: train --tokenizer {Quoted(path)}"));
        if (!Settings.Json) return;
        Output.Json(Results, json =>
        {
            json.WriteString("file", path);
            json.WriteNumber("vocabulary", tokenizer.VocabularySize);
            json.WriteString("fingerprint", tokenizer.Fingerprint);
        });
    }

    public void Evaluate()
    {
        var (device, dtype) = Compute();
        using var model = Checkpoint.OpenUniversal<TModel>(Settings.Checkpoint, device);
        model.ComputeType = dtype;
        Settings.DefaultData = model.TrainedOn;
        var mixes = MixesToSweep(model);
        using var pairs = OpenRemembered(() => OpenPairs(CheckpointFolder));
        var batch = Settings.Batch ?? EvaluationBatch;
        if (batch < 2) throw new UsageException("--batch 1 leaves no negatives; give 2 or more.");
        var losses = RetrievalEvaluator.Losses(model, pairs, batch, Cancellation);
        var data = SayMeasured(pairs, model);
        EncoderOutput.Table(Human, losses, batch);
        var sweep = mixes.IsEmpty ? null : MixSweep.Of(
            TModel.Granularities.Zip(losses, (granularity, loss) => (ProfileCosts.Of(granularity, true), loss.Loss)),
            [
                .. mixes.Zip(
                    RetrievalEvaluator.Losses(model, mixes, pairs, batch, Cancellation),
                    (mix, loss) => (ProfileCosts.Of(mix, false), loss)),
                .. (TModel.Spec.Routing?.Budgets ?? []).Zip(
                    losses.Skip(TModel.Granularities.Count), (budget, loss) => (ProfileCosts.Of<TModel>(budget), loss.Loss)),
            ]);
        sweep?.Table(Human, Whole.Name);
        WriteEvaluated(
            data,
            json =>
            {
                json.WriteNumber("batch", batch);
                json.WriteStartObject("nats_per_choice");
                foreach (var (granularity, loss) in losses) json.WriteNumber(granularity, loss);
                json.WriteEndObject();
            },
            sweep);
    }

    public void Plan() => PlanEncoder(() => OpenPairs(CheckpointFolder));

    public void MakeIndex()
    {
        var (device, dtype) = Compute();
        using var model = OpenWeights(device);
        model.ComputeType = dtype;
        using var pairs = OpenRemembered(() => OpenPairs(CheckpointFolder));
        var embedder = Embedder(model, pairs.Tokenizer);
        WriteIndex(embedder, pairs);
        var file = new FileInfo(Settings.Index);
        Human.WriteLine(Output.Invariant(
            $"Wrote {Settings.Index}: {pairs.Training.Count + pairs.Validation.Count:n0} documents of {pairs.Source}, embedded by "
            + $"{embedder.ProfileName}, {file.Length / 1e6:0.0} MB."));
        if (new MeasuredData(pairs, model.TrainedOn).Difference("Indexed") is { } difference) Human.WriteLine(difference);
        if (!Settings.Json) return;
        Output.Json(Results, json =>
        {
            json.WriteString("model", TModel.Spec.Name);
            json.WriteString("profile", embedder.ProfileName);
            new MeasuredData(pairs, model.TrainedOn).Write(json);
            json.WriteNumber("documents", pairs.Training.Count + pairs.Validation.Count);
            json.WriteNumber("bytes", file.Length);
            WriteFiles(json, Settings.Index);
        });
    }

    public void Search()
    {
        if (Settings.Json && Settings.Query is null) throw new UsageException("--json is for one query; give --query too.");
        CheckDimension();
        CheckBudget();
        CheckChoice();
        var (device, dtype) = Compute();
        using var model = Checkpoint.Open<TModel>(Settings.Checkpoint, device);
        CheckRouters(model);
        model.ComputeType = dtype;
        var tokenizer = FindTokenizer(CheckpointFolder);
        using var index = OpenIndex();
        var embedding = new Stopwatch();
        var search = Searcher(model, tokenizer, index, embedding);
        var dimension = Settings.Dimension ?? index.Width;
        var options = new SearchOptions
        {
            // Margins hold for the number of hits that they were calibrated on.
            Count = Settings.CheapFirst ? RetrievalEvaluator.Hits : Settings.Top,
            Prefix = dimension < index.Width ? dimension : null,
            Shortlist = 0,
        };
        string[] first = ["first uses allocate"];
        SteadyTimes.WarmUp(() =>
        {
            foreach (var encoder in search.Encoders) index.SearchBatch(encoder.Embed(first), options);
        });
        if (Settings.Query is { } query)
        {
            Answer(query);
            return;
        }

        if (!Console.IsInputRedirected) Error.WriteLine("What are you looking for? An empty line ends the search.");
        while (!Cancellation.IsCancellationRequested && Console.In.ReadLine() is { } line && line.Trim().Length > 0) Answer(line.Trim());

        void Answer(string text)
        {
            embedding.Reset();
            var watch = Stopwatch.StartNew();
            var result = search.Search([text], options);
            var embeddingMs = embedding.Elapsed.TotalMilliseconds;
            var searchMs = watch.Elapsed.TotalMilliseconds - embeddingMs;
            var hits = result.Hits[0].Take(Settings.Top);
            var profile = search.Encoders[result.Rungs[0]].Name;
            var share = result.ComputeShare * search.Encoders[^1].FlopsPerQuery / Whole.Flops;
            foreach (var (row, score) in hits)
            {
                var entry = index.EntryOf(row);
                Human.WriteLine(Output.Invariant($"{score:0.000}  {entry.Title}"));
                Human.WriteLine("       " + EncoderOutput.Shortened(entry.Text));
            }

            Human.WriteLine(Output.Invariant(
                $"[{profile}, {dimension} of {index.Width} dimensions, {share:0%} of {Whole.Name}'s compute: {embeddingMs:0.00} ms to "
                + $"embed, {searchMs:0.00} ms to search {Counted.Of(index.Count, "document")}"
                + $"{(index.Indexed is null ? null : $" of {index.Indexed}")}]"));
            if (!Settings.Json) return;
            Output.Json(Results, json =>
            {
                json.WriteString("query", text);
                json.WriteString("profile", profile);
                json.WriteNumber("compute_share", share);
                json.WriteNumber("dimension", dimension);
                json.WriteNumber("embedding_ms", embeddingMs);
                json.WriteNumber("search_ms", searchMs);
                if (index.Indexed is { } indexed) json.WriteString("documents_of", indexed.ToString());
                Output.WriteObjects(json, "hits", hits, hit =>
                {
                    var entry = index.EntryOf(hit.Row);
                    json.WriteNumber("score", hit.Score);
                    json.WriteString("title", entry.Title);
                    json.WriteString("text", entry.Text);
                });
            });
        }
    }

    public void EvaluateRetrieval()
    {
        var (device, dtype) = Compute();
        using var model = Checkpoint.Open<TModel>(Settings.Checkpoint, device);
        model.ComputeType = dtype;
        using var index = OpenIndex();

        // The queries must be those of the indexed documents, whatever the model was trained on.
        Settings.DefaultData = index.Indexed ?? model.TrainedOn;
        using var pairs = OpenRemembered(() => OpenPairs(CheckpointFolder), index.Indexed is null ? null : Settings.Index);
        RetrievalEvaluation evaluation;
        if (model is TModel universal && model.IsUniversal)
        {
            evaluation = RetrievalEvaluator.Run(universal, pairs, index, Settings.Tolerance, Cancellation);
        }
        else
        {
            var embedder = TextEmbedder.OfSlice(model, pairs.Tokenizer);
            embedder.CheckFits(index);
            var costs = ProfileCosts.Of(new Profile<TModel>(model.ProfileName, model.Layers), false);
            evaluation = RetrievalEvaluator.Run(embedder, costs, pairs, index, Cancellation);
        }

        var alone = Settings.Alone is { } other ? EvaluateAlone(other, dtype, device, pairs, index) : null;
        var data = SayMeasured(pairs, model);
        EncoderOutput.Table(Human, evaluation, alone);
        var files = WriteCheapFirst(index, evaluation);
        foreach (var file in files) Human.WriteLine($"Wrote {file}.");
        WriteReport(() => EncoderOutput.Page(
            TModel.Spec, Whole.Name, evaluation, alone, [], null,
            [Typed, ("Weights", Settings.Checkpoint), .. data.Facts, ("Precision", Describe(dtype)), On(device)]));
        WriteEvaluated(data, json => EncoderOutput.WriteEvaluation(json, evaluation, alone), null, [.. files]);
    }

    /// <inheritdoc/>
    protected override TrainingData Open() => OpenPairs(TrainingFolder, learns: true);

    /// <inheritdoc/>
    protected override LossUnit UnitOf(TrainingData data) => LossUnit.Nats("choice");

    /// <inheritdoc/>
    protected override void Begin(TModel model, TrainingData data)
    {
        Error.WriteLine($"Pairs: {((PairCorpus)data).Describe()}.");
        BeginWithInit(model, data);
    }

    /// <inheritdoc/>
    protected override string WriteExtract(Profile<TModel> profile)
    {
        if (Settings.Format == "onnx") return ExtractOnnx(profile);
        CheckNoDimension();
        var path = SlicePath(profile);
        CheckExtract(path);
        ExtractSafetensors(profile, path, StoredType);
        return path;
    }

    /// <inheritdoc/>
    protected override void Finish(TrainerOptions options, ScalarType dtype, TrainingData data, TModel universal, TrainingResult result)
    {
        var pairs = (PairCorpus)data;
        WriteIndex(TextEmbedder.Of(universal, Whole, pairs.Tokenizer), pairs);
        using var index = OpenIndex();
        var evaluation = RetrievalEvaluator.Run(universal, pairs, index, cancellationToken: Cancellation);
        var measured = SayMeasured(pairs, universal);
        EncoderOutput.Table(Human, evaluation, null);
        var slice = ExtractDeclared(universal, dtype, data);
        var (metrics, report, curve) = (InOut("metrics.jsonl"), InOut("report.html"), InOut("curve.svg"));
        AtomicFile.WriteText(curve, EncoderOutput.Chart(TModel.Spec, evaluation).ToSvg());
        AtomicFile.WriteText(report, EncoderOutput.Page(
            TModel.Spec, Whole.Name, evaluation, null, TrainingCurves.Read(metrics, Planner<TModel>.AllNames, UnitOf(data)), slice,
            FactsOf(options, measured, StepsOver(options, pairs.Training.Count, "pair"), dtype, universal.Device)));
        string[] files =
        [
            report, curve, .. WeightsOf(result), InOut(Tokenizer.FileName), Settings.Index,
            .. WriteCheapFirst(index, evaluation), slice.Path, result.Checkpoint!, metrics,
        ];
        Conclude(result, measured, slice, files, json => EncoderOutput.WriteEvaluation(json, evaluation, null));
    }

    // Training without a tokenizer learns one, because texts in bytes would hardly fit into the context.
    private PairCorpus OpenPairs(string folder, bool learns = false)
    {
        var tokenizer = FindTokenizer(folder);
        var pairs = PairCorpus.Open(Settings.Data, tokenizer, Cancellation);
        if (!learns || Settings.Tokenizer is not null || !tokenizer.IsByteLevel || TModel.Spec.Vocabulary < 2 * tokenizer.VocabularySize
            || File.Exists(Path.Combine(folder, Tokenizer.FileName))) return pairs;
        return pairs.With(Tokenizer.Train(pairs, NewTokenizerOptions(), Cancellation));
    }

    private VectorIndex OpenIndex() => File.Exists(Settings.Index)
        ? VectorIndex.Open(Settings.Index)
        : throw new UsageException($"There is no index '{Settings.Index}'; create it with the command index, or name it with --index.");

    private void WriteIndex(TextEmbedder embedder, PairCorpus pairs)
    {
        var watch = Stopwatch.StartNew();
        var entries = pairs.Training.Concat(pairs.Validation).Select(pair => new IndexEntry(pair.Title, pair.Document));
        embedder.WriteIndex(Settings.Index, entries, pairs.Remembered, progress: null, Cancellation);
        Error.WriteLine(Output.Invariant(
            $"Embedded {pairs.Training.Count + pairs.Validation.Count:n0} documents in {watch.Elapsed.TotalSeconds:0.0} s."));
    }

    private static List<string> WriteCheapFirst(VectorIndex index, RetrievalEvaluation evaluation)
    {
        if (evaluation.Escalation is not { } escalation) return [];
        CheapFirstFile.Write<TModel>(index, escalation);
        return [CheapFirstFile.PathOf(index.Path)];
    }

    // Only one option may choose the profile that answers.
    private void CheckChoice()
    {
        List<string> given = [];
        if (Settings.Profile is not null) given.Add("--profile");
        if (Settings.MaxFlopsPerText is not null) given.Add("--max-flops-per-text");
        if (Settings.RoutingBudget is not null) given.Add("--budget");
        if (Settings.CheapFirst) given.Add("--cheap-first");
        if (given.Count > 1) throw new UsageException($"{given[0]} and {given[1]} both choose the profile that answers; give one of them.");
        if (!Settings.CheapFirst) return;
        if (Settings.Dimension is not null)
            throw new UsageException("--cheap-first is calibrated on whole embeddings; leave --dimension out.");
        if (Settings.Top > RetrievalEvaluator.Hits)
        {
            throw new UsageException($"--cheap-first is calibrated on the first {RetrievalEvaluator.Hits} documents; give a --top of at "
                + $"most {RetrievalEvaluator.Hits}.");
        }
    }

    // Returns a search with one profile, or with several for cheap first. The stopwatch runs while they embed.
    private EscalatingSearch<string> Searcher(MatFormerModel model, Tokenizer tokenizer, VectorIndex index, Stopwatch embedding)
    {
        List<TextEmbedder> embedders;
        List<float> thresholds = [];
        if (!Settings.CheapFirst)
        {
            embedders =
            [
                Settings.MaxFlopsPerText is { } flops ? Largest(model, tokenizer, flops)
                    : Settings.RoutingBudget is { } budget ? TextEmbedder.Of((TModel)model, budget, tokenizer)
                    : Embedder(model, tokenizer),
            ];
        }
        else if (model is TModel universal && model.IsUniversal)
        {
            (var profiles, thresholds) = CheapFirstFile.Read<TModel>(
                index, $"run eval-retrieval --checkpoint {Quoted(Settings.Checkpoint)} --index {Quoted(Settings.Index)}");
            embedders = profiles.ConvertAll(profile => TextEmbedder.Of(universal, profile, tokenizer));
        }
        else
        {
            throw new UsageException($"--cheap-first needs several profiles, but '{Settings.Checkpoint}' is the slice {model.ProfileName}; "
                + "give the universal model's file.");
        }

        embedders[0].CheckFits(index);
        try
        {
            return new(index, embedders.ConvertAll(EncoderOf), thresholds);
        }
        catch (ArgumentException e)
        {
            throw new CheckpointException(
                CheapFirstFile.PathOf(index.Path), $"is damaged: {ArgumentProblem.Of(e)} Run eval-retrieval again.", e);
        }

        QueryEncoder<string> EncoderOf(TextEmbedder embedder) => new(embedder.ProfileName, embedder.FlopsPerText, texts =>
        {
            embedding.Start();
            var embedded = embedder.Embed(texts, Cancellation);
            embedding.Stop();
            return embedded;
        });
    }

    // Returns the largest profile that embeds a text within a budget. A slice has one profile.
    private TextEmbedder Largest(MatFormerModel model, Tokenizer tokenizer, long budget)
    {
        TextEmbedder[] all = model is TModel universal && model.IsUniversal
            ? [.. TModel.Granularities.Concat(TModel.Profiles).Select(profile => TextEmbedder.Of(universal, profile, tokenizer))]
            : [TextEmbedder.OfSlice(model, tokenizer)];
        var smallest = all.MinBy(embedder => embedder.FlopsPerText)!;
        return all.Where(embedder => embedder.FlopsPerText <= budget).MaxBy(embedder => embedder.FlopsPerText)
            ?? throw new UsageException($"--max-flops-per-text is {budget}, but {smallest.ProfileName}, the smallest, takes "
                + $"{smallest.FlopsPerText}; give at least that.");
    }

    // Embeds with the profile of --profile, by default with the whole universal model or slice.
    private TextEmbedder Embedder(MatFormerModel model, Tokenizer tokenizer)
    {
        var profile = Settings.Profile is { } name ? ParseProfile(name) : null;
        CheckSlice(model, profile);
        return model is TModel universal && model.IsUniversal ? TextEmbedder.Of(universal, profile ?? Whole, tokenizer)
            : TextEmbedder.OfSlice(model, tokenizer);
    }

    // Evaluates the smallest granularity of other weights, on its own index and on the model's index.
    private (RetrievalEvaluation Own, RetrievalEvaluation Foreign)? EvaluateAlone(
        string weights, ScalarType dtype, Device device, PairCorpus pairs, VectorIndex index)
    {
        using var model = Checkpoint.OpenUniversal<TModel>(weights, device);
        model.ComputeType = dtype;
        var profile = TModel.Granularities[0];
        var embedder = TextEmbedder.Of(model, profile, pairs.Tokenizer);
        if (embedder.Identity.Weights == index.Identity.Weights)
            throw new UsageException($"--alone: '{weights}' are the weights of the index; give those of an encoder trained alone.");
        var costs = ProfileCosts.Of(profile, true);
        var path = Path.Combine(Path.GetTempPath(), $"matformer-{Guid.NewGuid():N}.safetensors");
        try
        {
            embedder.WriteIndex(path, Enumerable.Range(0, index.Count).Select(index.EntryOf), cancellationToken: Cancellation);
            using var own = VectorIndex.Open(path);
            return (
                RetrievalEvaluator.Run(embedder, costs, pairs, own, Cancellation),
                RetrievalEvaluator.Run(embedder, costs, pairs, index, Cancellation));
        }
        finally
        {
            File.Delete(path);
        }
    }
}

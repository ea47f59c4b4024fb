using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Trains all granularities of a universal model at once.</summary>
/// <typeparam name="TModel">The declared model.</typeparam>
public sealed class Trainer<TModel> : IDisposable
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    // The tokens that set the thresholds of a budget.
    private const int ThresholdTokens = 16 * 1024;

    private readonly TModel _model;
    private readonly ILogger _logger;
    private readonly FlatWeights _flat;
    private readonly Planner<TModel> _planner;
    private readonly RoundedWeights? _rounded;
    private TrainingData? _data;
    private IBatches? _batches;
    private Batch? _batch;
    private PrefetchedBatches? _prefetched;
    private int _skippedInARow;
    private EarlyStop _stop = EarlyStop.None;
    private string? _expectedData;
    private bool _ownsFolder;
    private DataParallel<TModel>? _parallel;
    private AdamWState? _optimizer;
    private bool _stops;

    /// <summary>Prepares training; the model must already be on its device.</summary>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public Trainer(TModel model, TrainerOptions options, ILogger? logger = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate(TModel.Spec);
        _model = model;
        Options = options with { Bits = options.BitsOf(TModel.Spec) };
        _logger = logger ?? NullLogger.Instance;
        if (model.Flat is null) model.Consolidate();
        _flat = model.Flat ?? throw new ArgumentException(
            "This model cannot be trained: its weights are frozen or hold no values; create the model again on its device.", nameof(model));
        if (model.Device.type == DeviceType.CPU && Kernels.CpuProblem is { } problem)
            _logger.LogWarning("Training without fused kernels, which takes several times as long: {Problem}.", problem);
        _planner = new Planner<TModel>(options);
        if (Options.Bits.Value.Any(bits => bits != 32)) _rounded = new RoundedWeights(model);
    }

    /// <summary>The options of training.</summary>
    public TrainerOptions Options { get; }

    /// <summary>The number of steps done so far, including those before a resume and the skipped ones.</summary>
    public long StepsDone { get; private set; }

    /// <summary>The number of steps that were skipped because a loss or the gradients were not finite.</summary>
    public long StepsSkipped { get; private set; }

    /// <summary>
    /// The processes that train this model together, each on a part of each batch; null to train alone. All of them create the same model
    /// and options, and call the same methods. The first rank alone writes files. The caller disposes the communicator.
    /// </summary>
    public ICommunicator? Communicator { get; init; }

    /// <summary>What the checkpoints remember for the program that trains, as metadata.</summary>
    internal IReadOnlyDictionary<string, string> Remembered { get; init; } = new Dictionary<string, string>();

    /// <summary>The locked output folder, if the caller holds it. Otherwise <see cref="Fit"/> locks the folder while it runs.</summary>
    internal RunFolder? Folder { get; init; }

    private bool HasStoppedEarly => _stop.IsReached(Options.Patience);

    private long TokensPerStep => (long)Options.Batch * TModel.Spec.TokensPerExample * Options.Accumulation;

    // The number of this process; null if it trains alone.
    private object? Rank => field ??= Communicator is { Size: > 1 } ranks ? ranks.Rank : null;

    // The examples of a batch that this process computes.
    private int OwnExamples => Communicator is { } ranks ? BatchPart.Examples(Options.Batch, ranks.Rank, ranks.Size) : Options.Batch;

    private string? CheckpointPath => PathOf(RunFolder.CheckpointName);

    /// <summary>
    /// Runs the remaining steps. Writes metrics, checkpoints and, at the end, the weights into the output folder. When cancelled, training
    /// stops after the current step, saves a checkpoint, and reports this in the result.
    /// </summary>
    /// <param name="data">The data to train on. After <see cref="Resume(string)"/> they must be the same as before.</param>
    /// <param name="progress">Called after each step, on this thread.</param>
    /// <param name="cancellationToken">Stops training after the current step.</param>
    /// <exception cref="DataException">
    /// The data do not fit this model, are too few, or are not those of the resumed run.
    /// </exception>
    /// <exception cref="TokenizerException">The model and the data have different tokenizers.</exception>
    /// <exception cref="IOException">
    /// Another run writes into the output folder, or the folder holds weights and <see cref="TrainerOptions.Overwrite"/> is false.
    /// </exception>
    /// <exception cref="TrainingException">
    /// More consecutive steps had to be skipped than the options allow. Nothing is saved in this case.
    /// </exception>
    /// <exception cref="DistributedException">
    /// With a <see cref="Communicator"/>: the ranks do not have the same model, options and data, or cannot exchange them. Any other
    /// failure of one rank ends the processes of all ranks.
    /// </exception>
    public TrainingResult Fit(TrainingData data, Action<StepResult>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(data);
        using var activity = TrainingTelemetry.Start("train", TModel.Spec.Name, Rank);
        try
        {
            var result = Run(data, progress, cancellationToken);
            activity?.SetTag("matformer.training.steps", result.Steps).SetTag("matformer.training.finished", result.Finished);
            return result;
        }
        catch (Exception e)
        {
            activity?.SetStatus(ActivityStatusCode.Error, e.Message).SetTag("error.type", e.GetType().FullName).AddException(e);

            // These come on all ranks at once. Any other failure is of this rank, and the others would wait for it.
            if (e is not (TrainingException or DistributedException)) Communicator?.Abort(e.Message);
            throw;
        }
    }

    private TrainingResult Run(TrainingData data, Action<StepResult>? progress, CancellationToken cancellationToken)
    {
        Use(data);
        Feed.Of(data).HeldOut(TModel.Spec, 1, 1).First(); // a lack of validation data fails now, not after hours
        using var held = Folder is null && Written is { } free ? RunFolder.Lock(free) : null;
        if (Written is { } folder)
        {
            if (!_ownsFolder) Occupy(folder);

            // A run that was killed during a write leaves temporary files behind.
            foreach (var name in RunFolder.Replaced.Append(RunFolder.MetricsName))
                AtomicFile.DeleteLeftovers(Path.Combine(folder, name));

            // The weights are of no use without their tokenizer.
            data.TextTokenizer?.Save(Path.Combine(folder, Tokenizer.FileName));
        }

        using var metrics = Written is { } output ? MetricsFile.Open(Path.Combine(output, RunFolder.MetricsName), StepsDone) : null;
        using var events = Options.TensorBoard && Written is not null && PathOf(RunFolder.TensorBoardName) is { } board
            ? EventFile.Create(board, StepsDone) : null;
        if (StepsDone < Options.Steps)
        {
            _logger.LogInformation(
                "Training {Model}, {Parameters} parameters, {Objective}, steps {First} to {Last}.",
                TModel.Spec.Name, TModel.Spec.ParameterCount(TModel.Spec.WholeLayers.AsSpan()),
                Options.Objective, StepsDone + 1, Options.Steps);
        }

        StepResult? last = null;
        using (var prefetched = _batches!.CanRunAhead
            ? new PrefetchedBatches(_batches, FirstBatch(StepsDone + 1), FirstBatch(Options.Steps + 1L) - 1) : null)
        {
            _prefetched = prefetched;
            try
            {
                _stops = false;
                while (StepsDone < Options.Steps && !HasStoppedEarly
                    && !(_parallel is null ? cancellationToken.IsCancellationRequested : _stops))
                {
                    last = Step(data, cancellationToken);
                    if (Options.EvaluateEvery > 0 && (StepsDone % Options.EvaluateEvery == 0 || StepsDone == Options.Steps))
                        last = last with { Validation = Look(data) };
                    metrics?.Add(last);
                    events?.Add(last);
                    progress?.Invoke(last);
                    if (StepsDone % Options.CheckpointEvery == 0 && StepsDone < Options.Steps) SaveCheckpoint(data);
                }
            }
            finally
            {
                _prefetched = null;
            }
        }

        SetThresholds(data);
        SaveCheckpoint(data);
        var finished = StepsDone >= Options.Steps || HasStoppedEarly;
        string? weights = null;
        if (finished && Options.OutputFolder is { } target)
        {
            weights = Path.Combine(target, RunFolder.WeightsName);
            if (Written is not null) _model.Save(weights);
            _parallel?.Barrier(); // the file is there on all ranks
        }

        return new TrainingResult(StepsDone, finished, CheckpointPath, weights, last)
        {
            StoppedEarly = HasStoppedEarly && StepsDone < Options.Steps,
            Best = _stop.BestStep > 0 ? PathOf(RunFolder.BestName) : null,
            BestStep = _stop.BestStep,
            Skipped = StepsSkipped,
        };
    }

    /// <summary>Runs one step without writing any file.</summary>
    /// <exception cref="DataException">
    /// The data do not fit this model, are too few, or are not those of the resumed run.
    /// </exception>
    /// <exception cref="TrainingException">
    /// A loss or the gradients are not finite, and more consecutive steps had to be skipped than the options allow. The weights are those
    /// from before the step.
    /// </exception>
    public StepResult Step(TrainingData data)
    {
        ArgumentNullException.ThrowIfNull(data);
        return Step(data, CancellationToken.None);
    }

    /// <summary>
    /// Sets the thresholds by which tokens of a routed language model choose, such that its weights use each declared budget on average on
    /// text to train on. <see cref="Fit"/> does so at its end and whenever it saves the best weights. Call this after the last
    /// <see cref="Step(TrainingData)"/>. Other models stay as they are.
    /// </summary>
    /// <exception cref="DataException">
    /// The data do not fit this model, are too few, or are not those of the resumed run.
    /// </exception>
    public void SetThresholds(TrainingData data)
    {
        ArgumentNullException.ThrowIfNull(data);
        if (TModel.Spec is not { Kind: ModelKind.LanguageModel, Routing: not null }) return;
        Use(data);
        using var unrecorded = no_grad();

        // The next batches, which the weights have not seen yet. Nothing that training does depends on the thresholds, so a resumed run
        // finds the same. Batches that are made ahead use another thread, so these have their own source.
        var batches = Feed.Of(data).Batches(TModel.Spec, Options);
        var batch = batches.NewBatch();
        var count = ((ThresholdTokens - 1) / ((long)Options.Batch * TModel.Spec.TokensPerExample)) + 1;
        foreach (var plan in _planner.Routed)
        {
            using var scores = new RoutedScores(plan.Streams.Budget!, plan.Streams.BudgetIndex);
            var streams = plan.Streams.Collecting(scores.Add);
            for (var i = 0; i < count; i++)
            {
                using var scope = NewDisposeScope();
                batches.Fill(FirstBatch(StepsDone + 1) + i, batch);
                var (input, targets) = batch.ToTensors(_parallel is null ? _model.Device : CPU);
                if (_parallel is not null)
                {
                    var part = _parallel.PartOf(plan);
                    (input, targets) = (_parallel.Rows(input, part), _parallel.Rows(targets, part));
                }

                _model.Losses(streams, input, targets);
            }

            scores.SetThresholds();
        }

        _parallel?.AverageThresholds();
    }

    // With several ranks, it also decides whether all of them stop after this step.
    private StepResult Step(TrainingData data, CancellationToken cancellationToken)
    {
        Use(data);
        var result = Step(_planner.At(StepsDone + 1), cancellationToken);
        var own = TokensPerStep / Options.Batch * OwnExamples;
        TrainingTelemetry.Report(TModel.Spec.Name, Rank, result, TokensPerStep, own);
        return result;
    }

    /// <summary>Runs one step with a given plan instead of the objective's plan. For measurements.</summary>
    internal StepResult Step(TrainingData data, StepPlan plan)
    {
        Use(data);
        return Step(plan, CancellationToken.None);
    }

    /// <summary>Restores the weights, the optimizer's moments and the step of a run from its checkpoint.</summary>
    /// <exception cref="CheckpointException">
    /// The file is damaged, or it belongs to another model or to a run with other options.
    /// </exception>
    public void Resume(string path) => Resume(path, allowsOtherOptions: false);

    /// <summary>Resumes a run. If allowed, the rest of the run may have other options than its beginning.</summary>
    internal void Resume(string path, bool allowsOtherOptions)
    {
        var progress = TrainingCheckpoint.Load(path, _model, Optimizer, Options, allowsOtherOptions);
        _ownsFolder = Options.OutputFolder is { } folder && Path.GetDirectoryName(Path.GetFullPath(path))
            == Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        (StepsDone, StepsSkipped, _stop, _expectedData) = (progress.Step, progress.Skipped, progress.Stop, progress.Data);
        _data = null;
        _logger.LogInformation("Resumed from {Path} at step {Step} of {Steps}.", path, StepsDone, Options.Steps);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _parallel?.Dispose();
        _optimizer?.Dispose();
        _rounded?.Dispose();
    }

    // It is made when it is first used, because the ranks that divide its moments are not known before.
    private AdamWState Optimizer => _optimizer ??= new AdamWState(_flat, Options, Communicator);

    // The folder that this process writes to; null if it writes nothing.
    private string? Written => _parallel is { IsFirst: false } ? null : Options.OutputFolder;

    private string? PathOf(string name) => Options.OutputFolder is { } folder ? Path.Combine(folder, name) : null;

    // A new run replaces the weights in its folder only if the options allow it. A later resume must not find files of an earlier run.
    private void Occupy(string folder)
    {
        if (!Options.Overwrite && RunFolder.Occupant(folder, TModel.Spec) is var (what, canResume))
        {
            throw new IOException($"'{folder}' holds {what}; {(canResume ? $"resume from its {RunFolder.CheckpointName}, " : string.Empty)}"
                + $"give another {nameof(TrainerOptions.OutputFolder)}, or set {nameof(TrainerOptions.Overwrite)} to replace it.");
        }

        foreach (var name in RunFolder.Replaced)
            File.Delete(Path.Combine(folder, name));
        _ownsFolder = true;
    }

    // The number of a step's first batch. Batches are numbered from 1.
    private long FirstBatch(long step) => ((step - 1) * Options.Accumulation) + 1;

    private void Use(TrainingData data)
    {
        if (ReferenceEquals(data, _data)) return;
        if (Communicator is { } communicator) _parallel ??= new DataParallel<TModel>(communicator, _model, _flat, Options);
        Feed.Of(data).CheckFits(_model);
        if (_expectedData is not null && _expectedData != data.Fingerprint)
        {
            throw new DataException(
                $"The data of {data.Source} differ from those of the resumed run (the fingerprint is {data.Fingerprint}, but was "
                    + $"{_expectedData}): they changed since, or are other data; resume with the same data.");
        }

        _batches = Feed.Of(data).Batches(TModel.Spec, Options);
        _batch = null;
        _model.TokenizerFingerprint = data.TextTokenizer?.Fingerprint;
        _model.TrainedOn = data.Remembered;
        _data = data;
        _parallel?.CheckSetUp(data, StepsDone);
    }

    // The batch stays valid until the next call.
    private Batch BatchOf(long number)
    {
        if (_prefetched is { } ahead) return ahead.Take(number);
        _batches!.Fill(number, _batch ??= _batches.NewBatch());
        return _batch;
    }

    private StepResult Step(StepPlan plan, CancellationToken cancellationToken)
    {
        using var scope = NewDisposeScope();
        var watch = Stopwatch.StartNew();
        var step = StepsDone + 1;
        var learningRate = Options.LearningRateAt(step);
        var students = plan.Names.IndexOf(TModel.Granularities[^1].Name) + 1; // the largest granularity comes first and has no teacher
        var factors = plan.Factors(Options.Distillation?.Weight, students);
        for (var i = 0; i < factors.Length; i++) factors[i] /= Options.Accumulation;
        var bits = _planner.BitsAt(step);
        var sums = new double[factors.Length];
        _flat.ClearGradients();
        _parallel?.Begin(plan);
        for (var part = 0; part < Options.Accumulation; part++)
        {
            var examples = BatchOf(FirstBatch(step) + part);
            foreach (var (width, factor) in bits)
            {
                using var sending = part == Options.Accumulation - 1 && width == bits[^1].Bits ? _parallel?.Watch() : null;
                float[] its = factor == 1 ? factors : [.. factors.Select(f => f * factor)];
                Backward(plan, FirstBatch(step) + part, examples, width, its, sums);
            }
        }

        _flat.GatherGradients();
        StepCommunication? communication = null;
        if (_parallel is not null)
        {
            (_stops, communication) = _parallel.Finish(sums, cancellationToken.IsCancellationRequested);
        }

        float[] values = [.. sums.Select(sum => (float)(sum / Options.Accumulation / bits.Length))];
        var norm = Kernels.ClipGradientNorm(_flat.Gradients, Options.MaxGradientNorm);
        var problem = Problem(plan, values, norm);
        if (problem is null)
        {
            if (Optimizer.Update(learningRate, step) is { } exchange) communication = communication?.And(exchange);
            _skippedInARow = 0;
        }

        _flat.ForgetGradients();
        if (problem is not null) Skip(problem, step);
        StepsDone = step;
        return new StepResult(
            step, Options.Objective, problem is null ? InOrder(plan.Names.Zip(values)) : [], learningRate, norm,
            TokensPerStep / watch.Elapsed.TotalSeconds)
        {
            Divergences = problem is null ? InOrder(plan.Names.Zip(values.Skip(plan.Names.Length)).Skip(students)) : [],
            Skipped = problem,
            Bits = _rounded is null ? [] : [.. bits.Select(b => b.Bits)],
            Communication = communication,
        };
    }

    // Runs the forward and backward pass of a batch with weights that are rounded to some bits. Accumulates the gradients, and adds the
    // losses to the sums.
    private void Backward(StepPlan plan, long batch, Batch examples, int bits, float[] factors, double[] sums)
    {
        _rounded?.Round(bits);
        try
        {
            Backward(plan, batch, examples, factors, sums);
        }
        finally
        {
            _rounded?.Restore();
        }
    }

    private void Backward(StepPlan plan, long batch, Batch examples, float[] factors, double[] sums)
    {
        using var scope = NewDisposeScope();
        if (_parallel is null)
        {
            var (input, targets) = examples.ToTensors(_model.Device);
            var values = Backward(Thinned(plan.Streams, batch), input, targets, factors);
            for (var i = 0; i < values.Length; i++) sums[i] += values[i];
            return;
        }

        // The losses of pairs are those of the whole batch on each rank. Other losses are means over the rank's rows.
        var part = _parallel.PartOf(plan);
        var (wholeInput, wholeTargets) = examples.ToTensors(CPU);
        using var completing = _parallel.CompletePairs(plan, wholeTargets);
        var indices = completing is null ? part.Indices : [.. Enumerable.Range(0, plan.Names.Length)];
        int[] all = factors.Length == plan.Names.Length ? indices : [.. indices, .. indices.Select(i => i + plan.Names.Length)];
        double[] shares = [.. all.Select((_, i) => completing is null ? part.Shares[i % indices.Length] : 1)];
        var its = Backward(
            Thinned(part.Streams, batch), _parallel.Rows(wholeInput, part), _parallel.Rows(wholeTargets, part),
            [.. all.Select((index, i) => (float)(factors[index] * shares[i]))]);
        if (completing is not null && !_parallel.IsFirst) return; // one rank reports them
        for (var i = 0; i < its.Length; i++) sums[all[i]] += its[i] * shares[i];
    }

    // Returns the losses, or the losses and divergences, of a batch.
    private float[] Backward(Streams streams, Tensor input, Tensor targets, float[] factors)
    {
        // Stochastic depth may leave out every layer. Then there is nothing to recompute.
        var isEmpty = Enumerable.Range(0, TModel.Spec.Layers).All(streams.Skips);
        using var recomputation = Options.RecomputeActivations && !isEmpty ? new Recomputation() : null;
        var losses = Options.Distillation is { } distillation
            ? _model.DistilledLosses(streams, input, targets, distillation.Temperature, recomputation)
            : _model.Losses(streams, input, targets, recomputation);
        var loss = (losses * tensor(factors, device: _model.Device).view(losses.shape)).sum();
        if (recomputation is null) loss.backward();
        else recomputation.Backward(loss);
        KernelNode.ReleaseReturned();
        KernelNode.ThrowFailure();
        return Values(losses);
    }

    // Applies stochastic depth: returns the streams without the layers that this batch leaves out.
    private Streams Thinned(Streams streams, long batch)
    {
        if (Options.StochasticDepth == 0) return streams;
        var random = new CounterRandom(Options.Seed, RandomPurpose.Depth, batch);
        var scales = new double[TModel.Spec.Layers];
        for (var layer = 0; layer < scales.Length; layer++)
        {
            var stays = 1 - (Options.StochasticDepth * (layer + 1) / scales.Length);
            scales[layer] = random.Unit(layer) < stays ? 1 / stays : 0;
        }

        return streams.Thinned(scales);
    }

    // Describes the first value that is not finite. Returns null if all are finite.
    private static string? Problem(StepPlan plan, float[] values, double norm)
    {
        for (var i = 0; i < values.Length; i++)
        {
            if (float.IsFinite(values[i])) continue;
            var what = i < plan.Names.Length ? "loss" : "divergence";
            return Text($"the {what} of {plan.Names[i % plan.Names.Length]} is {values[i]}");
        }

        return double.IsFinite(norm) ? null : Text($"the norm of the gradients is {norm}");

        static string Text(FormattableString text) => FormattableString.Invariant(text);
    }

    private void Skip(string problem, long step)
    {
        if (++_skippedInARow > Options.MaxSkippedSteps)
        {
            var saved = CheckpointPath is { } path && File.Exists(path) ? $" The last checkpoint is '{path}'." : string.Empty;
            var before = _skippedInARow > 1 ? $", after {_skippedInARow - 1} skipped steps in a row" : string.Empty;
            throw new TrainingException(string.Create(
                CultureInfo.InvariantCulture, $"In step {step} {problem}{before}; train again with a lower learning rate than "
                    + $"{Options.LearningRate}, or in float32.{saved}"));
        }

        StepsSkipped++;
        _logger.LogWarning("Skipped step {Step}: {Problem}.", step, problem);
    }

    // Returns the losses of all granularities on validation examples. Saves the weights if they are the best so far.
    private ImmutableArray<(string, float)> Look(TrainingData data)
    {
        using var activity = TrainingTelemetry.Start("evaluate", TModel.Spec.Name, Rank);
        using var unrecorded = no_grad();
        var sums = new double[TModel.Granularities.Count];
        var examples = 0;
        var batches = Feed.Of(data).HeldOut(TModel.Spec, Options.Batch, Options.EvaluationWindows);
        foreach (var batch in _parallel?.PartOf(batches) ?? batches)
        {
            using var scope = NewDisposeScope();
            var (input, targets) = batch.ToTensors(_model.Device);
            var its = Values(_model.Losses(_planner.All.Streams, input, targets));
            for (var i = 0; i < sums.Length; i++) sums[i] += its[i] * (double)batch.Examples;
            examples += batch.Examples;
        }

        if (_parallel is not null)
        {
            double[] all = [.. sums, examples];
            _parallel.Sum(all);
            all.AsSpan(0, sums.Length).CopyTo(sums);
            examples = (int)all[^1];
        }

        for (var i = 0; i < sums.Length; i++) sums[i] /= examples;
        _stop = _stop.After(sums.Average(), StepsDone);
        if (_stop.BestStep == StepsDone)
        {
            SetThresholds(data);
            if (Written is not null && PathOf(RunFolder.BestName) is { } path) _model.Save(path);
        }

        var losses = InOrder(_planner.All.Names.Zip(sums.Select(sum => (float)sum)));
        TrainingTelemetry.ReportValidation(TModel.Spec.Name, Rank, losses);
        return losses;
    }

    // Granularities come first, from narrowest to widest, then mixes.
    private static ImmutableArray<(string, float)> InOrder(IEnumerable<(string Name, float)> numbers) =>
        [.. numbers.OrderBy(number => Planner<TModel>.AllNames.IndexOf(number.Name))];

    private static float[] Values(Tensor losses)
    {
        using var detached = losses.detach();
        using var host = detached.cpu();
        return MemoryMarshal.Cast<byte, float>(host.bytes).ToArray();
    }

    private void SaveCheckpoint(TrainingData data)
    {
        _parallel?.CheckWeights(StepsDone);
        if (CheckpointPath is not { } path) return;
        using var activity = TrainingTelemetry.Start("save", TModel.Spec.Name, Rank);
        using var moments = Optimizer.Gather();
        if (Written is null || moments is null) return;
        TrainingCheckpoint.Save(
            path, _model, moments, Options, new(StepsDone, StepsSkipped, _stop, data.Fingerprint), Remembered);
        _logger.LogDebug("Saved {Path} at step {Step}.", path, StepsDone);
    }
}

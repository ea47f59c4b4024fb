using System.Reflection;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Data parallel training: each rank computes a part of each batch, and all ranks have the same weights after each step.</summary>
internal sealed class DataParallel<TModel> : IDisposable
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private readonly ICommunicator _communicator;
    private readonly TModel _model;
    private readonly FlatWeights _flat;
    private readonly TrainerOptions _options;
    private readonly GradientExchange<TModel> _exchange;
    private bool _isOnePass;

    public DataParallel(ICommunicator communicator, TModel model, FlatWeights flat, TrainerOptions options)
    {
        (_communicator, _model, _flat, _options) = (communicator, model, flat, options);
        _exchange = new GradientExchange<TModel>(
            communicator, model, flat, options.GradientsInBFloat16 ? ScalarType.BFloat16 : ScalarType.Float32);
    }

    /// <summary>Whether this rank writes files and reports.</summary>
    public bool IsFirst => _communicator.Rank == 0;

    /// <summary>Begins a step.</summary>
    public void Begin(StepPlan plan)
    {
        _exchange.Begin(plan.Streams);
        _isOnePass = plan.Streams.Groups.Count == 1;
    }

    /// <summary>
    /// Watches the last backward pass of a step, until the result is disposed. Returns null if streams of several widths run in passes of
    /// their own: each of them adds to the same gradients, so none is finished before the last pass.
    /// </summary>
    public IDisposable? Watch() => _isOnePass ? _exchange.Watch() : null;

    /// <summary>Returns this rank's part of the batch of a plan.</summary>
    public BatchPart PartOf(StepPlan plan) =>
        BatchPart.Of<TModel>(plan, _options.Batch, _communicator.Rank, _communicator.Size);

    /// <summary>Returns this rank's rows of a batch, which is on the CPU, on the device of the model.</summary>
    public Tensor Rows(Tensor whole, BatchPart part)
    {
        if (_communicator.Size == 1) return whole.to(_model.Device);
        using var rows = tensor(part.Rows);
        using var mine = whole.index_select(0, rows);
        return mine.to(_model.Device);
    }

    /// <summary>
    /// Makes the losses of pairs those of the whole batch, until the result is disposed. Returns null for models whose rows do not need
    /// each other.
    /// </summary>
    public IDisposable? CompletePairs(StepPlan plan, Tensor targets) =>
        TModel.Spec.Kind == ModelKind.TextEncoder
        ? new Completing(new PairRows(_communicator, _options.Batch, plan.Streams, targets.to(_model.Device))) : null;

    /// <summary>
    /// Ends a step: <see cref="FlatWeights.Gradients"/> gets the sums of all ranks, and so do the values. If a rank wants to stop, all are
    /// told.
    /// </summary>
    public (bool Stop, StepCommunication Communication) Finish(double[] values, bool stop)
    {
        double[] sent = [.. values, stop ? 1 : 0];
        using var sums = tensor(sent).DetachFromDisposeScope();
        var communication = _exchange.Finish(() => _communicator.BeginAllReduce(sums));
        var received = sums.data<double>().ToArray();
        received.AsSpan(0, values.Length).CopyTo(values);
        return (received[^1] > 0, communication);
    }

    /// <summary>
    /// Replaces the thresholds of a language model, which each rank has found from its own tokens, by their means over all ranks.
    /// </summary>
    public void AverageThresholds()
    {
        using var unrecorded = no_grad();
        foreach (var (name, thresholds) in _model.named_parameters())
        {
            if (!name.EndsWith(Routers.ThresholdsName, StringComparison.Ordinal)) continue;
            _communicator.BeginAllReduce(thresholds).Wait();
            thresholds.div_(Numbers.Number(_communicator.Size));
        }
    }

    /// <summary>Returns every size-th batch, beginning with this rank.</summary>
    public IEnumerable<Batch> PartOf(IEnumerable<Batch> batches) =>
        batches.Where((_, i) => i % _communicator.Size == _communicator.Rank);

    /// <summary>Replaces numbers by their sums over all ranks.</summary>
    public void Sum(double[] numbers) => _communicator.AllReduce(numbers);

    /// <summary>Waits for all ranks.</summary>
    public void Barrier() => _communicator.Barrier();

    /// <summary>Ends all ranks.</summary>
    public void Abort(string reason) => _communicator.Abort(reason);

    /// <summary>Refuses ranks that do not train the same model with the same options on the same data.</summary>
    /// <exception cref="DistributedException">Thrown on all ranks. The message names a rank and what is different there.</exception>
    public void CheckSetUp(TrainingData data, long step)
    {
        var mine = SetUp(data, step).Select(line => $"{line.Key}={line.Value}");
        var all = _communicator.AllGather(string.Join('\n', mine)).Select(text => text.Split('\n')).ToArray();
        for (var rank = 1; rank < all.Length; rank++)
        {
            var differences = all[0].Zip(all[rank]).Where(pair => pair.First != pair.Second).ToList();
            if (differences is not [var (first, its), ..]) continue;
            var key = first[..first.IndexOf('=', StringComparison.Ordinal)];
            var others = differences.Count > 1 ? $" ({differences.Count - 1} more differences)" : string.Empty;
            throw new DistributedException(
                $"Rank {rank} has another {key} than rank 0: '{its[(key.Length + 1)..]}' instead of '{first[(key.Length + 1)..]}'{others}; "
                + "start all ranks with the same program, options and data.");
        }

        CheckDivides();
    }

    /// <summary>Checks that all ranks still have the same weights.</summary>
    /// <exception cref="DistributedException">Thrown on all ranks. The message names a rank with other weights.</exception>
    public void CheckWeights(long step)
    {
        var all = _communicator.AllGather(Mark(_flat.Weights));
        var other = Array.FindIndex(all, mark => mark != all[0]);
        if (other < 0) return;
        throw new DistributedException(
            $"After step {step} the weights of rank {other} differ from those of rank 0, so the ranks no longer train one model; use "
            + "machines of one kind, or report this as a bug.");
    }

    /// <inheritdoc/>
    public void Dispose() => _exchange.Dispose();

    // All ranks come to the same result, because they have the same options.
    private void CheckDivides()
    {
        _communicator.CheckDevice(_model.Device);
        if (_options.Batch < _communicator.Size)
        {
            throw new DistributedException(
                $"A batch of {_options.Batch} cannot be divided among {_communicator.Size} ranks; give a batch of {_communicator.Size} or "
                + "more, or start fewer ranks.");
        }

        // Each width runs in a pass of its own. A rank without rows of a width would not take part in completing the pairs of its pass.
        if (TModel.Spec.Kind == ModelKind.TextEncoder && TModel.Spec.ElasticWidth && _options.Objective == Objective.Split
            && _communicator.Size > 1)
        {
            throw new DistributedException(
                $"The granularities of {TModel.Spec.Name} keep different numbers of channels, and a text encoder of this kind is trained "
                + $"by one process with the objective {_options.Objective}; start one, or give another objective.");
        }

        // A rank without rows of a stream would compute no divergence, for which the others wait.
        var isUneven = TModel.Spec.Kind == ModelKind.TextEncoder && _options is { Objective: Objective.Split, Distillation: not null };
        if (isUneven && Math.Floor(_options.LeastShare(TModel.Granularities.Count) * _options.Batch) < _communicator.Size)
        {
            throw new DistributedException(
                $"Distillation with the objective {_options.Objective} needs a pair of each granularity on each of the "
                + $"{_communicator.Size} ranks, but a batch of {_options.Batch} can have fewer; give a larger batch, or start fewer "
                + "ranks.");
        }
    }

    private IEnumerable<(string Key, string Value)> SetUp(TrainingData data, long step) =>
    [
        ("version of MatFormer", Version(typeof(DataParallel<TModel>))),
        ("version of TorchSharp", Version(typeof(Tensor))),
        ("number of ranks", Text(_communicator.Size)),
        ("declaration", $"{TModel.Spec.Name} {TModel.Spec.Fingerprint}"),
        ("data fingerprint", data.Fingerprint),
        ("tokenizer", data.TextTokenizer?.Fingerprint ?? "none"),
        ("step", Text(step)),
        ("dtype", _model.ComputeType.ToString()),
        ("device", _model.Device.type.ToString()),
        ("kernels", Kernels.Cpu.Takes(_flat.Weights) ? CpuLibrary.InstructionSets[0] : "composite"),
        .. _options.ToMetadata().Concat(_options.ToChangeableMetadata()).Select(option => ($"option {option.Key}", option.Value)),
        ("weights", Mark(_flat.Weights)),
    ];

    private static string Version(Type type) =>
        type.Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    private static string Text(IFormattable value) => value.ToString(null, System.Globalization.CultureInfo.InvariantCulture);

    // A checksum of all bits. Equal weights have equal marks on every machine.
    private static string Mark(Tensor weights)
    {
        using var unrecorded = no_grad();
        using var host = weights.cpu();
        var mark = 14695981039346656037UL;
        foreach (var bits in MemoryMarshal.Cast<byte, ulong>(host.bytes)) mark = (mark ^ bits) * 1099511628211UL;
        return Text(mark);
    }

    private sealed class Completing : IDisposable
    {
        public Completing(PairExchange exchange) => PairExchange.Current = exchange;

        public void Dispose() => PairExchange.Current = null;
    }
}

using System.Diagnostics;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// AdamW (arXiv 1711.05101) over flat weights. The moments have the layout of the weights. Several ranks can divide them: each rank then
/// holds the moments of its shards and updates the weights there, and all ranks exchange these weights (ZeRO-1, arXiv 1910.02054).
/// </summary>
internal sealed class AdamWState : IDisposable
{
    // The most numbers in a shard: 4 MiB of float32. While the ranks exchange one shard, they update the next one.
    private const long MostNumbers = 1 << 20;

    private readonly FlatWeights _flat;
    private readonly TrainerOptions _options;
    private readonly ICommunicator? _ranks;

    // The blocks of the flat layout that are divided evenly: where each begins, and the size of each rank's shard of it.
    private readonly List<(long First, long Shard)> _blocks = [];

    // The parts of the flat layout whose moments lie here, one after the other: the rank's shards, and what cannot be divided evenly.
    private readonly List<(long First, long Count)> _parts = [];
    private readonly Tensor _first;
    private readonly Tensor _second;

    /// <param name="flat">The weights and gradients.</param>
    /// <param name="options">The options of training.</param>
    /// <param name="ranks">The ranks that divide the moments if the options say so; null for one process.</param>
    public AdamWState(FlatWeights flat, TrainerOptions options, ICommunicator? ranks = null)
    {
        (_flat, _options) = (flat, options);
        var (next, all) = (0L, flat.Weights.numel());
        if (options.ShardMoments && ranks is { Size: > 1 })
        {
            _ranks = ranks;
            while (Math.Min(MostNumbers, (all - next) / ranks.Size) / FlatWeights.Unit * FlatWeights.Unit is > 0 and var shard)
            {
                _blocks.Add((next, shard));
                _parts.Add((next + (ranks.Rank * shard), shard));
                next += ranks.Size * shard;
            }
        }

        if (next < all) _parts.Add((next, all - next));
        _first = zeros(_parts.Sum(part => part.Count), ScalarType.Float32, flat.Weights.device).DetachFromDisposeScope();
        _second = zeros_like(_first).DetachFromDisposeScope();
    }

    /// <summary>The bytes of the moments on this rank.</summary>
    public long Bytes => (_first.numel() * _first.element_size()) + (_second.numel() * _second.element_size());

    /// <summary>Returns the names of a parameter's first and second moments in a checkpoint.</summary>
    public static (string First, string Second) NamesOf(string name) =>
        (CheckpointHeader.OptimizerPrefix + "exp_avg." + name, CheckpointHeader.OptimizerPrefix + "exp_avg_sq." + name);

    /// <summary>
    /// Updates the weights from their gradients. The weights that decay come first in the flat layout. If the moments are divided, all
    /// ranks must call it. Returns what the exchange of weights cost; null if there was none.
    /// </summary>
    /// <param name="learningRate">The learning rate of this step.</param>
    /// <param name="step">The number of this step, from 1.</param>
    public StepCommunication? Update(double learningRate, long step)
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        var exchanges = new List<ICommunication>();
        var moment = 0L;
        for (var i = 0; i < _parts.Count; i++)
        {
            var (first, count) = _parts[i];
            var decaying = Math.Clamp(_flat.Decaying - first, 0, count);
            Update(first, decaying, moment, _options.WeightDecay, learningRate, step);
            Update(first + decaying, count - decaying, moment + decaying, 0, learningRate, step);
            moment += count;
            if (i >= _blocks.Count) continue;
            var (begin, shard) = _blocks[i];
            exchanges.Add(_ranks!.BeginAllGather(
                _flat.Weights.narrow(0, first, count), _flat.Weights.narrow(0, begin, _ranks.Size * shard)));
        }

        if (exchanges.Count == 0) return null;
        var watch = Stopwatch.StartNew();
        foreach (var exchange in exchanges) exchange.Wait();
        var bytes = _blocks.Sum(block => block.Shard) * _flat.Weights.element_size();
        return new(bytes, exchanges.Sum(exchange => exchange.Duration.TotalSeconds), watch.Elapsed.TotalSeconds);
    }

    /// <summary>
    /// Returns all moments in the layout of the weights. If they are divided, all ranks must call it, and only the first one gets them.
    /// </summary>
    public Moments? Gather()
    {
        if (_ranks is null) return new(_flat, _first.alias().DetachFromDisposeScope(), _second.alias().DetachFromDisposeScope());
        var isFirst = _ranks.Rank == 0;
        var (first, second) = (Gathered(_first, isFirst), Gathered(_second, isFirst));
        return isFirst ? new(_flat, first!, second!) : null;
    }

    /// <summary>Sets the moments of a parameter, of its shape. A rank keeps what belongs to it.</summary>
    public void Set(Parameter parameter, Tensor first, Tensor second)
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        var (_, begin, count) = _flat.PlaceOf(parameter);
        var moment = 0L;
        foreach (var part in _parts)
        {
            var (from, to) = (Math.Max(begin, part.First), Math.Min(begin + count, part.First + part.Count));
            if (from < to)
            {
                foreach (var (own, its) in ((Tensor, Tensor)[])[(_first, first), (_second, second)])
                    own.narrow(0, moment + from - part.First, to - from).copy_(its.view(-1).narrow(0, from - begin, to - from));
            }

            moment += part.Count;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _first.Dispose();
        _second.Dispose();
    }

    private void Update(long first, long count, long moment, double decay, double learningRate, long step)
    {
        if (count == 0) return;
        using var weights = _flat.Weights.narrow(0, first, count);
        using var gradients = _flat.Gradients.narrow(0, first, count);
        using var firstMoments = _first.narrow(0, moment, count);
        using var secondMoments = _second.narrow(0, moment, count);
        Kernels.AdamW(
            weights, gradients, firstMoments, secondMoments, decay, learningRate, _options.Beta1, _options.Beta2, _options.Epsilon, step);
    }

    // Collects a moment of all ranks block by block. Only a rank that wants it needs room for all of it.
    private Tensor? Gathered(Tensor own, bool wanted)
    {
        using var scope = NewDisposeScope();
        var whole = wanted ? empty_like(_flat.Weights).DetachFromDisposeScope() : null;
        var moment = 0L;
        foreach (var (first, shard) in _blocks)
        {
            using var block = empty([_ranks!.Size * shard], own.dtype, own.device);
            using var mine = own.narrow(0, moment, shard);
            _ranks.AllGather(mine, block);
            whole?.narrow(0, first, _ranks.Size * shard).copy_(block);
            moment += shard;
        }

        var rest = own.numel() - moment;
        if (rest > 0) whole?.narrow(0, whole.numel() - rest, rest).copy_(own.narrow(0, moment, rest));
        return whole;
    }

    /// <summary>All moments of a model, in the layout of its weights.</summary>
    /// <param name="flat">The weights.</param>
    /// <param name="first">The running means of the gradients. It is disposed with this object.</param>
    /// <param name="second">The running means of the squared gradients. It is disposed with this object.</param>
    public sealed class Moments(FlatWeights flat, Tensor first, Tensor second) : IDisposable
    {
        /// <summary>Returns views of a parameter's moments with their names in a checkpoint. The caller disposes the views.</summary>
        public IEnumerable<(string Name, Tensor Moment)> Of(string name, Parameter parameter)
        {
            var names = NamesOf(name);
            return [(names.First, flat.ViewOf(first, parameter)), (names.Second, flat.ViewOf(second, parameter))];
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            first.Dispose();
            second.Dispose();
        }
    }
}

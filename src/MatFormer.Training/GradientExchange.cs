using System.Collections.Immutable;
using System.Diagnostics;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Replaces the gradients of a step by their sums over all ranks. Gradients go out in buckets. The fused kernels finish the matrices of the
/// blocks from the last one to the first, so their buckets go out while the backward pass goes on. Of a weight that the step has cut, only
/// the part that has gradients is sent: the first numbers along each of its dimensions.
/// </summary>
internal sealed class GradientExchange<TModel> : IDisposable
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    /// <summary>The number of gradients in a bucket: 4 MiB of float32. It is large enough to hide what a message costs by itself.</summary>
    private const long BucketNumbers = 1 << 20;

    // More cuts than this are not remembered. An objective that mixes layers at random rarely meets a cut again.
    private const int MostCuts = 64;

    private readonly ICommunicator _communicator;
    private readonly FlatWeights _flat;
    private readonly ScalarType _wire;
    private readonly string[] _names;
    private readonly int[] _sequence;
    private readonly int _ordered;
    private readonly Dictionary<Tensor, int> _placeOf = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<string, long[]?[]> _cuts = new(StringComparer.Ordinal);
    private readonly List<Sent> _sent = [];
    private readonly List<int> _bucket = [];
    private Tensor? _packed;
    private long _used;
    private long[]?[] _kept = [];
    private long _bucketNumbers;
    private int _next;
    private long _bytes;

    /// <param name="communicator">The ranks.</param>
    /// <param name="model">The model.</param>
    /// <param name="flat">Its weights and gradients.</param>
    /// <param name="wire">The dtype in which gradients are sent: Float32 or BFloat16.</param>
    public GradientExchange(ICommunicator communicator, TModel model, FlatWeights flat, ScalarType wire)
    {
        (_communicator, _flat, _wire) = (communicator, flat, wire);
        var names = new Dictionary<Tensor, string>(ReferenceEqualityComparer.Instance);
        foreach (var (name, parameter) in model.named_parameters()) names.Add(parameter, name);
        _names = [.. flat.Places.Select(place => names[place.Parameter])];
        for (var i = 0; i < flat.Places.Count; i++) _placeOf.Add(flat.Places[i].Parameter, i);

        // The matrices of the blocks lie in the order of the forward pass.
        var decaying = flat.Places.Count(place => place.First < flat.Decaying);
        _sequence = [.. Enumerable.Range(0, decaying).Reverse(), .. Enumerable.Range(decaying, flat.Places.Count - decaying)];
        _ordered = decaying;
    }

    private readonly record struct Sent(ICommunication Communication, Tensor Wire, Tensor? Dense, List<int>? Places);

    /// <summary>Begins a step with the given streams.</summary>
    public void Begin(Streams streams)
    {
        // Routers, which a routed pass trains, belong to no slice.
        var key = streams.Budget is null ? string.Join('/', streams.Widest) : nameof(streams.Budget);
        if (!_cuts.TryGetValue(key, out var kept))
        {
            if (_cuts.Count >= MostCuts) _cuts.Clear();
            kept = streams.Budget is null ? Cut(streams.Widest) : [.. _flat.Places.Select(place => place.Parameter.shape)];
            _cuts.Add(key, kept);
        }

        _kept = kept;
        (_next, _used, _bytes) = (0, 0, 0);
    }

    /// <summary>Watches the step's last backward pass, and sends buckets as they are finished, until the result is disposed.</summary>
    public IDisposable Watch()
    {
        KernelNode.WhenDifferentiated(Kernels.Cpu.Takes(_flat.Weights) ? Finished : null);
        return new Watching();
    }

    /// <summary>
    /// Sends what is left and waits for all. Afterwards <see cref="FlatWeights.Gradients"/> has the sums of all ranks.
    /// </summary>
    /// <param name="last">Begins another exchange, which is waited for too.</param>
    public StepCommunication Finish(Func<ICommunication> last)
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        while (_next < _sequence.Length) Add(_sequence[_next]);
        Send();
        var ending = last();
        var watch = Stopwatch.StartNew();
        var (busy, waiting) = (TimeSpan.Zero, TimeSpan.Zero);
        foreach (var (communication, wire, dense, places) in _sent)
        {
            var before = watch.Elapsed;
            communication.Wait();
            waiting += watch.Elapsed - before;
            busy += communication.Duration;
            Unpack(wire, dense, places);
            wire.Dispose();
            if (!ReferenceEquals(wire, dense)) dense?.Dispose();
        }

        _sent.Clear();
        ending.Wait();
        return new StepCommunication(_bytes, busy.TotalSeconds, waiting.TotalSeconds);
    }

    /// <inheritdoc/>
    public void Dispose() => _packed?.Dispose();

    // A submodel of this shape has the weights that have gradients, under the same names.
    private long[]?[] Cut(ImmutableArray<LayerSlice> widest)
    {
        using var scope = NewDisposeScope();
        using var shapes = TModel.CreateSubmodel(new Profile<TModel>("cut", widest), META);
        var kept = shapes.named_parameters().ToDictionary(named => named.name, named => named.parameter.shape, StringComparer.Ordinal);
        return [.. _names.Select(kept.GetValueOrDefault)];
    }

    // Called when the gradients of a call's weights are there. The call's block and all later ones are finished from its first matrix on.
    private void Finished(KernelCall call)
    {
        var first = int.MaxValue;
        foreach (var weight in call.Weights)
        {
            if (weight is null || !_placeOf.TryGetValue(weight, out var place) || place >= _ordered) continue;
            if (_sequence.AsSpan(0, _next).Contains(place))
                throw new InvalidOperationException($"The gradient of {_names[place]} changed after it had been sent.");
            first = Math.Min(first, place);
        }

        using var scope = NewDisposeScope();
        while (_next < _ordered && _sequence[_next] >= first) Add(_sequence[_next]);
    }

    private void Add(int place)
    {
        if (_next == _ordered) Send(); // buckets hold neighbours
        _next++;
        _flat.GatherGradient(place);
        _bucket.Add(place);
        if (_kept[place] is { } kept) _bucketNumbers += kept.Aggregate(1L, (product, size) => product * size);
        if (_bucketNumbers >= BucketNumbers) Send();
    }

    private void Send()
    {
        using var unrecorded = no_grad();
        if (_bucketNumbers > 0)
        {
            List<int> places = [.. _bucket];
            var isDense = places.All(place => IsWhole(place));
            var numbers = isDense ? Dense(places) : Pack(places);
            var wire = _wire == ScalarType.Float32 ? numbers : numbers.to(_wire);
            wire.DetachFromDisposeScope();
            if (!ReferenceEquals(wire, numbers)) numbers.DetachFromDisposeScope();
            _bytes += wire.numel() * wire.element_size();
            var source = isDense || !ReferenceEquals(wire, numbers) ? numbers : null;
            _sent.Add(new(_communicator.BeginAllReduce(wire), wire, source, isDense ? null : places));
        }

        _bucket.Clear();
        _bucketNumbers = 0;
    }

    private void Unpack(Tensor wire, Tensor? dense, List<int>? places)
    {
        if (dense is not null && !ReferenceEquals(wire, dense)) dense.copy_(wire);
        if (places is null) return;
        var numbers = dense ?? wire;
        var first = 0L;
        foreach (var place in places)
        {
            if (Region(place) is not { } region) continue;
            region.copy_(numbers.narrow(0, first, region.numel()).view(region.shape));
            first += region.numel();
        }
    }

    private bool IsWhole(int place) => _kept[place] is { } kept && kept.AsSpan().SequenceEqual(_flat.Places[place].Parameter.shape);

    // The gradients of neighbouring weights, with the gaps between them.
    private Tensor Dense(List<int> places)
    {
        var first = places.Min(place => _flat.Places[place].First);
        var end = places.Max(place => _flat.Places[place].First + _flat.Places[place].Count);
        return _flat.Gradients.narrow(0, first, end - first);
    }

    private Tensor Pack(List<int> places)
    {
        _packed ??= empty_like(_flat.Gradients).DetachFromDisposeScope();
        var packed = _packed.narrow(0, _used, _bucketNumbers);
        _used += _bucketNumbers;
        var first = 0L;
        foreach (var place in places)
        {
            if (Region(place) is not { } region) continue;
            using var target = packed.narrow(0, first, region.numel());
            using var shaped = target.view(region.shape);
            shaped.copy_(region);
            first += region.numel();
        }

        return packed;
    }

    // The part of a gradient that can be other than zero; null if there is none.
    private Tensor? Region(int place)
    {
        if (_kept[place] is not { } kept) return null;
        var region = _flat.GatherGradient(place).alias();
        for (var dimension = 0; dimension < kept.Length; dimension++) region = region.narrow(dimension, 0, kept[dimension]);
        return region;
    }

    private sealed class Watching : IDisposable
    {
        public void Dispose() => KernelNode.WhenDifferentiated(null);
    }
}

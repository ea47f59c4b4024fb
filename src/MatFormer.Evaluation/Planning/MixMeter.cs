using System.Collections.Immutable;
using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Measures mixes. A mix is given as the part that it keeps of each layer.</summary>
internal interface IMixMeter
{
    /// <summary>Measures the time of each mix: <see cref="MixCost.Milliseconds"/>.</summary>
    double[] Milliseconds(IReadOnlyList<ImmutableArray<LayerSlice>> mixes);

    /// <summary>Measures the loss of each mix: <see cref="MixCost.Loss"/>.</summary>
    double[] Losses(IReadOnlyList<ImmutableArray<LayerSlice>> mixes);
}

/// <summary>Times a model's mixes and evaluates them on validation examples.</summary>
internal abstract class MixMeter<TModel>(TModel model, IEnumerable<Batch> heldOut, CancellationToken cancellationToken) : IMixMeter
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private const int MostAtOnce = 16;
    private const double MillisecondsAtOnce = 20;
    private const double MillisecondsInAll = 400;
    private const int LeastRounds = 7;
    private const int MostRounds = 200;

    // The 10th percentile of the times is what the machine takes when nothing else disturbs it.
    private const double Quantile = 0.1;

    private readonly List<Batch> _batches = [.. heldOut];
    private int _atOnce;
    private int _rounds;

    /// <summary>The number of windows, images or pairs on which mixes are evaluated.</summary>
    public long Examples => _batches.Sum(batch => (long)batch.Examples);

    /// <summary>The factor from the model's losses to the reported losses.</summary>
    protected virtual double LossScale => 1;

    /// <summary>
    /// Returns the 10th percentile of each mix's times. The mixes take turns in rounds, so that other load on the machine affects all of
    /// them. The first run of a turn does not count, because it finds the CPU's caches filled by another mix.
    /// </summary>
    public double[] Milliseconds(IReadOnlyList<ImmutableArray<LayerSlice>> mixes) => Milliseconds(mixes, Turn);

    /// <inheritdoc/>
    public double[] Losses(IReadOnlyList<ImmutableArray<LayerSlice>> mixes) => Losses([.. mixes.Select(StreamsOf)]);

    /// <summary>Times mixes, or other passes that <paramref name="turn"/> runs as <see cref="Turn"/> runs a mix.</summary>
    protected double[] Milliseconds<T>(IReadOnlyList<T> passes, Action<T, int, List<double>> turn)
    {
        using var unrecorded = no_grad();
        Prepare();
        if (_rounds == 0)
        {
            SteadyTimes.WarmUp(() => Turn(TModel.Spec.WholeLayers, 1, []));
            var times = new List<double>();
            Turn(TModel.Spec.WholeLayers, 3, times);
            _atOnce = (int)Math.Clamp(MillisecondsAtOnce / times.Min(), 1, MostAtOnce);
            _rounds = (int)Math.Clamp(MillisecondsInAll / (times.Min() * _atOnce), LeastRounds, MostRounds);
        }

        var taken = passes.Select(_ => new List<double>(_rounds * _atOnce)).ToArray();
        for (var round = 0; round < _rounds; round++)
        {
            for (var i = 0; i < taken.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                turn(passes[i], _atOnce, taken[i]);
            }
        }

        return Array.ConvertAll(taken, times =>
        {
            times.Sort();
            return times[(int)(times.Count * Quantile)];
        });
    }

    /// <summary>Returns the loss of each pass, which has one stream.</summary>
    protected double[] Losses(Streams[] streams)
    {
        using var unrecorded = no_grad();
        var losses = new double[streams.Length];
        foreach (var batch in _batches)
        {
            using var scope = NewDisposeScope();
            var (input, targets) = batch.ToTensors(model.Device);
            for (var i = 0; i < losses.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                using var inner = NewDisposeScope();
                var loss = model.Losses(streams[i], input, targets).to(ScalarType.Float64).sum().item<double>();
                losses[i] += loss * batch.Examples / Examples;
            }
        }

        return Array.ConvertAll(losses, loss => loss * LossScale);
    }

    /// <summary>Returns the pass of a mix.</summary>
    protected virtual Streams StreamsOf(ImmutableArray<LayerSlice> layers) => Streams.Of(layers);

    /// <summary>Prepares the timing of mixes.</summary>
    protected virtual void Prepare()
    {
    }

    /// <summary>
    /// Runs a mix <paramref name="times"/> + 1 times. Adds the milliseconds of each run but the first to <paramref name="taken"/>.
    /// </summary>
    protected abstract void Turn(ImmutableArray<LayerSlice> layers, int times, List<double> taken);
}

/// <summary>Times the decoding of a token by an engine, and evaluates the same model on windows of text.</summary>
internal sealed class DecodingMixMeter<TModel> : MixMeter<TModel>
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private readonly DecodingEngine _engine;
    private readonly int[] _text;

    public DecodingMixMeter(
        TModel model, DecodingEngine engine, TextCorpus corpus, int cacheTokens, int windows, CancellationToken cancellationToken)
        : base(
            model, Feed.Of(corpus).HeldOut(TModel.Spec, Evaluator.BatchOf(TModel.Spec, new EvaluationOptions().Batch), windows),
            cancellationToken)
    {
        _engine = engine;
        var all = Windows.Fixed(corpus.Validation, TModel.Spec.Context, windows).ToList();
        Bytes = all.Sum(window => Windows.Text(corpus, window).Length - 1L);
        Tokens = (long)all.Count * TModel.Spec.Context;
        _text = all[0][..(cacheTokens + 1)];
    }

    /// <summary>The number of tokens on which mixes are evaluated.</summary>
    public long Tokens { get; }

    /// <summary>The number of bytes of text that these tokens stand for.</summary>
    public long Bytes { get; }

    /// <summary>The factor from nats per token to bits per byte.</summary>
    protected override double LossScale => (double)Tokens / Bytes / Math.Log(2);

    // Fills the cache with the whole model's keys and values. Every mix uses those of the heads that it keeps.
    protected override void Prepare()
    {
        _engine.Truncate(0, 0);
        _engine.Use(0, TModel.Spec.WholeLayers);
        if (_text.Length == 1) return;
        _engine.Append(0, _text.AsSpan(0, _text.Length - 1));
        _engine.Run();
    }

    // Decodes the last token of the text repeatedly.
    protected override void Turn(ImmutableArray<LayerSlice> layers, int times, List<double> taken)
    {
        _engine.Use(0, layers);
        for (var i = 0; i <= times; i++)
        {
            var start = Stopwatch.GetTimestamp();
            _engine.Append(0, _text.AsSpan(_text.Length - 1));
            _engine.Run();
            if (i > 0) taken.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
            _engine.Truncate(0, _text.Length - 1);
        }
    }
}

/// <summary>Times an encoder's forward pass over one image or text, and evaluates it on images or pairs.</summary>
internal sealed class EncoderMixMeter<TModel> : MixMeter<TModel>, IDisposable
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private readonly TModel _model;
    private readonly int? _grid;
    private readonly Tensor _input;

    /// <param name="model">The encoder.</param>
    /// <param name="heldOut">The batches to evaluate on.</param>
    /// <param name="tokens">The number of tokens of the timed text.</param>
    /// <param name="grid">The grid of compressed tokens; null for the largest.</param>
    /// <param name="cancellationToken">Cancels measurements.</param>
    public EncoderMixMeter(TModel model, IEnumerable<Batch> heldOut, int tokens, int? grid, CancellationToken cancellationToken)
        : base(model, heldOut, cancellationToken)
    {
        (_model, _grid) = (model, grid);

        // The time does not depend on the values of the input.
        _input = TModel.Spec.Image is { } image ? zeros([1, image.Channels, image.Size, image.Size], device: model.Device)
            : zeros([1, tokens], ScalarType.Int64, model.Device);
    }

    public void Dispose() => _input.Dispose();

    /// <summary>Measures the time and the loss of the routed passes at the declared budgets.</summary>
    public (double[] Milliseconds, double[] Losses) Routed(IReadOnlyList<double> budgets) => (
        Milliseconds(budgets, (budget, times, taken) => Turn(() => _model.Forward(budget, _input), times, taken)),
        Losses([.. budgets.Select(budget => Streams.Routed<TModel>(budget))]));

    protected override Streams StreamsOf(ImmutableArray<LayerSlice> layers) => base.StreamsOf(layers).At(_grid);

    protected override void Turn(ImmutableArray<LayerSlice> layers, int times, List<double> taken)
    {
        var profile = new Profile<TModel>("mix", layers);
        if (_grid is { } grid) profile = profile.At(grid);
        Turn(() => _model.Forward(profile, _input), times, taken);
    }

    private void Turn(Func<Tensor> pass, int times, List<double> taken)
    {
        for (var i = 0; i <= times; i++)
        {
            var start = Stopwatch.GetTimestamp();
            using var output = pass();
            if (_model.Device.type == DeviceType.CUDA) cuda.synchronize();
            if (i > 0) taken.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
        }
    }
}

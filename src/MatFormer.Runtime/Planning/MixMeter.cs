using System.Collections.Immutable;
using System.Diagnostics;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Measures mixes, given as what they keep of each layer.</summary>
internal interface IMixMeter
{
    /// <summary>Milliseconds of the decoding of a token, of each.</summary>
    double[] MillisecondsPerToken(IReadOnlyList<ImmutableArray<LayerSlice>> mixes);

    /// <summary>Bits per byte on validation text, of each.</summary>
    double[] BitsPerByte(IReadOnlyList<ImmutableArray<LayerSlice>> mixes);
}

/// <summary>Times a decoding engine, and evaluates the model that it has.</summary>
internal sealed class MixMeter<TModel> : IMixMeter
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    private const int TokensAtOnce = 16;
    private const double MillisecondsAtOnce = 20;
    private const double MillisecondsInAll = 400;
    private const int LeastRounds = 7;
    private const int MostRounds = 200;

    // Of all times the one that a tenth is below: what the machine does when nothing else disturbs it.
    private const double Quantile = 0.1;

    private readonly TModel _model;
    private readonly DecodingEngine _engine;
    private readonly CancellationToken _cancellationToken;
    private readonly List<int[]> _windows;
    private readonly int _batch;
    private readonly double _tokensPerByte;
    private readonly int[] _text;
    private int _tokensAtOnce;
    private int _rounds;

    public MixMeter(
        TModel model, DecodingEngine engine, TextCorpus corpus, int cacheTokens, int windows, CancellationToken cancellationToken)
    {
        (_model, _engine, _cancellationToken) = (model, engine, cancellationToken);
        var (context, options) = (TModel.Spec.Context, new EvaluationOptions());
        _windows = Windows.Fixed(corpus.Validation, context, windows).ToList();
        Bytes = _windows.Sum(window => Windows.Text(corpus, window).Length - 1L);
        Tokens = (long)_windows.Count * context;
        _batch = Evaluator.BatchOf(TModel.Spec, options.Batch);
        _tokensPerByte = (double)Tokens / Bytes;
        _text = _windows[0][..(cacheTokens + 1)];
    }

    /// <summary>Tokens on which mixes are evaluated.</summary>
    public long Tokens { get; }

    /// <summary>Bytes of text that these stand for.</summary>
    public long Bytes { get; }

    /// <summary>
    /// In each round every mix has its turn, so that what else the machine does meets all of them; a tenth of a mix's tokens took no longer
    /// than what is given. Of each turn the first token, which finds what another mix left in the CPU's caches, does not count.
    /// </summary>
    public double[] MillisecondsPerToken(IReadOnlyList<ImmutableArray<LayerSlice>> mixes)
    {
        Prefill();
        if (_rounds == 0)
        {
            Turn(TModel.Spec.WholeLayers, 2, []); // compiled now
            var times = new List<double>();
            Turn(TModel.Spec.WholeLayers, 3, times);
            _tokensAtOnce = (int)Math.Clamp(MillisecondsAtOnce / times.Min(), 1, TokensAtOnce);
            _rounds = (int)Math.Clamp(MillisecondsInAll / (times.Min() * _tokensAtOnce), LeastRounds, MostRounds);
        }

        var taken = mixes.Select(_ => new List<double>(_rounds * _tokensAtOnce)).ToArray();
        for (var round = 0; round < _rounds; round++)
        {
            for (var i = 0; i < taken.Length; i++)
            {
                _cancellationToken.ThrowIfCancellationRequested();
                Turn(mixes[i], _tokensAtOnce, taken[i]);
            }
        }

        return Array.ConvertAll(taken, times =>
        {
            times.Sort();
            return times[(int)(times.Count * Quantile)];
        });
    }

    /// <inheritdoc/>
    public double[] BitsPerByte(IReadOnlyList<ImmutableArray<LayerSlice>> mixes)
    {
        using var unrecorded = no_grad();
        var streams = mixes.Select(Streams.Of).ToArray();
        var nats = new double[streams.Length];
        foreach (var batch in _windows.Chunk(_batch))
        {
            using var scope = NewDisposeScope();
            var (tokens, targets) = TokenBatch.Of(batch).ToTensors(_model.Device);
            for (var i = 0; i < nats.Length; i++)
            {
                _cancellationToken.ThrowIfCancellationRequested();
                using var inner = NewDisposeScope();
                var loss = _model.Losses(streams[i], tokens, targets).to(ScalarType.Float64).sum().item<double>();
                nats[i] += loss * batch.Length / _windows.Count;
            }
        }

        return Array.ConvertAll(nats, each => each * _tokensPerByte / Math.Log(2));
    }

    // The whole model's keys and values, of which every mix uses the heads that it has.
    private void Prefill()
    {
        _engine.Truncate(0, 0);
        _engine.Use(0, TModel.Spec.WholeLayers);
        if (_text.Length == 1) return;
        _engine.Append(0, _text.AsSpan(0, _text.Length - 1));
        _engine.Run();
    }

    // Decodes the token after the text over and over, and the first time uncounted.
    private void Turn(ImmutableArray<LayerSlice> layers, int tokens, List<double> taken)
    {
        _engine.Use(0, layers);
        for (var i = 0; i <= tokens; i++)
        {
            var start = Stopwatch.GetTimestamp();
            _engine.Append(0, _text.AsSpan(_text.Length - 1));
            _engine.Run();
            if (i > 0) taken.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
            _engine.Truncate(0, _text.Length - 1);
        }
    }
}

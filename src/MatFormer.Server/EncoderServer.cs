using System.Collections.Immutable;
using System.Diagnostics;

namespace MatFormer;

/// <summary>
/// Serves the embeddings of all sizes of a text encoder or a vision transformer; see <see cref="ModelServer"/>. One request is computed at
/// a time, its texts or images in batches.
/// </summary>
public sealed class EncoderServer : ModelServer
{
    private readonly MatFormerModel _encoder;
    private readonly Func<ServedProfile, RequestEmbedder> _embedderOf;
    private readonly CancellationTokenSource _cancelsAll = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private EncoderStatistics _statistics = new(); // guarded by the gate, as are the two fields below
    private bool _isStopping;
    private bool _isDisposed;

    internal EncoderServer(
        MatFormerModel encoder, Func<ServedProfile, RequestEmbedder> embedderOf, ProfileCatalog catalog, EncoderServerOptions options)
        : base(encoder.Architecture, catalog, options.Token, options.MaxBodyBytes) =>
        (_encoder, _embedderOf, Options) = (encoder, embedderOf, options);

    /// <summary>The options of the server.</summary>
    public EncoderServerOptions Options { get; }

    /// <summary>Held by the request that is computed.</summary>
    internal SemaphoreSlim Turn { get; } = new(1);

    /// <summary>Held by the request whose images are decoded, so that only one decoded image is in memory at a time.</summary>
    internal SemaphoreSlim Decoding { get; } = new(1);

    internal override int MaxPromptTokens => Spec.Context;

    internal override int MaxInputs => Options.MaxInputs;

    internal override ImmutableArray<int> EmbeddingDimensions => Spec.EmbeddingDimensions;

    internal override bool IsStopping
    {
        get
        {
            lock (_gate) return _isStopping;
        }
    }

    internal EncoderStatistics Statistics
    {
        get
        {
            lock (_gate) return _statistics;
        }
    }

    internal override (int Running, int Waiting) Load => Statistics is var now ? (now.Running, now.Waiting) : default;

    /// <inheritdoc/>
    public override async Task StopAsync(TimeSpan grace)
    {
        lock (_gate)
        {
            _isStopping = true;
            if (_statistics.Present == 0) _ended.TrySetResult();
        }

        try
        {
            await _ended.Task.WaitAsync(grace).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            await _cancelsAll.CancelAsync().ConfigureAwait(false);
            await _ended.Task.ConfigureAwait(false);
        }

        lock (_gate)
        {
            if (_isDisposed) return;
            _isDisposed = true;
        }

        _encoder.Dispose();
    }

    // An encoder was trained on texts whose special tokens are plain text.
    internal override int[] Encode(string text)
    {
        var tokens = new List<int>();
        Options.Tokenizer.Encode(System.Text.Encoding.UTF8.GetBytes(text), tokens, specialTokens: false);
        return [.. tokens];
    }

    internal override ServedProfile Select(string model, long? maxFlops, double? maxMs, int inputs) =>
        Catalog.Select(model, maxFlops, maxMs, Statistics.PresentInputs + inputs);

    /// <summary>Embeds the texts or images of a request, and returns a vector for each of them.</summary>
    /// <exception cref="ApiException">The queue is full, or the server is stopping.</exception>
    /// <exception cref="DecodingException">The embeddings are damaged.</exception>
    /// <exception cref="OperationCanceledException">The request was cancelled.</exception>
    internal async Task<float[][]> EmbedAsync(EmbeddingRequest request, CancellationToken cancellationToken)
    {
        var inputs = request.Inputs;
        var embedder = _embedderOf(request.Profile);
        lock (_gate)
        {
            var s = _statistics;
            var isFull = s.Present > Options.Queue;
            if (_isStopping || isFull)
            {
                _statistics = s with { Refused = s.Refused + 1 };
                throw _isStopping ? Stopping() : QueueIsFull(s.RequestSeconds * (1 + s.Waiting));
            }

            _statistics = s with { Present = s.Present + 1, PresentInputs = s.PresentInputs + inputs };
        }

        var start = Stopwatch.GetTimestamp();
        using var cancelling = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _cancelsAll.Token);
        try
        {
            await Turn.WaitAsync(cancelling.Token).ConfigureAwait(false);
            float[] numbers;
            try
            {
                var began = Stopwatch.GetTimestamp();
                numbers = await Task.Run(() => embedder(request, cancelling.Token), cancelling.Token).ConfigureAwait(false);
                Count(s => s with { ComputingSeconds = s.ComputingSeconds + Stopwatch.GetElapsedTime(began).TotalSeconds });
            }
            finally
            {
                Turn.Release();
            }

            if (!numbers.All(float.IsFinite))
            {
                throw new DecodingException(
                    $"The embeddings of {Catalog.IdOf(request.Profile)} are not finite; its weights are damaged.");
            }

            var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            Count(s => s with
            {
                Completed = s.Completed + 1,
                Inputs = s.Inputs + inputs,
                Tokens = s.Tokens + request.TokensOf(Spec),
                RequestSeconds = s.RequestSeconds == 0 ? seconds : (0.9 * s.RequestSeconds) + (0.1 * seconds),
            });
            return [.. numbers.Chunk(numbers.Length / inputs)];
        }
        catch (OperationCanceledException)
        {
            Count(s => s with { Cancelled = s.Cancelled + 1 });
            cancellationToken.ThrowIfCancellationRequested();
            throw Stopping();
        }
        catch
        {
            Count(s => s with { Failed = s.Failed + 1 });
            throw;
        }
        finally
        {
            lock (_gate)
            {
                _statistics = _statistics with { Present = _statistics.Present - 1, PresentInputs = _statistics.PresentInputs - inputs };
                if (_isStopping && _statistics.Present == 0) _ended.TrySetResult();
            }
        }
    }

    private void Count(Func<EncoderStatistics, EncoderStatistics> change)
    {
        lock (_gate) _statistics = change(_statistics);
    }
}

/// <summary>Returns the embeddings of a request, float32 (inputs, width), row-major.</summary>
internal delegate float[] RequestEmbedder(EmbeddingRequest request, CancellationToken cancellationToken);

/// <summary>What an <see cref="EncoderServer"/> is doing and has done.</summary>
internal sealed record EncoderStatistics
{
    /// <summary>The number of requests that run or wait.</summary>
    public int Present { get; init; }

    /// <summary>The number of their texts or images.</summary>
    public int PresentInputs { get; init; }

    public int Running => Math.Min(1, Present);

    public int Waiting => Present - Running;

    public long Completed { get; init; }

    public long Cancelled { get; init; }

    public long Failed { get; init; }

    public long Refused { get; init; }

    public long Inputs { get; init; }

    public long Tokens { get; init; }

    public double ComputingSeconds { get; init; }

    /// <summary>The seconds that recent requests took, as a moving average.</summary>
    public double RequestSeconds { get; init; }
}

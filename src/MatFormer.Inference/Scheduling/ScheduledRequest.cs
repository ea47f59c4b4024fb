using System.Collections.Immutable;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text;
using System.Threading.Channels;

namespace MatFormer;

/// <summary>What a <see cref="DecodingScheduler"/> was asked for.</summary>
public abstract class ScheduledRequest
{
    private readonly DecodingScheduler _scheduler;
    private volatile bool _isCancelled;
    private volatile bool _hasEnded;

    private protected ScheduledRequest(DecodingScheduler scheduler, ImmutableArray<LayerSlice> layers) =>
        (_scheduler, Layers) = (scheduler, layers);

    /// <summary>As which submodel it runs.</summary>
    public ImmutableArray<LayerSlice> Layers { get; internal set; }

    /// <summary>Tokens of the prompt.</summary>
    public abstract int PromptTokens { get; }

    /// <summary>Of these, how many a sequence held already, so that they were not computed; known when it begins.</summary>
    public int CachedTokens { get; internal set; }

    /// <summary>Ends it, if it has not ended: what it held is free for others after the pass that is under way.</summary>
    public void Cancel()
    {
        if (_hasEnded || _isCancelled) return;
        _isCancelled = true;
        _scheduler.Wake();
    }

    // All below is the scheduler's thread's.

    /// <summary>Its sequence of the engine; -1 as long as it has none.</summary>
    internal int Slot { get; set; } = -1;

    /// <summary>The token at the sequence's first position.</summary>
    internal int Start { get; set; }

    /// <summary>Tokens that it has in the pass.</summary>
    internal int Taken { get; set; }

    /// <summary>The first of its logits in the pass.</summary>
    internal int Row { get; set; }

    /// <summary>When it came.</summary>
    internal long Submitted { get; } = Stopwatch.GetTimestamp();

    internal bool IsCancelled => _isCancelled;

    internal bool HasEnded
    {
        get => _hasEnded;
        private protected set => _hasEnded = value;
    }

    /// <summary>The prompt's, then those generated.</summary>
    internal abstract ReadOnlySpan<int> Tokens { get; }

    internal virtual int Generated => 0;

    /// <summary>Whether it wants something for each token, not only for the last.</summary>
    internal virtual bool WantsAll => false;

    /// <summary>Whether it can go on: its reader keeps up.</summary>
    internal virtual bool IsReady(TimeSpan patience) => true;

    /// <summary>Takes what was computed; it has ended if that was all.</summary>
    /// <exception cref="DecodingException">The logits are damaged.</exception>
    internal abstract void Take(DecodingEngine engine);

    /// <summary>Gives its reader what was taken.</summary>
    internal abstract void Tell();

    /// <summary>Ends it early, by an error if there is one.</summary>
    internal abstract void End(Exception? error);

    private protected void Wake() => _scheduler.Wake();
}

/// <summary>Text that a <see cref="DecodingScheduler"/> generates.</summary>
public sealed class ScheduledGeneration : ScheduledRequest
{
    private readonly GeneratedSequence _sequence;
    private readonly GenerationOptions _options;
    private readonly Channel<TextPiece> _pieces;
    private readonly int _piecesAhead;
    private volatile bool _isPaused;
    private long _pausedAt;
    private int _wasRead;

    internal ScheduledGeneration(
        DecodingScheduler scheduler, ImmutableArray<LayerSlice> layers, string prompt, GenerationOptions options, int piecesAhead)
        : base(scheduler, layers)
    {
        _sequence = new GeneratedSequence(Encoding.UTF8.GetBytes(prompt), options, row: 0);
        PromptTokens = _sequence.Tokens.Length;
        _options = options;
        _piecesAhead = piecesAhead;

        // Each step adds at most one, and none begins when it is full; one more says that it was cancelled.
        _pieces = Channel.CreateBounded<TextPiece>(new BoundedChannelOptions(piecesAhead + 1) { SingleReader = true, SingleWriter = true });
    }

    /// <inheritdoc/>
    public override int PromptTokens { get; }

    internal override ReadOnlySpan<int> Tokens => _sequence.Tokens;

    internal override int Generated => _sequence.Generated;

    /// <summary>The pieces as they come. May be asked for once; whoever leaves early cancels it.</summary>
    /// <param name="cancellationToken">
    /// Stops it. This is no error: what is there still comes, and the last piece says <see cref="FinishReason.Cancelled"/>.
    /// </param>
    /// <returns>
    /// Pieces; the last has a finish reason: <see cref="FinishReason.Cancelled"/> also if the reader was too slow or the scheduler stopped.
    /// </returns>
    /// <exception cref="DecodingException">The model's logits are damaged: after the pieces before that.</exception>
    public async IAsyncEnumerable<TextPiece> ReadAsync([EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        if (Interlocked.Exchange(ref _wasRead, 1) != 0) throw new InvalidOperationException("A request's pieces are read once.");
        using var cancelling = cancellationToken.UnsafeRegister(static its => ((ScheduledGeneration)its!).Cancel(), this);
        try
        {
            await foreach (var piece in _pieces.Reader.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
            {
                if (_isPaused) Wake();
                yield return piece;
            }
        }
        finally
        {
            Cancel();
        }
    }

    internal override bool IsReady(TimeSpan patience)
    {
        if (_pieces.Reader.Count < _piecesAhead)
        {
            _isPaused = false;
            return true;
        }

        if (!_isPaused)
        {
            // Looked at again after it is told, so that a reader either wakes the thread or is seen here.
            _pausedAt = Stopwatch.GetTimestamp();
            _isPaused = true;
            return _pieces.Reader.Count < _piecesAhead;
        }

        if (Stopwatch.GetElapsedTime(_pausedAt) >= patience) Cancel();
        return false;
    }

    internal override void Take(DecodingEngine engine)
    {
        // A model may have more tokens than the tokenizer; those say nothing.
        if (_sequence.Ended is null) _sequence.Choose(engine.Logits(Row)[.._options.Tokenizer.VocabularySize]);
        HasEnded = _sequence.Ended is not null;
    }

    internal override void Tell()
    {
        if (_sequence.Piece() is { } piece) _pieces.Writer.TryWrite(piece);
        if (HasEnded) _pieces.Writer.TryComplete();
    }

    /// <summary>Ends one of no tokens, which needs no model.</summary>
    internal bool EndIfNothingIsWanted()
    {
        if (_sequence.Ended is null) return false;
        HasEnded = true;
        Tell();
        return true;
    }

    internal override void End(Exception? error)
    {
        HasEnded = true;
        if (error is null)
        {
            _sequence.Cancel();
            if (_sequence.Piece() is { } piece) _pieces.Writer.TryWrite(piece);
        }

        _pieces.Writer.TryComplete(error);
    }
}

/// <summary>An embedding that a <see cref="DecodingScheduler"/> computes.</summary>
public sealed class ScheduledEmbedding : ScheduledRequest
{
    private readonly int[] _tokens;
    private readonly double[] _sum;
    private readonly TaskCompletionSource<float[]> _result = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _done;

    internal ScheduledEmbedding(DecodingScheduler scheduler, ImmutableArray<LayerSlice> layers, int[] tokens, int width)
        : base(scheduler, layers) => (_tokens, _sum) = (tokens, new double[width]);

    /// <summary>
    /// The mean over the tokens of the last hidden states (those that the logits are computed of), of length 1: (Width).
    /// </summary>
    /// <exception cref="OperationCanceledException">It was cancelled, or the scheduler stopped.</exception>
    /// <exception cref="DecodingException">The hidden states are damaged.</exception>
    public Task<float[]> Result => _result.Task;

    /// <inheritdoc/>
    public override int PromptTokens => _tokens.Length;

    internal override ReadOnlySpan<int> Tokens => _tokens;

    internal override bool WantsAll => true;

    internal override void Take(DecodingEngine engine)
    {
        for (var i = 0; i < Taken; i++)
        {
            var hidden = engine.HiddenStates(Row + i);
            for (var j = 0; j < _sum.Length; j++) _sum[j] += hidden[j];
        }

        _done += Taken;
        if (_done < _tokens.Length) return;
        var length = Math.Sqrt(_sum.Sum(x => x * x));
        if (length == 0 || !double.IsFinite(length))
            throw new DecodingException("The model's hidden states are no numbers or all zero; its weights are damaged.");
        for (var i = 0; i < _sum.Length; i++) _sum[i] /= length;
        HasEnded = true;
    }

    internal override void Tell()
    {
        if (HasEnded) _result.TrySetResult([.. _sum.Select(x => (float)x)]);
    }

    internal override void End(Exception? error)
    {
        HasEnded = true;
        if (error is null) _result.TrySetCanceled();
        else _result.TrySetException(error);
    }
}

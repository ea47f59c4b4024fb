using System.Collections.Immutable;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text;
using System.Threading.Channels;

namespace MatFormer;

/// <summary>A request to a <see cref="DecodingScheduler"/>.</summary>
public abstract class ScheduledRequest
{
    private readonly DecodingScheduler _scheduler;
    private volatile bool _isCancelled;
    private volatile bool _hasEnded;

    private protected ScheduledRequest(DecodingScheduler scheduler, ImmutableArray<LayerSlice> layers, double? budget) =>
        (_scheduler, Layers, Budget) = (scheduler, layers, budget);

    /// <summary>The submodel that the request runs with.</summary>
    public ImmutableArray<LayerSlice> Layers { get; internal set; }

    /// <summary>
    /// The compute budget that the request runs at, where each token chooses its hidden units; null if all its tokens use those of
    /// <see cref="Layers"/>.
    /// </summary>
    public double? Budget { get; }

    /// <summary>The number of tokens of the prompt.</summary>
    public abstract int PromptTokens { get; }

    /// <summary>The number of prompt tokens that are reused instead of computed. It is set when the request gets a sequence.</summary>
    public int CachedTokens { get; internal set; }

    /// <summary>Cancels the request if it has not ended. Its sequence is free for other requests after the current pass.</summary>
    public void Cancel()
    {
        if (_hasEnded || _isCancelled) return;
        _isCancelled = true;
        _scheduler.Wake();
    }

    // Only the scheduler's thread uses the members below.

    /// <summary>The request's sequence of the engine; -1 if it has none yet.</summary>
    internal int Slot { get; set; } = -1;

    /// <summary>The index of the token at the sequence's first position.</summary>
    internal int Start { get; set; }

    /// <summary>The number of tokens that the request feeds in the pass.</summary>
    internal int Taken { get; set; }

    /// <summary>The submodel that computes them.</summary>
    internal ImmutableArray<LayerSlice> Submodel { get; set; }

    /// <summary>The submodel that computes the prompt.</summary>
    internal ImmutableArray<LayerSlice> PromptLayers => Cascade?.Widest ?? Layers;

    /// <summary>The index of its first logits in the pass.</summary>
    internal int Row { get; set; }

    /// <summary>The time at which the request was submitted.</summary>
    internal long Submitted { get; } = Stopwatch.GetTimestamp();

    internal bool IsCancelled => _isCancelled;

    internal bool HasEnded => _hasEnded;

    /// <summary>The activity that describes the request, if somebody listens.</summary>
    internal Activity? Activity { get; private set; }

    /// <summary>The tokens of the prompt, then the generated tokens.</summary>
    internal abstract ReadOnlySpan<int> Tokens { get; }

    internal virtual int Generated => 0;

    /// <summary>The number of last tokens that are only a draft.</summary>
    internal virtual int Drafted => 0;

    /// <summary>The number of drafted tokens that were accepted so far.</summary>
    internal virtual int Accepted => 0;

    /// <summary>Decides which submodel computes a token; null if there is only one.</summary>
    internal virtual Cascade? Cascade => null;

    /// <summary>How often a wider submodel of the cascade took over.</summary>
    internal int Escalated => Cascade?.Escalated ?? 0;

    /// <summary>True if the request needs the output of every token, not only of the last.</summary>
    internal virtual bool WantsAll => false;

    /// <summary>Returns true if the request can continue because its reader keeps up.</summary>
    internal virtual bool IsReady(TimeSpan patience) => true;

    /// <summary>Takes the output of the pass. The request has ended if it needs no more.</summary>
    /// <exception cref="DecodingException">The logits are damaged.</exception>
    internal abstract void Take(DecodingEngine engine);

    /// <summary>Passes what was taken to the reader.</summary>
    internal abstract void Tell();

    /// <summary>Ends the request early, with an error if there is one.</summary>
    internal abstract void End(Exception? error);

    /// <summary>Begins the activity of the request, within that of the caller.</summary>
    internal void Begin(ModelSpec spec)
    {
        var current = Activity.Current;
        Activity = DecodingTelemetry.Start("schedule", spec, Layers, Budget);
        Activity.Current = current; // the request ends on another thread
    }

    /// <summary>Marks the request as ended, and ends its activity.</summary>
    /// <param name="outcome">How it ended, as in the metrics.</param>
    internal void Finish(string outcome)
    {
        if (_hasEnded) return;
        _hasEnded = true;
        if (Activity is not { } activity) return;
        var current = Activity.Current;
        activity.SetTag("matformer.request.outcome", outcome).SetTag("matformer.tokens.prompt", PromptTokens)
            .SetTag("matformer.tokens.cached", CachedTokens).SetTag("matformer.tokens.generated", Generated);
        if (Accepted > 0) activity.SetTag("matformer.tokens.accepted", Accepted);
        if (Escalated > 0) activity.SetTag("matformer.tokens.escalated", Escalated);
        activity.Dispose();
        Activity.Current = current; // its end made the caller's activity current on this thread
    }

    private protected void Finish(Exception? error)
    {
        if (error is not null) DecodingTelemetry.Fail(Activity, error);
        Finish(error is null ? "cancelled" : "failed");
    }

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
    private int _accepted;
    private int _wasRead;

    internal ScheduledGeneration(
        DecodingScheduler scheduler, ImmutableArray<LayerSlice> layers, double? budget, string prompt, GenerationOptions options,
        int piecesAhead)
        : base(scheduler, layers, budget)
    {
        _sequence = new GeneratedSequence(Encoding.UTF8.GetBytes(prompt), options, row: 0);
        PromptTokens = _sequence.Tokens.Length;
        _options = options;
        _piecesAhead = piecesAhead;

        // A step adds at most one piece, and none starts when the channel is full. One more place is for the piece after a cancellation.
        _pieces = Channel.CreateBounded<TextPiece>(new BoundedChannelOptions(piecesAhead + 1) { SingleReader = true, SingleWriter = true });
    }

    /// <inheritdoc/>
    public override int PromptTokens { get; }

    internal override ReadOnlySpan<int> Tokens => _sequence.Tokens;

    internal override int Generated => _sequence.Generated - _sequence.Proposed;

    internal override int Drafted => _sequence.Proposed;

    internal override int Accepted => _accepted;

    /// <inheritdoc/>
    internal override Cascade? Cascade => _options.Cascade.IsEmpty ? null
        : field ??= new Cascade(_options.Cascade, Layers) { PromptEnd = PromptTokens };

    /// <summary>The smaller submodel that drafts; default for no draft.</summary>
    internal ImmutableArray<LayerSlice> Draft => _options.Draft;

    /// <summary>The format of the weights that the draft runs with; null for those of the engine.</summary>
    internal DecodingWeights? DraftWeights => _options.DraftWeights;

    /// <summary>The number of tokens still to generate.</summary>
    internal int Remaining => _options.Tokens - _sequence.Generated;

    /// <summary>How many tokens to draft. It learns from the times of this request.</summary>
    internal DraftLengths DraftLengths => field ??= new DraftLengths(_options.DraftLength);

    /// <summary>Returns the pieces as they are generated. You can call it once. Leaving the loop early cancels the request.</summary>
    /// <param name="cancellationToken">
    /// Cancels the request. This raises no exception: the pieces so far still come, and the last one has
    /// <see cref="FinishReason.Cancelled"/>.
    /// </param>
    /// <returns>
    /// The pieces. The last one has a finish reason, which is <see cref="FinishReason.Cancelled"/> also if the reader was too slow or the
    /// scheduler stopped.
    /// </returns>
    /// <exception cref="DecodingException">The model's logits are damaged. It is thrown after the earlier pieces.</exception>
    public async IAsyncEnumerable<TextPiece> ReadAsync([EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        if (Interlocked.Exchange(ref _wasRead, 1) != 0)
            throw new InvalidOperationException("The pieces of a request can be read only once; submit another request.");
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
            // The count is read again after the flag is set, so that a reader either wakes the thread or is noticed here.
            _pausedAt = Stopwatch.GetTimestamp();
            _isPaused = true;
            return _pieces.Reader.Count < _piecesAhead;
        }

        if (Stopwatch.GetElapsedTime(_pausedAt) >= patience) Cancel();
        return false;
    }

    internal override void Take(DecodingEngine engine)
    {
        // A model may have more tokens than the tokenizer; their logits mean nothing.
        if (Drafted > 0)
        {
            Verify(engine);
        }
        else if (_sequence.Ended is null)
        {
            var logits = engine.Logits(Row)[.._options.Tokenizer.VocabularySize];
            if (Cascade is null || Cascade.Accepts(logits)) _sequence.Choose(logits);
            else engine.Truncate(Slot, engine.Length(Slot) - 1); // the next pass computes the token by a wider submodel
        }

        if (_sequence.Ended is not null) Finish("completed");
    }

    /// <summary>Adds the token that the draft chooses after the last token; returns false if it ends the document.</summary>
    /// <exception cref="DecodingException">The logits are damaged.</exception>
    internal bool Propose(DecodingEngine engine, int row) =>
        _sequence.Propose(engine.Logits(row)[.._options.Tokenizer.VocabularySize]);

    // Drops the keys and values of the drafted tokens that the model did not choose.
    private void Verify(DecodingEngine engine)
    {
        var (drafted, accepted) = (Drafted, 0);
        try
        {
            accepted = _sequence.Verify(engine, Row);
        }
        finally
        {
            engine.Truncate(Slot, engine.Length(Slot) - drafted + accepted); // damaged logits accept nothing
        }

        DraftLengths.Verified(drafted, accepted);
        _accepted += accepted;
    }

    internal override void Tell()
    {
        if (_sequence.Piece() is { } piece) _pieces.Writer.TryWrite(piece);
        if (HasEnded) _pieces.Writer.TryComplete();
    }

    /// <summary>Ends a request for no tokens, which needs no pass.</summary>
    internal bool EndIfNothingIsWanted()
    {
        if (_sequence.Ended is null) return false;
        Finish("completed");
        Tell();
        return true;
    }

    internal override void End(Exception? error)
    {
        Finish(error);
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

    internal ScheduledEmbedding(
        DecodingScheduler scheduler, ImmutableArray<LayerSlice> layers, double? budget, int[] tokens, int width)
        : base(scheduler, layers, budget) => (_tokens, _sum) = (tokens, new double[width]);

    /// <summary>
    /// The mean, over the tokens, of the last hidden states, from which the logits are computed; (Width), scaled to length 1.
    /// </summary>
    /// <exception cref="OperationCanceledException">The request was cancelled, or the scheduler stopped.</exception>
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
            throw new DecodingException("The model's hidden states are not finite or are all zero; its weights are damaged.");
        for (var i = 0; i < _sum.Length; i++) _sum[i] /= length;
        Finish("completed");
    }

    internal override void Tell()
    {
        if (HasEnded) _result.TrySetResult([.. _sum.Select(x => (float)x)]);
    }

    internal override void End(Exception? error)
    {
        Finish(error);
        if (error is null) _result.TrySetCanceled();
        else _result.TrySetException(error);
    }
}

using System.Collections.Immutable;
using System.Diagnostics;

namespace MatFormer;

/// <summary>
/// Generates text for many requests at once with one <see cref="DecodingEngine"/> (continuous batching: Yu et al., Orca, OSDI 2022). Each
/// request has its own submodel or compute budget. A background thread runs passes: each pass takes one token of every running request and
/// a part of the prompts of new requests. A request that ends or is cancelled makes room at once for a waiting one. Its tokens stay in its
/// sequence until another request needs the sequence: a request with the same beginning, such as the next turn of a conversation, continues
/// from there. Several threads may use a scheduler.
/// </summary>
/// <remarks>
/// A request yields bit for bit what it would yield alone, and what <see cref="TextGenerator"/> yields with an engine. As there, a
/// prompt longer than a sequence loses its beginning, and when a sequence is full, positions start again with the last half of its tokens.
/// A <see cref="GenerationOptions.Draft"/> drafts only while its request runs alone, because several requests fill the passes anyway. A
/// request with a <see cref="GenerationOptions.Cascade"/> takes one of its submodels in each pass, and computes an unsure token again in
/// the next pass. Of its tokens, later requests reuse only those of its prompt, which a single submodel computed.
/// </remarks>
/// <example>
/// <code>
/// await using var scheduler = new DecodingScheduler(engine);
/// var request = scheduler.TryGenerate("Once upon", engine.Layers, new GenerationOptions());
/// if (request is not null)
/// {
///     await foreach (var piece in request.ReadAsync()) Console.Write(piece.Text);
/// }
/// </code>
/// </example>
public sealed class DecodingScheduler : IAsyncDisposable
{
    private readonly DecodingEngine _engine;
    private readonly SchedulerOptions _options;
    private readonly Lock _gate = new();
    private readonly AutoResetEvent _wake = new(false);
    private readonly SchedulerTelemetry _telemetry;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly LinkedList<ScheduledRequest> _waiting = []; // guarded by the gate, as are the two fields below
    private SchedulerStatistics _statistics = new();
    private bool _isStopping;
    private volatile bool _cancelsAll;

    // Only the scheduler's thread uses these.
    private readonly List<ScheduledRequest> _running = []; // in order of arrival
    private readonly List<ScheduledRequest> _pass = [];
    private readonly List<ScheduledRequest> _ending = [];
    private readonly List<HeldTokens> _free; // least recently used first

    /// <summary>Creates a scheduler and starts its thread.</summary>
    /// <param name="engine">The engine. The scheduler owns it from now on and disposes of it.</param>
    /// <param name="options">The options of the scheduler; the defaults if null.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    public DecodingScheduler(DecodingEngine engine, SchedulerOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(engine);
        _options = options ?? new SchedulerOptions();
        _options.Validate();
        _engine = engine;
        Capacity = engine.Capacity;
        Sequences = engine.Sequences;
        _free = [.. Enumerable.Range(0, engine.Sequences).Select(slot => new HeldTokens(slot, [], [], null))];
        _telemetry = new SchedulerTelemetry(this, engine.Architecture);
        new Thread(Work) { IsBackground = true, Name = "MatFormer scheduler" }.Start();
    }

    /// <summary>The number of tokens that a sequence can hold.</summary>
    public int Capacity { get; }

    /// <summary>The number of requests that can run at once.</summary>
    public int Sequences { get; }

    /// <summary>True if the scheduler accepts no more requests, because it was stopped or has failed.</summary>
    public bool IsStopping
    {
        get
        {
            lock (_gate) return _isStopping;
        }
    }

    /// <summary>A snapshot of what the scheduler is doing and has done.</summary>
    public SchedulerStatistics Statistics
    {
        get
        {
            lock (_gate) return _statistics with { Waiting = _waiting.Count };
        }
    }

    /// <summary>Submits a request for text.</summary>
    /// <param name="prompt">The text to continue, as for <see cref="TextGenerator"/>.</param>
    /// <param name="layers">The submodel: a profile's <see cref="Profile{TModel}.Layers"/>.</param>
    /// <param name="options">How to generate.</param>
    /// <returns>The request; null if the queue is full or the scheduler is stopping.</returns>
    /// <exception cref="ArgumentException">
    /// An option is out of range, the engine lacks weights of the submodel, or the draft or the cascade is not a part of the submodel.
    /// </exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public ScheduledGeneration? TryGenerate(string prompt, ImmutableArray<LayerSlice> layers, GenerationOptions options)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        Check(options, _engine);
        _engine.CheckHeld(layers);
        if (!options.Draft.IsDefault) DecodingEngine.CheckDraft(options.Draft, layers, _engine.Architecture);
        DecodingEngine.CheckCascade(options.Cascade, layers, _engine.Architecture);
        return TryGenerate(prompt, layers, budget: null, options);
    }

    /// <summary>Submits a request for text at a compute budget, where each token chooses its hidden units.</summary>
    /// <param name="prompt">The text to continue, as for <see cref="TextGenerator"/>.</param>
    /// <param name="budget">A declared budget, as for <see cref="DecodingEngine.Use(int, double)"/>.</param>
    /// <param name="options">How to generate. There is no draft and no cascade at a budget.</param>
    /// <returns>The request; null if the queue is full or the scheduler is stopping.</returns>
    /// <exception cref="ArgumentException">
    /// An option is out of range, the model does not declare the budget, the engine holds no routers, or there is a draft or a cascade.
    /// </exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public ScheduledGeneration? TryGenerate(string prompt, double budget, GenerationOptions options)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        Check(options, _engine);
        _engine.CheckHeld(budget);
        DecodingEngine.CheckRouted(budget, options, _engine.Architecture);
        return TryGenerate(prompt, _engine.Layers, budget, options);
    }

    /// <summary>Submits a request for the embedding of a text.</summary>
    /// <param name="tokens">The tokens of the text: 1 to <see cref="Capacity"/>.</param>
    /// <param name="layers">The submodel.</param>
    /// <returns>The request; null if the queue is full or the scheduler is stopping.</returns>
    /// <exception cref="ArgumentException">There are no tokens or too many, or the engine lacks weights of the submodel.</exception>
    /// <exception cref="NotSupportedException">The engine keeps no hidden states: <see cref="DecodingOptions.HiddenStates"/>.</exception>
    public ScheduledEmbedding? TryEmbed(ReadOnlySpan<int> tokens, ImmutableArray<LayerSlice> layers)
    {
        _engine.CheckHeld(layers);
        return TryEmbed(tokens, layers, budget: null);
    }

    /// <summary>Submits a request for the embedding of a text at a compute budget, where each token chooses its hidden units.</summary>
    /// <param name="tokens">The tokens of the text: 1 to <see cref="Capacity"/>.</param>
    /// <param name="budget">A declared budget, as for <see cref="DecodingEngine.Use(int, double)"/>.</param>
    /// <returns>The request; null if the queue is full or the scheduler is stopping.</returns>
    /// <exception cref="ArgumentException">
    /// There are no tokens or too many, the model does not declare the budget, or the engine holds no routers.
    /// </exception>
    /// <exception cref="NotSupportedException">The engine keeps no hidden states: <see cref="DecodingOptions.HiddenStates"/>.</exception>
    public ScheduledEmbedding? TryEmbed(ReadOnlySpan<int> tokens, double budget)
    {
        _engine.CheckHeld(budget);
        return TryEmbed(tokens, _engine.Layers, budget);
    }

    private ScheduledGeneration? TryGenerate(
        string prompt, ImmutableArray<LayerSlice> layers, double? budget, GenerationOptions options)
    {
        var request = new ScheduledGeneration(this, layers, budget, prompt, options, _options.PiecesAhead);
        return TrySubmit(request) ? request : null;
    }

    private ScheduledEmbedding? TryEmbed(ReadOnlySpan<int> tokens, ImmutableArray<LayerSlice> layers, double? budget)
    {
        if (tokens.IsEmpty || tokens.Length > Capacity)
            throw new ArgumentException($"An embedding takes 1 to {Capacity} tokens, not {tokens.Length}.", nameof(tokens));
        _engine.CheckTokens(tokens);
        if (!_engine.KeepsHiddenStates)
            throw new NotSupportedException("The engine keeps no hidden states; create it with DecodingOptions.HiddenStates.");
        var request = new ScheduledEmbedding(this, layers, budget, tokens.ToArray(), _engine.Architecture.WidthOf(layers.AsSpan()));
        return TrySubmit(request) ? request : null;
    }

    /// <summary>Throws for options that <c>TryGenerate</c> would refuse.</summary>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public static void Check(GenerationOptions options, DecodingEngine engine)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(engine);
        options.Validate();
        options.Tokenizer.CheckFits(engine.Architecture, engine.TokenizerFingerprint);
        if (!options.Draft.IsDefault) DecodingEngine.CheckDraft(options.Draft, engine.Layers, engine.Architecture);
        if (options.DraftWeights is { } weights) engine.CheckHeld(weights);
        DecodingEngine.CheckCascade(options.Cascade, engine.Layers, engine.Architecture);
    }

    /// <summary>Accepts no more requests, lets the present requests end, and then disposes of the engine.</summary>
    /// <param name="grace">How long the present requests may take. Those that are left are then cancelled.</param>
    /// <returns>A task that completes when the scheduler's thread has ended.</returns>
    public async Task StopAsync(TimeSpan grace)
    {
        lock (_gate) _isStopping = true;
        Wake();
        try
        {
            await _ended.Task.WaitAsync(grace).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            _cancelsAll = true;
            Wake();
            await _ended.Task.ConfigureAwait(false);
        }
    }

    /// <summary>Cancels all requests and stops.</summary>
    public async ValueTask DisposeAsync() => await StopAsync(TimeSpan.Zero).ConfigureAwait(false);

    /// <summary>Wakes the thread, so that it looks for new requests and cancellations.</summary>
    internal void Wake() => _wake.Set();

    private bool TrySubmit(ScheduledRequest request)
    {
        request.Begin(_engine.Architecture);
        bool isAccepted;
        lock (_gate)
        {
            // Requests that have a free sequence do not count as queued: they only wait for the current pass.
            isAccepted = !_isStopping && _waiting.Count < _options.Queue + Sequences - _statistics.Running;
            if (isAccepted)
            {
                _statistics = _statistics with { Submitted = _statistics.Submitted + 1 };
                _waiting.AddLast(request);
            }
            else
            {
                _statistics = _statistics with { Refused = _statistics.Refused + 1 };
            }
        }

        if (isAccepted)
        {
            Wake();
        }
        else
        {
            _telemetry.CountRefused();
            request.Finish("refused");
        }

        return isAccepted;
    }

    private void Work()
    {
        Exception? error = null;
        try
        {
            while (true)
            {
                Report();
                Cancel();
                Admit();
                if (_running.Count == 0 && IsDrained()) break;
                Compose();
                if (_pass.Count > 0) Run();
                else _wake.WaitOne(_running.Count > 0 ? _options.ReaderTimeout : Timeout.InfiniteTimeSpan);
            }
        }
        catch (Exception e)
        {
            // Nothing can continue. All requests end with this error, and no more are accepted.
            error = e;
        }
        finally
        {
            List<ScheduledRequest> left;
            lock (_gate)
            {
                _isStopping = true;
                left = [.. _running, .. _waiting];
                _waiting.Clear();
                _statistics = _statistics with { Running = 0, Failed = _statistics.Failed + left.Count };
            }

            foreach (var request in left) request.End(error);
            _telemetry.End(Statistics);
            _engine.Dispose();
            _ended.SetResult();
        }
    }

    private void Report()
    {
        SchedulerStatistics now;
        lock (_gate) now = _statistics;
        _telemetry.Report(now);
    }

    private bool IsDrained()
    {
        lock (_gate) return _isStopping && _waiting.Count == 0;
    }

    // Ends cancelled requests, running or waiting.
    private void Cancel()
    {
        _ending.Clear();
        for (var i = _running.Count - 1; i >= 0; i--)
        {
            if (!_cancelsAll && !_running[i].IsCancelled) continue;
            _ending.Add(_running[i]);
            Release(i);
        }

        lock (_gate)
        {
            for (var node = _waiting.First; node is not null;)
            {
                var next = node.Next;
                if (_cancelsAll || node.Value.IsCancelled)
                {
                    _ending.Add(node.Value);
                    _waiting.Remove(node);
                }

                node = next;
            }

            _statistics = _statistics with { Running = _running.Count, Cancelled = _statistics.Cancelled + _ending.Count };
        }

        // Requests are counted before they end, here as elsewhere, so that readers who see the end find it in the statistics.
        foreach (var request in _ending) request.End(null);
    }

    // Gives free sequences to the requests that have waited longest.
    private void Admit()
    {
        while (true)
        {
            ScheduledRequest request;
            lock (_gate)
            {
                if (_waiting.First is not { } first || _free.Count == 0) return;
                request = first.Value;
                _waiting.RemoveFirst();
                if (request is ScheduledGeneration nothing && nothing.EndIfNothingIsWanted())
                {
                    _statistics = _statistics with { Completed = _statistics.Completed + 1 };
                    continue;
                }

                _statistics = _statistics with { Running = _running.Count + 1 };
            }

            // Requests with equal submodels share one instance of the layers, so that the engine computes them together.
            var layers = request.Layers.AsSpan();
            if (layers.SequenceEqual(_engine.Layers.AsSpan())) request.Layers = _engine.Layers;
            foreach (var other in _running)
            {
                if (layers.SequenceEqual(other.Layers.AsSpan())) request.Layers = other.Layers;
            }

            request.Start = Math.Max(0, request.Tokens.Length - Capacity); // a longer prompt loses its beginning
            Place(request);
            _running.Add(request);
            request.Activity?.AddEvent(new ActivityEvent("admitted"));
        }
    }

    // Gives a request the free sequence that holds most of its beginning. The other tokens of the sequence are lost.
    private void Place(ScheduledRequest request)
    {
        var (chosen, shared) = (0, _free[0].SharedWith(request));
        for (var i = 1; i < _free.Count; i++)
        {
            // If more would be lost than is shared, another conversation with the same beginning is likelier to need the sequence.
            var its = _free[i].SharedWith(request);
            if (its > shared && 2 * its >= _free[i].Tokens.Length) (chosen, shared) = (i, its);
        }

        request.Slot = _free[chosen].Slot;
        request.CachedTokens = shared;
        _free.RemoveAt(chosen);
        _engine.Truncate(request.Slot, shared);
        if (request.Budget is { } budget) _engine.Use(request.Slot, budget);
        else _engine.Use(request.Slot, request.Layers);
        if (shared == 0) return;
        lock (_gate) _statistics = _statistics with { CachedTokens = _statistics.CachedTokens + shared };
    }

    // Chooses the requests of the next pass, and how many tokens each of them feeds.
    private void Compose()
    {
        _pass.Clear();
        var decoding = 0;
        foreach (var request in _running)
        {
            request.Taken = 0;
            if (!request.IsReady(_options.ReaderTimeout)) continue;
            if (_engine.Length(request.Slot) == Capacity)
            {
                // The sequence is full: positions start again with the last half of the tokens.
                _engine.Truncate(request.Slot, 0);
                request.Start = Generation.StartAnew(request.Tokens.Length, Capacity);
                if (request.Cascade is not null) request.Cascade.PromptEnd = request.Tokens.Length;
            }

            request.Taken = request.Tokens.Length - request.Start - _engine.Length(request.Slot);
            if (request.Taken == 1) decoding++;
            request.Submodel = request.Cascade?.For(request.Tokens.Length - request.Taken) ?? request.Layers;
        }

        // Prompts share the rest of the pass, in order of arrival.
        var rest = Math.Max(_options.PromptTokens, _options.TokensPerPass - decoding);
        foreach (var request in _running)
        {
            if (request.Taken > 1)
            {
                request.Taken = Math.Min(request.Taken, rest);
                rest -= request.Taken;
            }

            if (request.Taken > 0) _pass.Add(request);
        }
    }

    // Lets a smaller submodel continue the only request, if it has one. Then the draft's keys and values are dropped, because the model
    // writes its own. Returns the request if the time of the next pass counts for it.
    private ScheduledGeneration? Draft()
    {
        if (_running.Count != 1 || _running[0] is not ScheduledGeneration { Draft.IsDefault: false, Taken: 1, Generated: > 0 } request)
            return null;
        var (slot, fed) = (request.Slot, _engine.Length(request.Slot));

        // The next pass takes the drafted tokens and one more, and may choose one token more than were drafted.
        var wanted = Math.Min(request.DraftLengths.Next(), Math.Min(Capacity - fed, request.Remaining) - 1);
        if (wanted <= 0) return request;
        var start = Stopwatch.GetTimestamp();
        var steps = 0;
        _engine.Use(slot, request.Draft);
        _engine.Use(slot, request.DraftWeights ?? _engine.Weights);
        for (var goesOn = true; goesOn && request.Drafted < wanted; steps++)
        {
            var row = _engine.Append(slot, request.Tokens[^1..]);
            _engine.Run();
            try
            {
                goesOn = request.Propose(_engine, row);
            }
            catch (DecodingException)
            {
                goesOn = false; // the model's own logits decide whether the request fails
            }
        }

        _engine.Truncate(slot, fed);
        _engine.Use(slot, request.Layers);
        _engine.Use(slot, _engine.Weights);
        request.Taken += request.Drafted;
        var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        request.DraftLengths.Drafted(steps, seconds);
        lock (_gate)
        {
            _statistics = _statistics with
            {
                Passes = _statistics.Passes + steps,
                PassSeconds = _statistics.PassSeconds + seconds,
                DraftedTokens = _statistics.DraftedTokens + request.Drafted,
            };
        }

        return request;
    }

    private void Run()
    {
        var drafting = Draft();

        // Requests of one submodel or budget are appended one after the other, so that the engine computes them together.
        for (var i = 0; i < _pass.Count; i++)
        {
            if (_pass[i].Row >= 0) Append(_pass[i]);
            for (var j = i + 1; j < _pass.Count; j++)
            {
                if (_pass[j].Row >= 0 && _pass[j].Submodel == _pass[i].Submodel && _pass[j].Budget == _pass[i].Budget) Append(_pass[j]);
            }
        }

        var start = Stopwatch.GetTimestamp();
        _engine.Run();
        var end = Stopwatch.GetTimestamp();
        var seconds = Stopwatch.GetElapsedTime(start, end).TotalSeconds;
        drafting?.DraftLengths.Took(drafting.Drafted, seconds);
        lock (_gate)
            _statistics = _statistics with { Passes = _statistics.Passes + 1, PassSeconds = _statistics.PassSeconds + seconds };
        foreach (var request in _pass)
        {
            request.Row = ~request.Row;
            Take(request, end);
        }

        for (var i = _running.Count - 1; i >= 0; i--)
        {
            if (_running[i].HasEnded) Release(i);
        }

        // The complement of the row marks a request that has been appended, until the pass is over.
        void Append(ScheduledRequest request)
        {
            var from = request.Start + _engine.Length(request.Slot);
            if (request.Cascade is not null) _engine.Use(request.Slot, request.Submodel);
            request.Row = ~_engine.Append(request.Slot, request.Tokens.Slice(from, request.Taken), request.WantsAll || request.Drafted > 0);
        }
    }

    private void Take(ScheduledRequest request, long now)
    {
        var (before, acceptedBefore, fed) = (request.Generated, request.Accepted, request.Taken - request.Drafted);
        var escalatedBefore = request.Escalated;
        var isLast = request.Start + _engine.Length(request.Slot) == request.Tokens.Length;
        DecodingException? damage = null;
        if (isLast || request.WantsAll)
        {
            try
            {
                request.Take(_engine);
            }
            catch (DecodingException e)
            {
                // Only this request fails: the logits of the others are not affected.
                damage = e;
            }
        }

        var generated = request.Generated - before;
        var waited = Stopwatch.GetElapsedTime(request.Submitted, now).TotalSeconds;
        lock (_gate)
        {
            var s = _statistics;
            s = s with
            {
                // A generated token is fed in the next pass. It does not count as a token of a prompt.
                PromptTokens = s.PromptTokens + (fed > 1 || before == 0 ? fed : 0),
                GeneratedTokens = s.GeneratedTokens + generated,
                AcceptedTokens = s.AcceptedTokens + request.Accepted - acceptedBefore,
                EscalatedTokens = s.EscalatedTokens + request.Escalated - escalatedBefore,
            };
            if (before == 0 && generated > 0)
            {
                var bucket = SchedulerStatistics.FirstTokenBounds.Count(bound => waited > bound);
                s = s with
                {
                    FirstTokens = s.FirstTokens.SetItem(bucket, s.FirstTokens[bucket] + 1),
                    FirstTokenSeconds = s.FirstTokenSeconds + waited,
                };
            }

            if (request.HasEnded || damage is not null)
            {
                s = s with
                {
                    Running = s.Running - 1,
                    Completed = s.Completed + (damage is null ? 1 : 0),
                    Failed = s.Failed + (damage is null ? 0 : 1),
                    RequestSeconds = s.RequestSeconds == 0 ? waited : (0.9 * s.RequestSeconds) + (0.1 * waited),
                };
            }

            _statistics = s;
        }

        if (before == 0 && generated > 0)
        {
            DecodingTelemetry.RecordFirstToken(_engine.Architecture, waited);
            request.Activity?.AddEvent(new ActivityEvent("first_token"));
        }

        if (damage is not null) request.End(damage);
        else if (isLast || request.WantsAll) request.Tell();
    }

    // Frees the sequence of a running request that takes part in no pass now.
    private void Release(int index)
    {
        var request = _running[index];
        var count = _engine.Length(request.Slot);
        if (request.Cascade is { IsUniform: false } cascade) count = Math.Min(count, cascade.PromptEnd - request.Start);
        var held = _options.ReusesPrefixes ? request.Tokens.Slice(request.Start, count) : [];
        _free.Add(new HeldTokens(request.Slot, held.ToArray(), request.PromptLayers, request.Budget));
        _running.RemoveAt(index);
    }

    // The tokens that a free sequence holds, and the submodel and budget that computed them.
    private readonly record struct HeldTokens(int Slot, int[] Tokens, ImmutableArray<LayerSlice> Layers, double? Budget)
    {
        // Returns how many of a request's first tokens it can reuse. The last token is always computed, because its logits are needed.
        public int SharedWith(ScheduledRequest request)
        {
            if (request.WantsAll || request.Budget != Budget || !request.PromptLayers.AsSpan().SequenceEqual(Layers.AsSpan())) return 0;
            return request.Tokens[request.Start..^1].CommonPrefixLength(Tokens);
        }
    }
}

using System.Collections.Immutable;
using System.Diagnostics;

namespace MatFormer;

/// <summary>
/// The generation of text for one or more prompts together, which all methods of <see cref="TextGenerator"/> use. Only one thread at a time
/// may use it.
/// </summary>
internal abstract class Generation : IDisposable
{
    private readonly GeneratedSequence[] _sequences;
    private readonly ModelSpec _spec;
    private readonly ImmutableArray<LayerSlice> _layers;
    private readonly double? _budget;
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly Activity? _activity;
    private bool _hasToken;

    /// <summary>Starts a generation whose options have been checked.</summary>
    /// <param name="prompts">The prompts.</param>
    /// <param name="options">How to generate.</param>
    /// <param name="spec">The model.</param>
    /// <param name="layers">The submodel; default if the prompts have several.</param>
    /// <param name="budget">The compute budget of all prompts; null if they have none, or several.</param>
    protected Generation(
        IReadOnlyList<byte[]> prompts, GenerationOptions options, ModelSpec spec, ImmutableArray<LayerSlice> layers, double? budget = null)
    {
        (_spec, _layers, _budget) = (spec, layers, budget);
        _sequences = [.. prompts.Select((prompt, row) => new GeneratedSequence(prompt, options, row))];
        _activity = DecodingTelemetry.Start("generate", spec, layers, budget);
    }

    /// <summary>The sequences, in the order of their prompts.</summary>
    public IReadOnlyList<GeneratedSequence> Sequences => _sequences;

    /// <summary>Statistics of the drafts; null if there are none.</summary>
    public virtual DraftStatistics? Drafts => null;

    /// <summary>Statistics of the cascade; null if there is none.</summary>
    public virtual CascadeStatistics? Cascade => null;

    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public static void Check(DecodingEngine engine, int prompts, GenerationOptions options)
    {
        ArgumentNullException.ThrowIfNull(engine);
        options.Validate();
        options.Tokenizer.CheckFits(engine.Architecture, engine.TokenizerFingerprint);
        if (prompts > engine.Sequences)
        {
            throw new ArgumentException(
                $"There are {prompts} prompts, but the engine holds {engine.Sequences} sequences; create it with "
                + $"{nameof(DecodingOptions)}.{nameof(DecodingOptions.Sequences)} = {prompts}.");
        }

        for (var row = 0; row < prompts; row++)
        {
            if (!options.Draft.IsDefault) DecodingEngine.CheckDraft(options.Draft, engine.LayersOf(row), engine.Architecture);
            DecodingEngine.CheckCascade(options.Cascade, engine.LayersOf(row), engine.Architecture);
            if (engine.BudgetOf(row) is { } budget) DecodingEngine.CheckRouted(budget, options, engine.Architecture);
        }

        if (options.DraftWeights is { } weights) engine.CheckHeld(weights);
    }

    /// <summary>
    /// Returns the index of the token at the first position after a full sequence restarts with the last half of its tokens.
    /// </summary>
    /// <param name="tokens">The number of tokens.</param>
    /// <param name="capacity">The number of tokens that a sequence can hold.</param>
    public static int StartAnew(int tokens, int capacity) => Math.Max(0, tokens - Math.Max(1, capacity / 2));

    /// <summary>Returns the next piece of the only sequence; null after the last piece.</summary>
    /// <exception cref="DecodingException">The model's logits are damaged.</exception>
    public TextPiece? Next(CancellationToken cancellationToken)
    {
        var sequence = _sequences.Single();
        while (sequence.Ended is null)
        {
            if (cancellationToken.IsCancellationRequested) sequence.Cancel();
            else Step();
            if (sequence.Piece() is { } piece) return piece;
        }

        return sequence.Piece(); // for a request of no tokens
    }

    /// <summary>
    /// Feeds the next tokens. Sequences whose tokens have all been fed choose one or more new tokens. At least one sequence has not ended.
    /// </summary>
    /// <exception cref="DecodingException">The model's logits are damaged.</exception>
    public void Step()
    {
        try
        {
            Advance();
        }
        catch (Exception e)
        {
            DecodingTelemetry.Fail(_activity, e);
            throw;
        }

        if (_hasToken || _sequences[0].Generated == 0) return;
        _hasToken = true;
        DecodingTelemetry.RecordFirstToken(_spec, Stopwatch.GetElapsedTime(_start).TotalSeconds);
        _activity?.AddEvent(new ActivityEvent("first_token"));
    }

    /// <summary>Frees what the generation holds, and reports what it did.</summary>
    public void Dispose()
    {
        Free();
        var (prompt, generated) = (0, 0);
        foreach (var sequence in _sequences)
        {
            generated += sequence.Generated - sequence.Proposed;
            prompt += sequence.Tokens.Length - sequence.Generated;
        }

        DecodingTelemetry.CountTokens(_spec, "prompt", prompt);
        DecodingTelemetry.CountTokens(_spec, "generated", generated);
        if (Drafts is { } drafts)
        {
            DecodingTelemetry.CountTokens(_spec, "drafted", drafts.Drafted);
            DecodingTelemetry.CountTokens(_spec, "accepted", drafts.Accepted);
        }

        if (Cascade is { } cascade) DecodingTelemetry.CountTokens(_spec, "escalated", cascade.Asked.Sum() - cascade.Answered.Sum());
        if (DecodingTelemetry.MeasuresDurations)
            DecodingTelemetry.RecordDuration(_spec, _layers, _budget, Stopwatch.GetElapsedTime(_start).TotalSeconds);
        _activity?.SetTag("matformer.tokens.prompt", prompt).SetTag("matformer.tokens.generated", generated).Dispose();
    }

    /// <summary>Does the work of <see cref="Step"/>.</summary>
    protected abstract void Advance();

    /// <summary>Frees what the generation holds.</summary>
    protected abstract void Free();
}

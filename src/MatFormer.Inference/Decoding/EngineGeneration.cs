using System.Collections.Immutable;
using System.Diagnostics;

namespace MatFormer;

/// <summary>Statistics of a draft.</summary>
/// <param name="Drafted">The number of tokens that the draft proposed.</param>
/// <param name="Accepted">The number of proposed tokens that the model chose too.</param>
/// <param name="Passes">The number of passes of the model. Each pass takes the last token and the tokens drafted after it.</param>
public sealed record DraftStatistics(int Drafted, int Accepted, int Passes)
{
    /// <summary>The share of drafted tokens that were accepted, from 0 to 1; 0 if none were drafted.</summary>
    public double Acceptance => Drafted == 0 ? 0 : (double)Accepted / Drafted;

    /// <summary>The mean number of tokens drafted for a pass.</summary>
    public double MeanLength => Passes == 0 ? 0 : (double)Drafted / Passes;
}

/// <summary>
/// Generation with a <see cref="DecodingEngine"/>: each sequence feeds its new tokens, and a draft runs ahead, or a cascade
/// begins with a smaller submodel, if one is configured.
/// </summary>
internal sealed class EngineGeneration : Generation
{
    private readonly DecodingEngine _engine;
    private readonly bool _ownsEngine;
    private readonly ImmutableArray<LayerSlice> _draft;
    private readonly DecodingWeights? _draftWeights;
    private readonly DraftLengths? _lengths;
    private readonly int _vocabulary;
    private readonly int _tokens;
    private readonly Row[] _rows;
    private int _drafted;
    private int _accepted;
    private int _passes;

    public EngineGeneration(DecodingEngine engine, IReadOnlyList<byte[]> prompts, GenerationOptions options, bool ownsEngine)
        : base(prompts, options, engine.Architecture, LayersOf(engine, prompts.Count), engine.BudgetOf(0))
    {
        (_engine, _ownsEngine, _draft) = (engine, ownsEngine, options.Draft);
        (_vocabulary, _tokens, _draftWeights) = (options.Tokenizer.VocabularySize, options.Tokens, options.DraftWeights);
        if (!_draft.IsDefault) _lengths = new DraftLengths(options.DraftLength);
        _rows = [.. Sequences.Select(
            (sequence, index) => new Row(sequence, index, engine.LayersOf(index), engine.WeightsOf(index)))];
        foreach (var row in _rows)
        {
            engine.Truncate(row.Index, 0);
            row.Start = Math.Max(0, row.Sequence.Tokens.Length - engine.Capacity); // a longer prompt loses its beginning
            if (!options.Cascade.IsEmpty) row.Cascade = new Cascade(options.Cascade, row.Layers) { PromptEnd = row.Sequence.Tokens.Length };
        }
    }

    /// <inheritdoc/>
    public override DraftStatistics? Drafts => _lengths is null ? null : new DraftStatistics(_drafted, _accepted, _passes);

    /// <inheritdoc/>
    public override CascadeStatistics? Cascade =>
        _rows[0].Cascade is null ? null : MatFormer.Cascade.Sum(_rows.Select(row => row.Cascade!));

    /// <inheritdoc/>
    protected override void Advance()
    {
        var isPrompt = false;
        foreach (var row in _rows)
        {
            if (row.Sequence.Ended is not null) continue;
            if (_engine.Length(row.Index) == _engine.Capacity)
            {
                // The sequence is full: positions start again with the last half of the tokens.
                _engine.Truncate(row.Index, 0);
                row.Start = StartAnew(row.Sequence.Tokens.Length, _engine.Capacity);
                if (row.Cascade is not null) row.Cascade.PromptEnd = row.Sequence.Tokens.Length;
            }

            row.Fed = _engine.Length(row.Index);
            isPrompt |= row.Pending > 1;
        }

        var longest = _lengths is null || isPrompt ? 0 : _lengths.Next();
        if (longest > 0) Draft(longest);
        var start = Stopwatch.GetTimestamp();
        foreach (var row in _rows)
        {
            if (row.Sequence.Ended is not null) continue;
            if (row.Cascade is not null) _engine.Use(row.Index, row.Cascade.For(row.Start + row.Fed));
            row.Logits = _engine.Append(row.Index, row.Sequence.Tokens[(row.Start + row.Fed)..], allLogits: row.Drafted > 0);
        }

        _engine.Run();
        if (!isPrompt) _lengths?.Took(longest, Stopwatch.GetElapsedTime(start).TotalSeconds);
        foreach (var row in _rows)
        {
            if (row.Sequence.Ended is null) Choose(row);
        }
    }

    /// <inheritdoc/>
    protected override void Free()
    {
        if (_ownsEngine)
        {
            _engine.Dispose();
            return;
        }

        foreach (var row in _rows)
        {
            if (row.Cascade is not null) _engine.Use(row.Index, row.Layers);
        }
    }

    // The submodel of all sequences, or default if they have several, or several budgets.
    private static ImmutableArray<LayerSlice> LayersOf(DecodingEngine engine, int sequences)
    {
        var first = engine.LayersOf(0);
        return Enumerable.Range(1, sequences - 1).All(Continues) ? first : default;

        bool Continues(int i) => engine.LayersOf(i).AsSpan().SequenceEqual(first.AsSpan()) && engine.BudgetOf(i) == engine.BudgetOf(0);
    }

    // The smaller submodel continues alone. Then its keys and values are dropped, because the model writes its own.
    private void Draft(int longest)
    {
        var start = Stopwatch.GetTimestamp();
        foreach (var row in _rows)
        {
            // The next pass takes the drafted tokens and one more, and may choose one token more than were drafted.
            row.Wanted = row.Sequence.Ended is not null ? 0
                : Math.Min(longest, Math.Min(_engine.Capacity - row.Fed, _tokens - row.Sequence.Generated) - 1);
            if (row.Wanted <= 0) continue;
            _engine.Use(row.Index, _draft);
            _engine.Use(row.Index, _draftWeights ?? row.Weights);
        }

        var steps = 0;
        for (; _rows.Any(r => r.Drafted < r.Wanted); steps++)
        {
            foreach (var row in _rows)
            {
                if (row.Drafted < row.Wanted) row.Logits = _engine.Append(row.Index, row.Sequence.Tokens[^1..]);
            }

            _engine.Run();
            foreach (var row in _rows)
            {
                if (row.Drafted >= row.Wanted) continue;
                if (row.Sequence.Propose(_engine.Logits(row.Logits)[.._vocabulary])) row.Drafted++;
                else row.Wanted = row.Drafted;
            }
        }

        foreach (var row in _rows)
        {
            if (_engine.Length(row.Index) == row.Fed) continue;
            _engine.Truncate(row.Index, row.Fed);
            _engine.Use(row.Index, row.Layers);
            _engine.Use(row.Index, row.Weights);
        }

        _lengths!.Drafted(steps, Stopwatch.GetElapsedTime(start).TotalSeconds);
    }

    // The model chooses after its last token, and after each drafted token as long as that token is its own choice.
    private void Choose(Row row)
    {
        var (sequence, drafted) = (row.Sequence, row.Drafted);
        if (row.Cascade is not null && !row.Cascade.Accepts(_engine.Logits(row.Logits)[.._vocabulary]))
        {
            _engine.Truncate(row.Index, row.Fed); // the next step computes the token by a wider submodel
            return;
        }

        if (drafted == 0)
        {
            sequence.Choose(_engine.Logits(row.Logits)[.._vocabulary]);
            return;
        }

        var accepted = sequence.Verify(_engine, row.Logits);
        if (sequence.Ended is null) _engine.Truncate(row.Index, row.Fed + 1 + accepted);
        row.Drafted = 0;
        _lengths!.Verified(drafted, accepted);
        (_drafted, _accepted, _passes) = (_drafted + drafted, _accepted + accepted, _passes + 1);
    }

    private sealed class Row(GeneratedSequence sequence, int index, ImmutableArray<LayerSlice> layers, DecodingWeights weights)
    {
        public GeneratedSequence Sequence => sequence;

        public int Index => index;

        /// <summary>The submodel that continues the sequence.</summary>
        public ImmutableArray<LayerSlice> Layers => layers;

        /// <summary>The format of the weights that continue the sequence.</summary>
        public DecodingWeights Weights => weights;

        /// <summary>Decides which submodel continues the sequence; null if there is only one.</summary>
        public Cascade? Cascade { get; set; }

        /// <summary>The index of the token at the first position.</summary>
        public int Start { get; set; }

        /// <summary>The number of tokens from there on that were fed.</summary>
        public int Fed { get; set; }

        public int Pending => Sequence.Tokens.Length - Start - Fed;

        public int Wanted { get; set; }

        public int Drafted { get; set; }

        public int Logits { get; set; }
    }
}

namespace MatFormer;

/// <summary>
/// Prompts that are continued together, or one: what all of <see cref="TextGenerator"/> shares. For one thread.
/// </summary>
/// <remarks>
/// All sequences begin at the first position and take as many tokens in each step, so that none needs padding: at first as many as the
/// shortest prompt has, then, as one has to choose its next, one at a time, of a longer prompt the next that is given.
/// </remarks>
internal sealed class Generation : IDisposable
{
    private readonly GenerationOptions _options;
    private readonly ModelStep _step;
    private readonly GeneratedSequence[] _sequences;
    private readonly int[] _starts; // of each sequence, the token at the first position
    private readonly int _vocabulary;
    private int[] _fed = [];

    /// <summary>Begins; <see cref="Check"/> has passed.</summary>
    public Generation(MatFormerModel model, IReadOnlyList<byte[]> prompts, GenerationOptions options)
    {
        _options = options;
        _vocabulary = model.Architecture.Vocabulary;
        _sequences = [.. prompts.Select((prompt, row) => new GeneratedSequence(prompt, options, row))];
        _step = new ModelStep(model, prompts.Count);
        _starts = [.. _sequences.Select(s => Math.Max(0, s.Tokens.Length - _step.Capacity))]; // a longer prompt loses its beginning
    }

    /// <summary>The sequences, in the order of their prompts.</summary>
    public IReadOnlyList<GeneratedSequence> Sequences => _sequences;

    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public static void Check(MatFormerModel model, GenerationOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        options.Validate();
        options.Tokenizer.CheckFits(model);
    }

    /// <summary>The next piece of the only sequence; null after the last.</summary>
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

        return sequence.Piece(); // of no tokens at all
    }

    /// <summary>Feeds the next tokens; the sequences that have no more of them choose one. At least one has not ended.</summary>
    /// <exception cref="DecodingException">The model's logits are damaged.</exception>
    public void Step()
    {
        if (_step.Length == _step.Capacity)
        {
            // Full, of all at once: positions start again, with the last half of the tokens.
            _step.Truncate(0);
            for (var row = 0; row < _starts.Length; row++)
                _starts[row] = Math.Max(0, _sequences[row].Tokens.Length - Math.Max(1, _step.Capacity / 2));
        }

        var time = int.MaxValue;
        for (var row = 0; row < _starts.Length; row++)
        {
            if (_sequences[row].Ended is null) time = Math.Min(time, _sequences[row].Tokens.Length - _starts[row] - _step.Length);
        }

        if (_fed.Length != time * _starts.Length) _fed = new int[time * _starts.Length];
        for (var row = 0; row < _starts.Length; row++)
        {
            // One that has ended takes any tokens.
            var target = _fed.AsSpan(row * time, time);
            if (_sequences[row].Ended is null) _sequences[row].Tokens.Slice(_starts[row] + _step.Length, time).CopyTo(target);
            else target.Clear();
        }

        var logits = _step.Feed(_fed);
        for (var row = 0; row < _starts.Length; row++)
        {
            var sequence = _sequences[row];
            if (sequence.Ended is not null || _starts[row] + _step.Length < sequence.Tokens.Length) continue;

            // A model may have more tokens than the tokenizer; those say nothing.
            sequence.Choose(logits.Slice(row * _vocabulary, _options.Tokenizer.VocabularySize));
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _step.Dispose();
}

namespace MatFormer;

/// <summary>
/// Prompts that are continued together, or one: what all of <see cref="TextGenerator"/> shares. For one thread.
/// </summary>
internal abstract class Generation : IDisposable
{
    private readonly GeneratedSequence[] _sequences;

    /// <summary>Begins; the options have been checked.</summary>
    protected Generation(IReadOnlyList<byte[]> prompts, GenerationOptions options) =>
        _sequences = [.. prompts.Select((prompt, row) => new GeneratedSequence(prompt, options, row))];

    /// <summary>The sequences, in the order of their prompts.</summary>
    public IReadOnlyList<GeneratedSequence> Sequences => _sequences;

    /// <summary>How drafts fared; null if there are none.</summary>
    public virtual DraftStatistics? Drafts => null;

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
                $"There are {prompts} prompts, but the engine holds {engine.Sequences} sequences; make it with "
                + $"{nameof(DecodingOptions)}.{nameof(DecodingOptions.Sequences)} = {prompts}.");
        }

        if (options.Draft.IsDefault) return;
        for (var row = 0; row < prompts; row++) DecodingEngine.CheckDraft(options.Draft, engine.LayersOf(row), engine.Architecture);
    }

    /// <summary>The token at the first position of a sequence that was full: its last half goes on.</summary>
    /// <param name="tokens">Tokens that there are.</param>
    /// <param name="capacity">Tokens that a sequence holds.</param>
    public static int StartAnew(int tokens, int capacity) => Math.Max(0, tokens - Math.Max(1, capacity / 2));

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

    /// <summary>Feeds the next tokens; sequences that have no more of them choose one, or several. At least one has not ended.</summary>
    /// <exception cref="DecodingException">The model's logits are damaged.</exception>
    public abstract void Step();

    /// <inheritdoc/>
    public abstract void Dispose();
}

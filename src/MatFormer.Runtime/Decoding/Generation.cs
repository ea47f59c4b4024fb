using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text;

namespace MatFormer;

/// <summary>
/// Text as it is generated, piece by piece: what <see cref="TextGenerator.Generate"/> and <see cref="TextGenerator.StreamAsync"/> share.
/// For one thread.
/// </summary>
internal sealed class Generation : IDisposable
{
    private readonly GenerationOptions _options;
    private readonly ModelStep _step;
    private readonly Sampler _sampler;
    private readonly StopMatcher _stops;
    private readonly TokenStream _characters;
    private readonly List<int> _tokens = []; // the prompt's, then those generated
    private readonly List<byte> _bytes = []; // generated
    private readonly int _promptTokens;
    private int _fed; // tokens that the model has
    private int _told; // tokens in earlier pieces
    private int _shown; // bytes in earlier pieces, or of a character that these began
    private bool _ended;

    /// <summary>Begins; <see cref="Check"/> has passed.</summary>
    public Generation(MatFormerModel model, byte[] prompt, GenerationOptions options)
    {
        _options = options;
        var tokenizer = options.Tokenizer;
        if (prompt.Length > 0) tokenizer.Encode(prompt, _tokens);
        else if (tokenizer.EndOfText is { } beginning) _tokens.Add(beginning);
        else tokenizer.Encode("\n"u8, _tokens);
        _told = _promptTokens = _tokens.Count;
        _sampler = new Sampler(options);
        _stops = new StopMatcher(options.StopStrings);
        _characters = new TokenStream(tokenizer);
        _step = new ModelStep(model);
        _fed = Math.Max(0, _tokens.Count - _step.Capacity); // a longer prompt loses its beginning
    }

    /// <summary>Tokens generated.</summary>
    public int Generated => _tokens.Count - _promptTokens;

    /// <summary>Bytes generated, up to a stop string.</summary>
    public ReadOnlySpan<byte> Bytes => CollectionsMarshal.AsSpan(_bytes);

    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public static void Check(MatFormerModel model, string prompt, GenerationOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(prompt);
        options.Validate();
        options.Tokenizer.CheckFits(model);
    }

    /// <summary>The next piece; null after the last.</summary>
    /// <exception cref="DecodingException">The model's logits are damaged.</exception>
    public TextPiece? Next(CancellationToken cancellationToken)
    {
        if (_ended) return null;
        while (Generated < _options.Tokens)
        {
            if (cancellationToken.IsCancellationRequested) return End(FinishReason.Cancelled);
            var next = _sampler.Next(Logits(), CollectionsMarshal.AsSpan(_tokens), Generated);
            if (next == _options.Tokenizer.EndOfText) return End(FinishReason.Stop);
            _tokens.Add(next);
            if (Stops(_options.Tokenizer.BytesOf(next))) return End(FinishReason.Stop);
            if (Generated < _options.Tokens && Show(_stops.Held) is { Length: > 0 } text) return Piece(text, null);
        }

        return End(FinishReason.Length);
    }

    /// <inheritdoc/>
    public void Dispose() => _step.Dispose();

    private ReadOnlySpan<float> Logits()
    {
        if (_step.Length == _step.Capacity)
        {
            // Full: positions start again, with the last half of the tokens.
            _step.Truncate(0);
            _fed = _tokens.Count - Math.Max(1, _step.Capacity / 2);
        }

        // A model may have more tokens than the tokenizer; those say nothing.
        var logits = _step.Feed(CollectionsMarshal.AsSpan(_tokens)[_fed..])[.._options.Tokenizer.VocabularySize];
        _fed = _tokens.Count;
        return logits;
    }

    // Adds bytes up to a stop string.
    private bool Stops(ReadOnlySpan<byte> bytes)
    {
        foreach (var value in bytes)
        {
            _bytes.Add(value);
            if (!_stops.Add(value)) continue;
            _bytes.RemoveRange(_bytes.Count - _stops.Held, _stops.Held);
            return true;
        }

        return false;
    }

    // The text of all bytes but the last, in whole characters.
    private string Show(int held)
    {
        var text = _characters.Add(Bytes[_shown..^held]);
        _shown = _bytes.Count - held;
        return text;
    }

    private TextPiece End(FinishReason reason)
    {
        _ended = true;
        return Piece(Show(0) + _characters.Finish(), reason);
    }

    private TextPiece Piece(string text, FinishReason? reason)
    {
        var tokens = ImmutableArray.Create(CollectionsMarshal.AsSpan(_tokens)[_told..]);
        _told = _tokens.Count;
        return new TextPiece(text, tokens, reason);
    }
}

using System.Collections.Immutable;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>A prompt and what is generated after it, token by token. For one thread.</summary>
internal sealed class GeneratedSequence
{
    private readonly GenerationOptions _options;
    private readonly Sampler _sampler;
    private readonly StopMatcher _stops;
    private readonly TokenStream _characters;
    private readonly List<int> _tokens = []; // the prompt's, then those generated
    private readonly List<byte> _bytes = []; // generated
    private readonly int _promptTokens;
    private int _proposed; // the last tokens, which are no more than a draft
    private int _told; // tokens in earlier pieces
    private int _shown; // bytes in earlier pieces, or of a character that these began
    private bool _hasTheLastPiece;

    /// <param name="prompt">What to continue.</param>
    /// <param name="options">How.</param>
    /// <param name="row">Which of several it is: each draws numbers of its own.</param>
    public GeneratedSequence(byte[] prompt, GenerationOptions options, int row)
    {
        _options = options;
        var tokenizer = options.Tokenizer;
        if (prompt.Length > 0) tokenizer.Encode(prompt, _tokens);
        else if (tokenizer.EndOfText is { } beginning) _tokens.Add(beginning);
        else tokenizer.Encode("\n"u8, _tokens);
        _told = _promptTokens = _tokens.Count;
        _sampler = new Sampler(options, row);
        _stops = new StopMatcher(options.StopStrings);
        _characters = new TokenStream(tokenizer);
        if (options.Tokens == 0) Ended = FinishReason.Length;
    }

    /// <summary>Why it ended; null as long as it has not.</summary>
    public FinishReason? Ended { get; private set; }

    /// <summary>Tokens of the prompt and generated.</summary>
    public ReadOnlySpan<int> Tokens => CollectionsMarshal.AsSpan(_tokens);

    /// <summary>Tokens generated.</summary>
    public int Generated => _tokens.Count - _promptTokens;

    /// <summary>Bytes generated, up to a stop string.</summary>
    public ReadOnlySpan<byte> Bytes => CollectionsMarshal.AsSpan(_bytes);

    /// <summary>Chooses the next token by logits.</summary>
    /// <exception cref="DecodingException">The logits are damaged.</exception>
    public void Choose(ReadOnlySpan<float> logits)
    {
        var next = _sampler.Next(logits, Tokens, Generated);
        if (next == _options.Tokenizer.EndOfText)
        {
            Ended = FinishReason.Stop;
            return;
        }

        _tokens.Add(next);
        if (Generated == _options.Tokens) Ended = FinishReason.Length;
        foreach (var value in _options.Tokenizer.BytesOf(next))
        {
            _bytes.Add(value);
            if (!_stops.Add(value)) continue;
            _bytes.RemoveRange(_bytes.Count - _stops.Held, _stops.Held);
            Ended = FinishReason.Stop;
            return;
        }
    }

    /// <summary>
    /// Adds the token that would be chosen if these logits were the model's: a draft, to be withdrawn before one is chosen. False, and
    /// nothing is added, if that is the end of the document.
    /// </summary>
    /// <exception cref="DecodingException">The logits are damaged.</exception>
    public bool Propose(ReadOnlySpan<float> logits)
    {
        var next = _sampler.Next(logits, Tokens, Generated);
        if (next == _options.Tokenizer.EndOfText) return false;
        _tokens.Add(next);
        _proposed++;
        return true;
    }

    /// <summary>Takes the draft away.</summary>
    public void Withdraw()
    {
        CollectionsMarshal.SetCount(_tokens, _tokens.Count - _proposed);
        _proposed = 0;
    }

    /// <summary>Ends it before its time.</summary>
    public void Cancel() => Ended = FinishReason.Cancelled;

    /// <summary>What is new: null if no text is, or the last piece was given.</summary>
    public TextPiece? Piece()
    {
        if (_hasTheLastPiece) return null;
        _hasTheLastPiece = Ended is not null;

        // What may begin a stop string waits.
        var until = _bytes.Count - (Ended is null ? _stops.Held : 0);
        var text = _characters.Add(Bytes[_shown..until]);
        _shown = until;
        if (Ended is not null) text += _characters.Finish();
        else if (text.Length == 0) return null;
        var tokens = ImmutableArray.Create(Tokens[_told..]);
        _told = _tokens.Count;
        return new TextPiece(text, tokens, Ended);
    }
}

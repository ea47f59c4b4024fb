using System.Buffers;
using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text;

namespace MatFormer;

/// <summary>
/// Turns text into tokens and back with byte-pair encoding (Sennrich et al., arXiv 1508.07909): of bytes as in GPT-2, or of characters as
/// in SentencePiece, where characters without a token become bytes. Plain bytes are the case without any pair. Reads and writes Hugging
/// Face's <c>tokenizer.json</c>. The class is thread-safe.
/// </summary>
/// <example>
/// <code>
/// var tokenizer = Tokenizer.Load("tokenizer.json");
/// int[] tokens = tokenizer.Encode("Hello");
/// string text = tokenizer.Decode(tokens);
/// </code>
/// </example>
public sealed class Tokenizer
{
    /// <summary>The token that <c>Train</c> puts between documents.</summary>
    public const string DefaultEndOfText = "<|endoftext|>";

    /// <summary>The name of a tokenizer's file beside weights.</summary>
    internal const string FileName = "tokenizer.json";

    // The tokens that models of common families put between documents.
    private static readonly ImmutableArray<string> EndsOfText = [DefaultEndOfText, "<|end_of_text|>", "<|eot_id|>", "</s>", "<eos>"];

    private readonly TokenizerContent _content;
    private readonly BytePairs _pairs;
    private readonly ConcurrentBag<WordEncoder> _encoders = [];
    private readonly AddedTokenSearch _addedInText;
    private readonly AddedTokenSearch _addedInNormalizedText;
    private readonly FrozenSet<int> _special;
    private readonly byte[] _file;

    internal Tokenizer(TokenizerContent content, byte[]? file = null)
    {
        _content = content;
        var vocabulary = new Dictionary<byte[], int>(ByteStrings.Comparer);
        for (var token = 0; token < content.Pieces.Length; token++) vocabulary.TryAdd(content.Pieces[token], token);
        _pairs = new BytePairs(vocabulary, content.Merges, content.WordsFirst, content.HasPieces);
        _addedInText = new(content.Added.Where(a => !a.IsNormalized).Select(a => (content.Pieces[a.Token], a)));
        _addedInNormalizedText = new(content.Added.Where(a => a.IsNormalized)
            .Select(a => (TextStep.Apply(content.Normalizer, content.Pieces[a.Token]).ToArray(), a)));
        _special = content.Added.Where(a => a.IsSpecial).Select(a => a.Token).ToFrozenSet();
        EndOfText = EndsOfText.Select(name => content.Added.FirstOrDefault(a => a.IsSpecial && content.TextOf(a) == name)?.Token)
            .FirstOrDefault(token => token is not null);
        Fingerprint = content.Fingerprint();
        IsByteLevel = content.Tokens.Length == 256 && !content.HasPieces
            && content.Tokens.Select((bytes, id) => bytes is [var value] && value == id).All(same => same);
        _file = file ?? TokenizerFile.Write(content);
    }

    /// <summary>The tokenizer with one token for each byte, whose id is the byte. Documents end with a blank line.</summary>
    public static Tokenizer ByteLevel { get; } = new(TokenizerContent.Bytes);

    /// <summary>The number of different tokens. Tokens are numbered from 0 on.</summary>
    public int VocabularySize => _content.Tokens.Length;

    /// <summary>The token between documents, or null if there is none.</summary>
    public int? EndOfText { get; }

    /// <summary>The special tokens by their names.</summary>
    public IReadOnlyDictionary<string, int> SpecialTokens =>
        _content.Added.Where(a => a.IsSpecial).ToDictionary(_content.TextOf, a => a.Token);

    /// <summary>
    /// A hexadecimal hash of everything that affects which tokens a text becomes, apart from the tokens that are added around it. Weight
    /// files store it, so that a wrong tokenizer is refused.
    /// </summary>
    public string Fingerprint { get; }

    /// <summary>Everything that affects encoding.</summary>
    internal TokenizerContent Content => _content;

    /// <summary>True if tokens are bytes.</summary>
    internal bool IsByteLevel { get; }

    /// <summary>The tokens that are added before a text.</summary>
    internal ImmutableArray<int> Before => _content.Before;

    /// <summary>The tokens that are added after a text.</summary>
    internal ImmutableArray<int> After => _content.After;

    /// <summary>How many spaces at the beginning of a text stand for nothing, because encoding puts them there.</summary>
    internal int LeadingSpaces => _content.LeadingSpaces;

    /// <summary>
    /// Reads a <c>tokenizer.json</c> of BPE: of bytes (GPT-2, Llama 3, Qwen 2, Mistral Nemo, or one that MatFormer wrote), or of characters
    /// with bytes for the rest (Llama 2, Mistral 7B, Gemma).
    /// </summary>
    /// <exception cref="TokenizerException">The file is damaged or of another kind. The message names the field.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static Tokenizer Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (!File.Exists(path))
            throw new TokenizerException($"The tokenizer '{path}' does not exist; give a tokenizer.json.");
        var file = File.ReadAllBytes(path);
        return new Tokenizer(TokenizerFile.Read(path, file), file);
    }

    /// <summary>
    /// Learns a vocabulary. It begins with all bytes. Then the most frequent pair of neighbours within words (cut as GPT-2 does) becomes a
    /// token, over and over. Of equally frequent pairs, the one with the smaller first token is taken, then the one with the smaller second
    /// token. The special tokens come last.
    /// </summary>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    internal static Tokenizer Train(WordCounts words, TokenizerOptions? options, CancellationToken cancellationToken)
    {
        options ??= new TokenizerOptions();
        options.Validate();
        return TokenizerTraining.Run(words, options, cancellationToken);
    }

    /// <summary>
    /// Saves the tokenizer as <c>tokenizer.json</c>, which Hugging Face's tokenizers load. A loaded tokenizer is saved byte for byte.
    /// </summary>
    /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
    public void Save(string path) => AtomicFile.Write(path, stream => stream.Write(_file));

    /// <summary>
    /// Returns the tokens of a text, as Hugging Face's <c>tokenizer(text).input_ids</c>: with those that the file adds before and after a
    /// text, such as <c>&lt;s&gt;</c>.
    /// </summary>
    /// <param name="text">The text.</param>
    /// <param name="specialTokens">
    /// Whether names of special tokens in the text become these tokens, and tokens are added around the text. Otherwise all of the text is
    /// plain, and nothing is added.
    /// </param>
    public int[] Encode(string text, bool specialTokens = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        var tokens = new List<int>();
        Encode(Encoding.UTF8.GetBytes(text), tokens, specialTokens);
        return [.. tokens];
    }

    /// <summary>Adds the tokens of UTF-8 text to a list. Bytes that are not UTF-8 are kept.</summary>
    /// <param name="text">The text.</param>
    /// <param name="tokens">The list that the tokens are added to.</param>
    /// <param name="specialTokens">
    /// Whether names of special tokens in the text become these tokens, and tokens are added around the text. Otherwise all of the text is
    /// plain, and nothing is added.
    /// </param>
    public void Encode(ReadOnlySpan<byte> text, List<int> tokens, bool specialTokens = true)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        if (specialTokens) tokens.AddRange(Before);
        EncodeText(text, tokens, specialTokens);
        if (specialTokens) tokens.AddRange(After);
    }

    /// <summary>
    /// Returns the tokens that generation continues: those of the text with what is added before it, but nothing after it. If the text
    /// itself begins with these tokens, as that of a chat template does, they are not added again. An empty prompt gives at least one
    /// token.
    /// </summary>
    internal List<int> EncodePrompt(ReadOnlySpan<byte> prompt)
    {
        var tokens = new List<int>();
        EncodeText(prompt, tokens, specialTokens: true);
        if (!CollectionsMarshal.AsSpan(tokens).StartsWith(Before.AsSpan())) tokens.InsertRange(0, Before);
        if (tokens.Count > 0) return tokens;
        if (EndOfText is { } beginning) tokens.Add(beginning);
        else EncodeText("\n"u8, tokens, specialTokens: true);
        return tokens;
    }

    /// <summary>
    /// Returns the bytes that a token stands for. They may be a part of a character. The bytes of a special token are its name.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such token.</exception>
    public ReadOnlySpan<byte> BytesOf(int token)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(token);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(token, VocabularySize);
        return _content.Tokens[token];
    }

    /// <summary>
    /// Returns the text of tokens. Bytes that are not UTF-8 become U+FFFD. Use <see cref="TokenStream"/> to decode token by token.
    /// </summary>
    /// <param name="tokens">The tokens of a whole text.</param>
    /// <param name="specialTokens">Whether special tokens become their names. Otherwise they are left out.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such token.</exception>
    public string Decode(ReadOnlySpan<int> tokens, bool specialTokens = true)
    {
        var bytes = new ArrayBufferWriter<byte>();
        foreach (var token in tokens)
        {
            var its = BytesOf(token);
            if (specialTokens || !_special.Contains(token)) bytes.Write(its);
        }

        var text = bytes.WrittenSpan;
        for (var i = 0; i < LeadingSpaces && text.StartsWith(" "u8); i++) text = text[1..];
        return Encoding.UTF8.GetString(text);
    }

    /// <summary>Returns a short description of the tokenizer.</summary>
    public string Describe() => IsByteLevel ? "bytes"
        : FormattableString.Invariant($"{(_content.HasPieces ? "pairs of characters" : "byte pairs")}, {VocabularySize:n0} tokens");

    // Added tokens are found first in the text as it is, then in what is left, after it was normalized.
    private void EncodeText(ReadOnlySpan<byte> text, List<int> tokens, bool specialTokens)
    {
        if (!_encoders.TryTake(out var encoder)) encoder = new WordEncoder(_pairs);
        for (var rest = text; !rest.IsEmpty;)
        {
            var (start, length, token) = _addedInText.First(rest, specialTokens);
            var isFirst = rest.Length == text.Length;
            var normalized = TextStep.Apply(_content.Normalizer, rest[..start]);
            for (var part = normalized; !part.IsEmpty;)
            {
                var (partStart, partLength, partToken) = _addedInNormalizedText.First(part, specialTokens);
                EncodeWords(part[..partStart], isFirst && part.Length == normalized.Length, tokens, encoder);
                if (partToken is { } found) tokens.Add(found);
                part = part[(partStart + partLength)..];
            }

            if (token is { } added) tokens.Add(added);
            rest = rest[(start + length)..];
        }

        _encoders.Add(encoder);
    }

    private void EncodeWords(ReadOnlySpan<byte> text, bool isFirst, List<int> tokens, WordEncoder encoder)
    {
        if (text.IsEmpty) return;
        if (IsByteLevel)
        {
            foreach (var value in text) tokens.Add(value);
            return;
        }

        if (_content.Spaces is { } spaces) text = spaces.Apply(text, isFirst);
        while (!text.IsEmpty)
        {
            var length = WordPatterns.First(_content.Pattern, text);
            encoder.Encode(text[..length], tokens);
            text = text[length..];
        }
    }
}

/// <summary>The options of a tokenizer's training.</summary>
public sealed record TokenizerOptions
{
    /// <summary>
    /// The number of tokens, including the 256 bytes and the special tokens. The vocabulary is smaller if the text has too few pairs.
    /// </summary>
    public int Vocabulary { get; init; } = 8192;

    /// <summary>
    /// The names of the special tokens, which are not learnt from text. If <c>&lt;|endoftext|&gt;</c> is among them, it stands between
    /// documents.
    /// </summary>
    public ImmutableArray<string> SpecialTokens { get; init; } = [Tokenizer.DefaultEndOfText];

    /// <summary>The minimum number of times that a pair must occur in the text to become a token.</summary>
    public int MinimumCount { get; init; } = 2;

    /// <exception cref="ArgumentException">A value is out of range. The message names the option.</exception>
    internal void Validate()
    {
        if (SpecialTokens.IsDefault || SpecialTokens.Any(string.IsNullOrWhiteSpace)
            || SpecialTokens.Distinct().Count() < SpecialTokens.Length)
            throw new ArgumentException("The tokenizer option SpecialTokens has an empty or repeated name; give distinct names.");
        var least = 256 + SpecialTokens.Length;
        if (Vocabulary < least || Vocabulary > 1 << 24)
        {
            throw new ArgumentException($"The tokenizer option Vocabulary is {Vocabulary}; it must be at least {least} (256 bytes and "
                + $"{Counted.Of(SpecialTokens.Length, "special token")}) and at most {1 << 24}.");
        }

        if (MinimumCount < 1) throw new ArgumentException($"The tokenizer option MinimumCount is {MinimumCount}; it must be 1 or more.");
    }
}

/// <summary>Turns tokens into text one by one. It returns only whole characters, even if a token ends within a character.</summary>
/// <param name="tokenizer">The tokenizer of the tokens.</param>
/// <param name="continues">
/// Whether the tokens continue a text, such as a prompt. Otherwise the space is left out that some tokenizers put before a text.
/// </param>
public sealed class TokenStream(Tokenizer tokenizer, bool continues = false)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();
    private int _spaces = continues ? 0 : tokenizer.LeadingSpaces; // that are still to be left out

    /// <summary>Adds a token and returns the text that it completes. The text is empty if no character is complete yet.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such token.</exception>
    public string Add(int token) => Add(tokenizer.BytesOf(token));

    /// <summary>Adds bytes and returns the text that they complete.</summary>
    internal string Add(ReadOnlySpan<byte> bytes)
    {
        while (_spaces > 0 && !bytes.IsEmpty)
        {
            var isSpace = bytes[0] == ' ';
            if (isSpace) bytes = bytes[1..];
            _spaces = isSpace ? _spaces - 1 : 0;
        }

        return Convert(bytes, flush: false);
    }

    /// <summary>Returns the rest at the end: U+FFFD if a character is incomplete, otherwise nothing.</summary>
    public string Finish() => Convert([], flush: true);

    private string Convert(ReadOnlySpan<byte> bytes, bool flush)
    {
        if (bytes.IsEmpty && !flush) return string.Empty;
        Span<char> characters = new char[_decoder.GetCharCount(bytes, flush)];
        return new string(characters[.._decoder.GetChars(bytes, characters, flush)]);
    }
}

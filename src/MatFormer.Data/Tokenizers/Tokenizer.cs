using System.Buffers;
using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;

namespace MatFormer;

/// <summary>
/// Turns text into tokens and back with byte-level byte-pair encoding (Sennrich et al., arXiv 1508.07909; on bytes as in GPT-2). Plain
/// bytes are the case without any pair. Reads and writes Hugging Face's <c>tokenizer.json</c>. The class is thread-safe.
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
    private static readonly ImmutableArray<string> EndsOfText = [DefaultEndOfText, "<|end_of_text|>", "<|eot_id|>", "</s>"];

    private readonly TokenizerContent _content;
    private readonly BytePairs _pairs;
    private readonly ConcurrentBag<WordEncoder> _encoders = [];
    private readonly SearchValues<byte> _addedStarts;
    private readonly ImmutableArray<AddedToken> _longestFirst;
    private readonly byte[] _file;

    internal Tokenizer(TokenizerContent content, byte[]? file = null)
    {
        _content = content;
        var vocabulary = new Dictionary<byte[], int>(ByteStrings.Comparer);
        for (var token = 0; token < content.Tokens.Length; token++) vocabulary.TryAdd(content.Tokens[token], token);
        _pairs = new BytePairs(vocabulary, content.Merges, content.WordsFirst);
        _longestFirst = [.. content.Added.OrderByDescending(a => content.Tokens[a.Token].Length)];
        _addedStarts = SearchValues.Create([.. content.Added.Select(a => content.Tokens[a.Token][0])]);
        EndOfText = EndsOfText.Select(name => content.Added.FirstOrDefault(a => a.IsSpecial && content.TextOf(a) == name)?.Token)
            .FirstOrDefault(token => token is not null);
        Fingerprint = content.Fingerprint();
        IsByteLevel = content.Tokens.Length == 256
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
    /// A hexadecimal hash of everything that affects encoding. Weight files store it, so that a wrong tokenizer is refused.
    /// </summary>
    public string Fingerprint { get; }

    /// <summary>Everything that affects encoding.</summary>
    internal TokenizerContent Content => _content;

    /// <summary>True if tokens are bytes.</summary>
    internal bool IsByteLevel { get; }

    /// <summary>Reads a <c>tokenizer.json</c> of byte-level BPE: GPT-2's, Llama 3's, Qwen 2's, or one that MatFormer wrote.</summary>
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

    /// <summary>Returns the tokens of a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="specialTokens">Whether names of special tokens in the text become these tokens.</param>
    public int[] Encode(string text, bool specialTokens = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        var tokens = new List<int>();
        Encode(Encoding.UTF8.GetBytes(text), tokens, specialTokens);
        return [.. tokens];
    }

    /// <summary>
    /// Adds the tokens of UTF-8 text to a list. Bytes that are not UTF-8 are kept. No tokens are added before or after the text.
    /// </summary>
    /// <param name="text">The text.</param>
    /// <param name="tokens">The list that the tokens are added to.</param>
    /// <param name="specialTokens">Whether names of special tokens in the text become these tokens.</param>
    public void Encode(ReadOnlySpan<byte> text, List<int> tokens, bool specialTokens = true)
    {
        ArgumentNullException.ThrowIfNull(tokens);
        if (!_encoders.TryTake(out var encoder)) encoder = new WordEncoder(_pairs);
        while (!text.IsEmpty)
        {
            var (start, added) = FindAdded(text, specialTokens);
            EncodeWords(text[..start], tokens, encoder);
            if (added is null) break;
            tokens.Add(added.Token);
            text = text[(start + _content.Tokens[added.Token].Length)..];
        }

        _encoders.Add(encoder);
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
    /// <exception cref="ArgumentOutOfRangeException">There is no such token.</exception>
    public string Decode(ReadOnlySpan<int> tokens)
    {
        var bytes = new ArrayBufferWriter<byte>();
        foreach (var token in tokens) bytes.Write(BytesOf(token));
        return Encoding.UTF8.GetString(bytes.WrittenSpan);
    }

    /// <summary>Returns a short description of the tokenizer.</summary>
    public string Describe() => IsByteLevel ? "bytes" : FormattableString.Invariant($"byte pairs, {VocabularySize:n0} tokens");

    // Returns the first added token in a text and its position. If several begin there, the longest is taken. If there is none, the
    // position is the text's length.
    private (int Start, AddedToken? Added) FindAdded(ReadOnlySpan<byte> text, bool specialTokens)
    {
        for (var start = 0; start < text.Length; start++)
        {
            var skipped = text[start..].IndexOfAny(_addedStarts);
            if (skipped < 0) break;
            start += skipped;
            foreach (var added in _longestFirst)
            {
                if ((specialTokens || !added.IsSpecial) && text[start..].StartsWith(_content.Tokens[added.Token])) return (start, added);
            }
        }

        return (text.Length, null);
    }

    private void EncodeWords(ReadOnlySpan<byte> text, List<int> tokens, WordEncoder encoder)
    {
        if (text.IsEmpty) return;
        if (IsByteLevel)
        {
            foreach (var value in text) tokens.Add(value);
            return;
        }

        if (_content.Normalizes) text = Normalize(text);
        while (!text.IsEmpty)
        {
            var length = WordPatterns.First(_content.Pattern, text);
            encoder.Encode(text[..length], tokens);
            text = text[length..];
        }
    }

    // Normalizes to NFC. Text that is not UTF-8 stays unchanged.
    private static ReadOnlySpan<byte> Normalize(ReadOnlySpan<byte> text)
    {
        if (Ascii.IsValid(text) || !System.Text.Unicode.Utf8.IsValid(text)) return text;
        var characters = Encoding.UTF8.GetString(text);
        return characters.IsNormalized(NormalizationForm.FormC) ? text
            : Encoding.UTF8.GetBytes(characters.Normalize(NormalizationForm.FormC));
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
                + $"{SpecialTokens.Length} special tokens) and at most {1 << 24}.");
        }

        if (MinimumCount < 1) throw new ArgumentException($"The tokenizer option MinimumCount is {MinimumCount}; it must be 1 or more.");
    }
}

/// <summary>Turns tokens into text one by one. It returns only whole characters, even if a token ends within a character.</summary>
/// <param name="tokenizer">The tokenizer of the tokens.</param>
public sealed class TokenStream(Tokenizer tokenizer)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();

    /// <summary>Adds a token and returns the text that it completes. The text is empty if no character is complete yet.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such token.</exception>
    public string Add(int token) => Add(tokenizer.BytesOf(token));

    /// <summary>Adds bytes and returns the text that they complete.</summary>
    internal string Add(ReadOnlySpan<byte> bytes) => Convert(bytes, flush: false);

    /// <summary>Returns the rest at the end: U+FFFD if a character is incomplete, otherwise nothing.</summary>
    public string Finish() => Convert([], flush: true);

    private string Convert(ReadOnlySpan<byte> bytes, bool flush)
    {
        if (bytes.IsEmpty && !flush) return string.Empty;
        Span<char> characters = new char[_decoder.GetCharCount(bytes, flush)];
        return new string(characters[.._decoder.GetChars(bytes, characters, flush)]);
    }
}

/// <summary>A token that is found in a text before the text is cut into words.</summary>
internal sealed record AddedToken(int Token, bool IsSpecial);

/// <summary>Everything that affects encoding.</summary>
internal sealed record TokenizerContent
{
    public static TokenizerContent Bytes { get; } = new()
    {
        Tokens = [.. Enumerable.Range(0, 256).Select(value => new[] { (byte)value })],
        Merges = [],
        Added = [],
        Pattern = WordPattern.Whole,
    };

    /// <summary>The bytes of each token.</summary>
    public required ImmutableArray<byte[]> Tokens { get; init; }

    /// <summary>The pairs of tokens and the tokens that they become, in the order in which they were learnt.</summary>
    public required IReadOnlyList<(int Left, int Right, int Result)> Merges { get; init; }

    public required ImmutableArray<AddedToken> Added { get; init; }

    public required WordPattern Pattern { get; init; }

    /// <summary>Whether text is normalized to NFC first.</summary>
    public bool Normalizes { get; init; }

    /// <summary>Whether a word that is a token becomes that token, regardless of the merges.</summary>
    public bool WordsFirst { get; init; }

    public string TextOf(AddedToken added) => Encoding.UTF8.GetString(Tokens[added.Token]);

    public string Fingerprint()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData([(byte)Pattern, Normalizes ? (byte)1 : (byte)0, WordsFirst ? (byte)1 : (byte)0]);
        Append(Tokens.Length);
        foreach (var bytes in Tokens)
        {
            Append(bytes.Length);
            hash.AppendData(bytes);
        }

        Append(Merges.Count);
        foreach (var (left, right, _) in Merges)
        {
            Append(left);
            Append(right);
        }

        foreach (var added in Added.OrderBy(a => a.Token)) Append((added.Token << 1) | (added.IsSpecial ? 1 : 0));
        return Convert.ToHexStringLower(hash.GetHashAndReset());

        void Append(int number)
        {
            Span<byte> bytes = stackalloc byte[4];
            System.Buffers.Binary.BinaryPrimitives.WriteInt32LittleEndian(bytes, number);
            hash.AppendData(bytes);
        }
    }
}

using System.Runtime.InteropServices;
using System.Text;

namespace MatFormer;

/// <summary>Merges the bytes or characters of words into tokens, and caches the tokens of words. It is not thread-safe.</summary>
internal sealed class WordEncoder(BytePairs pairs)
{
    // A few words make up most of a text, so rare or long words are not worth caching.
    private const int MaxRemembered = 1 << 17;
    private const int MaxRememberedBytes = 48;

    private readonly Dictionary<byte[], int[]>.AlternateLookup<ReadOnlySpan<byte>> _remembered =
        new Dictionary<byte[], int[]>(ByteStrings.Comparer).GetAlternateLookup<ReadOnlySpan<byte>>();

    private readonly PriorityQueue<(int Position, int Left, int Right), long> _queue = new();
    private int[] _symbols = [];
    private int[] _next = [];
    private int[] _previous = [];

    /// <summary>Adds the tokens of a word.</summary>
    public void Encode(ReadOnlySpan<byte> word, List<int> tokens)
    {
        if (_remembered.TryGetValue(word, out var known))
        {
            tokens.AddRange(known);
            return;
        }

        var start = tokens.Count;
        if (pairs.Find(word) is { } whole) tokens.Add(whole);
        else Merge(word, tokens);
        if (word.Length <= MaxRememberedBytes && _remembered.Dictionary.Count < MaxRemembered)
            _remembered[word] = CollectionsMarshal.AsSpan(tokens)[start..].ToArray();
    }

    // Pairs are merged in the order in which they were learnt, and equal pairs from left to right. With a queue, a word of n bytes takes
    // n log n steps.
    private void Merge(ReadOnlySpan<byte> word, List<int> tokens)
    {
        if (_symbols.Length < word.Length)
        {
            _symbols = new int[word.Length];
            _next = new int[word.Length];
            _previous = new int[word.Length];
        }

        var count = 0;
        for (var position = 0; position < word.Length;)
        {
            if (pairs.FindCharacter(word[position..], out var length) is { } character)
            {
                _symbols[count++] = character;
                position += length;
                continue;
            }

            for (var end = position + length; position < end; position++) _symbols[count++] = pairs.TokenOf(word[position]);
        }

        for (var i = 0; i < count; i++)
        {
            _next[i] = i + 1 < count ? i + 1 : -1;
            _previous[i] = i - 1;
        }

        for (var i = 0; i + 1 < count; i++) Enqueue(i, i + 1);
        while (_queue.TryDequeue(out var pair, out var priority))
        {
            // One of the two tokens may have been merged since the pair was queued.
            var (left, right) = (pair.Position, _next[pair.Position]);
            if (_symbols[left] != pair.Left || right < 0 || _symbols[right] != pair.Right) continue;
            _symbols[left] = pairs.Result((int)(priority >> 32));
            _symbols[right] = -1;
            var after = _next[right];
            _next[left] = after;
            if (after >= 0)
            {
                _previous[after] = left;
                Enqueue(left, after);
            }

            if (_previous[left] >= 0) Enqueue(_previous[left], left);
        }

        for (var i = 0; i >= 0; i = _next[i]) tokens.Add(_symbols[i]);
    }

    private void Enqueue(int left, int right)
    {
        var (first, second) = (_symbols[left], _symbols[right]);
        if (pairs.Rank(first, second) is { } rank) _queue.Enqueue((left, first, second), ((long)rank << 32) | (uint)left);
    }
}

/// <summary>The merges of pairs of bytes or characters, in the order in which they were learnt.</summary>
internal sealed class BytePairs
{
    private readonly int[] _tokenOfByte = new int[256];
    private readonly Dictionary<ulong, int> _ranks;
    private readonly int[] _results;
    private readonly Dictionary<byte[], int>.AlternateLookup<ReadOnlySpan<byte>>? _words;
    private readonly Dictionary<byte[], int>.AlternateLookup<ReadOnlySpan<byte>>? _characters;

    /// <param name="vocabulary">The byte strings that are tokens, and their tokens.</param>
    /// <param name="merges">The pairs and the tokens that they become, in the order in which they were learnt.</param>
    /// <param name="wordsFirst">Whether a word that is a token becomes that token, regardless of the merges.</param>
    /// <param name="hasPieces">Whether pairs of characters are merged. The tokens of bytes are then those with their names.</param>
    public BytePairs(
        Dictionary<byte[], int> vocabulary, IReadOnlyList<(int Left, int Right, int Result)> merges, bool wordsFirst, bool hasPieces)
    {
        var lookup = vocabulary.GetAlternateLookup<ReadOnlySpan<byte>>();
        for (var value = 0; value < 256; value++) _tokenOfByte[value] = vocabulary[hasPieces ? NameOf((byte)value) : [(byte)value]];
        _ranks = new Dictionary<ulong, int>(merges.Count);
        _results = new int[merges.Count];
        for (var rank = 0; rank < merges.Count; rank++)
        {
            _ranks.TryAdd(Key(merges[rank].Left, merges[rank].Right), rank);
            _results[rank] = merges[rank].Result;
        }

        if (wordsFirst) _words = lookup;
        if (hasPieces) _characters = lookup;
    }

    /// <summary>Returns the name of a byte among pieces, such as <c>&lt;0x0A&gt;</c>.</summary>
    public static byte[] NameOf(byte value) => Encoding.ASCII.GetBytes($"<0x{value:X2}>");

    /// <summary>
    /// Returns the token of the first character of a text, or null if it has none. Where pairs of bytes are merged, no character has one.
    /// </summary>
    /// <param name="text">The text, which must not be empty.</param>
    /// <param name="length">The length in bytes of the character, or of what is not UTF-8.</param>
    public int? FindCharacter(ReadOnlySpan<byte> text, out int length)
    {
        length = 1;
        if (_characters is not { } characters) return null;
        if (text[0] >= 128) Rune.DecodeFromUtf8(text, out _, out length);
        return characters.TryGetValue(text[..length], out var token) ? token : null;
    }

    /// <summary>Returns the token of a byte.</summary>
    public int TokenOf(byte value) => _tokenOfByte[value];

    /// <summary>Returns the token of a whole word, or null if the word is not a token or words do not come first.</summary>
    public int? Find(ReadOnlySpan<byte> word) => _words is { } words && words.TryGetValue(word, out var token) ? token : null;

    /// <summary>Returns the rank of a pair in the order of learning, or null if the pair was not learnt.</summary>
    public int? Rank(int left, int right) => _ranks.TryGetValue(Key(left, right), out var rank) ? rank : null;

    /// <summary>Returns the token that the pair of a rank becomes.</summary>
    public int Result(int rank) => _results[rank];

    /// <summary>Returns a pair as one number. The numbers order pairs by the first token, then by the second.</summary>
    public static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;
}

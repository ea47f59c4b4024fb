using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>Merges the bytes of words into tokens, and caches the tokens of words. It is not thread-safe.</summary>
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

        for (var i = 0; i < word.Length; i++)
        {
            _symbols[i] = pairs.TokenOf(word[i]);
            _next[i] = i + 1 < word.Length ? i + 1 : -1;
            _previous[i] = i - 1;
        }

        for (var i = 0; i + 1 < word.Length; i++) Enqueue(i, i + 1);
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

/// <summary>The merges of byte pairs, in the order in which they were learnt.</summary>
internal sealed class BytePairs
{
    private readonly int[] _tokenOfByte = new int[256];
    private readonly Dictionary<ulong, int> _ranks;
    private readonly int[] _results;
    private readonly Dictionary<byte[], int>.AlternateLookup<ReadOnlySpan<byte>>? _words;

    /// <param name="vocabulary">The byte strings that are tokens, and their tokens.</param>
    /// <param name="merges">The pairs and the tokens that they become, in the order in which they were learnt.</param>
    /// <param name="wordsFirst">Whether a word that is a token becomes that token, regardless of the merges.</param>
    public BytePairs(Dictionary<byte[], int> vocabulary, IReadOnlyList<(int Left, int Right, int Result)> merges, bool wordsFirst)
    {
        var lookup = vocabulary.GetAlternateLookup<ReadOnlySpan<byte>>();
        for (var value = 0; value < 256; value++) _tokenOfByte[value] = lookup[[(byte)value]];
        _ranks = new Dictionary<ulong, int>(merges.Count);
        _results = new int[merges.Count];
        for (var rank = 0; rank < merges.Count; rank++)
        {
            _ranks.TryAdd(Key(merges[rank].Left, merges[rank].Right), rank);
            _results[rank] = merges[rank].Result;
        }

        if (wordsFirst) _words = lookup;
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

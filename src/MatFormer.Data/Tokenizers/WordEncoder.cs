using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>Merges the bytes of words into tokens, and remembers words. Not for several threads at once.</summary>
internal sealed class WordEncoder(BytePairs pairs)
{
    // Most of a text is few words; what is rare or long is not worth remembering.
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

    // The pair that was merged first in training is merged first, the left one of several; a queue, so that long words take n log n.
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
            // One of the two may have been merged since.
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

/// <summary>What byte pairs become, in the order in which they were learnt.</summary>
internal sealed class BytePairs
{
    private readonly int[] _tokenOfByte = new int[256];
    private readonly Dictionary<ulong, int> _ranks;
    private readonly int[] _results;
    private readonly Dictionary<byte[], int>.AlternateLookup<ReadOnlySpan<byte>>? _words;

    /// <param name="vocabulary">The token of each byte string that is one.</param>
    /// <param name="merges">The pairs, the first learnt first, and the tokens that they become.</param>
    /// <param name="wordsFirst">Whether a word that is a token is taken as it is, whatever the merges say.</param>
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

    /// <summary>The token of a byte.</summary>
    public int TokenOf(byte value) => _tokenOfByte[value];

    /// <summary>The token that a whole word is, if words come first.</summary>
    public int? Find(ReadOnlySpan<byte> word) => _words is { } words && words.TryGetValue(word, out var token) ? token : null;

    /// <summary>When a pair was learnt, or null if it was not.</summary>
    public int? Rank(int left, int right) => _ranks.TryGetValue(Key(left, right), out var rank) ? rank : null;

    /// <summary>What the pair of a rank becomes.</summary>
    public int Result(int rank) => _results[rank];

    /// <summary>A pair as one number, which orders by the first token, then the second.</summary>
    public static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;
}

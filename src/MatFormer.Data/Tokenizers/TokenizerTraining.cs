using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text;

namespace MatFormer;

/// <summary>
/// Learns byte pairs. The class keeps the count of each pair and the words that contain the pair. A merge updates only the words of the
/// merged pair. A queue gives the most frequent pair, whose count is checked when it is dequeued, because it may have fallen since.
/// </summary>
internal sealed class TokenizerTraining
{
    private readonly List<byte[]> _tokens = [.. ByteAlphabet.Ordered.Select(value => new[] { value })];
    private readonly Dictionary<byte[], int> _tokenOf = new(ByteStrings.Comparer);
    private readonly List<(int Left, int Right, int Result)> _merges = [];
    private readonly Dictionary<ulong, Pair> _pairs = [];
    private readonly PriorityQueue<ulong, (long Fewer, ulong Pair)> _queue = new();
    private readonly HashSet<ulong> _raised = [];
    private readonly HashSet<ulong> _learnt = [];
    private readonly List<int[]> _words = [];
    private readonly List<long> _counts = [];

    private TokenizerTraining(WordCounts words)
    {
        for (var token = 0; token < _tokens.Count; token++) _tokenOf.Add(_tokens[token], token);
        foreach (var (word, count) in words.Counts)
        {
            if (word.Length < 2) continue;
            var symbols = Array.ConvertAll(word, value => _tokenOf[[value]]);
            for (var i = 1; i < symbols.Length; i++) Change(symbols[i - 1], symbols[i], count, _words.Count);
            _words.Add(symbols);
            _counts.Add(count);
        }

        EnqueueRaised();
    }

    private sealed class Pair
    {
        public long Count;

        /// <summary>The count that the pair was queued with last. Queue entries with another count are outdated.</summary>
        public long Queued;

        /// <summary>The words that contain the pair. Some may no longer contain it, which a merge finds out.</summary>
        public readonly List<int> Words = [];
    }

    public static Tokenizer Run(WordCounts words, TokenizerOptions options, CancellationToken cancellationToken)
    {
        options.Validate();
        var training = new TokenizerTraining(words);
        var size = options.Vocabulary - options.SpecialTokens.Length;
        while (training._tokens.Count < size && training.Learn(options.MinimumCount)) cancellationToken.ThrowIfCancellationRequested();
        var first = training._tokens.Count;
        if (options.SpecialTokens.FirstOrDefault(name => training._tokenOf.ContainsKey(Encoding.UTF8.GetBytes(name))) is { } word)
        {
            throw new ArgumentException(
                $"The special token '{word}' became a token of the text; give it a name that texts do not contain, such as '<|{word}|>'.");
        }

        return new Tokenizer(new TokenizerContent
        {
            Tokens = [.. training._tokens, .. options.SpecialTokens.Select(Encoding.UTF8.GetBytes)],
            Merges = training._merges,
            Added = [.. options.SpecialTokens.Select((_, i) => new AddedToken(first + i, IsSpecial: true))],
            Pattern = WordPattern.Gpt2,
        });
    }

    // Merges the most frequent pair everywhere. Returns false if no pair is frequent enough.
    private bool Learn(int minimumCount)
    {
        while (_queue.TryDequeue(out var key, out var priority))
        {
            if (!_pairs.TryGetValue(key, out var pair) || pair.Queued != -priority.Fewer) continue;
            if (pair.Count != pair.Queued)
            {
                Enqueue(key, pair);
                continue;
            }

            if (pair.Count < minimumCount) return false;
            var (left, right) = ((int)(key >> 32), (int)(uint)key);
            byte[] bytes = [.. _tokens[left], .. _tokens[right]];

            // If two pairs become the same bytes, they become the same token.
            if (!_tokenOf.TryGetValue(bytes, out var token))
            {
                token = _tokens.Count;
                _tokens.Add(bytes);
                _tokenOf.Add(bytes, token);
            }

            if (_learnt.Add(key)) _merges.Add((left, right, token));
            foreach (var word in pair.Words) Merge(word, left, right, token);
            _pairs.Remove(key);
            EnqueueRaised();
            return true;
        }

        return false;
    }

    private void Merge(int word, int left, int right, int token)
    {
        var symbols = _words[word];
        var count = _counts[word];
        var kept = 0;
        for (var i = 0; i < symbols.Length; kept++)
        {
            if (symbols[i] != left || i + 1 == symbols.Length || symbols[i + 1] != right)
            {
                symbols[kept] = symbols[i++];
                continue;
            }

            // Only pairs with the neighbours change. Tokens before this one have been merged already, and tokens after it have not.
            if (kept > 0)
            {
                Change(symbols[kept - 1], left, -count, word);
                Change(symbols[kept - 1], token, count, word);
            }

            i += 2;
            if (i < symbols.Length)
            {
                Change(right, symbols[i], -count, word);
                Change(token, symbols[i], count, word);
            }

            symbols[kept] = token;
        }

        if (kept < symbols.Length) _words[word] = symbols[..kept];
    }

    private void Change(int left, int right, long count, int word)
    {
        var key = BytePairs.Key(left, right);
        ref var pair = ref CollectionsMarshal.GetValueRefOrAddDefault(_pairs, key, out _);
        pair ??= new Pair();
        pair.Count += count;
        if (count <= 0) return;
        if (pair.Words is not [.., var last] || last != word) pair.Words.Add(word);
        _raised.Add(key);
    }

    private void EnqueueRaised()
    {
        foreach (var key in _raised)
        {
            if (_pairs[key] is var pair && pair.Count > pair.Queued) Enqueue(key, pair);
        }

        _raised.Clear();
    }

    private void Enqueue(ulong key, Pair pair)
    {
        pair.Queued = pair.Count;
        if (pair.Count > 0) _queue.Enqueue(key, (-pair.Count, key));
    }
}

namespace MatFormer;

/// <summary>Counts how often each word occurs in a text.</summary>
internal sealed class WordCounts
{
    private readonly Dictionary<byte[], long>.AlternateLookup<ReadOnlySpan<byte>> _counts =
        new Dictionary<byte[], long>(ByteStrings.Comparer).GetAlternateLookup<ReadOnlySpan<byte>>();

    /// <summary>The words and their counts.</summary>
    public IReadOnlyDictionary<byte[], long> Counts => _counts.Dictionary;

    /// <summary>Counts the words of texts, on all cores.</summary>
    /// <param name="texts">The number of texts.</param>
    /// <param name="add">Adds the words of a text, given its index.</param>
    /// <param name="cancellationToken">Cancels the counting.</param>
    public static WordCounts Of(int texts, Action<int, WordCounts> add, CancellationToken cancellationToken)
    {
        var all = new WordCounts();
        Parallel.For(
            0,
            texts,
            new ParallelOptions { CancellationToken = cancellationToken, MaxDegreeOfParallelism = Environment.ProcessorCount },
            () => new WordCounts(),
            (text, _, own) =>
            {
                add(text, own);
                return own;
            },
            own =>
            {
                lock (all)
                {
                    var sums = all._counts.Dictionary;
                    foreach (var (word, count) in own.Counts) sums[word] = sums.GetValueOrDefault(word) + count;
                }
            });
        return all;
    }

    /// <summary>Counts the words of a text, which is cut into words as GPT-2 does.</summary>
    public void Add(ReadOnlySpan<byte> text)
    {
        while (!text.IsEmpty)
        {
            var length = WordPatterns.First(WordPattern.Gpt2, text);
            var word = text[..length];
            _counts.TryGetValue(word, out var count);
            _counts[word] = count + 1;
            text = text[length..];
        }
    }
}

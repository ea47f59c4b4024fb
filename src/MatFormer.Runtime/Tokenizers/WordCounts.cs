using System.Text;

namespace MatFormer;

/// <summary>How often each word stands in a text.</summary>
internal sealed class WordCounts
{
    private readonly Dictionary<byte[], long>.AlternateLookup<ReadOnlySpan<byte>> _counts =
        new Dictionary<byte[], long>(ByteStrings.Comparer).GetAlternateLookup<ReadOnlySpan<byte>>();

    /// <summary>The words and their counts.</summary>
    public IReadOnlyDictionary<byte[], long> Counts => _counts.Dictionary;

    /// <summary>Counts a part of a corpus, on all cores.</summary>
    public static WordCounts Of(CorpusSplit split, CancellationToken cancellationToken) =>
        Of(split.Documents, (document, counts) => counts.Add(split.ReadDocument(document)), cancellationToken);

    /// <summary>Counts queries and documents, on all cores.</summary>
    public static WordCounts Of(IReadOnlyList<RetrievalPair> pairs, CancellationToken cancellationToken) => Of(
        pairs.Count,
        (pair, counts) =>
        {
            counts.Add(Encoding.UTF8.GetBytes(pairs[pair].Query));
            counts.Add(Encoding.UTF8.GetBytes(pairs[pair].Document));
        },
        cancellationToken);

    private static WordCounts Of(int texts, Action<int, WordCounts> add, CancellationToken cancellationToken)
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

    /// <summary>Counts a text, cut as GPT-2 does.</summary>
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

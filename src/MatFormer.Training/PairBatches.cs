using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>A batch of queries and documents as tokens.</summary>
/// <param name="pairs">The number of pairs, B.</param>
/// <param name="context">The largest number of tokens of a text. Longer texts are truncated.</param>
internal sealed class PairBatch(int pairs, int context) : Batch
{
    private readonly List<int> _tokens = [];
    private readonly Dictionary<string, long> _numbers = new(StringComparer.Ordinal);
    private long[] _input = [];

    /// <inheritdoc/>
    public override int Examples => pairs;

    /// <summary>T, the length of the longest text of the batch, rounded up, at most the context.</summary>
    public int Time { get; private set; }

    /// <summary>The tokens, (2 B, T), row-major. Each query is followed by its document. Rows are padded with -1.</summary>
    public ReadOnlySpan<long> Tokens => _input;

    /// <summary>
    /// A number for each row, (2 B). A query and its document have the same number, and so do pairs that share a query or a document.
    /// </summary>
    public long[] Targets { get; } = new long[2 * pairs];

    /// <summary>Fills the batch. The number of examples must be the number of pairs of the batch.</summary>
    public void Fill(ReadOnlySpan<RetrievalPair> examples, Tokenizer tokenizer)
    {
        var texts = new int[2 * pairs][];
        for (var i = 0; i < pairs; i++)
        {
            texts[2 * i] = TokenRows.Encode(examples[i].Query, tokenizer, context, _tokens);
            texts[(2 * i) + 1] = TokenRows.Encode(examples[i].Document, tokenizer, context, _tokens);
        }

        Time = TokenRows.PaddedLength(texts.Max(text => text.Length), context);
        if (_input.Length != texts.Length * Time) _input = new long[texts.Length * Time];
        for (var row = 0; row < texts.Length; row++) TokenRows.Pad(texts[row], _input.AsSpan(row * Time, Time));
        Number(texts);
    }

    /// <inheritdoc/>
    public override (Tensor Input, Tensor Targets) ToTensors(Device device)
    {
        long[] shape = [2 * pairs, Time];
        return (tensor(_input, shape, device: device), tensor(Targets, device: device));
    }

    // Pairs with the same query or document (after truncation) get the same number, because they are not negatives of each other.
    private void Number(int[][] texts)
    {
        _numbers.Clear();
        for (var i = 0; i < pairs; i++)
        {
            var (query, document) = ("q" + Key(texts[2 * i]), "d" + Key(texts[(2 * i) + 1]));
            var ofQuery = _numbers.GetValueOrDefault(query, i);
            var number = _numbers.GetValueOrDefault(document, ofQuery);
            if (ofQuery < i && ofQuery != number)
            {
                // This pair joins two groups, so the rows of one group take the number of the other.
                for (var row = 0; row < 2 * i; row++)
                {
                    if (Targets[row] == ofQuery) Targets[row] = number;
                }

                foreach (var (key, its) in _numbers.ToArray())
                {
                    if (its == ofQuery) _numbers[key] = number;
                }
            }

            Targets[2 * i] = Targets[(2 * i) + 1] = _numbers[query] = _numbers[document] = number;
        }

        static string Key(int[] tokens) => MemoryMarshal.Cast<int, char>(tokens).ToString();
    }
}

/// <summary>
/// The training batches of pairs. Each epoch takes each pair once, in shuffled order. A batch depends only on the seed and the step.
/// </summary>
internal sealed class PairBatches(IReadOnlyList<RetrievalPair> pairs, Tokenizer tokenizer, int context, TrainerOptions options) : IBatches
{
    private readonly EpochOrder _order = new(pairs.Count, options.Seed);
    private readonly RetrievalPair[] _examples = new RetrievalPair[options.Batch];

    /// <inheritdoc/>
    public Batch NewBatch() => new PairBatch(options.Batch, context);

    /// <summary>False, because texts are encoded again for each batch, which allocates.</summary>
    public bool CanRunAhead => false;

    /// <inheritdoc/>
    public void Fill(long step, Batch batch)
    {
        for (var row = 0; row < _examples.Length; row++) _examples[row] = pairs[_order.At(((step - 1) * options.Batch) + row).Example];
        ((PairBatch)batch).Fill(_examples, tokenizer);
    }
}

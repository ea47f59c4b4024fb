using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Queries and documents as tokens.</summary>
/// <param name="pairs">B.</param>
/// <param name="context">The most tokens of a text; what is longer is cut.</param>
internal sealed class PairBatch(int pairs, int context) : Batch
{
    private readonly List<int> _tokens = [];
    private readonly Dictionary<string, long> _numbers = new(StringComparer.Ordinal);
    private long[] _input = [];

    /// <inheritdoc/>
    public override int Examples => pairs;

    /// <summary>T: the longest text of the batch, rounded up, at most the context.</summary>
    public int Time { get; private set; }

    /// <summary>(2 B, T), row by row, each query followed by its document, -1 behind their ends.</summary>
    public ReadOnlySpan<long> Tokens => _input;

    /// <summary>(2 B): a number for each row, the same for a query and its document, and for pairs that share one of them.</summary>
    public long[] Targets { get; } = new long[2 * pairs];

    /// <summary>Makes the batch of as many pairs as it has.</summary>
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

    // Texts that are alike as far as they are seen, and a pair that comes twice, are no negatives of each other.
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
                // It joins what was apart.
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
/// The training batches: each epoch takes each pair once, in shuffled order. A batch depends on the seed and the step alone.
/// </summary>
internal sealed class PairBatches(IReadOnlyList<RetrievalPair> pairs, Tokenizer tokenizer, int context, TrainerOptions options) : IBatches
{
    private readonly EpochOrder _order = new(pairs.Count, options.Seed);
    private readonly RetrievalPair[] _examples = new RetrievalPair[options.Batch];

    /// <inheritdoc/>
    public Batch NewBatch() => new PairBatch(options.Batch, context);

    /// <summary>Texts are encoded anew for each batch, which allocates.</summary>
    public bool CanRunAhead => false;

    /// <inheritdoc/>
    public void Fill(long step, Batch batch)
    {
        for (var row = 0; row < _examples.Length; row++) _examples[row] = pairs[_order.At(((step - 1) * options.Batch) + row).Example];
        ((PairBatch)batch).Fill(_examples, tokenizer);
    }
}

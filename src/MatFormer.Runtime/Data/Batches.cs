namespace MatFormer;

/// <summary>
/// The training batches: each epoch cuts the shuffled documents into windows and takes each window once, in shuffled order. A batch depends
/// on the seed
/// and the step alone.
/// </summary>
internal sealed class TrainingBatches
{
    private readonly CorpusSplit _split;
    private readonly int _context;
    private readonly int _batch;
    private readonly long _seed;
    private readonly long _windows;
    private readonly byte[] _window;
    private long _epoch = -1;
    private CorpusSplit.Order? _documents;
    private int[] _order = [];

    /// <exception cref="DataException">The text is shorter than one window.</exception>
    public TrainingBatches(CorpusSplit split, int context, int batch, long seed)
    {
        _split = split;
        _context = context;
        _batch = batch;
        _seed = seed;
        _windows = split.Windows(context);
        _window = new byte[context + 1];
    }

    /// <summary>The epoch that a step, from 1 on, begins in; from 0 on.</summary>
    public long Epoch(long step) => (step - 1) * _batch / _windows;

    /// <summary>Fills tokens and the tokens after them, (B, T) row by row, of a step from 1 on.</summary>
    public void Fill(long step, Span<long> tokens, Span<long> targets)
    {
        for (var row = 0; row < _batch; row++)
        {
            var index = ((step - 1) * _batch) + row;
            var epoch = index / _windows;
            if (epoch != _epoch) Shuffle(epoch);
            _documents!.Read((long)_order[index % _windows] * _context, _window);
            Windows.Spread(_window, tokens.Slice(row * _context, _context), targets.Slice(row * _context, _context));
        }
    }

    private void Shuffle(long epoch)
    {
        _documents = _split.Shuffled(_seed, epoch);
        _order = [.. Enumerable.Range(0, checked((int)_windows))];
        new CounterRandom(_seed, RandomPurpose.WindowOrder, epoch).Shuffle(_order);
        _epoch = epoch;
    }
}

/// <summary>Windows of text.</summary>
internal static class Windows
{
    /// <summary>
    /// At most <paramref name="count"/> windows of context + 1 bytes, spread evenly over the text; the same ones every time.
    /// </summary>
    /// <exception cref="DataException">The text is shorter than one window.</exception>
    public static IEnumerable<byte[]> Fixed(CorpusSplit split, int context, int count)
    {
        var windows = split.Windows(context);
        var taken = Math.Min(windows, count);
        for (long i = 0; i < taken; i++)
        {
            var window = new byte[context + 1];
            split.Stored.Read(i * windows / taken * context, window);
            yield return window;
        }
    }

    /// <summary>The tokens of a window and the tokens after them.</summary>
    public static void Spread(ReadOnlySpan<byte> window, Span<long> tokens, Span<long> targets)
    {
        for (var t = 0; t < tokens.Length; t++)
        {
            tokens[t] = window[t];
            targets[t] = window[t + 1];
        }
    }
}

using System.Runtime.ExceptionServices;

namespace MatFormer;

/// <summary>A source of training batches, addressed by step.</summary>
internal interface IBatches
{
    /// <summary>Creates an empty batch for <see cref="Fill"/>.</summary>
    Batch NewBatch();

    /// <summary>Fills a batch from <see cref="NewBatch"/> with the examples of a step. Steps are numbered from 1.</summary>
    void Fill(long step, Batch batch);

    /// <summary>
    /// Whether filling a batch allocates so little that it may run on another thread. TorchSharp does not keep a scalar alive while
    /// libtorch reads the scalar, and a garbage collection that another thread starts at that moment may free the scalar.
    /// </summary>
    bool CanRunAhead => true;
}

/// <summary>
/// The training batches of a text. Each epoch cuts the shuffled documents into windows and takes each window once, in shuffled order. A
/// batch depends only on the seed and the step.
/// </summary>
internal sealed class TrainingBatches : IBatches
{
    private readonly CorpusSplit _split;
    private readonly int _context;
    private readonly int _batch;
    private readonly long _seed;
    private readonly int[] _window;
    private readonly EpochOrder _order;
    private DocumentOrder? _documents;

    /// <exception cref="DataException">The text is shorter than one window.</exception>
    public TrainingBatches(CorpusSplit split, int context, int batch, long seed)
    {
        _split = split;
        _context = context;
        _batch = batch;
        _seed = seed;
        _order = new EpochOrder(checked((int)split.Windows(context)), seed);
        _window = new int[context + 1];
    }

    /// <inheritdoc/>
    public Batch NewBatch() => new TokenBatch(_batch, _context);

    /// <inheritdoc/>
    public void Fill(long step, Batch batch)
    {
        for (var row = 0; row < _batch; row++)
        {
            var (window, isNewEpoch) = _order.At(((step - 1) * _batch) + row);
            if (isNewEpoch) _documents = _split.Shuffled(_seed, _order.Epoch);
            _documents!.Read((long)window * _context, _window);
            ((TokenBatch)batch).Set(row, _window);
        }
    }
}

/// <summary>The order of examples. Each epoch takes each example once, in an order that depends only on the seed and the epoch.</summary>
internal sealed class EpochOrder(int count, long seed)
{
    private int[] _order = [];

    /// <summary>The epoch, from 0, of the most recent call of <see cref="At"/>; -1 before the first call.</summary>
    public long Epoch { get; private set; } = -1;

    /// <summary>
    /// Returns the example at a place in the endless sequence of epochs, and whether its epoch differs from that of the previous call.
    /// </summary>
    public (int Example, bool IsNewEpoch) At(long place)
    {
        var epoch = place / count;
        var isNew = epoch != Epoch;
        if (isNew)
        {
            _order = [.. Enumerable.Range(0, count)];
            new CounterRandom(seed, RandomPurpose.WindowOrder, epoch).Shuffle(_order);
            Epoch = epoch;
        }

        return (_order[place % count], isNew);
    }
}

/// <summary>
/// Batches that a separate thread fills in order, at most <see cref="Ahead"/> of them ahead of time. Steps must be taken in order. The
/// batches are the same as without the thread, because a batch depends only on the seed and the step.
/// </summary>
internal sealed class PrefetchedBatches : IDisposable
{
    /// <summary>The largest number of batches that wait to be taken.</summary>
    public const int Ahead = 2;

    private readonly IBatches _source;
    private readonly long _first;
    private readonly long _last;
    private readonly Batch[] _slots = new Batch[Ahead + 1]; // one more, for the batch in use
    private readonly SemaphoreSlim _free = new(Ahead + 1);
    private readonly SemaphoreSlim _filled = new(0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Thread _thread;
    private ExceptionDispatchInfo? _error;
    private long _failed;
    private long _next;

    /// <param name="source">The source of the batches. From now on only the thread may use it.</param>
    /// <param name="first">The first step.</param>
    /// <param name="last">The last step.</param>
    public PrefetchedBatches(IBatches source, long first, long last)
    {
        _source = source;
        _first = _next = first;
        _last = last;
        for (var i = 0; i < _slots.Length; i++) _slots[i] = source.NewBatch();
        _thread = new Thread(() => Work(first)) { IsBackground = true, Name = "batches" };
        _thread.Start();
    }

    /// <summary>Returns the batch of a step. It stays valid until the next batch is taken.</summary>
    /// <remarks>If filling a batch failed on the thread, this method throws the exception at the step of that batch.</remarks>
    public Batch Take(long step)
    {
        if (step != _next || step > _last)
            throw new InvalidOperationException($"Batch {step} cannot be taken now; the next batch is {_next}, the last is {_last}.");
        _filled.Wait();
        if (step == _failed)
        {
            _filled.Release(); // so that the next call throws too, instead of waiting
            _error!.Throw();
        }

        if (step > _first) _free.Release(); // the slot of the previous batch
        _next++;
        return _slots[step % _slots.Length];
    }

    /// <summary>Stops the thread and waits for its end. Afterwards nothing reads the source.</summary>
    public void Dispose()
    {
        _stop.Cancel();
        _thread.Join();
        _stop.Dispose();
        _free.Dispose();
        _filled.Dispose();
    }

    private void Work(long first)
    {
        var step = first;
        try
        {
            for (; step <= _last; step++)
            {
                _free.Wait(_stop.Token);
                _source.Fill(step, _slots[step % _slots.Length]);
                _filled.Release();
            }
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            // Dispose has stopped the thread, and no call waits for another batch.
        }
        catch (Exception e)
        {
            _error = ExceptionDispatchInfo.Capture(e);
            _failed = step;
            _filled.Release();
        }
    }
}

/// <summary>Windows of text.</summary>
internal static class Windows
{
    /// <summary>
    /// Returns at most <paramref name="count"/> windows of context + 1 tokens, spread evenly over the text. Every call returns the same
    /// windows.
    /// </summary>
    /// <exception cref="DataException">The text is shorter than one window.</exception>
    public static IEnumerable<int[]> Fixed(CorpusSplit split, int context, int count)
    {
        var windows = split.Windows(context);
        var taken = Math.Min(windows, count);
        for (long i = 0; i < taken; i++)
        {
            var window = new int[context + 1];
            split.Stored.Read(i * windows / taken * context, window);
            yield return window;
        }
    }

    /// <summary>
    /// Returns the last byte of the first token, followed by the text of all other tokens. The leading byte gives a byte-level model
    /// something to predict the second token from. It is a line end if the first token stands for nothing, as at a document's beginning.
    /// </summary>
    public static byte[] Text(TextCorpus corpus, ReadOnlySpan<int> window)
    {
        var text = new List<byte> { corpus.TextOf(window[0]) is [.., var last] ? last : (byte)'\n' };
        foreach (var token in window[1..]) text.AddRange(corpus.TextOf(token));
        return [.. text];
    }
}

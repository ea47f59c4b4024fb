using System.Runtime.ExceptionServices;

namespace MatFormer;

/// <summary>Batches by step.</summary>
internal interface IBatches
{
    /// <summary>Room for a batch.</summary>
    Batch NewBatch();

    /// <summary>Fills a batch of its own with the examples of a step, from 1 on.</summary>
    void Fill(long step, Batch batch);

    /// <summary>
    /// Whether filling allocates next to nothing, so that another thread may do it. TorchSharp does not keep a number alive while libtorch
    /// reads it: a garbage collection that another thread starts at that moment may free it.
    /// </summary>
    bool CanRunAhead => true;
}

/// <summary>
/// The training batches: each epoch cuts the shuffled documents into windows and takes each window once, in shuffled order. A batch depends
/// on the seed
/// and the step alone.
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

/// <summary>The order of examples: each epoch takes each once, shuffled. It depends on the seed alone.</summary>
internal sealed class EpochOrder(int count, long seed)
{
    private int[] _order = [];

    /// <summary>The epoch of the last one asked for, from 0 on; -1 before.</summary>
    public long Epoch { get; private set; } = -1;

    /// <summary>The example of a place in the endless row of epochs, and whether its epoch is another than that asked for last.</summary>
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
/// Batches that a thread of its own makes ahead of time, at most <see cref="Ahead"/>, one step after the other. A step that comes out of
/// turn is refused. As a batch depends on its step alone, they are the same as without.
/// </summary>
internal sealed class PrefetchedBatches : IDisposable
{
    /// <summary>The most batches that wait.</summary>
    public const int Ahead = 2;

    private readonly IBatches _source;
    private readonly long _first;
    private readonly long _last;
    private readonly Batch[] _slots = new Batch[Ahead + 1]; // and one in use
    private readonly SemaphoreSlim _free = new(Ahead + 1);
    private readonly SemaphoreSlim _filled = new(0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Thread _thread;
    private ExceptionDispatchInfo? _error;
    private long _failed;
    private long _next;

    /// <param name="source">Makes the batches; from now on used by the thread only.</param>
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

    /// <summary>The batch of a step, whole until the next is asked for.</summary>
    /// <remarks>What goes wrong on the thread is thrown here, at the step that it concerns.</remarks>
    public Batch Take(long step)
    {
        if (step != _next || step > _last)
            throw new InvalidOperationException($"The batch of step {step} is out of turn; the next is {_next}, the last {_last}.");
        _filled.Wait();
        if (step == _failed)
        {
            _filled.Release(); // for the next call
            _error!.Throw();
        }

        if (step > _first) _free.Release(); // the one before
        _next++;
        return _slots[step % _slots.Length];
    }

    /// <summary>Stops the thread, and waits for it: afterwards nothing reads the source.</summary>
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
            // Nobody waits for more.
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
    /// At most <paramref name="count"/> windows of context + 1 tokens, spread evenly over the text; the same ones every time.
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
    /// The text of all tokens but the first, after one byte for a model of bytes to begin with: the last one of the first token.
    /// </summary>
    public static byte[] Text(TextCorpus corpus, ReadOnlySpan<int> window)
    {
        var text = new List<byte> { corpus.TextOf(window[0])[^1] };
        foreach (var token in window[1..]) text.AddRange(corpus.TextOf(token));
        return [.. text];
    }
}

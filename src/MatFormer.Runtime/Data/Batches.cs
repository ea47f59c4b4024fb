using System.Runtime.ExceptionServices;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Batches by step.</summary>
internal interface IBatches
{
    /// <summary>Fills tokens and the tokens after them, (B, T) row by row, of a step from 1 on.</summary>
    void Fill(long step, Span<long> tokens, Span<long> targets);
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
    private readonly long _windows;
    private readonly int[] _window;
    private long _epoch = -1;
    private DocumentOrder? _documents;
    private int[] _order = [];

    /// <exception cref="DataException">The text is shorter than one window.</exception>
    public TrainingBatches(CorpusSplit split, int context, int batch, long seed)
    {
        _split = split;
        _context = context;
        _batch = batch;
        _seed = seed;
        _windows = split.Windows(context);
        _window = new int[context + 1];
    }

    /// <inheritdoc/>
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

/// <summary>
/// Batches that a thread of its own makes ahead of time, at most <see cref="Ahead"/>, one step after the other. A step that comes out of
/// turn is refused. As a batch depends on its step alone, they are the same as without.
/// </summary>
internal sealed class PrefetchedBatches : IBatches, IDisposable
{
    /// <summary>The most batches that wait.</summary>
    public const int Ahead = 2;

    private readonly IBatches _source;
    private readonly long _last;
    private readonly (long[] Tokens, long[] Targets)[] _slots = new (long[], long[])[Ahead];
    private readonly SemaphoreSlim _free = new(Ahead);
    private readonly SemaphoreSlim _filled = new(0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Thread _thread;
    private ExceptionDispatchInfo? _error;
    private long _failed;
    private long _next;

    /// <param name="source">Makes the batches; from now on used by the thread only.</param>
    /// <param name="first">The first step.</param>
    /// <param name="last">The last step.</param>
    /// <param name="size">Tokens of a batch.</param>
    public PrefetchedBatches(IBatches source, long first, long last, int size)
    {
        _source = source;
        _next = first;
        _last = last;
        for (var i = 0; i < Ahead; i++) _slots[i] = (new long[size], new long[size]);
        _thread = new Thread(() => Work(first)) { IsBackground = true, Name = "batches" };
        _thread.Start();
    }

    /// <inheritdoc/>
    /// <remarks>What goes wrong on the thread is thrown here, at the step that it concerns.</remarks>
    public void Fill(long step, Span<long> tokens, Span<long> targets)
    {
        if (step != _next || step > _last)
            throw new InvalidOperationException($"The batch of step {step} is out of turn; the next is {_next}, the last {_last}.");
        _filled.Wait();
        if (step == _failed)
        {
            _filled.Release(); // for the next call
            _error!.Throw();
        }

        var slot = _slots[step % Ahead];
        slot.Tokens.CopyTo(tokens);
        slot.Targets.CopyTo(targets);
        _next++;
        _free.Release();
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
                var slot = _slots[step % Ahead];
                _source.Fill(step, slot.Tokens, slot.Targets);
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

    /// <summary>Windows of one length as tokens (B, T) int64, and the tokens after them.</summary>
    public static (Tensor Tokens, Tensor Targets) ToTensors(IReadOnlyList<int[]> windows, Device device)
    {
        var context = windows[0].Length - 1;
        var tokens = new long[windows.Count * context];
        var targets = new long[tokens.Length];
        for (var row = 0; row < windows.Count; row++)
            Spread(windows[row], tokens.AsSpan(row * context, context), targets.AsSpan(row * context, context));
        long[] shape = [windows.Count, context];
        return (tensor(tokens, shape, device: device), tensor(targets, shape, device: device));
    }

    /// <summary>The tokens of a window and the tokens after them.</summary>
    public static void Spread(ReadOnlySpan<int> window, Span<long> tokens, Span<long> targets)
    {
        for (var t = 0; t < tokens.Length; t++)
        {
            tokens[t] = window[t];
            targets[t] = window[t + 1];
        }
    }
}

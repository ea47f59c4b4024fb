using System.Diagnostics;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>
/// Threads that do the same work together and wait for one another, many times in a millisecond. Where others have the cores, so that one
/// waits longer than all of the work would take it, the first does it alone for a while.
/// </summary>
internal sealed class ThreadTeam : IDisposable
{
    // A wait is mostly over within a microsecond; a pass comes mostly within a few hundred of the one before. Beyond that the core may be
    // wanted by others.
    private const int SpinsInWait = 1000;
    private const int SpinsBetweenRuns = 5000;

    // Waits of more than a few microseconds are counted.
    private const int SpinsOfShortWait = 50;

    // Runs over which waits are looked at, and runs alone when they were too long, at first and at most.
    private const int RunsTogether = 4;
    private const int RunsAlone = 32;
    private const int MostRunsAlone = 1024;

    // Without a core for each, who spins keeps those from working for whom it waits.
    private readonly bool _spins;
    private readonly Action<int> _work;
    private readonly Thread[] _threads;
    private readonly Lock _gate = new();
    private readonly SemaphoreSlim _wake = new(0);
    private Counters _counters;
    private bool _stops;
    private int _together;
    private int _alone;
    private int _nextAlone = RunsAlone;
    private long _waited;
    private long _ran;

    /// <param name="count">Threads, the caller's included.</param>
    /// <param name="work">What each does in a run, told which it is; it must not throw.</param>
    public ThreadTeam(int count, Action<int> work)
    {
        Count = Active = count;
        _work = work;
        _spins = count <= Environment.ProcessorCount;
        _threads = new Thread[count - 1];
        for (var i = 0; i < _threads.Length; i++)
        {
            var index = i + 1;
            _threads[i] = new Thread(() => Follow(index)) { IsBackground = true, Name = $"MatFormer decoder {index}" };
            _threads[i].Start();
        }
    }

    /// <summary>Threads, the caller's included.</summary>
    public int Count { get; }

    /// <summary>Threads that take part in this run: all, or the caller alone.</summary>
    public int Active { get; private set; }

    /// <summary>Lets all do the work once, the caller as the first of them.</summary>
    public void Run()
    {
        if (_alone > 0) _alone--;
        Active = _alone > 0 ? 1 : Count;
        if (Active == 1)
        {
            _work(0);
            return;
        }

        var start = Stopwatch.GetTimestamp();
        Interlocked.Increment(ref _counters.Runs);
        if (Interlocked.CompareExchange(ref _counters.Sleeping, 0, 0) > 0) WakeAll();
        _work(0);
        Wait(0);
        _ran += Stopwatch.GetTimestamp() - start;
        if (++_together == RunsTogether) Judge();
    }

    /// <summary>Waits until all have come as far.</summary>
    /// <param name="thread">Who waits.</param>
    public void Wait(int thread)
    {
        if (Active == 1) return;
        var phase = Volatile.Read(ref _counters.Phase);
        if (Interlocked.Increment(ref _counters.Arrived) == Count)
        {
            Volatile.Write(ref _counters.Arrived, 0);
            Volatile.Write(ref _counters.Phase, phase + 1);
            return;
        }

        var start = 0L;
        for (var spins = 0; Volatile.Read(ref _counters.Phase) == phase; spins++)
        {
            if (spins == SpinsOfShortWait) start = Stopwatch.GetTimestamp();
            if (_spins && spins < SpinsInWait) Thread.SpinWait(1);
            else Thread.Yield();
        }

        if (thread == 0 && start != 0) _waited += Stopwatch.GetTimestamp() - start;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_stops) return;
        _stops = true;
        Interlocked.Increment(ref _counters.Runs);
        WakeAll();
        foreach (var thread in _threads) thread.Join();
        _wake.Dispose();
    }

    // Alone it would have taken the time that it did not wait, as often as there are threads.
    private void Judge()
    {
        if ((_ran - _waited) * Count >= _ran) _nextAlone = RunsAlone;
        else (_alone, _nextAlone) = (_nextAlone + 1, Math.Min(2 * _nextAlone, MostRunsAlone));
        (_together, _waited, _ran) = (0, 0, 0);
    }

    private void Follow(int index)
    {
        var seen = 0;
        while (true)
        {
            for (var spins = 0; _spins && Volatile.Read(ref _counters.Runs) == seen && spins < SpinsBetweenRuns; spins++)
                Thread.SpinWait(1);
            if (Volatile.Read(ref _counters.Runs) == seen) Sleep(seen);
            seen++;
            if (_stops) return;
            _work(index);
            Wait(index);
        }
    }

    private void Sleep(int seen)
    {
        lock (_gate)
        {
            // Counted before it looks again: either it sees the run, or who runs sees it asleep.
            Interlocked.Increment(ref _counters.Sleeping);
            if (Interlocked.CompareExchange(ref _counters.Runs, 0, 0) != seen)
            {
                Interlocked.Decrement(ref _counters.Sleeping);
                return;
            }
        }

        _wake.Wait();
    }

    private void WakeAll()
    {
        lock (_gate)
        {
            var sleeping = Interlocked.Exchange(ref _counters.Sleeping, 0);
            if (sleeping > 0) _wake.Release(sleeping);
        }
    }

    // Each on a cache line of its own (two: some CPUs fetch pairs).
    [StructLayout(LayoutKind.Explicit, Size = 640)]
    private struct Counters
    {
        [FieldOffset(128)]
        public int Runs;

        [FieldOffset(256)]
        public int Sleeping;

        [FieldOffset(384)]
        public int Arrived;

        [FieldOffset(512)]
        public int Phase;
    }
}

using System.Diagnostics;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>
/// Threads that share work and wait for one another many times in a millisecond. If other programs use the cores, so that waiting takes
/// longer than the first thread would need alone, the first thread works alone for a while.
/// </summary>
internal sealed class ThreadTeam : IDisposable
{
    // A wait usually ends within a microsecond, and the next pass usually starts within a few hundred microseconds. After these times, a
    // thread stops spinning, because others may need the core.
    private const int SpinsInWait = 1000;
    private const int SpinsBetweenRuns = 5000;

    // Waits of at most a few microseconds are not counted.
    private const int SpinsOfShortWait = 50;

    // The number of runs after which waits are judged, and the number of runs alone after too long waits, at first and at most.
    private const int RunsTogether = 4;
    private const int RunsAlone = 32;
    private const int MostRunsAlone = 1024;

    // With fewer cores than threads, spinning would starve the threads being waited for.
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

    /// <param name="count">The number of threads, including the caller's.</param>
    /// <param name="work">The work of each thread in a run, called with the index of the thread. It must not throw.</param>
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

    /// <summary>The number of threads, including the caller's.</summary>
    public int Count { get; }

    /// <summary>The number of threads in this run: all, or only the caller's.</summary>
    public int Active { get; private set; }

    /// <summary>Runs the work once on all threads, with the caller as the first thread.</summary>
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

    /// <summary>Waits until all threads have called this method.</summary>
    /// <param name="thread">The index of the waiting thread.</param>
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

    // Alone, the first thread would need the time in which it did not wait, multiplied by the number of threads.
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
            // The counter is raised before the second look: either this thread sees the run, or the caller of Run sees a sleeping thread.
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

    // Each counter has its own two cache lines, because some CPUs fetch pairs of lines.
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

using System.Runtime.CompilerServices;

namespace MatFormer.Runtime.Tests.Decoding;

/// <summary>Tests threads that wait for one another.</summary>
public sealed class ThreadTeamTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void EachStepIsCompleteBeforeTheNextBegins(int threads)
    {
        const int steps = 20;
        var (sums, wrong) = (new int[steps], 0);
        ThreadTeam? team = null;
        team = new ThreadTeam(threads, thread =>
        {
            for (var step = 0; step < steps; step++)
            {
                Interlocked.Increment(ref sums[step]);
                team!.Wait(thread);
                if (Volatile.Read(ref sums[step]) % team.Active != 0) Interlocked.Increment(ref wrong);
                team.Wait(thread);
            }
        });
        using (team)
        {
            for (var run = 0; run < 300; run++)
            {
                Array.Clear(sums);
                team.Run();
                Assert.All(sums, sum => Assert.Equal(team.Active, sum));

                // The pause is long enough for the other threads to fall asleep.
                if (run % 100 == 0) Thread.Sleep(20);
            }
        }

        Assert.Equal(0, wrong);
    }

    [Fact]
    public void AThreadThatWaitsTooLongContinuesAlone()
    {
        var together = 0;
        ThreadTeam? team = null;
        team = new ThreadTeam(2, thread =>
        {
            if (thread == 1) Thread.Sleep(2); // as if other threads had its core
            team!.Wait(thread);
        });
        using (team)
        {
            for (var run = 0; run < 200; run++)
            {
                team.Run();
                if (team.Active == 2) together++;
            }
        }

        Assert.InRange(together, 4, 40);
    }

    [Fact]
    public void ADisposedTeamHasNoThreads()
    {
        var threads = new List<WeakReference>();
        Make(threads);
        Assert.All(threads, t => Assert.False(((Thread?)t.Target)?.IsAlive ?? false));

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Make(List<WeakReference> threads)
        {
            var team = new ThreadTeam(3, _ =>
            {
                lock (threads) threads.Add(new WeakReference(Thread.CurrentThread));
            });
            team.Run();
            team.Dispose();
            team.Dispose();
            threads.RemoveAll(t => t.Target == Thread.CurrentThread);
            Assert.Equal(2, threads.Count);
        }
    }
}

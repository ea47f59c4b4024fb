using System.Runtime.CompilerServices;
using MatFormer.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer.LibTorch.Tests;

public class LifetimeTests
{
    [Fact]
    public void AScopeDisposesWhatWasMadeInIt()
    {
        var before = Settled();
        Tensor inside;
        using (var scope = NewDisposeScope())
        {
            inside = (ones(2) + 1) * 2;
            Assert.Equal(3, scope.DisposablesCount);
            Assert.Same(scope, CurrentDisposeScope);
        }

        Assert.True(inside.IsInvalid);
        Assert.Null(CurrentDisposeScope);
        Assert.Equal(before, Native.LiveTensors);
    }

    [Fact]
    public void ScopesNestAndTensorsMoveOutwards()
    {
        var before = Settled();
        Tensor kept;
        using (NewDisposeScope())
        {
            Tensor moved, twice, detached, lost;
            using (NewDisposeScope())
            {
                using (var inner = NewDisposeScope())
                {
                    lost = ones(1);
                    moved = ones(1).MoveToOuterDisposeScope();
                    twice = inner.MoveToOuter(ones(1));
                    detached = ones(1).DetachFromDisposeScope();
                }

                Assert.True(lost.IsInvalid);
                Assert.False(moved.IsInvalid);
                twice.MoveToOuterDisposeScope();
            }

            Assert.True(moved.IsInvalid);
            Assert.False(twice.IsInvalid);
            Assert.False(detached.IsInvalid);
            detached.Dispose();
            kept = twice.MoveToOuterDisposeScope();
        }

        Assert.False(kept.IsInvalid);
        kept.Dispose();
        Assert.Equal(before, Native.LiveTensors);
    }

    [Fact]
    public void DisposingEverythingButSomeKeepsThemInTheScope()
    {
        Tensor a, b;
        using (var scope = NewDisposeScope())
        {
            a = ones(1);
            b = ones(1);
            Assert.Same(a, scope.DisposeEverythingBut(a));
            Assert.True(b.IsInvalid);
            Assert.True(scope.Contains(a));
            Assert.Equal(1, scope.DisposablesCount);
        }

        Assert.True(a.IsInvalid);
    }

    [Fact]
    public void ATensorDisposedByHandLeavesItsScope()
    {
        using var scope = NewDisposeScope();
        ones(1).Dispose();
        Assert.Equal(0, scope.DisposablesCount);
        using var attached = ones(1).DetachFromDisposeScope();
        scope.Attach(attached);
        Assert.Equal([attached], scope.DisposablesView);
    }

    [Fact]
    public void ScopesMayBeDisposedOutOfOrder()
    {
        var outer = NewDisposeScope();
        var middle = NewDisposeScope();
        var inner = NewDisposeScope();
        middle.Dispose();
        Assert.Same(inner, CurrentDisposeScope);
        inner.Dispose();
        Assert.Same(outer, CurrentDisposeScope);
        outer.Dispose();
        Assert.Null(CurrentDisposeScope);
        Assert.Throws<ObjectDisposedException>(() => outer.DisposablesCount);
    }

    [Fact]
    public void AScopeBelongsToItsThread()
    {
        using var scope = NewDisposeScope();
        Tensor? elsewhere = null;
        var thread = new Thread(() =>
        {
            Assert.Null(CurrentDisposeScope);
            elsewhere = ones(1);
        });
        thread.Start();
        thread.Join();
        Assert.Equal(0, scope.DisposablesCount);
        Assert.False(elsewhere!.IsInvalid);
        elsewhere.Dispose();
    }

    [Fact]
    public void WrappedScopeLetsOnlyTheResultOut()
    {
        var before = Settled();
        using (var result = WrappedTensorDisposeScope(static () => (ones(2) + 1) * 3))
        {
            Assert.Equal([6f, 6f], result.data<float>().ToArray());
            Assert.Equal(before + 1, Native.LiveTensors);
        }

        Assert.Equal(before, Native.LiveTensors);
    }

    [Fact]
    public void TensorsThatEscapeEveryScopeAreFreed()
    {
        var before = Settled();
        Escape(500);
        Assert.Equal(before, Settled());
    }

    [Fact]
    public void AForgottenScopesTensorsAreFreed()
    {
        var before = Settled();
        var thread = new Thread(static () =>
        {
            NewDisposeScope();
            Escape(100);
        });
        thread.Start();
        thread.Join();
        Assert.Equal(before, Settled());
    }

    [Fact]
    public void ATrainingStepLeavesOnlyItsGradients()
    {
        using var w = new Parameter(randn(4, 4));
        Step();
        var before = Settled();
        for (var i = 0; i < 50; i++)
        {
            Step();
        }

        Assert.Equal(before, Native.LiveTensors);

        void Step()
        {
            using var scope = NewDisposeScope();
            w.grad = null;
            nn.functional.linear(ones(3, 4), w).relu().sum().backward();
            using (no_grad())
            {
                w.sub_(w.grad! * 0.1);
            }
        }
    }

    [Fact]
    public void FailedCallsLeaveNothingBehind()
    {
        using var a = ones(2);
        using var b = ones(3);
        var before = Settled();
        for (var i = 0; i < 10; i++)
        {
            Assert.ThrowsAny<Exception>(() => a + b);
        }

        Assert.Equal(before, Native.LiveTensors);
    }

    [Fact]
    public void IndexingLeavesOneTensor()
    {
        using var x = arange(24).view(2, 3, 4);
        using var mask = tensor(new[] { true, false, true });
        var before = Settled();
        using (var scope = NewDisposeScope())
        {
            _ = x[1, 2, 3];
            _ = x[TensorIndex.Ellipsis, 1..3];
            _ = x[0, TensorIndex.Tensor(mask), TensorIndex.None];
            _ = x[TensorIndex.Colon];
            Assert.Equal(4, scope.DisposablesCount);
            Assert.Equal(before + 4, Native.LiveTensors);
            x[1, 2] = zeros(4, dtype: int64);
        }

        Assert.Equal(before, Native.LiveTensors);
    }

    [Fact]
    public void AnArrayIsSharedAndPinnedAsLongAsAViewOfItLives()
    {
        var reference = MakeAndForget();
        Collect();
        Assert.False(reference.IsAlive);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static WeakReference MakeAndForget()
        {
            var array = new float[,] { { 1, 2 }, { 3, 4 } };
            using var shared = from_array(array);
            array[1, 0] = 30;
            Assert.Equal([1f, 2f, 30f, 4f], shared.data<float>().ToArray());
            using var row = shared[1];
            shared.Dispose();
            row.add_(1);
            Assert.Equal(31, array[1, 0]);
            return new WeakReference(array);
        }
    }

    [Fact]
    public void ADecoupledHandleIsTheCallers()
    {
        var before = Settled();
        var x = ones(3);
        var handle = x.DecoupleFromNativeHandle();
        Assert.True(x.IsInvalid);
        Assert.Equal(before, Native.LiveTensors);
        using var again = Tensor.UnsafeCreateTensor(handle);
        Assert.Equal(3, again.numel());
    }

    [Fact]
    public void FinalizersFromManyThreadsAgreeOnTheCount()
    {
        var before = Settled();
        Parallel.For(0, 8, static _ =>
        {
            Escape(200);
            using var scope = NewDisposeScope();
            Escape(200);
        });
        Assert.Equal(before, Settled());
    }

    [Fact]
    public void TwoThreadsThatDisposeAtOnceFreeOnce()
    {
        var before = Settled();
        for (var i = 0; i < 500; i++)
        {
            var x = ones(4);
            Parallel.Invoke(x.Dispose, x.Dispose);
            using var a = zeros(1);
            using var b = ones(1);
            Assert.NotEqual(a.Handle, b.Handle);
        }

        Assert.Equal(before, Settled());
    }

    [Fact]
    public void DisposingInAFinalizerDoesNoHarm()
    {
        var before = Settled();
        MakeAndForget();
        Collect();
        using (NewDisposeScope())
        {
            var alive = ones(16);
            Collect();
            Assert.Equal(16, alive.sum().ToSingle());
        }

        Assert.Equal(before, Settled());

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void MakeAndForget()
        {
            for (var i = 0; i < 100; i++)
            {
                _ = new DisposesInItsFinalizer();
            }
        }
    }

    private sealed class DisposesInItsFinalizer
    {
        private readonly Tensor tensor = ones(16);

        ~DisposesInItsFinalizer() => tensor.Dispose();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Escape(int count)
    {
        for (var i = 0; i < count; i++)
        {
            ones(8);
        }
    }

    private static long Settled()
    {
        Collect();
        return Native.LiveTensors;
    }

    private static void Collect()
    {
        for (var i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }
}

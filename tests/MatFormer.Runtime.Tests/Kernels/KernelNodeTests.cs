using System.Diagnostics;
using System.Runtime.ExceptionServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests failures, lifetimes and threads of the autograd node of the fused loops.</summary>
public sealed class KernelNodeTests : KernelTestBase
{
    [Fact]
    public void AFailureInABackwardPassIsThrownAfterwards()
    {
        var x = X(2, 3);
        var failure = new TimeoutException("It took too long.");
        var y = Record(new Twice(x, _ => throw failure));
        y.mul(3).sum().backward();
        Assert.Null(x.grad);
        var thrown = Assert.Throws<InvalidOperationException>(KernelNode.ThrowFailure);
        Assert.Equal("The gradients could not be computed: It took too long.", thrown.Message);
        Assert.Same(failure, thrown.InnerException);
        KernelNode.ThrowFailure(); // a failure is thrown only once
    }

    [Fact]
    public void TheFirstOfSeveralFailuresIsThrown()
    {
        var x = X(2, 3);
        var inner = Record(new Twice(x, _ => throw new TimeoutException("inner")));
        Record(new Twice(inner, _ => throw new TimeoutException("outer"))).add(inner).sum().backward();
        Assert.Contains("outer", Assert.Throws<InvalidOperationException>(KernelNode.ThrowFailure).Message, StringComparison.Ordinal);
        KernelNode.ThrowFailure();
    }

    [FusedFact]
    public void TheNextOperationThrowsAnEarlierFailure()
    {
        UseCpu();
        var x = X(2, 3);
        Record(new Twice(x, _ => throw new TimeoutException("late"))).sum().backward();
        var thrown = Assert.Throws<InvalidOperationException>(() => Kernels.RmsNorm(x, Norm(3).Weight, 1e-5));
        Assert.Contains("late", thrown.Message, StringComparison.Ordinal);
        Kernels.RmsNorm(x, Norm(3).Weight, 1e-5);
    }

    [Fact]
    public void AFailureOnAnotherThreadIsThrownOnThisOne()
    {
        var x = X(2, 3);
        var loss = Record(new Twice(x, _ => throw new TimeoutException("elsewhere"))).sum();
        OnAnotherThread(() => loss.backward());
        Assert.Contains("elsewhere", Assert.Throws<InvalidOperationException>(KernelNode.ThrowFailure).Message, StringComparison.Ordinal);
    }

    [FusedFact]
    public void AWeightDisposedBeforeTheBackwardPassIsAFailure()
    {
        UseCpu();
        var (x, weights) = (X(2, 3, 4), FeedForward(4, 8, FeedForwardKind.Gelu));
        var loss = Kernels.FeedForward(x, weights, [8]).sum();
        weights.Up.Dispose();
        loss.backward();
        Assert.Throws<InvalidOperationException>(KernelNode.ThrowFailure);
    }

    [FusedFact]
    public void ASecondBackwardPassOverOneGraphIsAFailure()
    {
        UseCpu();
        var (x, weights) = (X(2, 3, 4), FeedForward(4, 8, FeedForwardKind.Gelu));
        var loss = Kernels.FeedForward(x, weights, [8]).sum();
        loss.backward(retain_graph: true);
        byte[] gradient = Bits(weights.Up.grad!);
        loss.backward();
        Assert.Contains(
            "run the forward pass again",
            Assert.Throws<InvalidOperationException>(KernelNode.ThrowFailure).Message, StringComparison.Ordinal);
        Assert.Equal(gradient, Bits(weights.Up.grad!));
    }

    [Fact]
    public void KeptTensorsAreReleasedAfterTheBackwardPass()
    {
        var x = X(2, 3);
        var call = new Twice(x, gradient => gradient * 2);
        var y = Record(call);
        Assert.False(call.Kept!.IsInvalid);
        y.sum().backward();
        Assert.True(call.Kept.IsInvalid);
        Assert.All(Values(x.grad!), gradient => Assert.Equal(2, gradient));
    }

    [Fact]
    public void KeptTensorsAreReleasedAfterAFailure()
    {
        var call = new Twice(X(2, 3), _ => throw new TimeoutException());
        Record(call).sum().backward();
        Assert.Throws<InvalidOperationException>(KernelNode.ThrowFailure);
        Assert.True(call.Kept!.IsInvalid);
    }

    [Fact]
    public void ACallIsCollectedTogetherWithItsGraph()
    {
        var x = X(2, 3);
        var call = Dropped(x);
        Collect();
        Assert.False(call.IsAlive);

        // This is a separate method, so that no reference is left on the stack.
        static WeakReference Dropped(Tensor x)
        {
            var call = new Twice(x, gradient => gradient);
            using var y = Record(call);
            return new WeakReference(call);
        }
    }

    [FusedFact]
    public void UnderNoGradNothingIsRecorded()
    {
        UseCpu();
        var (x, weights) = (X(2, 3, 4), FeedForward(4, 8, FeedForwardKind.Gelu));
        using var unrecorded = no_grad();
        Kernels.FeedForward(x, weights, [8]).Dispose();
        var before = LiveTensors();
        using (var y = Kernels.FeedForward(x, weights, [8]))
        {
            Assert.False(y.requires_grad);
            Assert.Equal(before + 1, LiveTensors());
        }

        Assert.Equal(before, LiveTensors());
    }

    [FusedFact]
    public void ResultsOutliveTheirScopeIfMovedOut()
    {
        UseCpu();
        var (x, weights) = (X(2, 3, 4), FeedForward(4, 8, FeedForwardKind.Gelu));
        Tensor y;
        using (NewDisposeScope()) y = Kernels.FeedForward(x, weights, [8]).MoveToOuterDisposeScope();
        y.sum().backward();
        KernelNode.ThrowFailure();
        Assert.NotNull(weights.Up.grad);
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void TheBackwardPassMayRunOnAnotherThread(string form)
    {
        Use(form);
        var (x, weights) = (X(2, 9, 8), FeedForward(8, 16, FeedForwardKind.SwiGlu));
        var expected = Gradients(Definitions.FeedForward(x, weights, [16], [2]), ones(2, 9, 8), x, weights.Up);
        var loss = Kernels.FeedForward(x, weights, [16]).sum();
        OnAnotherThread(() => loss.backward());
        AssertClose(x.grad!, expected[0]!, "x");
        AssertClose(weights.Up.grad!, expected[1]!, "up");
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void SeveralThreadsMayComputeAtOnce(string form)
    {
        Use(form);
        var work = Enumerable.Range(0, 4).Select(_ => (X: X(4, 33, 16), Weights: FeedForward(16, 40, FeedForwardKind.SwiGlu))).ToList();
        var expected = work.ConvertAll(one => Run(one.X, one.Weights));
        var found = new byte[work.Count][][];
        var isSingle = get_num_threads() == 1;
        var threads = work.Select((one, i) => new Thread(() =>
        {
            // The number is one of each thread, and the rounding of libtorch's products depends on it.
            if (isSingle) set_num_threads(1);
            for (var round = 0; round < 20; round++) found[i] = Run(one.X, one.Weights);
        })).ToList();
        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());
        KernelNode.ThrowFailure();
        for (var i = 0; i < work.Count; i++) Assert.Equal(expected[i], found[i]);

        static byte[][] Run(Tensor x, FeedForwardWeights weights)
        {
            using var scope = NewDisposeScope();
            Tensor[] leaves = [x, .. All(weights)];
            Clear(leaves);
            Kernels.FeedForward(x, weights, [40]).square().sum().backward();
            return [.. leaves.Select(leaf => Bits(leaf.grad!))];
        }
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void MemoryDoesNotGrowDuringTraining(string form)
    {
        Use(form);
        var (x, attention, feedForward) = Layer();
        AssertLevel(() =>
        {
            using var scope = NewDisposeScope();
            var y = Kernels.FeedForward(Kernels.Attend(x, attention), feedForward, [96, 40], parting: true);
            Kernels.LinearCrossEntropy(y, feedForward.Up, zeros(2, 32, dtype: ScalarType.Int64), 2).sum().backward();
            KernelNode.ReleaseReturned();
        });
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void MemoryDoesNotGrowWithoutBackwardPasses(string form)
    {
        Use(form);
        var (x, attention, feedForward) = Layer();
        AssertLevel(() =>
        {
            using var scope = NewDisposeScope();
            Kernels.FeedForward(Kernels.Attend(x, attention), feedForward, [96, 40], parting: true);
        });
    }

    /// <summary>Results that are not disposed of wait for the garbage collector, which must run.</summary>
    [FusedFact]
    public void GraphsThatAreNotDisposedOfAreCollected()
    {
        UseCpu();
        var (x, attention, feedForward) = Layer();

        // A new thread has no dispose scope.
        OnAnotherThread(() => AssertLevel(() => Kernels.FeedForward(Kernels.Attend(x, attention), feedForward, [96, 40], parting: true)));
    }

    [FusedFact]
    public void MemoryDoesNotGrowUnderNoGrad()
    {
        UseCpu();
        var (x, attention, feedForward) = Layer();
        using var unrecorded = no_grad();
        AssertLevel(() =>
        {
            using var scope = NewDisposeScope();
            Kernels.FeedForward(Kernels.Attend(x, attention), feedForward, [96, 40], parting: true);
        });
    }

    private static Tensor Record(KernelCall call) => KernelNode.Record(call, call.Forward(true));

    // A leak grows with every round. What the allocator and the garbage collector hold stops growing after a while.
    private void AssertLevel(Action round)
    {
        var growths = new List<double>();
        long tensors = 0, resident = 0;
        for (var window = 0; window < 8; window++)
        {
            for (var i = 0; i < (IsCpu ? 300 : 30); i++) round();
            var (tensorsNow, residentNow) = (LiveTensors(), Resident());
            if (window > 0) Assert.Equal(tensors, tensorsNow);
            if (window > 3) growths.Add((residentNow - resident) / 1e6);
            (tensors, resident) = (tensorsNow, residentNow);
        }

        KernelNode.ThrowFailure();
        Assert.True(growths.Min() < 1, $"megabytes more each time: {string.Join(", ", growths)}");
    }

    private static void OnAnotherThread(Action action)
    {
        Exception? failure = null;
        var thread = new Thread(() => failure = Xunit.Record.Exception(action));
        thread.Start();
        thread.Join();
        if (failure is not null) ExceptionDispatchInfo.Throw(failure);
    }

    // Counts the live tensors without those that other tests left to the garbage collector.
    private static long LiveTensors()
    {
        Collect();
        return Tensor.TotalCount;
    }

    private static void Collect()
    {
        for (var i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    private static long Resident()
    {
        using var process = Process.GetCurrentProcess();
        return process.WorkingSet64;
    }

    private (Tensor X, AttentionWeights Attention, FeedForwardWeights FeedForward) Layer() =>
        (X(2, 32, 32), Attention(32, 4, 2, 8) with { IsCausal = true }, FeedForward(32, 96, FeedForwardKind.SwiGlu));

    // Doubles its input. The given function computes the gradient.
    private sealed class Twice : KernelCall
    {
        private readonly Tensor _x;
        private readonly Func<Tensor, Tensor> _gradient;

        public Twice(Tensor x, Func<Tensor, Tensor> gradient)
            : base([x]) => (_x, _gradient) = (x, gradient);

        public Tensor? Kept { get; private set; }

        public override Tensor Forward(bool isRecorded)
        {
            Kept = Keep(1000);
            return _x.detach() * 2;
        }

        protected override void Backward(Tensor gradient, List<Tensor> into) => into.Add(_gradient(gradient));
    }
}

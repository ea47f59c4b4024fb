#if MATFORMER_LIBTORCH
using System.Runtime.InteropServices;
using MatFormer.Torch;
using TorchSharp;
using static TorchSharp.torch;
using Composite = MatFormer.Kernels.Composite;

namespace MatFormer.Runtime.Tests;

/// <summary>The instruction set is one for the process: nothing else may run while it changes.</summary>
[CollectionDefinition(nameof(InstructionSetCollection), DisableParallelization = true)]
public sealed class InstructionSetCollection;

/// <summary>Each native operation against its definition: results, gradients, dtypes, with and without autograd.</summary>
[Collection(nameof(InstructionSetCollection))]
public sealed class KernelTests : IDisposable
{
    private readonly DisposeScope scope = NewDisposeScope();
    private readonly Random random = new(7);
    private string instructionSet = NativeKernels.InstructionSets[0];

    /// <summary>Every instruction set of this machine, in both dtypes, and the tile matrix unit, which multiplies bfloat16 only.</summary>
    public static TheoryData<string, ScalarType> Machines()
    {
        var data = new TheoryData<string, ScalarType>();
        foreach (string set in NativeKernels.InstructionSets.Append(NativeKernels.Aten))
        {
            data.Add(set, ScalarType.Float32);
            data.Add(set, ScalarType.BFloat16);
        }

        if (NativeKernels.InstructionSets.Contains("avx512_bf16")) data.Add(NativeKernels.EmulatedTiles, ScalarType.BFloat16);
        return data;
    }

    public void Dispose()
    {
        NativeKernels.UseInstructionSet(NativeKernels.InstructionSets[0]);
        scope.Dispose();
    }

    [Fact]
    public void AProfileTellsWhatRanWhileItWasTaken()
    {
        var x = Leaf(ScalarType.Float32, 1, 2, 5, 7);
        var weight = Leaf(ScalarType.Float32, 1, 7);
        Kernels.Fork(x, 2);
        NativeKernels.StartProfile();
        Kernels.RmsNorm(x, weight, 1e-5).sum().backward();
        var seconds = NativeKernels.StopProfile();
        Kernels.Fork(x, 2);
        Assert.Equal(["norm.backward", "norm.forward"], seconds.Keys.Order(StringComparer.Ordinal));
        Assert.All(seconds.Values, time => Assert.True(time > 0));
        Assert.Equal(seconds, NativeKernels.StopProfile());
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void NormsPositionsAndForkEqualTheirDefinitions(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (batch, time, width) in new[] { (2L, 5L, 7L), (3, 17, 33), (4, 130, 256), (1, 1, 48) })
        {
            var x = Leaf(dtype, 1, batch, time, width);
            var weight = Leaf(ScalarType.Float32, 1, width);
            var bias = Leaf(ScalarType.Float32, 1, width);
            var positions = Leaf(ScalarType.Float32, 1, time + 5, width);
            AssertEqual(dtype, () => Kernels.RmsNorm(x, weight, 1e-5), () => Composite.RmsNorm(x, weight, 1e-5), x, weight);
            AssertEqual(
                dtype, () => Kernels.LayerNorm(x, weight, bias, 1e-5), () => Composite.LayerNorm(x, weight, bias, 1e-5), x, weight, bias);
            AssertEqual(
                dtype, () => Kernels.AddPositions(x, positions, 3), () => Composite.AddPositions(x, positions, 3), x, positions);
            AssertEqual(dtype, () => Kernels.Fork(x, 3), () => Composite.Fork(x, 3), x);
            AssertEqual(dtype, () => Kernels.Fork(x.mul(2), 1), () => Composite.Fork(x.mul(2), 1), x);
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void NormOverHeadsTakesAnyRank(string set, ScalarType dtype)
    {
        Use(set);
        var x = Leaf(dtype, 1, 2, 5, 3, 10);
        var weight = Leaf(ScalarType.Float32, 1, 10);
        AssertEqual(dtype, () => Kernels.RmsNorm(x, weight, 1e-6), () => Composite.RmsNorm(x, weight, 1e-6), x, weight);
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void LinearAndEmbeddingEqualTheirDefinitions(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (batch, time, width) in new[] { (2L, 5L, 7L), (3, 17, 33), (2, 130, 64), (1, 1, 48) })
        {
            var table = Leaf(ScalarType.Float32, 1, 11, width);
            var tokens = Integers(11, batch, time);
            AssertEqual(dtype, () => Kernels.Embedding(table, tokens, dtype), () => Composite.Embedding(table, tokens, dtype), table);
            var x = Leaf(dtype, 1, batch, time, width);
            foreach (long outs in new[] { 1L, 5, 32, 77 })
            {
                var weight = Leaf(ScalarType.Float32, 0.1f, outs, width);
                var bias = Leaf(ScalarType.Float32, 1, outs);
                AssertEqual(dtype, () => Kernels.Linear(x, weight), () => Composite.Linear(x, weight), x, weight);
                AssertEqual(dtype, () => Kernels.Linear(x, weight, bias), () => Composite.Linear(x, weight, bias), x, weight, bias);
            }
        }
    }

    /// <summary>Beyond the rows after which the gradients of the weights go by steps, too.</summary>
    [Theory]
    [MemberData(nameof(Machines))]
    public void ProjectionsEqualTheirDefinition(string set, ScalarType dtype)
    {
        Use(set);
        (long Batch, long Time, long Width, long Queries, long Keys)[] shapes =
            [(2, 5, 7, 6, 3), (3, 17, 33, 40, 8), (1, 1, 48, 48, 48), (9, 130, 16, 32, 16)];
        foreach (var (batch, time, width, queries, keys) in shapes)
        {
            var x = Leaf(dtype, 1, batch, time, width);
            Tensor[] weights = [.. new[] { queries, keys, keys }.Select(outs => Leaf(ScalarType.Float32, 0.1f, outs, width))];
            Tensor[] biases = [.. new[] { queries, keys, keys }.Select(outs => Leaf(ScalarType.Float32, 1, outs))];
            AssertEqual(
                dtype, () => Joined(Kernels.Projections(x, weights[0], weights[1], weights[2])),
                () => Joined(Composite.Projections(x, weights[0], weights[1], weights[2])), [x, .. weights]);
            AssertEqual(
                dtype, () => Joined(Kernels.Projections(x, weights[0], weights[1], weights[2], biases[0], biases[1], biases[2])),
                () => Joined(Composite.Projections(x, weights[0], weights[1], weights[2], biases[0], biases[1], biases[2])),
                [x, .. weights, .. biases]);
        }

        static Tensor Joined((Tensor Query, Tensor Key, Tensor Value) made) => cat([made.Query, made.Key, made.Value], -1);
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void LinearOfAPrefixEqualsItsDefinition(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (batch, time, ins, outs) in new[] { (2L, 5L, 7L, 5L), (3, 17, 33, 96), (1, 130, 64, 77), (1, 1, 48, 40) })
        {
            var weight = Leaf(ScalarType.Float32, 0.1f, outs, ins);
            var x = Leaf(dtype, 1, batch, time, ins);
            foreach (long rows in new[] { 1, outs / 2, outs - 1, outs })
            {
                AssertEqual(dtype, () => Kernels.LinearRows(x, weight, rows), () => Composite.LinearRows(x, weight, rows), x, weight);
                AssertEqual(
                    dtype, () => Kernels.Linear(x, weight.narrow(0, 0, rows)), () => Composite.LinearRows(x, weight, rows), x, weight);
            }

            foreach (long columns in new[] { 1, ins / 2, ins - 1, ins })
            {
                var z = Leaf(dtype, 1, batch, time, columns);
                AssertEqual(
                    dtype, () => Kernels.LinearColumns(z, weight, columns), () => Composite.LinearColumns(z, weight, columns), z, weight);
                AssertEqual(
                    dtype, () => Kernels.Linear(z, weight.narrow(1, 0, columns)), () => Composite.LinearColumns(z, weight, columns),
                    z, weight);
            }
        }
    }

    /// <summary>Extraction copies a prefix of a projection: the copy computes the very bits of the whole, gradients included.</summary>
    [Theory]
    [MemberData(nameof(Machines))]
    public void LinearOfAPrefixIsBitForBitThatOfItsCopy(string set, ScalarType dtype)
    {
        Use(set);
        var sizes = new[] { (2L, 5L, 7L, 5L), (3, 17, 33, 96), (1, 130, 600, 77), (1, 1, 48, 40), (2, 20, 64, 64) };
        foreach (var (batch, time, ins, outs) in sizes)
        {
            var weight = Leaf(ScalarType.Float32, 0.1f, outs, ins);
            foreach (long rows in new[] { 1, outs / 2, outs - 1, outs })
            {
                Compare(0, rows, ins, (x, w) => Kernels.LinearRows(x, w, rows), $"{rows} rows of {outs}, {ins}");
            }

            foreach (long columns in new[] { 1, ins / 2, ins - 1, ins })
            {
                Compare(1, columns, columns, (x, w) => Kernels.LinearColumns(x, w, columns), $"{columns} columns of {outs}, {ins}");
            }

            void Compare(int dimension, long length, long width, Func<Tensor, Tensor, Tensor> linear, string what)
            {
                var copy = weight.detach().narrow(dimension, 0, length).contiguous().clone().requires_grad_();
                var x = Leaf(dtype, 1, batch, time, width);
                Clear([weight, x]);
                var whole = linear(x, weight);
                whole.to(ScalarType.Float32).square().sum().backward();
                var wholeGradient = x.grad!;
                x.grad = null;
                var sliced = Kernels.Linear(x, copy);
                sliced.to(ScalarType.Float32).square().sum().backward();
                Assert.True(Bits(whole).SequenceEqual(Bits(sliced)), what);
                Assert.True(Bits(wholeGradient).SequenceEqual(Bits(x.grad!)), $"{what}: gradient of x");
                var inside = weight.grad!.narrow(dimension, 0, length);
                Assert.True(Bits(inside).SequenceEqual(Bits(copy.grad!)), $"{what}: gradient of the weight");
                var outside = weight.grad!.narrow(dimension, length, weight.shape[dimension] - length);
                Assert.All(outside.contiguous().data<float>().ToArray(), x => Assert.Equal(0f, x));
                using (no_grad())
                {
                    Assert.True(Bits(linear(x, weight)).SequenceEqual(Bits(sliced)), $"{what}: without gradients");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void RotaryEqualsItsDefinition(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (batch, time, heads, depth) in new[] { (2L, 5L, 3L, 6L), (1, 33, 2, 32), (1, 1, 2, 130) })
        {
            var x = Leaf(dtype, 1, batch, time, heads, depth);
            var cos = Leaf(ScalarType.Float32, 1, time, depth / 2).detach();
            var sin = Leaf(ScalarType.Float32, 1, time, depth / 2).detach();
            AssertEqual(dtype, () => Kernels.Rotary(x, cos, sin), () => Composite.Rotary(x, cos, sin), x);
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void AttentionEqualsItsDefinition(string set, ScalarType dtype)
    {
        Use(set);
        var sizes = new[] { (2L, 5L, 3L, 6L), (1, 33, 2, 32), (2, 100, 4, 16), (2, 9, 2, 10), (1, 49, 2, 130), (1, 50, 2, 7) };
        foreach (var (batch, time, heads, depth) in sizes)
        {
            foreach (long keyHeads in new[] { 1, heads })
            {
                foreach (long earlier in new[] { 0, 1, 40 })
                {
                    var query = Leaf(dtype, 1, batch, time, heads, depth);
                    var key = Leaf(dtype, 1, batch, time + earlier, keyHeads, depth);
                    var value = Leaf(dtype, 1, batch, time + earlier, keyHeads, depth);
                    AssertEqual(
                        dtype,
                        () => Kernels.CausalAttention(query, key, value),
                        () => Composite.CausalAttention(query, key, value),
                        query, key, value);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void WindowedAttentionEqualsItsDefinition(string set, ScalarType dtype)
    {
        Use(set);
        var sizes = new[] { (2L, 5L, 3L, 6L), (1, 33, 2, 32), (1, 150, 4, 16), (1, 60, 2, 7), (1, 7, 2, 10) };
        foreach (var (batch, time, heads, depth) in sizes)
        {
            foreach (var (keyHeads, earlier) in new[] { (1L, 0L), (heads, 0), (1, 1), (heads, 70) })
            {
                var query = Leaf(dtype, 1, batch, time, heads, depth);
                var key = Leaf(dtype, 1, batch, time + earlier, keyHeads, depth);
                var value = Leaf(dtype, 1, batch, time + earlier, keyHeads, depth);
                foreach (int window in new[] { 1, 2, 5, 16, 31, 32, 33, 50, 77, (int)(time + earlier) })
                {
                    // Where one key is all there is, the gradients of query and key are zero but for rounding.
                    AssertEqual(
                        dtype,
                        () => Kernels.CausalAttention(query, key, value, window),
                        () => Composite.CausalAttention(query, key, value, window),
                        window == 1 ? [value] : [query, key, value]);
                }
            }
        }
    }

    /// <summary>What lies outside its window changes no bit of a query's result, and what lies inside does.</summary>
    [Theory]
    [MemberData(nameof(Machines))]
    public void AWindowEndsWhereItSays(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (time, length, window) in new[] { (100L, 100L, 20), (60, 130, 33), (1, 90, 48), (5, 40, 3) })
        {
            var query = Leaf(dtype, 1, 1, time, 2, 16).detach();
            var key = Leaf(dtype, 1, 1, length, 2, 16).detach();
            var value = Leaf(dtype, 1, 1, length, 2, 16).detach();
            Func<Tensor, Tensor, Tensor, int, Tensor>[] forms = [Kernels.CausalAttention, Composite.CausalAttention];
            foreach (var attention in forms)
            {
                var before = attention(query, key, value, window);
                foreach (long position in new[] { 0, length / 2, length - 1 })
                {
                    var changed = value.clone();
                    changed.narrow(1, position, 1).fill_(1000);
                    var after = attention(query, key, changed, window);
                    for (long t = 0; t < time; t++)
                    {
                        long own = length - time + t;
                        bool sees = position <= own && position > own - window;
                        bool same = Bits(before.narrow(1, t, 1)).SequenceEqual(Bits(after.narrow(1, t, 1)));
                        Assert.True(same != sees, $"query {t} of {time}, key {position} of {length}, window {window}");
                    }
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void AWindowOverAllKeysIsBitForBitNone(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (time, length) in new[] { (100L, 100L), (60, 130), (1, 90), (5, 40) })
        {
            var query = Leaf(dtype, 1, 1, time, 2, 16).detach();
            var key = Leaf(dtype, 1, 1, length, 2, 16).detach();
            var full = Bits(Kernels.CausalAttention(query, key, key));
            Assert.Equal(full, Bits(Kernels.CausalAttention(query, key, key, (int)length)));
            Assert.Equal(full, Bits(Kernels.CausalAttention(query, key, key, int.MaxValue)));
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void AttentionReadsASliceOfACache(string set, ScalarType dtype)
    {
        Use(set);
        var keys = Leaf(dtype, 1, 2, 64, 2, 16).detach().narrow(1, 0, 40);
        var values = Leaf(dtype, 1, 2, 64, 2, 16).detach().narrow(1, 0, 40);
        foreach (long time in new[] { 1, 3, 20 })
        {
            var query = Leaf(dtype, 1, 2, time, 4, 16).detach();
            foreach (int window in new[] { 0, 7, 30 })
            {
                var expected = Composite.CausalAttention(query, keys, values, window);
                AssertClose(Tolerance(dtype), Kernels.CausalAttention(query, keys, values, window), expected, "cache");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void EncodersAttentionEqualsItsDefinition(string set, ScalarType dtype)
    {
        Use(set);
        var sizes = new[] { (4L, 5L, 3L, 6L), (2, 33, 2, 32), (2, 130, 4, 16), (4, 1, 2, 7), (6, 7, 2, 10) };
        foreach (var (batch, time, heads, depth) in sizes)
        {
            // Grouped heads, more keys and fewer than queries, and lengths of all sequences or of those that streams share.
            foreach (var (keyHeads, keys) in new[] { (1L, time), (heads, time), (1, time + 41), (heads, (time + 1) / 2) })
            {
                var query = Leaf(dtype, 1, batch, time, heads, depth);
                var key = Leaf(dtype, 1, batch, keys, keyHeads, depth);
                var value = Leaf(dtype, 1, batch, keys, keyHeads, depth);
                foreach (var lengths in new[] { null, Lengths(keys, batch), Lengths(keys, batch / 2), Lengths(keys, 1) })
                {
                    // Where one key is all there is, the gradients of query and key are zero but for rounding.
                    AssertEqual(
                        dtype,
                        () => Kernels.Attention(query, key, value, lengths),
                        () => Composite.Attention(query, key, value, lengths),
                        keys == 1 || lengths?.max().item<long>() == 1 ? [value] : [query, key, value]);
                }
            }
        }

        // The first sees all keys, the others fewer, at least one.
        Tensor Lengths(long keys, long count) =>
            tensor([.. Enumerable.Range(0, (int)count).Select(i => i == 0 ? keys : random.NextInt64(1, keys + 1))]);
    }

    /// <summary>What lies behind a sequence's length changes no bit of it, and what lies before does.</summary>
    [Theory]
    [MemberData(nameof(Machines))]
    public void ALengthEndsWhereItSays(string set, ScalarType dtype)
    {
        Use(set);
        long[] counts = [1, 33, 70];
        var lengths = tensor(counts);
        var query = Leaf(dtype, 1, 6, 9, 2, 16).detach();
        var key = Leaf(dtype, 1, 6, 70, 2, 16).detach();
        var value = Leaf(dtype, 1, 6, 70, 2, 16).detach();
        var before = Kernels.Attention(query, key, value, lengths);
        foreach (long position in new[] { 0, 1, 32, 33, 69 })
        {
            var changed = value.clone();
            changed.narrow(1, position, 1).fill_(1000);
            var after = Kernels.Attention(query, key, changed, lengths);
            for (long n = 0; n < 6; n++)
            {
                var same = Bits(before.narrow(0, n, 1)).SequenceEqual(Bits(after.narrow(0, n, 1)));
                Assert.True(same == (position >= counts[n % 3]), $"sequence {n}, key {position}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void EncodersAttentionReadsAnyStrides(string set, ScalarType dtype)
    {
        Use(set);
        var wide = Leaf(dtype, 1, 2, 20, 3 * 4 * 16); // queries, keys and values of one projection
        var turned = Leaf(dtype, 1, 2, 16, 4, 20);    // the last dimension is not the innermost
        Tensor Part(long i) => wide.narrow(2, i * 64, 64).view(2, 20, 4, 16);
        AssertEqual(
            dtype, () => Kernels.Attention(Part(0), Part(1), Part(2)), () => Composite.Attention(Part(0), Part(1), Part(2)), wide);
        AssertEqual(
            dtype,
            () => Kernels.Attention(turned.transpose(1, 3), Part(1), turned.transpose(1, 3)),
            () => Composite.Attention(turned.transpose(1, 3), Part(1), turned.transpose(1, 3)),
            wide, turned);
    }

    /// <summary>The slope of a sum in a random direction, by differences in float32.</summary>
    [Fact]
    public void EncodersAttentionSGradientsAreItsSlopes()
    {
        var lengths = tensor([5L, 9]);
        Tensor[] leaves =
        [
            Leaf(ScalarType.Float32, 1, 4, 6, 4, 5), Leaf(ScalarType.Float32, 1, 4, 9, 2, 5), Leaf(ScalarType.Float32, 1, 4, 9, 2, 5),
        ];
        var weights = Leaf(ScalarType.Float32, 1, 4, 6, 20).detach();
        Sum(leaves).backward();
        const double step = 1e-2;
        for (var i = 0; i < leaves.Length; i++)
        {
            var direction = Leaf(ScalarType.Float32, 1, leaves[i].shape).detach();
            var slope = (Moved(step) - Moved(-step)) / (2 * step);
            var expected = leaves[i].grad!.mul(direction).sum().item<float>();
            Assert.True(Math.Abs(slope - expected) <= 1e-2 * (1 + Math.Abs(expected)), $"input {i}: {slope}, not {expected}");

            double Moved(double by)
            {
                Tensor[] moved = [.. leaves.Select((leaf, j) => j == i ? leaf.detach().add(direction.mul(by)) : leaf.detach())];
                return Sum(moved).item<float>();
            }
        }

        Tensor Sum(Tensor[] x) => Kernels.Attention(x[0], x[1], x[2], lengths).mul(weights).sum();
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void FeedForwardEqualsItsDefinition(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (batch, time, width, hidden) in new[] { (2L, 5L, 7L, 5L), (2, 17, 33, 96), (1, 130, 64, 200), (1, 1, 48, 40) })
        {
            foreach (var kind in Enum.GetValues<FeedForwardKind>())
            {
                foreach (bool biased in new[] { false, true })
                {
                    var w = new Weights(this, width, hidden, kind, biased);
                    int m = (int)hidden;
                    foreach (int[] widths in new int[][] { [m], [m / 3], [m, m, m / 2, 1], [m - 1, m / 3] })
                    {
                        var x = Leaf(dtype, 1, widths.Length * batch, time, width);
                        AssertEqual(
                            dtype,
                            () => Kernels.FeedForward(x, w.Gate, w.GateBias, w.Up, w.UpBias, w.Down, w.DownBias, kind, widths),
                            () => Composite.FeedForward(x, w.Gate, w.GateBias, w.Up, w.UpBias, w.Down, w.DownBias, kind, widths),
                            [x, .. w.All]);
                    }
                }
            }
        }
    }

    // Widths so that slabs are of one unit, of less than a panel, and of several; twice the same width; and more rows than one span.
    [Theory]
    [MemberData(nameof(Machines))]
    public void FeedForwardWhereStreamsPartEqualsItsDefinition(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (batch, time, width, hidden) in new[] { (2L, 5L, 7L, 5L), (2, 17, 33, 96), (9, 130, 64, 200), (1, 1, 48, 41) })
        {
            int m = (int)hidden;
            foreach (int[] widths in new int[][] { [m - 1], [m, m], [m, m / 2, m / 4, 1], [m - 1, m / 2, m / 2] })
            {
                var x = Leaf(dtype, 1, batch, time, width);
                foreach (var kind in new[] { FeedForwardKind.SwiGlu, FeedForwardKind.Gelu })
                {
                    var w = new Weights(this, width, hidden, kind, kind == FeedForwardKind.Gelu || batch < 9);
                    AssertEqual(
                        dtype,
                        () => Kernels.FeedForward(x, w.Gate, w.GateBias, w.Up, w.UpBias, w.Down, w.DownBias, kind, widths, parting: true),
                        () => Composite.FeedForward(x, w.Gate, w.GateBias, w.Up, w.UpBias, w.Down, w.DownBias, kind, widths, parting: true),
                        [x, .. w.All]);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void StreamsMayDivideTheBatch(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (time, width, hidden) in new[] { (5L, 7L, 5L), (17, 33, 96), (130, 64, 200) })
        {
            foreach (int[] rows in new int[][] { [3], [1, 2], [2, 1, 4] })
            {
                int[] widths = [.. rows.Select((_, r) => (int)hidden / (r + 1))];
                var x = Leaf(dtype, 1, rows.Sum(), time, width);
                foreach (var kind in new[] { FeedForwardKind.SwiGlu, FeedForwardKind.Gelu })
                {
                    var w = new Weights(this, width, hidden, kind, true);
                    AssertEqual(
                        dtype,
                        () => Kernels.FeedForward(x, w.Gate, w.GateBias, w.Up, w.UpBias, w.Down, w.DownBias, kind, widths, rows),
                        () => Composite.FeedForward(x, w.Gate, w.GateBias, w.Up, w.UpBias, w.Down, w.DownBias, kind, widths, rows),
                        [x, .. w.All]);
                }

                var head = Leaf(ScalarType.Float32, 0.2f, 100, width);
                var targets = Integers(100, rows.Sum(), time);
                AssertEqual(
                    dtype,
                    () => Kernels.LinearCrossEntropy(x, head, targets, rows.Length, rows),
                    () => Composite.LinearCrossEntropy(x, head, targets, rows.Length, rows),
                    x, head);
            }
        }
    }

    // Vocabularies so that a stream takes one block of logits, and several.
    [Theory]
    [MemberData(nameof(Machines))]
    public void DivergenceEqualsItsDefinition(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (batch, time, width, classes) in new[] { (2L, 5L, 7L, 5L), (3, 17, 33, 100), (2, 30, 24, 30000) })
        {
            var head = Leaf(ScalarType.Float32, 0.2f, classes, width);
            foreach (var (temperature, student) in new[] { (1.0, 0), (2.5, 1) })
            {
                var shared = Leaf(dtype, 1, 3 * batch, time, width);
                var teacher = Leaf(dtype, 1, batch, time, width);
                AssertEqual(
                    dtype,
                    () => Kernels.LinearDivergence(shared, teacher.detach(), head, 3, null, student, temperature),
                    () => Composite.LinearDivergence(shared, teacher.detach(), head, 3, null, student, temperature),
                    shared, head);
                int[] rows = [(int)batch, 1, 2];
                var divided = Leaf(dtype, 1, batch + 3, time, width);
                var others = Leaf(dtype, 1, student == 0 ? batch + 3 : 3, time, width).detach();
                AssertEqual(
                    dtype,
                    () => Kernels.LinearDivergence(divided, others, head, 3, rows, student, temperature),
                    () => Composite.LinearDivergence(divided, others, head, 3, rows, student, temperature),
                    divided, head);
                if (student == 0) continue;
                using var itself = Kernels.LinearDivergence(shared, shared.narrow(0, 0, batch), head, 3, null, 1, temperature);
                Assert.Equal(0, itself.data<float>()[0]);
            }

            var same = Leaf(dtype, 1, batch, time, width);
            using var none = Kernels.LinearDivergence(same, same, head, 1, null, 0, 2);
            Assert.InRange(none.item<float>(), -1e-6, 1e-6);
            none.sum().backward();
            Assert.Equal(0, same.grad!.to(ScalarType.Float32).abs().max().item<float>()); // the teacher's own part has no gradient
        }
    }

    /// <summary>The invariant behind extraction: a slice of the weights gives the very bits of the whole weights at that width.</summary>
    [Theory]
    [MemberData(nameof(Machines))]
    public void FeedForwardOfSlicedWeightsIsBitForBitTheSame(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (batch, time, width, hidden) in new[] { (2L, 5L, 7L, 9L), (1, 130, 64, 200), (2, 1, 256, 1024), (1, 1, 48, 41) })
        {
            foreach (var kind in Enum.GetValues<FeedForwardKind>())
            {
                var w = new Weights(this, width, hidden, kind, true);
                var x = Leaf(dtype, 1, batch, time, width).detach();
                foreach (int m in new[] { 1, (int)hidden / 3, (int)hidden - 1, (int)hidden })
                {
                    Tensor? Rows(Tensor? tensor) => tensor?.detach().narrow(0, 0, m).contiguous().clone();
                    var down = w.Down.detach().narrow(1, 0, m).contiguous().clone();
                    var whole = Kernels.FeedForward(x, w.Gate, w.GateBias, w.Up, w.UpBias, w.Down, w.DownBias, kind, [m]);
                    var sliced = Kernels.FeedForward(
                        x, Rows(w.Gate), Rows(w.GateBias), Rows(w.Up)!, Rows(w.UpBias), down, w.DownBias, kind, [m]);
                    Assert.True(Bits(whole).SequenceEqual(Bits(sliced)), $"{kind}, width {m} of {hidden}");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void LossEqualsItsDefinition(string set, ScalarType dtype)
    {
        Use(set);
        foreach (var (batch, time, width) in new[] { (2L, 5L, 7L), (3, 17, 33), (1, 130, 64), (1, 1, 48) })
        {
            foreach (long classes in new[] { 5L, 16, 100, 256 })
            {
                var head = Leaf(ScalarType.Float32, 0.2f, classes, width);
                var targets = Integers(classes, batch, time);
                foreach (int streams in new[] { 1, 3 })
                {
                    var x = Leaf(dtype, 1, streams * batch, time, width);
                    AssertEqual(
                        dtype,
                        () => Kernels.LinearCrossEntropy(x, head, targets, streams),
                        () => Composite.LinearCrossEntropy(x, head, targets, streams),
                        x, head);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void TheSameTwiceIsBitForBitTheSame(string set, ScalarType dtype)
    {
        Use(set);
        var w = new Weights(this, 64, 200, FeedForwardKind.SwiGlu, true);
        var scale = Leaf(ScalarType.Float32, 1, 64);
        var x = Leaf(dtype, 1, 8, 130, 64);
        byte[][] Run()
        {
            Clear([x, scale, .. w.All]);
            var y = Kernels.RmsNorm(x, scale, 1e-5);
            var q = y.view(8, 130, 4, 16);
            var z = Kernels.CausalAttention(q, q, q);
            var f = Kernels.FeedForward(z, w.Gate, w.GateBias, w.Up, w.UpBias, w.Down, w.DownBias, FeedForwardKind.SwiGlu, [200, 77]);
            f.to(ScalarType.Float32).sum().backward();
            Tensor[] leaves = [x, scale, .. w.All];
            return [.. leaves.Select(leaf => Bits(leaf.grad!))];
        }

        var first = Run();
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(first, Run());
        }
    }

    [Theory]
    [MemberData(nameof(Machines))]
    public void AdamWAndClippingEqualTheirDefinitions(string set, ScalarType dtype)
    {
        Use(set);
        _ = dtype; // parameters are float32 in both
        Tensor[] ours = [Leaf(ScalarType.Float32, 1, 3, 5), Leaf(ScalarType.Float32, 1, 40000), Leaf(ScalarType.Float32, 1, 7)];
        Tensor[] theirs = [.. ours.Select(p => p.detach().clone().requires_grad_())];
        Tensor[][] moments = [.. Enumerable.Range(0, 4).Select(_ => ours.Select(p => zeros_like(p.detach())).ToArray())];
        double[] decay = [0.1, 0, 0.3];
        for (int step = 1; step <= 5; step++)
        {
            // The last parameter has a gradient at the last step only: before it must not move.
            for (int i = 0; i < (step < 5 ? 2 : 3); i++)
            {
                var gradient = Leaf(ScalarType.Float32, 5, ours[i].shape).detach();
                ours[i].grad = gradient;
                theirs[i].grad = gradient.clone();
            }

            double norm = Kernels.ClipGradientNorm(ours, 1.5);
            double expected = Composite.ClipGradientNorm(theirs, 1.5);
            Assert.Equal(expected, norm, expected * 1e-5);
            Assert.Equal(1.5, Composite.ClipGradientNorm(ours, 1e9), 1e-4);
            Kernels.AdamW(ours, moments[0], moments[1], decay, 1e-2, 0.9, 0.95, 1e-8, step);
            Composite.AdamW(theirs, moments[2], moments[3], decay, 1e-2, 0.9, 0.95, 1e-8, step);
            for (int i = 0; i < 3; i++)
            {
                AssertClose(1e-6, ours[i], theirs[i], $"parameter {i}, step {step}");
                AssertClose(1e-6, moments[0][i], moments[2][i], $"first moment {i}, step {step}");
                AssertClose(1e-6, moments[1][i], moments[3][i], $"second moment {i}, step {step}");
            }
        }
    }

    [Fact]
    public void ANormThatIsNotFiniteLeavesGradientsAlone()
    {
        var parameter = Leaf(ScalarType.Float32, 1, 3);
        parameter.grad = tensor(new[] { 1f, float.PositiveInfinity, 3f });
        Assert.Equal(double.PositiveInfinity, Kernels.ClipGradientNorm([parameter], 1));
        Assert.Equal([1f, float.PositiveInfinity, 3f], parameter.grad!.data<float>().ToArray());
    }

    [Fact]
    public void OperandsThatDoNotFitAreNamed()
    {
        var x = Leaf(ScalarType.Float32, 1, 2, 3, 4);
        var weight = Leaf(ScalarType.Float32, 1, 5, 6);
        var narrow = weight.to(ScalarType.BFloat16);
        var heads = Leaf(ScalarType.Float32, 1, 2, 3, 2, 4);
        var late = Leaf(ScalarType.Float32, 1, 2, 2, 2, 4);
        var up = Leaf(ScalarType.Float32, 1, 8, 4);
        var down = Leaf(ScalarType.Float32, 1, 4, 8);
        var tokens = Integers(4, 2, 3);

        AssertNamed("RmsNorm: weight is [5, 6]", () => Kernels.RmsNorm(x, weight, 1e-5));
        AssertNamed("Linear: x is [2, 3, 4]", () => Kernels.Linear(x, weight));
        AssertNamed("Linear: weight is BFloat16", () => Kernels.Linear(Leaf(ScalarType.Float32, 1, 6), narrow));
        AssertNamed("Projections: x is [2, 3, 4]", () => Kernels.Projections(x, weight, weight, weight).Query);
        AssertNamed("Projections: keyBias is missing", () => Kernels.Projections(
            Leaf(ScalarType.Float32, 1, 6), weight, weight, weight, queryBias: Leaf(ScalarType.Float32, 1, weight.shape[0])).Query);
        AssertNamed("Rotary: cos", () => Kernels.Rotary(heads, weight, weight));
        AssertNamed("CausalAttention: key", () => Kernels.CausalAttention(heads, late, late));
        AssertNamed("CausalAttention: value", () => Kernels.CausalAttention(heads, heads, late));
        AssertNamed("CausalAttention: window is -1", () => NativeKernels.CausalAttention(heads, heads, heads, -1));
        AssertNamed("Attention: key", () => Kernels.Attention(heads, heads.narrow(0, 0, 1), late));
        AssertNamed("Attention: value", () => Kernels.Attention(heads, heads, late));
        AssertNamed("Attention: lengths is [3]", () => Kernels.Attention(heads, heads, heads, tensor([1L, 1, 1])));
        AssertNamed("Attention: length 0 is outside 1..", () => Kernels.Attention(heads, heads, heads, tensor([0L])));
        AssertNamed("Attention: length 99 is outside 1..", () => Kernels.Attention(heads, heads, heads, tensor([1L, 99])));
        AssertNamed("LinearRows: rows is 6, but must be in 1..5", () => Kernels.LinearRows(weight, weight, 6));
        AssertNamed("LinearRows: x is [2, 3, 4]", () => Kernels.LinearRows(x, weight, 2));
        AssertNamed("LinearColumns: columns is 0, but must be in 1..6", () => Kernels.LinearColumns(x, weight, 0));
        AssertNamed("LinearColumns: x is [2, 3, 4]", () => Kernels.LinearColumns(x, weight, 2));
        Assert.Throws<ArgumentOutOfRangeException>("window", () => Kernels.CausalAttention(heads, heads, heads, -1));
        Assert.Throws<ArgumentOutOfRangeException>("rows", () => Composite.LinearRows(x, weight, 6));
        Assert.Throws<ArgumentOutOfRangeException>("columns", () => Composite.LinearColumns(x, weight, 0));
        Tensor FeedForward(Tensor second, FeedForwardKind kind, params int[] widths)
            => Kernels.FeedForward(x, null, null, up, null, second, null, kind, widths);
        AssertNamed("FeedForward: widths", () => FeedForward(down, FeedForwardKind.Gelu, 4, 8));
        AssertNamed("FeedForward: widths", () => FeedForward(down, FeedForwardKind.Gelu, 9));
        AssertNamed("FeedForward: the kind needs a gate", () => FeedForward(down, FeedForwardKind.SwiGlu, 8));
        AssertNamed("FeedForward: down", () => FeedForward(up, FeedForwardKind.Gelu, 8));
        AssertNamed("LinearCrossEntropy: head", () => Kernels.LinearCrossEntropy(x, weight, tokens, 1));
        AssertNamed("LinearCrossEntropy: targets", () => Kernels.LinearCrossEntropy(x, up, tokens, 2));
        AssertNamed("LinearCrossEntropy: target 3", () => Kernels.LinearCrossEntropy(x, up.narrow(0, 0, 3), full_like(tokens, 3), 1));
        AssertNamed("LinearCrossEntropy: rows are [1, 2]", () => Kernels.LinearCrossEntropy(x, up, tokens, 2, [1, 2]));
        AssertNamed("LinearDivergence: teacher is [1, 3, 4]", () => Kernels.LinearDivergence(x, x.narrow(0, 0, 1), up, 1, null, 0, 1));
        AssertNamed("FeedForward: rows are [1, 0]", () => Kernels.FeedForward(x, null, null, up, null, down, null, FeedForwardKind.Gelu, [8, 4], [1, 0]));
        Assert.Throws<ArgumentException>("rows", () => Kernels.FeedForward(x, null, null, up, null, down, null, FeedForwardKind.Gelu, [8, 4], [2]));
        Assert.Throws<ArgumentException>("rows", () => Kernels.FeedForward(x, null, null, up, null, down, null, FeedForwardKind.Gelu, [8, 4], [1, 1], parting: true));
        Assert.Throws<ArgumentException>("rows", () => Composite.LinearCrossEntropy(x, up, tokens, 2, [1, 2]));
        AssertNamed("Embedding: token 9", () => Kernels.Embedding(weight, full_like(tokens, 9), ScalarType.Float32));
        AssertNamed("AddPositions: positions 6..8", () => Kernels.AddPositions(x, up, 6));
        AssertNamed("Fork: x", () => Kernels.Fork(heads, 2));

        void AssertNamed(string message, Func<Tensor> call)
            => Assert.Contains(message, Assert.Throws<ExternalException>(call).Message, StringComparison.Ordinal);
    }

    // From libtorch 2 on ATen adds bfloat16 products up in bfloat16 where operands have gaps between their rows, if on the CPU: what is computed
    // shows all the same, and how well in float32.
    private double Tolerance(ScalarType dtype) => dtype == ScalarType.Float32 ? 1e-5 : instructionSet == NativeKernels.Aten ? 0.5 : 3e-2;

    private void Use(string set) => NativeKernels.UseInstructionSet(instructionSet = set);

    private static void Clear(IEnumerable<Tensor> leaves)
    {
        foreach (var leaf in leaves)
        {
            leaf.grad = null;
        }
    }

    private static byte[] Bits(Tensor x) => x.detach().contiguous().bytes.ToArray();

    // The distance relative to the size, allowing for results that are all but zero.
    private static void AssertClose(double tolerance, Tensor actual, Tensor expected, string what)
    {
        Assert.Equal(expected.dtype, actual.dtype);
        Assert.Equal(expected.shape, actual.shape);
        var a = actual.detach().to(ScalarType.Float64);
        var b = expected.detach().to(ScalarType.Float64);
        double distance = (a - b).square().sum().item<double>(), size = b.square().sum().item<double>();
        double allowed = tolerance * (Math.Sqrt(size) + (1e-3 * Math.Sqrt(b.numel())));
        Assert.True(Math.Sqrt(distance) <= allowed, $"{what}: off by {Math.Sqrt(distance)}, allowed {allowed}");
    }

    // The same result, and the same gradients of all leaves, for one random gradient of the result.
    private void AssertEqual(ScalarType dtype, Func<Tensor> native, Func<Tensor> composite, params Tensor[] leaves)
    {
        using var inner = NewDisposeScope();
        using var expected = composite();
        var slope = Leaf(ScalarType.Float32, 1, expected.shape).detach();
        Tensor[] Gradients(Tensor y)
        {
            Clear(leaves);
            y.to(ScalarType.Float32).mul(slope).sum().backward();
            return [.. leaves.Select(leaf => leaf.grad!)];
        }

        var expectedGradients = Gradients(expected);
        using var actual = native();
        var gradients = Gradients(actual);
        AssertClose(Tolerance(dtype), actual, expected, "result");
        for (int i = 0; i < leaves.Length; i++)
        {
            AssertClose(Tolerance(dtype), gradients[i], expectedGradients[i], $"gradient {i}");
        }

        using (no_grad())
        {
            var alone = native();
            Assert.False(alone.requires_grad);
            Assert.Equal(Bits(actual), Bits(alone));
        }
    }

    private Tensor Leaf(ScalarType dtype, float size, params long[] shape)
    {
        float[] values = new float[shape.Aggregate(1L, (a, b) => a * b)];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = size * (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        }

        return tensor(values, shape).to(dtype).requires_grad_();
    }

    private Tensor Integers(long below, params long[] shape)
    {
        long[] values = new long[shape.Aggregate(1L, (a, b) => a * b)];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = random.NextInt64(below);
        }

        return tensor(values, shape);
    }

    private sealed class Weights
    {
        public Weights(KernelTests test, long width, long hidden, FeedForwardKind kind, bool biased)
        {
            bool gated = kind is FeedForwardKind.SwiGlu or FeedForwardKind.GeGlu;
            Tensor? Optional(bool wanted, float size, params long[] shape) => wanted ? test.Leaf(ScalarType.Float32, size, shape) : null;
            Gate = Optional(gated, 0.2f, hidden, width);
            GateBias = Optional(gated && biased, 1, hidden);
            Up = test.Leaf(ScalarType.Float32, 0.2f, hidden, width);
            UpBias = Optional(biased, 1, hidden);
            Down = test.Leaf(ScalarType.Float32, 0.1f, width, hidden);
            DownBias = Optional(biased, 1, width);
        }

        public Tensor? Gate { get; }

        public Tensor? GateBias { get; }

        public Tensor Up { get; }

        public Tensor? UpBias { get; }

        public Tensor Down { get; }

        public Tensor? DownBias { get; }

        public IEnumerable<Tensor> All => new[] { Gate, GateBias, Up, UpBias, Down, DownBias }.OfType<Tensor>();
    }
}
#endif

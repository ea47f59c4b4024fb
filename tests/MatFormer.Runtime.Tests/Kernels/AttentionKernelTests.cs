using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests the first half of a layer.</summary>
public sealed class AttentionKernelTests : KernelTestBase
{
    private static readonly (long Batch, long Time, int Heads, int Depth)[] s_sizes =
        [(2, 5, 3, 6), (1, 33, 2, 32), (1, 70, 4, 16), (2, 9, 2, 10), (1, 20, 1, 130), (4, 1, 2, 8)];

    /// <summary>Half a layer rounds many times in the forward and the backward pass.</summary>
    protected override double RoundedTolerance => 5e-2;

    [Theory]
    [MemberData(nameof(Forms))]
    public void CausalAttentionEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (batch, time, heads, depth) in s_sizes)
        {
            foreach (var keyHeads in new[] { 1, heads })
            {
                foreach (var isTurned in new[] { false, true })
                {
                    var weights = Attention(24, heads, keyHeads, depth) with { IsCausal = true };
                    AssertEqual(weights, Angles(isTurned, time, depth), batch, time);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void WindowedAttentionEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (time, heads, keyHeads, depth) in new[] { (5L, 3, 1, 6), (33, 2, 2, 32), (90, 4, 2, 16), (60, 2, 1, 7) })
        {
            foreach (var window in new[] { 1, 2, 16, 33, 50 })
            {
                var weights = Attention(16, heads, keyHeads, depth) with { IsCausal = true, Window = window };
                AssertEqual(weights, (null, null), 1, time);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void EncoderAttentionEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var sizes = new[] { (4L, 5L, 3, 1, 6), (2, 33, 2, 2, 32), (2, 100, 4, 2, 16), (4, 1, 2, 2, 7) };
        foreach (var (batch, time, heads, keyHeads, depth) in sizes)
        {
            // There are lengths of all sequences, of those that two streams share, or of one.
            foreach (var lengths in new[] { null, Lengths(time, batch), Lengths(time, batch / 2), Lengths(time, 1) })
                AssertEqual(Attention(24, heads, keyHeads, depth, isBiased: true), (null, null), batch, time, lengths);
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void NormsAndBiasesEqualTheirDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var isLayerNorm in new[] { false, true })
        {
            foreach (var normsHeads in new[] { false, true })
            {
                foreach (var isTurned in new[] { false, true })
                {
                    var weights = Attention(33, 4, 2, 10, isBiased: true, isLayerNorm, normsHeads) with { IsCausal = isTurned };
                    AssertEqual(weights, Angles(isTurned, 17, 10), 2, 17);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void TheOutputMayHaveNoBias(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var weights = Attention(24, 6, 3, 8, isBiased: true) with { IsCausal = true, OutputBias = null };
        AssertEqual(weights, Angles(true, 17, 8), 6, 17);
        AssertEqual(weights, Angles(true, 17, 8), 6, 17, null, [6, 4, 2]);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void QueryNormAndKeyNormMayBeAlone(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var weights = Attention(16, 4, 2, 6) with { IsCausal = true };
        AssertEqual(weights with { QueryNorm = Norm(6) }, (null, null), 2, 9);
        AssertEqual(weights with { KeyNorm = Norm(6, isLayerNorm: true) }, (null, null), 2, 9);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void StreamsMayKeepDifferentHeads(string form, ScalarType dtype)
    {
        Use(form, dtype);
        (int[], int[]?)[] cases = [([6, 4, 2], null), ([4, 4], null), ([6, 2], [1, 5]), ([2], null), ([6], null)];
        foreach (var (heads, rows) in cases)
        {
            // The number of heads of each stream is a multiple of a group.
            var weights = Attention(24, 6, 3, 8, isBiased: true, normsHeads: true) with { IsCausal = true };
            AssertEqual(weights, Angles(true, 17, 8), 6, 17, null, heads, rows);
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void StreamsOfDifferentHeadsMayHaveLengths(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var weights = Attention(24, 4, 4, 8, isBiased: true, isLayerNorm: true);
        AssertEqual(weights, (null, null), 6, 17, Lengths(17, 3), [4, 2], null);
        AssertEqual(weights, (null, null), 6, 17, Lengths(17, 1), [4, 2], null);
        AssertEqual(weights, (null, null), 6, 17, Lengths(17, 6), [4, 2], [1, 5]);
        AssertEqual(weights, (null, null), 6, 17, Lengths(17, 6), [3, 2, 1], [2, 3, 1]);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void InputsMayHaveAnyStrides(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var weights = Attention(16, 4, 2, 6);
        var (turned, angles, lengths) = (X(16, 9, 4), Normal(2, 9, 10), Lengths(9, 8).view(4, 2).select(1, 0));
        var (cos, sin) = (angles.cos().narrow(1, 1, 3), angles.sin().narrow(1, 7, 3));
        AssertEqual(
            () => Kernels.Attend(turned.permute(2, 1, 0), weights, cos, sin, lengths),
            () => Definitions.Attend(turned.permute(2, 1, 0), weights, cos, sin, lengths, [4], [4]), [turned, .. All(weights)]);
    }

    /// <summary>A model that shares another's weights computes with views. Parameters of a flat optimizer may be views too.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void WeightsMayBeViews(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var whole = Attention(16, 6, 3, 6, isBiased: true);
        var weights = whole with
        {
            Query = Prefix(whole.Query, 0, 24),
            Key = Prefix(whole.Key, 0, 12),
            Value = Prefix(whole.Value, 0, 12),
            Output = Prefix(whole.Output, 1, 24),
            QueryBias = Prefix(whole.QueryBias!, 0, 24),
            KeyBias = Prefix(whole.KeyBias!, 0, 12),
            ValueBias = Prefix(whole.ValueBias!, 0, 12),
            IsCausal = true,
        };
        AssertEqual(weights, Angles(true, 9, 6), 2, 9);
    }

    /// <summary>Extraction relies on this: a slice of the weights gives the same bits as all weights with the heads of the slice.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void ASliceOfTheWeightsGivesTheSameBits(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (time, width, depth) in new[] { (5L, 7L, 6), (40, 64, 16), (1, 48, 10) })
        {
            var whole = Attention(width, 6, 3, depth, isBiased: true, normsHeads: true) with { IsCausal = true };
            var (x, angles) = (X(2, time, width), Angles(true, time, depth));
            foreach (var heads in new[] { 2, 4 })
            {
                var slice = whole with
                {
                    Query = Copy(whole.Query, 0, heads * depth),
                    Key = Copy(whole.Key, 0, heads / 2 * depth),
                    Value = Copy(whole.Value, 0, heads / 2 * depth),
                    Output = Copy(whole.Output, 1, heads * depth),
                    QueryBias = Copy(whole.QueryBias!, 0, heads * depth),
                    KeyBias = Copy(whole.KeyBias!, 0, heads / 2 * depth),
                    ValueBias = Copy(whole.ValueBias!, 0, heads / 2 * depth),
                };
                AssertSame(
                    Kernels.Attend(x, slice, angles.Cos, angles.Sin),
                    Kernels.Attend(x, whole, angles.Cos, angles.Sin, heads: [heads]),
                    $"{heads} heads of {depth}");
            }
        }

        static Tensor Copy(Tensor weight, int dimension, long length) => Prefix(weight, dimension, length).detach().contiguous().clone();
    }

    /// <summary>Tokens that come one by one or a few at a time see the same keys in the cache as in one pass over all tokens.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void PartsWithACacheEqualOnePassOverAllTokens(string form, ScalarType dtype)
    {
        Use(form, dtype);
        using var unrecorded = no_grad();
        foreach (var window in new[] { 0, 1, 7, 30 })
        {
            var weights = Attention(24, 4, 2, 16, isBiased: true, normsHeads: true) with { IsCausal = true, Window = window };
            var (x, (cos, sin)) = (X(2, 50, 24), Angles(true, 50, 16));
            var expected = Definitions.Attend(x, weights, cos, sin, null, [4], [2]);
            using var cache = new KeyValueCache([9, 2], 2, 64, 16, dtype, CPU);
            foreach (var time in new[] { 1, 3, 40, 1, 5 })
            {
                var at = cache.Length;
                var part = Kernels.Attend(
                    x.narrow(1, at, time), weights, cos!.narrow(0, at, time), sin!.narrow(0, at, time), cache: cache, layer: 1);
                cache.Advance(time);
                AssertClose(part, expected.narrow(1, at, time), $"window {window}, tokens {at} to {at + time - 1}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void NoGradientIsRecordedWithACache(string form)
    {
        Use(form);
        var weights = Attention(16, 2, 2, 8) with { IsCausal = true };
        using var cache = new KeyValueCache([2], 1, 8, 8, Dtype, CPU);
        Assert.False(Kernels.Attend(X(1, 3, 16), weights, cache: cache).requires_grad);
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void ACacheThatIsTooSmallIsRefused(string form)
    {
        Use(form);
        var weights = Attention(16, 2, 2, 8) with { IsCausal = true };
        using var cache = new KeyValueCache([2, 1], 1, 8, 8, Dtype, CPU);
        Assert.Throws<ArgumentException>("time", () => Kernels.Attend(X(1, 9, 16), weights, cache: cache));
        Assert.Throws<ArgumentException>("batch", () => Kernels.Attend(X(2, 3, 16), weights, cache: cache));
        Assert.Throws<ArgumentException>("heads", () => Kernels.Attend(X(1, 3, 16), weights, cache: cache, layer: 1));
        Assert.Throws<ArgumentException>("cache", () => Kernels.Attend(X(2, 3, 16), weights, cache: cache, heads: [2, 1]));
    }

    /// <summary>The fused loops write into the memory of the cache, so its depth, dtype and device must be right.</summary>
    [FusedFact]
    public void ACacheOfAnotherDepthDtypeOrDeviceIsRefused()
    {
        UseCpu();
        var (x, weights) = (X(1, 3, 16), Attention(16, 2, 2, 8) with { IsCausal = true });
        foreach (var (depth, dtype, device) in new[] { (4, Dtype, CPU), (8, ScalarType.BFloat16, CPU), (8, Dtype, META) })
        {
            using var cache = new KeyValueCache([2], 1, 8, depth, dtype, device);
            Assert.Throws<ArgumentException>("x", () => Kernels.Attend(x, weights, cache: cache));
        }
    }

    /// <summary>A key outside a query's window changes no bit of the query's result, and a key inside the window does.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void AQuerySeesExactlyTheKeysOfItsWindow(string form, ScalarType dtype)
    {
        Use(form, dtype);
        using var unrecorded = no_grad();
        foreach (var (time, window) in new[] { (100L, 20), (90, 48), (40, 3) })
        {
            var weights = Attention(16, 2, 2, 16) with { IsCausal = true, Window = window };
            var x = X(1, time, 16).detach();
            var before = Kernels.Attend(x, weights);
            foreach (var position in new[] { 0, time / 2, time - 1 })
            {
                var after = Kernels.Attend(Changed(x, 0, position), weights);
                for (var t = 0L; t < time; t++)
                {
                    var sees = position <= t && position > t - window;
                    var isSame = Bits(before.narrow(1, t, 1)).SequenceEqual(Bits(after.narrow(1, t, 1)));
                    Assert.True(isSame != sees, $"query {t} of {time}, key {position}, window {window}");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void AWindowOverAllKeysGivesTheSameBitsAsNoWindow(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (weights, x) = (Attention(16, 2, 2, 16) with { IsCausal = true }, X(2, 60, 16).detach());
        var full = Kernels.Attend(x, weights);
        AssertSame(Kernels.Attend(x, weights with { Window = 60 }), full, "60");
        AssertSame(Kernels.Attend(x, weights with { Window = int.MaxValue }), full, "any");
    }

    /// <summary>A token beyond a sequence's length changes no bit of the other tokens, and a token within the length does.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void AQuerySeesExactlyTheKeysWithinTheLength(string form, ScalarType dtype)
    {
        Use(form, dtype);
        using var unrecorded = no_grad();
        long[] counts = [1, 33, 70];
        var (lengths, weights, x) = (tensor(counts), Attention(16, 2, 2, 16), X(6, 70, 16).detach());
        var before = Kernels.Attend(x, weights, lengths: lengths);
        foreach (var position in new[] { 0L, 1, 32, 33, 69 })
        {
            for (var n = 0; n < 6; n++)
            {
                // A changed token always sees itself, so the result of another token is compared.
                var (after, other) = (Kernels.Attend(Changed(x, n, position), weights, lengths: lengths), position == 5 ? 6 : 5);
                var isSame = Bits(before[n, other]).SequenceEqual(Bits(after[n, other]));
                Assert.True(isSame == (position >= counts[n % 3]), $"sequence {n}, key {position}");
                Assert.Equal(Bits(before[(n + 1) % 6]), Bits(after[(n + 1) % 6]));
            }
        }
    }

    /// <summary>
    /// Compares gradients with finite differences in a random direction, because the gradients of the definitions come from libtorch too.
    /// </summary>
    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void GradientsEqualFiniteDifferences(string form)
    {
        Use(form);
        var (weights, lengths, angles) = (Attention(12, 4, 2, 6, isBiased: true, normsHeads: true), tensor([5L, 9]), Angles(true, 9, 6));
        var (x, slope) = (X(4, 9, 12), Normal(1, 4, 9, 12));
        Tensor[] leaves = [x, .. All(weights)];
        var gradients = Gradients(Kernels.Attend(x, weights, angles.Cos, angles.Sin, lengths), slope, leaves);
        const double step = 1e-2;
        using var unrecorded = no_grad();
        for (var i = 0; i < leaves.Length; i++)
        {
            var direction = Normal(0.3, leaves[i].shape);
            var found = (Moved(step) - Moved(-step)) / (2 * step);
            var expected = gradients[i]!.mul(direction).sum().item<float>();
            Assert.True(Math.Abs(found - expected) <= 1e-2 * (1 + Math.Abs(expected)), $"leaf {i}: {found}, not {expected}");

            double Moved(double by)
            {
                leaves[i].add_(direction, by);
                var sum = Kernels.Attend(x, weights, angles.Cos, angles.Sin, lengths).mul(slope).sum().item<float>();
                leaves[i].add_(direction, -by);
                return sum;
            }
        }
    }

    private static Tensor Changed(Tensor x, long row, long position)
    {
        var changed = x.clone();
        changed.narrow(0, row, 1).narrow(1, position, 1).neg_();
        return changed;
    }

    private static Tensor Prefix(Tensor weight, int dimension, long length) =>
        weight.detach().narrow(dimension, 0, length).requires_grad_();

    // The first sequence sees all keys, and each of the others at least one.
    private Tensor Lengths(long time, long count)
    {
        var lengths = Integers(time, count).add_(1);
        lengths.narrow(0, 0, 1).fill_(time);
        return lengths;
    }

    private void AssertEqual(
        AttentionWeights weights, (Tensor? Cos, Tensor? Sin) angles, long batch, long time, Tensor? lengths = null, int[]? heads = null,
        int[]? rows = null)
    {
        var x = X(batch, time, weights.Query.shape[1]);
        int[] kept = heads ?? [weights.Heads];
        int[] counts = rows ?? [.. kept.Select(_ => (int)batch / kept.Length)];
        AssertEqual(
            () => Kernels.Attend(x, weights, angles.Cos, angles.Sin, lengths, heads: heads, rows: rows),
            () => Definitions.Attend(x, weights, angles.Cos, angles.Sin, lengths, kept, counts), [x, .. All(weights)]);
    }
}

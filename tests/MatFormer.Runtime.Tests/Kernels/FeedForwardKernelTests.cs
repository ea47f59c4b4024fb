using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests the second half of a layer.</summary>
public sealed class FeedForwardKernelTests : KernelTestBase
{
    /// <summary>Half a layer rounds many times in the forward and the backward pass. Both levels are off by up to 0.055.</summary>
    protected override double RoundedTolerance => 7e-2;

    [Theory]
    [MemberData(nameof(Forms))]
    public void FeedForwardEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (batch, time, width, hidden) in new[] { (2, 5L, 7L, 5), (2, 17, 33, 96), (1, 1, 48, 40) })
        {
            foreach (var kind in Enum.GetValues<FeedForwardKind>())
            {
                foreach (var isBiased in new[] { false, true })
                {
                    var weights = FeedForward(width, hidden, kind, isBiased, isLayerNorm: isBiased);
                    int[][] all = [[hidden], [hidden / 3], [hidden, hidden, hidden / 2, 1], [hidden - 1, hidden / 3]];
                    foreach (var widths in all)
                        AssertEqual(weights, widths, [.. widths.Select(_ => batch)], time, null);
                }
            }
        }
    }

    /// <summary>There are more rows and hidden units than one block of the fused loops has.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void ALargeFeedForwardEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var kind in new[] { FeedForwardKind.SwiGlu, FeedForwardKind.Gelu })
            AssertEqual(FeedForward(64, 200, kind, isBiased: true), [200, 77], [5, 4], 130, [5, 4]);
    }

    /// <summary>
    /// The widths give slabs of one unit, of less than a panel and of several panels. One case has the same width twice, and one many rows.
    /// </summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void FeedForwardOfPartingStreamsEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (batch, time, width, hidden) in new[] { (2L, 5L, 7L, 5), (2, 17, 33, 96), (5, 130, 64, 120), (1, 1, 48, 41) })
        {
            foreach (int[] widths in new int[][] { [hidden - 1], [hidden, hidden], [hidden, hidden / 2, hidden / 4, 1] })
            {
                foreach (var kind in new[] { FeedForwardKind.SwiGlu, FeedForwardKind.Gelu })
                {
                    var (x, weights) = (X(batch, time, width), FeedForward(width, hidden, kind, kind == FeedForwardKind.Gelu || batch < 5));
                    AssertEqual(
                        () => Kernels.FeedForward(x, weights, widths, parting: true),
                        () => Definitions.FeedForward(x, weights, widths, null), [x, .. All(weights)]);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void StreamsMayDivideTheBatch(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (time, width, hidden) in new[] { (5L, 7L, 5), (17, 33, 96), (60, 64, 120) })
        {
            foreach (int[] rows in new int[][] { [3], [1, 2], [2, 1, 4] })
            {
                foreach (var kind in Enum.GetValues<FeedForwardKind>())
                {
                    int[] widths = [.. rows.Select((_, r) => hidden / (r + 1))];
                    AssertEqual(FeedForward(width, hidden, kind, isBiased: true), widths, rows, time, rows);
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void InputsMayHaveAnyStrides(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (turned, weights) = (X(16, 9, 4), FeedForward(16, 24, FeedForwardKind.SwiGlu));
        AssertEqual(
            () => Kernels.FeedForward(turned.permute(2, 1, 0), weights, [24, 9]),
            () => Definitions.FeedForward(turned.permute(2, 1, 0), weights, [24, 9], [2, 2]), [turned, .. All(weights)]);
    }

    /// <summary>A model that shares another's weights computes with views. Parameters of a flat optimizer may be views too.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void WeightsMayBeViews(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var whole = FeedForward(16, 40, FeedForwardKind.SwiGlu, isBiased: true);
        var weights = Slice(whole, 24, tensor => tensor.requires_grad_());
        AssertEqual(weights, [24, 9], [2, 2], 9, null);
    }

    /// <summary>Extraction relies on this: a slice of the weights gives the same bits as all weights at the width of the slice.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void ASliceOfTheWeightsGivesTheSameBits(string form, ScalarType dtype)
    {
        Use(form, dtype);
        using var unrecorded = no_grad();
        foreach (var (batch, time, width, hidden) in new[] { (2L, 5L, 7L, 9), (1, 60, 64, 130), (2, 1, 100, 300), (1, 1, 48, 41) })
        {
            foreach (var kind in Enum.GetValues<FeedForwardKind>())
            {
                var (x, whole) = (X(batch, time, width), FeedForward(width, hidden, kind, isBiased: true));
                foreach (var m in new[] { 1, hidden / 3, hidden - 1 })
                {
                    var slice = Slice(whole, m, tensor => tensor.contiguous().clone());
                    AssertSame(Kernels.FeedForward(x, slice, [m]), Kernels.FeedForward(x, whole, [m]), $"{kind}, width {m} of {hidden}");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(MainForms))]
    public void HiddenImportanceEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var kind in Enum.GetValues<FeedForwardKind>())
        {
            var (x, weights) = (X(2, 17, 33), FeedForward(33, 50, kind, isBiased: true));
            var importance = Kernels.HiddenImportance(x, weights);
            Assert.Equal(ScalarType.Float32, importance.dtype);
            AssertClose(importance, Definitions.HiddenImportance(x, weights), kind.ToString());
        }
    }

    private static FeedForwardWeights Slice(FeedForwardWeights whole, long m, Func<Tensor, Tensor> made)
    {
        Tensor? Rows(Tensor? weight) => weight is null ? null : made(weight.detach().narrow(0, 0, m));
        return whole with
        {
            Gate = Rows(whole.Gate),
            GateBias = Rows(whole.GateBias),
            Up = Rows(whole.Up)!,
            UpBias = Rows(whole.UpBias),
            Down = made(whole.Down.detach().narrow(1, 0, m)),
        };
    }

    private void AssertEqual(FeedForwardWeights weights, int[] widths, int[] counts, long time, int[]? rows)
    {
        var x = X(counts.Sum(), time, weights.Up.shape[1]);
        AssertEqual(
            () => Kernels.FeedForward(x, weights, widths, rows), () => Definitions.FeedForward(x, weights, widths, counts),
            [x, .. All(weights)]);
    }
}

using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests the native library and the small operations.</summary>
public sealed class KernelTests : KernelTestBase
{
    private static readonly (long Batch, long Time, long Width)[] s_sizes = [(2, 5, 7), (3, 17, 33), (2, 130, 64), (1, 1, 48)];

    [FusedFact]
    public void TheNativeLibraryIsAvailable() => Assert.Null(Kernels.Cpu.Problem);

    [FusedFact]
    public void AProfileListsTheOperationsThatRanMeanwhile()
    {
        UseCpu();
        var (x, weight) = (X(2, 5, 7), Norm(7).Weight);
        Kernels.Linear(x, Matrix(3, 7));
        CpuLibrary.StartProfile();
        Kernels.RmsNorm(x, weight, 1e-5).sum().backward();
        var seconds = CpuLibrary.StopProfile();
        Kernels.Linear(x, Matrix(3, 7));
        Assert.Equal(["norm.backward", "norm.forward"], seconds.Keys.Order(StringComparer.Ordinal));
        Assert.All(seconds.Values, time => Assert.True(time > 0));
        Assert.Equal(seconds, CpuLibrary.StopProfile());
    }

    [FusedFact]
    public void AnUnknownInstructionSetIsRefused()
    {
        UseCpu();
        var thrown = Assert.Throws<ArgumentException>("name", () => CpuLibrary.UseInstructionSet("sse9"));
        Assert.Contains("'sse9' is unknown", thrown.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void NormsEqualTheirDefinitions(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (batch, time, width) in s_sizes)
        {
            var (x, weight, bias) = (X(batch, time, width), Norm(width).Weight, Vector(0.5, width));
            AssertEqual(() => Kernels.RmsNorm(x, weight, 1e-5), () => Definitions.RmsNorm(x, weight, 1e-5), x, weight);
            AssertEqual(
                () => Kernels.LayerNorm(x, weight, bias, 1e-5), () => Definitions.LayerNorm(x, weight, bias, 1e-5), x, weight, bias);
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void NormOverHeadsTakesAnyRank(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var x in new[] { X(10), X(5, 10), X(2, 5, 3, 10) })
        {
            var weight = Norm(10).Weight;
            AssertEqual(() => Kernels.RmsNorm(x, weight, 1e-6), () => Definitions.RmsNorm(x, weight, 1e-6), x, weight);
        }
    }

    /// <summary>Statistics are float32 whatever the dtype of activations, so an epsilon far below what bfloat16 resolves matters.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void EpsilonMattersForSmallNumbers(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, weight, bias) = (Normal(1e-3, 3, 16).to(dtype).requires_grad_(), Norm(16).Weight, Vector(0.5, 16));
        AssertEqual(() => Kernels.RmsNorm(x, weight, 1e-5), () => Definitions.RmsNorm(x, weight, 1e-5), x, weight);
        AssertEqual(() => Kernels.LayerNorm(x, weight, bias, 1e-5), () => Definitions.LayerNorm(x, weight, bias, 1e-5), x, weight, bias);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void PositionsEqualTheirDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (batch, time, width) in s_sizes)
        {
            var (x, weight) = (X(batch, time, width), Vector(1, time + 5, width));
            foreach (var position in new[] { 0, 3, 5 })
            {
                AssertEqual(
                    () => Kernels.AddPositions(x, weight, position), () => Definitions.AddPositions(x, weight, position), x, weight);
            }
        }
    }

    [Theory]
    [MemberData(nameof(MainForms))]
    public void ForkEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var x = X(2, 5, 7);
        foreach (var n in new[] { 1, 3 }) AssertEqual(() => Kernels.Fork(x, n), () => Definitions.Fork(x, n), x);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void EmbeddingEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (batch, time, width) in s_sizes)
        {
            // Some tokens occur often, and some never.
            var (table, tokens) = (Vector(1, 11, width), Integers(9, batch, time));
            AssertEqual(() => Kernels.Embedding(table, tokens, dtype), () => Definitions.Embedding(table, tokens), table);
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void LinearEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (batch, time, width) in s_sizes)
        {
            var x = X(batch, time, width);
            foreach (var outs in new[] { 1L, 5, 32, 77 })
            {
                var (weight, bias) = (Matrix(outs, width), Vector(1, outs));
                AssertEqual(() => Kernels.Linear(x, weight), () => Definitions.Linear(x, weight), x, weight);
                AssertEqual(() => Kernels.Linear(x, weight, bias), () => Definitions.Linear(x, weight, bias), x, weight, bias);
            }
        }
    }

    /// <summary>There are so many rows that the gradients of the weights are computed in steps.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void LinearOfManyRowsEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, weight, bias) = (X(9, 130, 16), Matrix(33, 16), Vector(1, 33));
        AssertEqual(() => Kernels.Linear(x, weight, bias), () => Definitions.Linear(x, weight, bias), x, weight, bias);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void LinearTakesAnyRank(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var weight = Matrix(5, 7);
        foreach (var x in new[] { X(7), X(3, 7), X(2, 3, 4, 7) })
            AssertEqual(() => Kernels.Linear(x, weight), () => Definitions.Linear(x, weight), x, weight);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void LinearOfAPrefixEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (ins, outs) in new[] { (7L, 5L), (33, 96), (64, 77) })
        {
            var (whole, x) = (Matrix(outs, ins), X(2, 17, ins));
            foreach (var rows in new[] { 1, outs / 2, outs - 1 })
            {
                AssertEqual(
                    () => Kernels.Linear(x, whole.narrow(0, 0, rows)), () => Definitions.Linear(x, whole.narrow(0, 0, rows)), x, whole);
            }

            foreach (var columns in new[] { 1, ins / 2, ins - 1 })
            {
                var z = X(2, 17, columns);
                AssertEqual(
                    () => Kernels.Linear(z, whole.narrow(1, 0, columns)), () => Definitions.Linear(z, whole.narrow(1, 0, columns)), z,
                    whole);
            }
        }
    }

    /// <summary>Extraction copies a prefix of a projection. The copy gives the same bits as the prefix, gradients included.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void LinearOfAPrefixGivesTheSameBitsAsThatOfItsCopy(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (time, ins, outs) in new[] { (5L, 7L, 5L), (17, 33, 96), (130, 300, 77), (1, 48, 40) })
        {
            var whole = Matrix(outs, ins).detach();
            foreach (var rows in new[] { 1, outs / 2, outs }) Compare(whole.narrow(0, 0, rows));
            foreach (var columns in new[] { 1, ins / 2, ins }) Compare(whole.narrow(1, 0, columns));

            void Compare(Tensor slice)
            {
                var what = $"({string.Join(", ", slice.shape)}) of ({outs}, {ins})";
                var (view, copy) = (slice.requires_grad_(), slice.detach().clone().contiguous().requires_grad_());
                var x = X(2, time, slice.shape[1]);
                var slope = Normal(1, 2, time, slice.shape[0]);
                var (ofView, ofCopy) = (Kernels.Linear(x, view), Kernels.Linear(x, copy));
                AssertSame(ofView, ofCopy, what);
                Tensor?[] viewGradients = Gradients(ofView, slope, x, view), copyGradients = Gradients(ofCopy, slope, x, copy);
                AssertSame(viewGradients[0]!, copyGradients[0]!, what + ": gradient of x");
                AssertSame(viewGradients[1]!, copyGradients[1]!, what + ": gradient of the weight");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void InputsMayHaveAnyStrides(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (turned, sliced) = (X(16, 5, 2), X(2, 5, 20));
        foreach (var (leaf, view) in new (Tensor, Func<Tensor>)[]
            { (turned, () => turned.permute(2, 1, 0)), (sliced, () => sliced.narrow(2, 3, 16)) })
        {
            var (weight, bias, matrix, positions) = (Norm(16).Weight, Vector(1, 16), Matrix(9, 16), Vector(1, 7, 16));
            AssertEqual(() => Kernels.RmsNorm(view(), weight, 1e-5), () => Definitions.RmsNorm(view(), weight, 1e-5), leaf, weight);
            AssertEqual(
                () => Kernels.LayerNorm(view(), weight, bias, 1e-5), () => Definitions.LayerNorm(view(), weight, bias, 1e-5), leaf, weight,
                bias);
            AssertEqual(() => Kernels.Linear(view(), matrix), () => Definitions.Linear(view(), matrix), leaf, matrix);
            AssertEqual(
                () => Kernels.AddPositions(view(), positions, 1), () => Definitions.AddPositions(view(), positions, 1), leaf, positions);
        }

        var (table, tokens) = (Vector(1, 11, 6), Integers(11, 5, 4).t());
        AssertEqual(() => Kernels.Embedding(table, tokens, dtype), () => Definitions.Embedding(table, tokens), table);
    }

    /// <summary>The gradient of a sum is a single number in memory, expanded to the shape of the result.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void GradientsMayHaveAnyStrides(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, weight) = (X(3, 4, 16), Matrix(9, 16));
        Kernels.Linear(x, weight).sum().backward();
        AssertClose(weight.grad!, Wide(x.detach()).sum([0, 1]).expand(9, 16), "gradient of the weight");
        AssertClose(x.grad!, weight.detach().sum([0]).expand(3, 4, 16), "gradient of x");
        Clear(x, weight);
        Kernels.Linear(x, weight).transpose(0, 2).mul(2).sum().backward();
        AssertClose(weight.grad!, Wide(x.detach()).sum([0, 1]).mul(2).expand(9, 16), "gradient of the weight");
    }

    [Theory]
    [MemberData(nameof(MainForms))]
    public void EmptyInputsGiveEmptyResults(string form, ScalarType dtype)
    {
        Use(form, dtype);
        Tensor none = zeros(0, 4, dtype: dtype), weight = Norm(4).Weight;
        Assert.Equal([0L, 9], Kernels.Linear(none, Matrix(9, 4)).shape);
        Assert.Equal([0L, 4], Kernels.RmsNorm(none, weight, 1e-5).shape);
        Assert.Equal([0L, 4], Kernels.LayerNorm(none, weight, weight, 1e-5).shape);
        var embedded = Kernels.Embedding(Vector(1, 11, 6), zeros(2, 0, dtype: ScalarType.Int64), dtype);
        Assert.Equal([2L, 0, 6], embedded.shape);
        Assert.Equal(dtype, embedded.dtype);
    }
}

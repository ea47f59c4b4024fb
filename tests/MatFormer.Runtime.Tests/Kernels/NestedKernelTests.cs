using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>
/// An x that is narrower than nested weights gives the values and gradients that the weights' first channels give. The gradients beyond
/// these channels are zero.
/// </summary>
public sealed class NestedKernelTests : KernelTestBase
{
    private const int Width = 7;

    [Theory]
    [MemberData(nameof(MainForms))]
    public void ProjectionsAndNormsUseTheFirstNumbers(string form, ScalarType dtype)
    {
        Use(form, dtype);
        using var scope = NewDisposeScope();
        Tensor x = X(2, 3, Width), weight = Matrix(5, 12), scale = Vector(1, 12), shift = Vector(1, 12), rows = Matrix(9, 12);
        AssertEqual(() => Kernels.Linear(x, weight, nested: true), () => Kernels.Linear(x, First(weight)), x, weight);
        AssertEqual(() => Kernels.RmsNorm(x, scale, 1e-5, nested: true), () => Kernels.RmsNorm(x, First(scale), 1e-5), x, scale);
        AssertEqual(
            () => Kernels.LayerNorm(x, scale, shift, 1e-5, nested: true), () => Kernels.LayerNorm(x, First(scale), First(shift), 1e-5), x,
            scale, shift);
        AssertEqual(() => Kernels.AddPositions(x, rows, 2, nested: true), () => Kernels.AddPositions(x, First(rows), 2), x, rows);
        var tokens = Integers(9, 2, 3);
        AssertEqual(() => Kernels.Embedding(rows, tokens, Dtype, Width), () => Kernels.Embedding(First(rows), tokens, Dtype), rows);
    }

    /// <summary>The teacher has the whole stream.</summary>
    [Theory]
    [MemberData(nameof(MainForms))]
    public void LossesUseTheFirstColumnsOfTheHead(string form, ScalarType dtype)
    {
        Use(form, dtype);
        using var scope = NewDisposeScope();
        Tensor x = X(4, 3, Width), head = Matrix(11, 12), targets = Integers(11, 2, 3), teacher = X(2, 3, 12).detach();
        AssertEqual(
            () => Kernels.LinearCrossEntropy(x, head, targets, 2, nested: true),
            () => Kernels.LinearCrossEntropy(x, First(head), targets, 2), x, head);
        if (dtype != ScalarType.Float32) return; // the definition below rounds the logits
        AssertEqual(
            () => Kernels.LinearDivergence(x, teacher, head, 2, null, 0, 2, nested: true),
            () =>
            {
                var known = (Wide(Kernels.Linear(teacher, head.detach())) / 2).log_softmax(-1).repeat(2, 1, 1);
                var learnt = (Wide(Kernels.Linear(x, First(head))) / 2).log_softmax(-1);
                return (known.exp() * (known - learnt)).sum([-1]).view(2, -1).mean([1]) * 4;
            },
            x, head);
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void NestedOperandsThatDoNotFitAreNamed(string form)
    {
        Use(form);
        Tensor x = X(2, 3, 4), wide = Matrix(5, 6), tokens = Integers(4, 2, 3);
        Named("Linear: weight is (5, 3), but must be (5, 4)", () => Kernels.Linear(x, Matrix(5, 3), nested: true));
        Named("Embedding: width is 7, but weight has 6 columns", () => Kernels.Embedding(wide, tokens, ScalarType.Float32, 7));
        Named("LinearDivergence: teacher is (2, 3, 7)", () => Kernels.LinearDivergence(x, X(2, 3, 7), wide, 1, null, 0, 1, nested: true));
        Named(
            "FeedForward: down is (4, 8), but must be (6, 8)",
            () => Kernels.FeedForward(x, FeedForward(6, 8, FeedForwardKind.SwiGlu) with { Down = Matrix(4, 8), IsNested = true }, [8]));

        static void Named(string message, Func<Tensor> call) =>
            Assert.Contains(message, Assert.ThrowsAny<ArgumentException>(call).Message, StringComparison.Ordinal);
    }

    private static Tensor First(Tensor weight) => weight.narrow(weight.dim() - 1, 0, Width).contiguous();
}

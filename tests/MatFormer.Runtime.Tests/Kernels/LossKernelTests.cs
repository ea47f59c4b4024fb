using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests losses over a vocabulary.</summary>
public sealed class LossKernelTests : KernelTestBase
{
    [Theory]
    [MemberData(nameof(Forms))]
    public void CrossEntropyEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (batch, time, width) in new[] { (2, 5L, 7L), (3, 17, 33), (1, 130, 64), (1, 1, 48) })
        {
            foreach (var classes in new[] { 5L, 16, 100, 256 })
            {
                var (head, targets) = (Matrix(classes, width), Integers(classes, batch, time));
                foreach (var streams in new[] { 1, 3 })
                {
                    var x = X(streams * batch, time, width);
                    AssertEqual(
                        () => Kernels.LinearCrossEntropy(x, head, targets, streams),
                        () => Definitions.LinearCrossEntropy(x, head, targets, [.. Enumerable.Repeat(batch, streams)]), x, head);
                }
            }
        }
    }

    /// <summary>The vocabulary is so large that a stream's logits take several blocks.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void CrossEntropyOfManyClassesEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, head, targets) = (X(2, 40, 16), Matrix(20000, 16), Integers(20000, 1, 40));
        AssertEqual(
            () => Kernels.LinearCrossEntropy(x, head, targets, 2), () => Definitions.LinearCrossEntropy(x, head, targets, [1, 1]), x, head);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void CrossEntropyOfStreamsThatDivideTheBatchEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (int[] rows in new int[][] { [3], [1, 2], [2, 1, 4] })
        {
            var (x, head, targets) = (X(rows.Sum(), 17, 33), Matrix(100, 33), Integers(100, rows.Sum(), 17));
            AssertEqual(
                () => Kernels.LinearCrossEntropy(x, head, targets, rows.Length, rows),
                () => Definitions.LinearCrossEntropy(x, head, targets, rows), x, head);
        }
    }

    /// <summary>The logits are so far apart that their exponentials overflow.</summary>
    [Theory]
    [MemberData(nameof(Forms))]
    public void CrossEntropyOfLargeLogitsIsFinite(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, head, targets) = (X(1, 9, 16), Vector(40, 50, 16), Integers(50, 1, 9));
        AssertEqual(
            () => Kernels.LinearCrossEntropy(x, head, targets, 1), () => Definitions.LinearCrossEntropy(x, head, targets, [1]), x, head);
        Assert.True(float.IsFinite(Kernels.LinearCrossEntropy(x, head, targets, 1).item<float>()));
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void DivergenceEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (batch, time, width, classes) in new[] { (2, 5L, 7L, 5L), (3, 17, 33, 100), (1, 20, 16, 20000) })
        {
            var head = Matrix(classes, width);
            foreach (var (temperature, student) in new[] { (1.0, 0), (2.5, 1) })
            {
                var (x, teacher) = (X(3 * batch, time, width), X(batch, time, width).detach());
                AssertEqual(
                    () => Kernels.LinearDivergence(x, teacher, head, 3, null, student, temperature),
                    () => Definitions.LinearDivergence(x, teacher, head, [batch, batch, batch], student, temperature), x, head);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void DivergenceOfStreamsThatDivideTheBatchEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        int[] rows = [2, 1, 2];
        foreach (var student in new[] { 0, 1, 2 })
        {
            var (x, teacher, head) = (X(5, 17, 33), X(rows[student..].Sum(), 17, 33).detach(), Matrix(100, 33));
            AssertEqual(
                () => Kernels.LinearDivergence(x, teacher, head, 3, rows, student, 2.5),
                () => Definitions.LinearDivergence(x, teacher, head, rows, student, 2.5), x, head);
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void StreamsBeforeTheStudentHaveNoDivergence(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, head) = (X(6, 5, 7), Matrix(9, 7));
        var divergences = Kernels.LinearDivergence(x, x.narrow(0, 0, 2), head, 3, null, 1, 2.5);
        Assert.Equal(0, divergences[0].item<float>());
        divergences.sum().backward();
        Assert.All(Values(x.grad!.narrow(0, 0, 2)), gradient => Assert.Equal(0, gradient));
        Assert.Contains(Values(x.grad!.narrow(0, 2, 4)), gradient => gradient != 0);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void NoGradientFlowsIntoTheTeacher(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, teacher, head) = (X(2, 5, 7), X(2, 5, 7), Matrix(9, 7));
        Kernels.LinearDivergence(x, teacher, head, 1, null, 0, 2).sum().backward();
        Assert.Null(teacher.grad);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void AStudentThatIsItsOwnTeacherHasNoDivergence(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, head) = (X(2, 5, 7), Matrix(9, 7));
        var itself = Kernels.LinearDivergence(x, x, head, 1, null, 0, 2);
        Assert.InRange(itself.item<float>(), -1e-6, 1e-6);
        itself.sum().backward();
        Assert.InRange(Wide(x.grad!).abs().max().item<float>(), 0, 1e-6);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void InputsMayHaveAnyStrides(string form, ScalarType dtype)
    {
        Use(form, dtype);
        Tensor x = X(16, 9, 4), teacher = X(16, 9, 2).detach(), head = Matrix(20, 16), targets = Integers(20, 9, 2).t();
        AssertEqual(
            () => Kernels.LinearCrossEntropy(x.permute(2, 1, 0), head, targets, 2),
            () => Definitions.LinearCrossEntropy(x.permute(2, 1, 0), head, targets, [2, 2]), x, head);
        AssertEqual(
            () => Kernels.LinearDivergence(x.permute(2, 1, 0), teacher.permute(2, 1, 0), head, 2, null, 0, 2),
            () => Definitions.LinearDivergence(x.permute(2, 1, 0), teacher.permute(2, 1, 0), head, [2, 2], 0, 2), x, head);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void TheHeadMayBeAView(string form, ScalarType dtype)
    {
        Use(form, dtype);
        var (x, head, targets) = (X(2, 9, 16), Matrix(20, 30).detach().narrow(1, 7, 16).requires_grad_(), Integers(20, 2, 9));
        AssertEqual(
            () => Kernels.LinearCrossEntropy(x, head, targets, 1), () => Definitions.LinearCrossEntropy(x, head, targets, [2]), x, head);
        var teacher = X(2, 9, 16).detach();
        AssertEqual(
            () => Kernels.LinearDivergence(x, teacher, head, 1, null, 0, 2),
            () => Definitions.LinearDivergence(x, teacher, head, [2], 0, 2), x, head);
    }
}

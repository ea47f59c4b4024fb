using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests the operations of an optimizer on all weights at once.</summary>
public sealed class OptimizerKernelTests : KernelTestBase
{
    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void AdamWEqualsItsDefinition(string form)
    {
        Use(form);
        foreach (var (count, decay, step) in new[] { (40001L, 0.1, 1), (7, 0, 1), (33, 0.3, 1000) })
        {
            var parameters = Normal(1, count);
            Tensor[] ours = [parameters, zeros(count), zeros(count)];
            Tensor[] theirs = [.. ours.Select(x => x.clone())];
            for (var i = 0; i < 5; i++)
            {
                var gradients = Normal(5, count);
                Kernels.AdamW(ours[0], gradients, ours[1], ours[2], decay, 1e-2, 0.9, 0.95, 1e-8, step + i);
                Definitions.AdamW(theirs[0], gradients, theirs[1], theirs[2], decay, 1e-2, 0.9, 0.95, 1e-8, step + i);
                foreach (var (our, their, what) in ours.Zip(theirs, ["parameters", "first moments", "second moments"]))
                    AssertClose(our, their, $"{what} after {i + 1} steps from {step}");
            }
        }
    }

    /// <summary>Compares the operation with TorchSharp's own optimizer.</summary>
    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void AdamWEqualsThatOfTorchSharp(string form)
    {
        Use(form);
        var start = Normal(1, 100);
        Tensor ours = start.clone(), first = zeros(100), second = zeros(100);
        var theirs = new Parameter(start.clone());
        using var optimizer = optim.AdamW([theirs], 1e-2, 0.9, 0.95, 1e-6, 0.1);
        for (var step = 1; step <= 10; step++)
        {
            var gradients = Normal(2, 100);
            theirs.grad = gradients.clone();
            optimizer.step();
            Kernels.AdamW(ours, gradients, first, second, 0.1, 1e-2, 0.9, 0.95, 1e-6, step);
            AssertClose(ours, theirs.detach(), $"step {step}");
        }
    }

    /// <summary>Weights with and without decay are parts of one tensor.</summary>
    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void AdamWLeavesTheRestOfATensorAlone(string form)
    {
        Use(form);
        Tensor parameters = Normal(1, 50), gradients = Normal(1, 50), first = zeros(50), second = zeros(50), before = parameters.clone();
        Kernels.AdamW(Part(parameters), Part(gradients), Part(first), Part(second), 0, 1e-2, 0.9, 0.95, 1e-8, 1);
        foreach (var (from, count) in new[] { (0L, 16L), (37, 13) })
            Assert.Equal(Bits(before.narrow(0, from, count)), Bits(parameters.narrow(0, from, count)));
        Assert.All(Values(Part(parameters) - Part(before)), moved => Assert.InRange(Math.Abs(moved), 0.009, 0.011));

        static Tensor Part(Tensor x) => x.narrow(0, 16, 21);
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void ClippingEqualsItsDefinition(string form)
    {
        Use(form);
        foreach (var (count, max) in new[] { (40001L, 1.5), (7, 0.1), (7, 100) })
        {
            var ours = Normal(2, count);
            var theirs = ours.clone();
            var (norm, expected) = (Kernels.ClipGradientNorm(ours, max), Definitions.ClipGradientNorm(theirs, max));
            Assert.Equal(expected, norm, expected * 1e-5);
            AssertClose(ours, theirs, $"{count} gradients clipped to {max}");
        }
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void GradientsWhoseNormIsNotFiniteAreLeftAlone(string form)
    {
        Use(form);
        foreach (var strange in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            float[] values = [1, strange, 3];
            var gradients = tensor(values);
            Assert.False(double.IsFinite(Kernels.ClipGradientNorm(gradients, 1)));
            Assert.Equal(values, Values(gradients));
        }
    }

    [FusedFact]
    public void TheNormIsTheSameForAnyNumberOfThreads()
    {
        UseCpu();
        var (gradients, threads) = (Normal(1, 300_001), get_num_threads());
        try
        {
            double[] norms = [.. new[] { 1, 2, 3 }.Select(count =>
            {
                set_num_threads(count);
                return Kernels.ClipGradientNorm(gradients, 1e9);
            })];
            Assert.All(norms, norm => Assert.Equal(norms[0], norm));
        }
        finally
        {
            set_num_threads(threads);
        }
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void ArgumentsOutsideTheirRangeAreRefused(string form)
    {
        Use(form);
        var x = zeros(3);
        Assert.Throws<ArgumentOutOfRangeException>("step", () => Kernels.AdamW(x, x, x, x, 0, 1e-2, 0.9, 0.95, 1e-8, 0));
        Assert.Throws<ArgumentOutOfRangeException>("max", () => Kernels.ClipGradientNorm(x, 0));
    }
}

using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests the feed-forward whose tokens are routed to granularities.</summary>
public sealed class RoutingKernelTests : KernelTestBase
{
    /// <summary>A granularity may have all tokens, some, or none.</summary>
    [Theory]
    [MemberData(nameof(MainForms))]
    public void ARoutedFeedForwardEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (kind, tokens) in ((FeedForwardKind, int[])[])
            [(FeedForwardKind.Gelu, [4, 2, 1]), (FeedForwardKind.SwiGlu, [0, 3, 4]), (FeedForwardKind.GeGlu, [7, 0, 0])])
        {
            var x = X(3, 7, 8);
            var weights = FeedForward(8, 12, kind, isBiased: true, isLayerNorm: kind == FeedForwardKind.Gelu);
            var route = new Route(Matrix(3, 8), Vector(1, 1), new([2, 5, 12], [.. tokens]));
            AssertEqual(
                () => Kernels.FeedForward(x, weights, route), () => Definitions.FeedForward(x, weights, route),
                [x, .. All(weights), route.Weight, route.Scale]);
        }
    }

    /// <summary>Each granularity takes its tokens of the whole batch, or each token chooses.</summary>
    [Theory]
    [MemberData(nameof(MainForms))]
    public void ARoutedFeedForwardOfTextEqualsItsDefinition(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var isCausal in (bool[])[false, true])
        {
            var x = X(3, 7, 8);
            var weights = FeedForward(8, 12, FeedForwardKind.SwiGlu, isBiased: true);
            var route = new Route(Matrix(3, 8), Vector(1, 1), new([2, 5, 12], [10, 5, 6]))
            {
                Thresholds = tensor(new[,] { { 2f, 2f }, { 0.3f, 0.4f } }),
                Budget = 1,
                IsCausal = isCausal,
            };

            // The gradient of alpha sums differences of neighbouring numbers, of which rounding to bfloat16 leaves little.
            AssertEqual(
                () => Kernels.FeedForward(x, weights, route), () => Definitions.FeedForwardOfText(x, weights, route),
                [x, .. All(weights), route.Weight, .. dtype == ScalarType.Float32 ? [route.Scale] : Array.Empty<Tensor>()]);
        }
    }

    /// <summary>The first batch sets the thresholds, and later ones move them. They do not move without a gradient.</summary>
    [Fact]
    public void ThresholdsFollowTheLowestScoresThatWereTaken()
    {
        Use(Composite);
        var weights = FeedForward(8, 12, FeedForwardKind.Gelu);
        var thresholds = full(2, 2, float.PositiveInfinity, ScalarType.Float32);
        var route = new Route(Matrix(3, 8), Vector(1, 1), new([2, 5, 12], [4, 0, 3])) { Thresholds = thresholds, Budget = 1 };
        var x = X(1, 7, 8);
        using (no_grad()) Kernels.FeedForward(x, weights, route);
        Assert.All(thresholds.data<float>().ToArray(), value => Assert.Equal(float.PositiveInfinity, value));
        Kernels.FeedForward(x, weights, route);
        var first = Cut(x);
        Assert.All(thresholds.data<float>().ToArray()[..3], value => Assert.Equal(float.PositiveInfinity, value));
        Assert.Equal(first, thresholds[1, 1].item<float>(), 1e-6f);

        // The tokens that choose by the thresholds are then those that were chosen.
        using (no_grad())
            Assert.True(allclose(Kernels.FeedForward(x, weights, route), Kernels.FeedForward(x, weights, route with { IsCausal = true })));
        var other = X(1, 7, 8);
        Kernels.FeedForward(other, weights, route);
        Assert.Equal((0.95f * first) + (0.05f * Cut(other)), thresholds[1, 1].item<float>(), 1e-6f);

        // A granularity that takes all tokens has the threshold 0.
        Kernels.FeedForward(x, weights, route with { Budget = 0, Layer = new([2, 5, 12], [0, 0, 7]) });
        Assert.Equal(0, thresholds[0, 1].item<float>());

        float Cut(Tensor of) => of.view(7, 8).matmul(route.Weight.t()).softmax(-1).select(1, 2).topk(3).values[2].item<float>();
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void OperandsThatDoNotFitAreRefused(string form)
    {
        Use(form);
        var (x, weights) = (X(2, 7, 8), FeedForward(8, 12, FeedForwardKind.Gelu));
        Refused("router is (2, 8), but must be (3, 8)", new(Matrix(2, 8), Vector(1, 1), new([2, 5, 12], [4, 2, 1])));
        Refused("alpha is (3), but must be (1)", new(Matrix(3, 8), Vector(1, 3), new([2, 5, 12], [4, 2, 1])));
        Refused("the route is for 6 tokens (3, 2, 1), but x has 7", new(Matrix(3, 8), Vector(1, 1), new([2, 5, 12], [3, 2, 1])));
        Route text = new(Matrix(3, 8), Vector(1, 1), new([2, 5, 12], [7, 0, 0]));
        Refused("for 7 tokens (7, 0, 0), but x has 14", text with { Thresholds = Matrix(2, 2) });
        Refused("thresholds is (2, 3), but must be (2, 2)", text with { Thresholds = Matrix(2, 3), Layer = new([2, 5, 12], [14, 0, 0]) });

        void Refused(string says, Route route) => Assert.Contains(
            says, Assert.Throws<ArgumentException>(() => Kernels.FeedForward(x, weights, route)).Message, StringComparison.Ordinal);
    }
}

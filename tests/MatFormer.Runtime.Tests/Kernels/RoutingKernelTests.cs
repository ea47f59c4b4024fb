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

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void OperandsThatDoNotFitAreRefused(string form)
    {
        Use(form);
        var (x, weights) = (X(2, 7, 8), FeedForward(8, 12, FeedForwardKind.Gelu));
        Refused("router is (2, 8), but must be (3, 8)", new(Matrix(2, 8), Vector(1, 1), new([2, 5, 12], [4, 2, 1])));
        Refused("alpha is (3), but must be (1)", new(Matrix(3, 8), Vector(1, 3), new([2, 5, 12], [4, 2, 1])));
        Refused("the route is for 6 tokens (3, 2, 1), but x has 7", new(Matrix(3, 8), Vector(1, 1), new([2, 5, 12], [3, 2, 1])));

        void Refused(string says, Route route) => Assert.Contains(
            says, Assert.Throws<ArgumentException>(() => Kernels.FeedForward(x, weights, route)).Message, StringComparison.Ordinal);
    }
}

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
                Thresholds = tensor(new[,] { { 2f, 2f }, { 0.3f, 0.4f } }).logit(),
                Budget = 1,
                IsCausal = isCausal,
            };

            // The gradient of alpha sums differences of neighbouring numbers, of which rounding to bfloat16 leaves little.
            AssertEqual(
                () => Kernels.FeedForward(x, weights, route), () => Definitions.FeedForwardOfText(x, weights, route),
                [x, .. All(weights), route.Weight, .. dtype == ScalarType.Float32 ? [route.Scale] : Array.Empty<Tensor>()]);
        }
    }

    /// <summary>Thresholds are those of all tokens that passed, as if they had been one batch.</summary>
    [Fact]
    public void ThresholdsAreTheLowestLogOddsThatWouldBeTakenOfAllTokens()
    {
        Use(Composite);
        using var unrecorded = no_grad();
        var weights = FeedForward(8, 12, FeedForwardKind.Gelu);
        var thresholds = full(2, 2, float.PositiveInfinity, ScalarType.Float32);
        List<Tensor> seen = [];
        var route = new Route(Matrix(3, 8), Vector(1, 1), new([2, 5, 12], [4, 0, 3])) { Thresholds = thresholds, Scores = Seen };
        Tensor[] batches = [X(1, 7, 8), X(1, 7, 8), X(1, 7, 8)];
        foreach (var batch in batches) Kernels.FeedForward(batch, weights, route);
        Assert.All(thresholds.data<float>().ToArray(), value => Assert.Equal(float.PositiveInfinity, value));

        // The tokens that choose by the thresholds are then those that granularities choose.
        var all = cat(batches, 1);
        var sorted = route with { Layer = new([2, 5, 12], [10, 5, 6]), Budget = 1, Scores = null };
        // Log-odds of a batch and of a part of it are rounded differently, and the token at a threshold must stay above it.
        thresholds[1].copy_(Kernels.Thresholds(cat(seen, 1), sorted.Layer.Tokens) - 1e-5);
        var chosen = Kernels.FeedForward(all, weights, sorted);
        Assert.True(allclose(chosen, Kernels.FeedForward(all, weights, sorted with { IsCausal = true }), 1e-4, 1e-5));

        // A granularity takes no token, or all that are left.
        var given = tensor(new[, ,] { { { 1f, 2f, 5f }, { 1f, 3f, 4f } } });
        Assert.Equal([float.NegativeInfinity, float.PositiveInfinity], Kernels.Thresholds(given, [0, 2, 0]).data<float>().ToArray());
        Assert.Equal([3f, 5f], Kernels.Thresholds(tensor(new[, ,] { { { 1f, 2f, 5f }, { 1f, 3f, 4f }, { 1f, 0f, 0f } } }), [1, 1, 1])
            .data<float>().ToArray());

        void Seen(Tensor odds) => seen.Add(odds.clone().DetachFromDisposeScope());
    }

    /// <summary>Of scores that are all 1 in float32, the widest granularity takes those of the largest log-odds.</summary>
    [Fact]
    public void SaturatedScoresAreToldApart()
    {
        Use(Composite);
        using var unrecorded = no_grad();
        var weights = FeedForward(8, 12, FeedForwardKind.Gelu);
        var router = zeros(3, 8);
        router[2, 0] = 1;
        var route = new Route(router, zeros(1), new([2, 5, 12], [4, 0, 3]))
        {
            Thresholds = full(1, 2, float.PositiveInfinity, ScalarType.Float32),
        };
        var x = X(1, 7, 8).detach();
        x.select(2, 0).copy_(tensor(new[] { 40f, 70f, 50f, 90f, 60f, 30f, 80f }));
        var settling = route with { Scores = odds => route.Thresholds[0].copy_(Kernels.Thresholds(odds, route.Layer.Tokens)) };
        Kernels.FeedForward(x, weights, settling);
        Assert.Equal(70 - Math.Log(2), route.Thresholds[0, 1].item<float>(), 1e-4);
        var chosen = Kernels.FeedForward(x, weights, route with { IsCausal = true });
        foreach (var (token, hidden) in new[] { 2, 12, 2, 12, 2, 2, 12 }.Index())
        {
            var alone = Kernels.FeedForward(x.narrow(1, token, 1), weights, [hidden], [1]);
            Assert.True(allclose(alone, chosen.narrow(1, token, 1), 1e-4, 1e-4));
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
        Route text = new(Matrix(3, 8), Vector(1, 1), new([2, 5, 12], [7, 0, 0]));
        Refused("for 7 tokens (7, 0, 0), but x has 14", text with { Thresholds = Matrix(2, 2) });
        Refused("thresholds is (2, 3), but must be (2, 2)", text with { Thresholds = Matrix(2, 3), Layer = new([2, 5, 12], [14, 0, 0]) });

        void Refused(string says, Route route) => Assert.Contains(
            says, Assert.Throws<ArgumentException>(() => Kernels.FeedForward(x, weights, route)).Message, StringComparison.Ordinal);
    }
}

using Elasticity;
using Paper;

namespace MatFormer.Functional.Tests;

/// <summary>Tests what examples/Elasticity computes from its measurements.</summary>
public sealed class ElasticityTests
{
    private static readonly (double Cost, double Loss)[] s_submodels = [(2, 5), (4, 3), (8, 4), (6, 1)];

    [Theory]
    [InlineData(2, 5.0)]
    [InlineData(3, 4.0)]
    [InlineData(5, 2.0)]
    [InlineData(7, 1.0)] // the submodel of cost 6 is better than the lines to that of cost 8
    [InlineData(100, 1.0)]
    [InlineData(1, null)]
    public void TheBestAtACostIsASubmodelOrOnAStraightLine(double cost, double? loss) =>
        Assert.Equal(loss, Frontier.Best(s_submodels, cost));

    [Fact]
    public void RunsTakeTurnsAndTheFirstRoundOnlyWarmsUp()
    {
        var order = new List<int>();
        var times = Turns.Of([() => Run(0), () => Run(1)], reference: 1, rounds: 3, CancellationToken.None);
        Assert.Equal([0, 1, 0, 1, 0, 1, 0, 1], order);
        Assert.Equal(2, times.Length);
        Assert.Equal(1, times[1].Share);

        void Run(int which)
        {
            order.Add(which);
            Thread.SpinWait(100); // a time of zero would have no share
        }
    }

    [Fact]
    public void AVerdictGroupsDifferencesByTheirIntervals()
    {
        Assert.Equal("better", EstimateFormat.Verdict([("S", new(-2, 1)), ("M", new(-3, 1))]));
        Assert.Equal(
            "better (S), neither better nor worse (M) and worse (L)",
            EstimateFormat.Verdict([("S", new(-2, 1)), ("M", new(-1, 2)), ("L", new(2, 1))]));
        Assert.Contains("one seed", EstimateFormat.Verdict([("S", Estimate.Of([1]))]), StringComparison.Ordinal);
    }
}

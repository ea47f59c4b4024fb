namespace MatFormer.Functional.Tests;

/// <summary>Tests the shapes of mixes, and sweeps over mixes.</summary>
[Trait("Kernels", "any")]
public sealed class MixesTests
{
    [Theory]
    [InlineData("3*S", MixShape.Uniform)]
    [InlineData("S S M", MixShape.Increasing)]
    [InlineData("S M XL", MixShape.Increasing)]
    [InlineData("XL M S", MixShape.Decreasing)]
    [InlineData("M 2*S", MixShape.Decreasing)]
    [InlineData("S XL S", MixShape.Other)]
    [InlineData("M S M", MixShape.Other)]
    public void TheShapeOfAMixFollowsFromTheOrderOfItsLayers(string pattern, MixShape shape) =>
        Assert.Equal(shape, Mixes.ShapeOf(new Profile<OracleGemma>(pattern, pattern)));

    [Fact]
    public void ASkippedLayerCountsAsTheNarrowest()
    {
        Assert.Equal(MixShape.Increasing, Mixes.ShapeOf(new Profile<OracleUneven>("late", "Skip M M XL")));
        Assert.Equal(MixShape.Other, Mixes.ShapeOf(OracleUneven.Profile.Shallow));

        // In layer 0, S and M have the same width.
        Assert.Equal(MixShape.Uniform, Mixes.ShapeOf(new Profile<OracleUneven>("alike", "M S S S")));
        Assert.Equal(MixShape.Decreasing, Mixes.ShapeOf(new Profile<OracleUneven>("down", "S M M S")));
    }

    [Fact]
    public void ASweepCoversTheComputeWithEveryShape()
    {
        var mixes = Mixes.Sweep<OracleGemma>(4);
        Assert.Equal(mixes.Length, mixes.Select(m => m.Pattern).Distinct().Count());
        Assert.Equal([MixShape.Increasing, MixShape.Decreasing, MixShape.Other], mixes.Select(Mixes.ShapeOf).Distinct().OrderBy(s => s));
        var (least, most) = (OracleGemma.Granularities[0].Flops, OracleGemma.Granularities[^1].Flops);
        Assert.All(mixes, m => Assert.InRange(m.Flops, least + 1, most - 1));

        // The sweep has the reverse of each increasing mix, at the same cost.
        foreach (var mix in mixes
            .Where(m => Mixes.ShapeOf(m) == MixShape.Increasing && !m.Pattern.Contains("M 1*", StringComparison.Ordinal)))
        {
            var reverse = mix.Layers.Reverse().ToArray();
            Assert.Contains(mixes, m => m.Layers.AsSpan().SequenceEqual(reverse) && m.Flops == mix.Flops);
        }

        Assert.Equal(mixes.Select(m => m.Pattern), Mixes.Sweep<OracleGemma>(4).Select(m => m.Pattern));
        Assert.Throws<ArgumentOutOfRangeException>(() => Mixes.Sweep<OracleGemma>(0));
    }

    [Fact]
    public void TheMixNearestToThePointComesFirst() =>
        Assert.Equal(["1*M 1*XL", "1*XL 1*M"], Mixes.Sweep<OracleOdd>(1).Take(2).Select(m => m.Pattern));
}

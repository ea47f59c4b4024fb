using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Tests the cross-attention between compressed tokens and lookup tokens.</summary>
public sealed class LookupKernelTests : KernelTestBase
{
    private const int LookupTokens = 9;

    /// <summary>The heavy layer between the two halves may part streams. Here it scales the compressed tokens.</summary>
    [Theory]
    [MemberData(nameof(MainForms))]
    public void GatheringAndSpreadingEqualTheirDefinitions(string form, ScalarType dtype)
    {
        Use(form, dtype);
        foreach (var (streams, isBiased) in ((int, bool)[])[(1, true), (2, false)])
        {
            var x = X(3, 4 + LookupTokens, 8);
            var (gather, spread) = (Gather(isBiased), Spread(isBiased));
            Tensor[] leaves = [x, .. Leaves(gather), spread.Norm.Weight, spread.Value, .. All(spread.Light)];
            if (spread.ValueBias is { } bias) leaves = [.. leaves, bias];
            AssertEqual(
                () =>
                {
                    var gathered = Kernels.Gather(x, gather);
                    return Kernels.Spread(gathered, Heavy(gathered.Compressed, streams), spread);
                },
                () =>
                {
                    var gathered = Definitions.Gather(x, gather);
                    return Definitions.Spread(gathered, Heavy(gathered.Compressed, streams), spread);
                },
                leaves);
        }

        static Tensor Heavy(Tensor compressed, int streams) => cat([.. Enumerable.Range(1, streams).Select(r => compressed * r)], 0);
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void WithoutWeightsTheLookupTokensStay(string form)
    {
        Use(form);
        using var unrecorded = no_grad();
        var x = X(2, 4 + LookupTokens, 8);
        using var gathered = Kernels.Gather(x, Gather(true));
        var all = Kernels.Spread(gathered, gathered.Compressed.repeat(2, 1, 1), null);
        AssertSame(all, cat([gathered.Compressed, x.narrow(1, 4, LookupTokens)], 1).repeat(2, 1, 1), "lookup tokens");
        AssertSame(Kernels.CompressedTokens(all, LookupTokens), gathered.Compressed.repeat(2, 1, 1), "compressed tokens");
    }

    /// <summary>Where a grid does not divide the patches, its cells overlap.</summary>
    [Fact]
    public void CompressedTokensAreMeansOfPatches()
    {
        using var unrecorded = no_grad();
        var pixels = Normal(1, 2, 3, 12, 12);
        var (projection, bias, positions) = (Matrix(8, 3, 3, 3), Vector(1, 8), Vector(1, 16, 8));
        var patches = Kernels.EmbedPatches(pixels, projection, bias, null, positions, ScalarType.Float32); // (2, 16, 8)
        var all = Kernels.EmbedLookup(pixels, projection, bias, positions, ScalarType.Float32, 3); // (2, 9 + 16, 8)
        Assert.Equal([2, 25, 8], all.shape);
        AssertSame(all.narrow(1, 9, 16), patches, "lookup tokens");
        var image = patches.view(2, 4, 4, 8);

        // Of four rows, the three cells have 0 and 1, 1 and 2, 2 and 3.
        for (var row = 0; row < 3; row++)
        {
            for (var column = 0; column < 3; column++)
            {
                var mean = image.narrow(1, row, 2).narrow(2, column, 2).mean([1, 2]);
                AssertClose(all.select(1, (3 * row) + column), mean, $"cell {row}, {column}");
            }
        }

        var refused = Assert.Throws<ArgumentException>(
            () => Kernels.EmbedLookup(pixels, projection, bias, positions, ScalarType.Float32, 5));
        Assert.Contains("the grid is 5, but must be from 1 to 4", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(MainFormNames))]
    public void OperandsThatDoNotFitAreRefused(string form)
    {
        Use(form);
        Refused("x has 9 tokens, but must have more than the 9 lookup tokens", () => Kernels.Gather(X(2, 9, 8), Gather(false)));
        Refused("heads of 3 do not divide the width of 8", () => Kernels.Gather(X(2, 13, 8), Gather(false) with { HeadWidth = 3 }));
        Refused("output is (7, 8), but must be (8, 8)", () => Kernels.Gather(X(2, 13, 8), Gather(false) with { Output = Matrix(7, 8) }));
        using var gathered = Kernels.Gather(X(2, 13, 8), Gather(false));
        Refused("compressed has 3 rows, but must have a multiple of the 2", () => Kernels.Spread(gathered, X(3, 4, 8), Spread(false)));

        static void Refused(string says, Action call) =>
            Assert.Contains(says, Assert.Throws<ArgumentException>(call).Message, StringComparison.Ordinal);
    }

    private GatherWeights Gather(bool isBiased) => new()
    {
        Norm = Norm(8),
        LookupNorm = Norm(8),
        Query = Matrix(8, 8),
        Key = Matrix(8, 8),
        Value = Matrix(8, 8),
        Output = Matrix(8, 8),
        QueryBias = isBiased ? Vector(0.1, 8) : null,
        KeyBias = isBiased ? Vector(0.1, 8) : null,
        ValueBias = isBiased ? Vector(0.1, 8) : null,
        OutputBias = isBiased ? Vector(0.1, 8) : null,
        HeadWidth = 4,
        LookupTokens = LookupTokens,
    };

    private SpreadWeights Spread(bool isBiased) => new()
    {
        Norm = Norm(8),
        Value = Matrix(8, 8),
        ValueBias = isBiased ? Vector(0.1, 8) : null,
        Light = FeedForward(8, 5, FeedForwardKind.Gelu, isBiased),
    };

    private static IEnumerable<Tensor> Leaves(GatherWeights w) => new[]
    {
        w.Norm.Weight, w.LookupNorm.Weight, w.Query, w.Key, w.Value, w.Output, w.QueryBias, w.KeyBias, w.ValueBias, w.OutputBias,
    }.OfType<Tensor>();
}

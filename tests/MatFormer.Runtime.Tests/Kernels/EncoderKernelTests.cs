using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>Compares the operations around the blocks of encoders with loops over plain numbers.</summary>
public sealed class EncoderKernelTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Random _random = new(11);

    public void Dispose() => _scope.Dispose();

    [Theory]
    [InlineData(12, 4, 3, 8, true)]
    [InlineData(6, 3, 1, 4, false)]
    [InlineData(5, 5, 2, 4, true)]
    public void PatchEmbeddingsEqualAConvolution(int size, int patch, int channels, int width, bool classToken)
    {
        var grid = size / patch;
        var tokens = (grid * grid) + (classToken ? 1 : 0);
        var (pixels, projection) = (Numbers(2, channels, size, size), Numbers(width, channels, patch, patch));
        var (bias, first, positions) = (Numbers(width), classToken ? Numbers(1, 1, width) : null, Numbers(1, tokens, width));
        var embedded = Kernels.EmbedPatches(pixels, projection, bias, first, positions, ScalarType.Float32);
        Assert.Equal([2L, tokens, width], embedded.shape);

        float[] p = Values(pixels), w = Values(projection), b = Values(bias), at = Values(positions), got = Values(embedded);
        for (var image = 0; image < 2; image++)
        {
            for (var token = 0; token < tokens; token++)
            {
                for (var unit = 0; unit < width; unit++)
                {
                    double sum = at[(token * width) + unit];
                    var place = token - (classToken ? 1 : 0);
                    sum += place < 0 ? Values(first!)[unit] : b[unit];
                    for (var i = 0; place >= 0 && i < channels * patch * patch; i++)
                    {
                        var (channel, row, column) = (i / (patch * patch), i / patch % patch, i % patch);
                        var (y, x) = ((place / grid * patch) + row, (place % grid * patch) + column);
                        sum += p[(((((image * channels) + channel) * size) + y) * size) + x] * w[(unit * channels * patch * patch) + i];
                    }

                    Assert.Equal(sum, got[(((image * tokens) + token) * width) + unit], 1e-4);
                }
            }
        }
    }

    [Fact]
    public void TextEmbeddingsBeginWithTheClassToken()
    {
        var tokens = tensor([3L, 1, -1, 0, -1, -1], [2, 3]);
        var (weight, first, positions) = (Numbers(5, 4), Numbers(1, 1, 4), Numbers(9, 4));
        var plain = Kernels.EmbedText(tokens, weight, null, null, ScalarType.Float32);
        var embedded = Kernels.EmbedText(tokens, weight, first, positions, ScalarType.Float32);
        Assert.Equal([2L, 4, 4], embedded.shape);
        foreach (var (text, place, token) in new[] { (0, 0, 3), (0, 1, 1), (1, 0, 0) })
        {
            AssertClose(weight[token], plain[text, place]);
            AssertClose(weight[token] + positions[place + 1], embedded[text, place + 1]);
        }

        AssertClose(first[0, 0] + positions[0], embedded[1, 0]);
    }

    [Fact]
    public void LengthsCountTheTokensAndTheClassToken()
    {
        var tokens = tensor([3L, 1, -1, 0, -1, -1], [2, 3]);
        Assert.Equal([2L, 1], Kernels.Lengths(tokens, 0).data<long>().ToArray());
        Assert.Equal([3L, 2], Kernels.Lengths(tokens, 1).data<long>().ToArray());

        // An empty text has length 1.
        Assert.Equal([1L], Kernels.Lengths(tensor([-1L, -1], [1, 2]), 0).data<long>().ToArray());
    }

    [Fact]
    public void MeansLeaveOutThePadding()
    {
        // There are two streams of three texts.
        var (x, lengths) = (Numbers(6, 5, 4), tensor([5L, 1, 3]));
        var mean = Kernels.MeanToken(x, lengths);
        for (var row = 0; row < 6; row++)
            AssertClose(x[row].narrow(0, 0, new[] { 5, 1, 3 }[row % 3]).mean([0]), mean[row]);
        AssertClose(x.mean([1]), Kernels.MeanToken(x));
        AssertClose(x.select(1, 0), Kernels.FirstToken(x));

        var rounded = Kernels.MeanToken(x.to(ScalarType.BFloat16), lengths);
        Assert.Equal(ScalarType.BFloat16, rounded.dtype);
    }

    [Fact]
    public void UnitPrefixesHaveLengthOne()
    {
        var x = tensor([3f, 4, 100, 0, 0, 7], [2, 3]);
        AssertClose(tensor([0.6f, 0.8f, 0, 0], [2, 2]), Kernels.UnitPrefix(x, 2));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ClassCrossEntropyEqualsItsDefinition(bool soft)
    {
        // There are two streams, of four and of two rows.
        var (x, head, bias) = (Numbers(6, 4), Numbers(3, 4), Numbers(3));
        long[] classes = [2, 0, 1, 1, 0, 2];
        var shares = soft ? Numbers(6, 3).softmax(-1) : null;
        var losses = Kernels.ClassCrossEntropy(x, head, bias, shares ?? tensor(classes), 2, [4, 2], [1, 4], [0.25, 0.75]);

        double[] expected = [0, 0];
        for (var row = 0; row < 6; row++)
        {
            foreach (var (prefix, share) in new[] { (1, 0.25), (4, 0.75) })
            {
                var known = LogSoftmax(Logits(Values(x[row]), head, bias, prefix));
                var loss = shares is null ? -known[classes[row]] : -known.Select((log, i) => log * Values(shares[row])[i]).Sum();
                expected[row < 4 ? 0 : 1] += share * loss / (row < 4 ? 4 : 2);
            }
        }

        AssertClose(tensor([.. expected.Select(loss => (float)loss)]), losses);

        // Streams of one batch share its targets.
        var same = Kernels.ClassCrossEntropy(x, head, bias, shares?.narrow(0, 0, 3) ?? tensor(classes[..3]), 2, null, [1, 4], [0.25, 0.75]);
        var second = Kernels.ClassCrossEntropy(
            x.narrow(0, 3, 3), head, bias, shares?.narrow(0, 0, 3) ?? tensor(classes[..3]), 1, null, [1, 4], [0.25, 0.75]);
        AssertClose(second[0], same[1]);
    }

    [Fact]
    public void ClassDivergenceEqualsItsDefinition()
    {
        var (x, head, bias) = (Numbers(6, 4).requires_grad_(), Numbers(3, 4), Numbers(3));
        var teacher = x.narrow(0, 0, 3);
        var distances = Kernels.ClassDivergence(x, teacher, head, bias, 2, null, 1, 2.0, [2, 4], [0.5, 0.5]);
        var expected = 0.0;
        for (var row = 0; row < 3; row++)
        {
            foreach (var prefix in new[] { 2, 4 })
            {
                var known = LogSoftmax([.. Logits(Values(x[row]), head, bias, prefix).Select(logit => logit / 2)]);
                var learnt = LogSoftmax([.. Logits(Values(x[row + 3]), head, bias, prefix).Select(logit => logit / 2)]);
                expected += 0.5 * 4 / 3 * known.Select((log, i) => Math.Exp(log) * (log - learnt[i])).Sum();
            }
        }

        AssertClose(tensor([0f, (float)expected]), distances);
        distances.sum().backward();
        Assert.All(Values(x.grad!.narrow(0, 0, 3)), gradient => Assert.Equal(0, gradient));
        Assert.Contains(Values(x.grad!.narrow(0, 3, 3)), gradient => gradient != 0);
    }

    // The first and the last pair have the same number, so they are not negatives of each other.
    private static readonly long[] s_pairs = [4, 4, 9, 9, 4, 4];

    [Fact]
    public void PairCrossEntropyEqualsItsDefinition()
    {
        var x = Numbers(6, 4);
        var expected = 0.0;
        foreach (var (prefix, share) in new[] { (2, 0.3), (4, 0.7) })
        {
            for (var way = 0; way < 2; way++)
            {
                for (var pair = 0; pair < 3; pair++)
                    expected -= share / 6 * LogSoftmax(Scores(x, x, way, pair, prefix, 0.1))[pair];
            }
        }

        var losses = Kernels.PairCrossEntropy(x, tensor(s_pairs), 1, null, 0.1, [2, 4], [0.3, 0.7]);
        AssertClose(tensor([(float)expected]), losses);

        // Streams with rows of their own take negatives from these rows only.
        var apart = Kernels.PairCrossEntropy(cat([x, x.narrow(0, 2, 2)]), tensor([.. s_pairs, 1, 1]), 2, [6, 2], 0.1, [2, 4], [0.3, 0.7]);
        AssertClose(tensor([(float)expected, 0]), apart);
    }

    [Fact]
    public void PairDivergenceEqualsItsDefinition()
    {
        var x = Numbers(12, 4).requires_grad_();
        var distances = Kernels.PairDivergence(x, x.narrow(0, 0, 6), tensor(s_pairs), 2, null, 1, 0.1, 2.0, [2, 4], [0.3, 0.7]);
        var (teacher, student) = (x.narrow(0, 0, 6).detach(), x.narrow(0, 6, 6).detach());
        var expected = 0.0;
        foreach (var (prefix, share) in new[] { (2, 0.3), (4, 0.7) })
        {
            for (var way = 0; way < 2; way++)
            {
                for (var pair = 0; pair < 3; pair++)
                {
                    var known = LogSoftmax(Scores(teacher, teacher, way, pair, prefix, 0.2));
                    var learnt = LogSoftmax(Scores(student, teacher, way, pair, prefix, 0.2));
                    expected += share / 6 * 4 * known.Select(
                        (log, i) => double.IsInfinity(log) ? 0 : Math.Exp(log) * (log - learnt[i])).Sum();
                }
            }
        }

        AssertClose(tensor([0f, (float)expected]), distances);
        distances.sum().backward();
        Assert.All(Values(x.grad!.narrow(0, 0, 6)), gradient => Assert.Equal(0, gradient));
        Assert.All(Values(x.grad!), gradient => Assert.True(float.IsFinite(gradient)));
    }

    [Fact]
    public void SinusoidalPositionsAreWavesOfRowAndColumn()
    {
        using var table = new SinusoidalTable(3, 8, classToken: true, CPU);
        Assert.Equal([10L, 8], table.Table.shape);
        Assert.All(Values(table.Table[0]), value => Assert.Equal(0, value));

        // This patch is in the third row and the second column. The frequencies are 1 and 1/100.
        double[] expected =
        [
            Math.Sin(2), Math.Sin(0.02), Math.Cos(2), Math.Cos(0.02), Math.Sin(1), Math.Sin(0.01), Math.Cos(1), Math.Cos(0.01),
        ];
        AssertClose(tensor([.. expected.Select(value => (float)value)]), table.Table[1 + (2 * 3) + 1]);
        Assert.Contains("multiple of 4",
            Assert.Throws<ArgumentException>("width", () => new SinusoidalTable(3, 6, true, CPU)).Message, StringComparison.Ordinal);
    }

    // Returns the cosines, divided by the temperature, of a query and all documents, or the other way of a document and all queries.
    private static double[] Scores(Tensor mine, Tensor others, int way, int pair, int prefix, double temperature)
    {
        var own = Unit(Values(mine[(2 * pair) + way])[..prefix]);
        return [.. Enumerable.Range(0, 3).Select(other => other != pair && s_pairs[2 * other] == s_pairs[2 * pair]
            ? double.NegativeInfinity
            : own.Zip(Unit(Values(others[(2 * other) + 1 - way])[..prefix]), (a, b) => a * b).Sum() / temperature)];
    }

    private static double[] Unit(float[] x)
    {
        var length = Math.Sqrt(x.Sum(value => (double)value * value));
        return [.. x.Select(value => value / length)];
    }

    private static double[] Logits(float[] x, Tensor head, Tensor bias, int prefix) =>
        [.. Enumerable.Range(0, (int)head.shape[0])
            .Select(i => Values(bias)[i] + x[..prefix].Zip(Values(head[i]), (a, b) => (double)a * b).Sum())];

    private static double[] LogSoftmax(double[] x)
    {
        var sum = Math.Log(x.Sum(Math.Exp));
        return [.. x.Select(value => value - sum)];
    }

    private Tensor Numbers(params long[] shape)
    {
        var count = shape.Aggregate(1L, (product, size) => product * size);
        return tensor([.. Enumerable.Range(0, (int)count).Select(_ => (float)(_random.NextDouble() - 0.5))], shape);
    }

    private static float[] Values(Tensor x) => x.detach().contiguous().data<float>().ToArray();

    private static void AssertClose(Tensor expected, Tensor actual)
    {
        Assert.Equal(expected.shape, actual.shape);
        Assert.All(Values(expected).Zip(Values(actual)), pair => Assert.Equal(pair.First, pair.Second, 1e-4f));
    }
}

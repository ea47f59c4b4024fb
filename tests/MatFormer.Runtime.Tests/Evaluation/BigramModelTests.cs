namespace MatFormer.Runtime.Tests.Evaluation;

public sealed class BigramModelTests
{
    [Fact]
    public void ProbabilitiesEqualThoseWorkedOutByHand()
    {
        var model = new BigramModel();
        model.Add("aab"u8);
        model.Add("a"u8);

        // n(a) = 3, n(b) = 1, N = 4; pairs aa, ab, ba; a is followed twice, b once.
        var (pa, pb, pc) = (4.0 / 260, 2.0 / 260, 1.0 / 260);
        Assert.Equal((1 + pa) / 3, model.Probability((byte)'a', (byte)'a'), 12);
        Assert.Equal((1 + pb) / 3, model.Probability((byte)'a', (byte)'b'), 12);
        Assert.Equal((1 + pa) / 2, model.Probability((byte)'b', (byte)'a'), 12);
        Assert.Equal(pc / 2, model.Probability((byte)'b', (byte)'c'), 12);
        Assert.Equal(pb, model.Probability((byte)'c', (byte)'b'), 12);
        var bits = -(Math.Log2((1 + pb) / 3) + Math.Log2((1 + pa) / 2)) / 2;
        Assert.Equal(bits, model.BitsPerByte(["aba"u8.ToArray()]), 12);
    }

    [Fact]
    public void ProbabilitiesAddUpToOne()
    {
        var model = new BigramModel();
        model.Add("some words of text, to be counted"u8);
        foreach (var previous in "stq"u8.ToArray())
            Assert.Equal(1, Enumerable.Range(0, 256).Sum(b => model.Probability(previous, (byte)b)), 12);
    }

    [Fact]
    public void TheWholeSplitIsCounted()
    {
        using var folder = new TemporaryFolder();
        using var corpus = TextCorpus.Open(folder.WriteTexts(), folder["out"]);
        var bytes = new byte[corpus.Training.Bytes];
        corpus.Training.Text.Read(0, bytes);
        var expected = new BigramModel();
        expected.Add(bytes);
        var trained = BigramModel.Train(corpus.Training);
        Assert.Equal(expected.BitsPerByte([bytes]), trained.BitsPerByte([bytes]));
        Assert.InRange(trained.BitsPerByte(Windows.Fixed(corpus.Validation, 64, 20).Select(w => Windows.Text(corpus, w))), 1, 3);
    }
}

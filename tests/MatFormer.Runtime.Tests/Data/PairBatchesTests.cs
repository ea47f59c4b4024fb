namespace MatFormer.Runtime.Tests.Data;

public sealed class PairBatchesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void RowsAreQueriesAndDocumentsWithPadding()
    {
        var batch = Filled(40, ("ab", "abcdefghi"), ("x", "yz"));
        Assert.Equal(16, batch.Time); // nine tokens, rounded up
        Assert.Equal([97, 98, -1], batch.Tokens[..3].ToArray());
        Assert.Equal("abcdefghi".Select(c => (long)c).Append(-1), batch.Tokens[16..26].ToArray());
        Assert.Equal([120, -1], batch.Tokens[32..34].ToArray());
        Assert.All(batch.Tokens[50..].ToArray(), token => Assert.Equal(-1, token));
        Assert.Equal([0, 0, 1, 1], batch.Targets);
        Assert.Equal(2, batch.Examples);
    }

    [Fact]
    public void TextsAreCutToTheContext()
    {
        var cut = Filled(4, ("ab", "abcdefghi"), ("x", "yz"));
        Assert.Equal(4, cut.Time);
        Assert.Equal([97, 98, 99, 100], cut.Tokens[4..8].ToArray());
    }

    [Fact]
    public void ABatchThatIsFilledAgainKeepsNothing()
    {
        var batch = Filled(4, ("ab", "abcdefghi"), ("x", "yz"));
        batch.Fill([new("a", "b"), new("c", "d")], Tokenizer.ByteLevel);
        Assert.Equal([97, -1, -1, -1, 98, -1, -1, -1, 99, -1, -1, -1, 100, -1, -1, -1], batch.Tokens.ToArray());
    }

    [Theory]
    [InlineData("a1 b2 c3", "0 1 2")]
    [InlineData("a1 b2 a1", "0 1 0")] // a pair that comes twice
    [InlineData("a1 b1 c3", "0 0 2")] // one document for two queries
    [InlineData("a1 b2 b3", "0 1 1")] // one query for two documents
    [InlineData("a1 b2 c3 a2 b4", "1 1 2 1 1")] // pairs that join others
    [InlineData("a1 1a b2", "0 1 2")] // a query and a document may be equal
    public void PairsThatShareATextHaveTheSameTarget(string pairs, string numbers)
    {
        var batch = Filled(8, [.. pairs.Split(' ').Select(pair => (pair[..1], pair[1..]))]);
        Assert.Equal(numbers.Split(' ').SelectMany(number => new[] { long.Parse(number), long.Parse(number) }), batch.Targets);
    }

    [Fact]
    public void TextsThatAreEqualWithinTheContextHaveTheSameTarget()
    {
        Assert.Equal([0, 0, 0, 0], Filled(4, ("a", "same beginning"), ("b", "same end")).Targets);
        Assert.Equal([0, 0, 1, 1], Filled(8, ("a", "same beginning"), ("b", "same end")).Targets);
    }

    [Fact]
    public void EachEpochTakesEachPairOnceInAnotherOrder()
    {
        File.WriteAllLines(_folder["a.tsv"], Enumerable.Range(0, 42).Select(i => $"query {i}\tanswer {i}"));
        using var corpus = PairCorpus.Open(_folder["a.tsv"]);
        var batches = new PairBatches(corpus.Training, Tokenizer.ByteLevel, 16, new TrainerOptions { Batch = 10, Seed = 4 });
        var epochs = Enumerable.Range(0, 2)
            .Select(epoch => Enumerable.Range(1, 4).SelectMany(step => Queries(batches, (epoch * 4) + step)).ToList()).ToList();
        Assert.All(epochs, epoch => Assert.Equal(corpus.Training.Select(pair => pair.Query).Order(), epoch.Order()));
        Assert.NotEqual(epochs[0], epochs[1]);

        // A batch depends on the seed and the step alone.
        Assert.Equal(Queries(batches, 3),
            Queries(new PairBatches(corpus.Training, Tokenizer.ByteLevel, 16, new TrainerOptions { Batch = 10, Seed = 4 }), 3));
        Assert.NotEqual(
            Queries(batches, 3), Queries(new PairBatches(corpus.Training, Tokenizer.ByteLevel, 16, new TrainerOptions { Batch = 10 }), 3));

        // The prefetching thread gives the same batches.
        using var ahead = new PrefetchedBatches(batches, 2, 3);
        Assert.Equal(Queries((PairBatch)ahead.Take(2)),
            Queries(new PairBatches(corpus.Training, Tokenizer.ByteLevel, 16, new TrainerOptions { Batch = 10, Seed = 4 }), 2));
    }

    [Fact]
    public void ATokenizerIsLearntFromTheTrainingPairs()
    {
        File.WriteAllLines(_folder["a.tsv"], Enumerable.Range(0, 60).Select(i => $"the query {i}\tthe answer {i}"));
        using var corpus = PairCorpus.Open(_folder["a.tsv"]);
        var tokenizer = Tokenizer.Train(corpus, new() { Vocabulary = 300 });
        Assert.True(tokenizer.Encode("the query").Length < 5);
        using var encoded = corpus.With(tokenizer);
        Assert.Equal(
            (tokenizer, corpus.Fingerprint, corpus.Training.Count), (encoded.Tokenizer, encoded.Fingerprint, encoded.Training.Count));
        Assert.Equal(Tokenizer.ByteLevel, corpus.Tokenizer);
        Assert.Contains("byte pairs", encoded.Describe(), StringComparison.Ordinal);
    }

    private static PairBatch Filled(int context, params (string Query, string Document)[] pairs)
    {
        var batch = new PairBatch(pairs.Length, context);
        batch.Fill([.. pairs.Select(pair => new RetrievalPair(pair.Query, pair.Document))], Tokenizer.ByteLevel);
        return batch;
    }

    private static List<string> Queries(PairBatches batches, long step)
    {
        var batch = (PairBatch)batches.NewBatch();
        batches.Fill(step, batch);
        return Queries(batch);
    }

    private static List<string> Queries(PairBatch batch)
    {
        var tokens = batch.Tokens.ToArray();
        return [.. Enumerable.Range(0, batch.Examples).Select(i =>
            new string([.. tokens[(2 * i * batch.Time)..].TakeWhile(token => token >= 0).Take(batch.Time).Select(token => (char)token)]))];
    }
}

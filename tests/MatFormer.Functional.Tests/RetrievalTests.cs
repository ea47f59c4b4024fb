using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

public sealed class RetrievalTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-retrieval-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void EmbeddingsDependOnTheTextAlone()
    {
        var pairs = TestPairs.Open(_folder);
        using var model = NewModel();
        string[] texts = [.. pairs.Training.Select(pair => pair.Document), "", "a text that is longer than the context of the model", "x"];
        foreach (var profile in ByteEncoder.Granularities.Append(ByteEncoder.Profile.Mixed))
        {
            var embedder = TextEmbedder.Of(model, profile, pairs.Tokenizer);
            var all = embedder.Embed(texts);
            Assert.Equal(texts.Length * 16, all.Length);
            for (var i = 0; i < texts.Length; i += 7) Near(embedder.Embed([texts[i]]), all.AsSpan(i * 16, 16));

            // A narrow embedding is the prefix, scaled to length 1. A slice gives the same.
            var narrow = TextEmbedder.Of(model, profile, pairs.Tokenizer, ByteEncoder.Dimension.D4).Embed(texts);
            using var slice = model.Extract(profile);
            var sliced = TextEmbedder.OfSlice(slice, pairs.Tokenizer, 4);
            Assert.Equal(4, sliced.Width);
            Assert.Equal(profile.Flops, sliced.FlopsPerText);
            Near(narrow, sliced.Embed(texts));
            for (var i = 0; i < texts.Length; i++)
            {
                var first = all.AsSpan(i * 16, 4).ToArray();
                var norm = MathF.Sqrt(first.Sum(value => value * value));
                Near(narrow.AsSpan(i * 4, 4), Array.ConvertAll(first, value => value / norm));
            }
        }
    }

    [Fact]
    public void AnIndexAcceptsOnlyQueriesOfItsWeights()
    {
        var pairs = TestPairs.Open(_folder);
        using var model = NewModel();
        using var other = NewModel(2);
        var path = Path.Combine(_folder, "index.safetensors");
        TextEmbedder.Of(model, ByteEncoder.Profile.XL, pairs.Tokenizer).WriteIndex(path, Entries(pairs));
        using var index = VectorIndex.Open(path);
        Assert.Equal((144, 16, "XL"), (index.Count, index.Width, index.Identity.Profile));
        Assert.Equal([4, 8], index.Prefixes.ToArray());
        Assert.Equal("RED-BLUE.", Enumerable.Range(0, index.Count).Select(index.EntryOf).Single(entry => entry.Title == "red blue").Text);
        using var slice = model.Extract(ByteEncoder.Profile.S);
        TextEmbedder.Of(model, ByteEncoder.Profile.Mixed, pairs.Tokenizer).CheckFits(index);
        TextEmbedder.OfSlice(slice, pairs.Tokenizer).CheckFits(index);

        var e = Assert.Throws<CheckpointException>(() => TextEmbedder.Of(other, ByteEncoder.Profile.XL, pairs.Tokenizer).CheckFits(index));
        Assert.Contains("weights", e.Message, StringComparison.Ordinal);
        e = Assert.Throws<CheckpointException>(() => TextEmbedder.OfSlice(slice, pairs.Tokenizer, 8).CheckFits(index));
        Assert.Contains("embed them at 16", e.Message, StringComparison.Ordinal);
        Assert.Throws<CheckpointException>(() => RetrievalEvaluator.Run(other, pairs, index));
    }

    [Fact]
    public void TrainedQueriesFindTheirDocumentsAndOthersDoNot()
    {
        var pairs = TestPairs.Open(_folder);
        using var model = NewModel();
        Train(model, pairs, new() { Steps = 300, Objective = Objective.Joint, Distillation = new() });
        using var alone = NewModel(2);
        Train(alone, pairs, new() { Steps = 300, Objective = Objective.Split, Probabilities = [1, 0, 0] });
        using var index = Index("own", TextEmbedder.Of(model, ByteEncoder.Profile.XL, pairs.Tokenizer), pairs);
        var own = RetrievalEvaluator.Run(model, pairs, index);
        Assert.Equal((7, 144), (own.Queries, own.Documents));
        Assert.Equal(["S", "M", "XL", "Mixed"], own.Rows.Select(row => row.Costs.Name).Distinct());
        Assert.Equal([4, 8, 16], own.Rows.Select(row => row.Dimension).Distinct());
        Assert.All(own.Rows.Where(row => row.Dimension == 16),
            row => Assert.True(row.RecallAt10.Value > 0.8, $"{row.Costs.Name} {row.RecallAt10}"));
        Assert.All(own.Rows, row =>
        {
            Assert.True(row.RecallAt1.Value <= row.ReciprocalRank.Value && row.ReciprocalRank.Value <= row.RecallAt10.Value);
            Assert.Null(row.GroupAccuracy); // lines of text have no groups
            Assert.True(row.MicrosecondsPerQuery > 0);
        });

        // Four queries calibrate the escalation, and three measure it.
        Assert.Equal("XL", own.Escalation!.Encoders[^1]);
        Assert.Equal(3, own.Escalation.Answered.Sum());
        Assert.True(own.Escalation.ComputeShare > 0);

        // An encoder that was trained separately finds documents in its own index, but not in that of the other encoder.
        var embedder = TextEmbedder.Of(alone, ByteEncoder.Profile.S, pairs.Tokenizer);
        var costs = ProfileCosts.Of(ByteEncoder.Profile.S, true);
        using var its = Index("its", embedder, pairs);
        Assert.True(RetrievalEvaluator.Run(embedder, costs, pairs, its).Rows[^1].RecallAt10.Value > 0.8);
        Assert.True(RetrievalEvaluator.Run(embedder, costs, pairs, index).Rows[^1].RecallAt10.Value < 0.5);
        Assert.Equal(10 / 144.0, own.ChanceAt10);
    }

    [Fact]
    public void AnIndexWithoutTheDocumentOfAQueryIsRefused()
    {
        var pairs = TestPairs.Open(_folder);
        using var model = NewModel();
        var embedder = TextEmbedder.Of(model, ByteEncoder.Profile.XL, pairs.Tokenizer);
        var path = Path.Combine(_folder, "part.safetensors");
        embedder.WriteIndex(path, pairs.Training.Select(pair => new IndexEntry(pair.Title, pair.Document)));
        using var index = VectorIndex.Open(path);
        var e = Assert.Throws<DataException>(() => RetrievalEvaluator.Run(model, pairs, index));
        Assert.Contains($"of the query '{pairs.Validation[0].Query}'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void BatchesOfTheWrongSizeAreRefused()
    {
        var pairs = TestPairs.Open(_folder);
        using var model = NewModel();
        Assert.Contains("fewer than a batch of 8",
            Assert.Throws<DataException>(() => RetrievalEvaluator.Losses(model, pairs, 8)).Message, StringComparison.Ordinal);
        using var trainer = new Trainer<ByteEncoder>(model, new() { Batch = 1 });
        Assert.Contains("at least 2", Assert.Throws<DataException>(() => trainer.Step(pairs)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AModelThatIsNoTextEncoderIsRefused()
    {
        var pairs = TestPairs.Open(_folder);
        using var words = new OracleBytes();
        using var wrong = new Trainer<OracleBytes>(words, new());
        Assert.Contains("not a text encoder", Assert.Throws<DataException>(() => wrong.Step(pairs)).Message, StringComparison.Ordinal);
        Assert.Contains("not a text encoder",
            Assert.Throws<ArgumentException>(() => TextEmbedder.OfSlice(words, pairs.Tokenizer)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ATokenizerWithMoreTokensThanTheModelIsRefused()
    {
        var pairs = TestPairs.Open(_folder);
        using var model = NewModel();
        var tokenizer = Tokenizer.Train(pairs, new() { Vocabulary = 300 });
        Assert.Throws<TokenizerException>(() => TextEmbedder.OfSlice(model, tokenizer));
        Assert.Throws<TokenizerException>(() => Feed.Of(pairs.With(tokenizer)).CheckFits(model));
    }

    private static ByteEncoder NewModel(long seed = 1)
    {
        manual_seed(seed);
        return new ByteEncoder();
    }

    private static void Train(ByteEncoder model, PairCorpus pairs, TrainerOptions options)
    {
        using var trainer = new Trainer<ByteEncoder>(model, options with { Batch = 32, LearningRate = 5e-3 });
        for (var step = 0; step < options.Steps; step++) trainer.Step(pairs);
    }

    private static IEnumerable<IndexEntry> Entries(PairCorpus pairs) =>
        pairs.Validation.Concat(pairs.Training).Select(pair => new IndexEntry(pair.Title, pair.Document));

    private VectorIndex Index(string name, TextEmbedder embedder, PairCorpus pairs)
    {
        var path = Path.Combine(_folder, $"{name}.safetensors");
        embedder.WriteIndex(path, Entries(pairs));
        return VectorIndex.Open(path);
    }

    private static void Near(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (var i = 0; i < expected.Length; i++) Assert.Equal(expected[i], actual[i], 1e-5f);
    }
}

using MatFormer.Tests;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Distributed.Tests;

/// <summary>What one of several ranks holds and reports, without starting the others.</summary>
public sealed class RankStateTests : RankTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(8)]
    public void ARankHoldsItsPartOfTheMoments(int size)
    {
        using var model = new TinyLm();
        model.Consolidate();
        var flat = model.Flat!;
        var whole = 2 * flat.Weights.numel() * sizeof(float);
        using var together = new AdamWState(flat, new TrainerOptions(), new LoneRank(0, size));
        Assert.Equal(whole, together.Bytes);
        for (var rank = 0; rank < size; rank++)
        {
            using var divided = new AdamWState(flat, new TrainerOptions { ShardMoments = true }, new LoneRank(rank, size));

            // Each rank holds what cannot be divided evenly: less than 16 numbers for each rank.
            Assert.InRange(divided.Bytes - (whole / size), 0, 2L * 16 * size * sizeof(float));
        }

        using var alone = new AdamWState(flat, new TrainerOptions { ShardMoments = true }, new LoneRank(0, 1));
        Assert.Equal(whole, alone.Bytes);
    }

    [Fact]
    public void MetricsAndActivitiesCarryTheRank()
    {
        using var listening = new Listening("MatFormer.Training");
        using var model = new TinyLm();
        using var corpus = TextCorpus.Open(Corpus, Path.Combine(Folder, "data"));
        var options = new TrainerOptions { Steps = 2, Batch = 5, Objective = Objective.Joint, EvaluateEvery = 2, EvaluationWindows = 10 };
        using var trainer = new Trainer<TinyLm>(model, options) { Communicator = new LoneRank(1, 3) };
        trainer.Fit(corpus);
        foreach (var instrument in listening.Instruments)
            Assert.Equal(1, Assert.Single(listening.Values(instrument.Split(' ')[0], "matformer.rank")));
        Assert.Contains("matformer.training.validation.loss {nat}", listening.Instruments);
        Assert.All(listening.Activities, activity => Assert.Equal(1, activity.GetTagItem("matformer.rank")));
        Assert.Equal(["evaluate TinyLm", "train TinyLm"], listening.Activities.Select(activity => activity.OperationName));

        // Rows 1 and 4 of the five belong to this rank.
        Assert.Equal([2.0 * TinyLm.Spec.Context, 2.0 * TinyLm.Spec.Context], listening.Of("matformer.training.tokens"));
    }

    /// <summary>The other ranks of this test add nothing to a sum, so a mean is a quarter of the rank's own threshold.</summary>
    [Fact]
    public void ThresholdsAreMeansOverTheRanks()
    {
        var text = Path.Combine(Folder, "same");
        Directory.CreateDirectory(text);
        for (var document = 0; document < 20; document++)
            File.WriteAllText(Path.Combine(text, $"{document}.txt"), new string('a', 4000 + document));
        using var corpus = TextCorpus.Open(text, Path.Combine(Folder, "data"));
        using var model = Seeded();
        using var alone = Seeded();
        var options = new TrainerOptions { Steps = 1, Batch = 4, Objective = Objective.Joint, RoutedShare = 1 };
        using var trainer = new Trainer<TinyRoutedLm>(model, options) { Communicator = new LoneRank(0, 4) };
        trainer.SetThresholds(corpus);

        // The rank has one row of each batch. Each row is the same.
        using var same = new Trainer<TinyRoutedLm>(alone, options with { Batch = 1 });
        same.SetThresholds(corpus);
        var (expected, actual) = (Thresholds(alone), Thresholds(model));
        Assert.Equal(4, expected.Count);
        Assert.All(expected, threshold => Assert.InRange(threshold, -10, 10));
        foreach (var (own, mean) in expected.Zip(actual)) Assert.Equal(own / 4, mean, 1e-5f);

        static TinyRoutedLm Seeded()
        {
            manual_seed(3);
            return new TinyRoutedLm();
        }

        static List<float> Thresholds(TinyRoutedLm its) =>
        [
            .. its.named_parameters().Where(named => named.name.EndsWith("router.thresholds", StringComparison.Ordinal))
                .SelectMany(named => named.parameter.data<float>().ToArray()),
        ];
    }
}

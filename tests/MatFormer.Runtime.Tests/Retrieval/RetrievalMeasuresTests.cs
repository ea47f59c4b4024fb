using FsCheck;
using FsCheck.Fluent;

namespace MatFormer.Runtime.Tests.Retrieval;

public sealed class RetrievalMeasuresTests
{
    // The rows that were found for four queries.
    private static readonly SearchHit[][] s_found = [.. ((int[][])[[7, 2, 5], [1, 3, 4], [6, 0, 2], [9, 8, 7]]).Select(Hits)];

    private static readonly int[][] s_relevant = [[7], [4, 3], [1], [7, 0]];

    [Fact]
    public void RecallEqualsTheValueWorkedOutByHand()
    {
        Value(1.0 / 4, RetrievalMeasures.RecallAt(1, s_found, s_relevant));
        Value((1 + 0.5 + 0 + 0) / 4, RetrievalMeasures.RecallAt(2, s_found, s_relevant));
        Value((1 + 1 + 0 + 0.5) / 4, RetrievalMeasures.RecallAt(3, s_found, s_relevant));
    }

    [Fact]
    public void TheReciprocalRankEqualsTheValueWorkedOutByHand() =>
        Value((1 + 0.5 + 0 + (1.0 / 3)) / 4, RetrievalMeasures.MeanReciprocalRank(s_found, s_relevant));

    [Fact]
    public void TheAccuracyEqualsTheValueWorkedOutByHand()
    {
        string[] ofRows = ["cat", "dog", "cat", "dog", "cat", "dog", "cat", "dog", "cat", "dog"];
        Value(0.75, RetrievalMeasures.NearestNeighbourAccuracy(s_found, ["dog", "dog", "dog", "dog"], ofRows));
        Assert.Contains("labels for 7 rows", Assert.Throws<ArgumentException>(
            () => RetrievalMeasures.NearestNeighbourAccuracy(s_found, ["dog", "dog", "dog", "dog"], ofRows[..7])).Message);
    }

    [Fact]
    public void IntervalsEqualThoseWorkedOutByHand()
    {
        // Wilson's interval for 8 of 10 is 0.4902 to 0.9433.
        var tens = RetrievalMeasures.RecallAt(
            1, [.. Enumerable.Range(0, 10).Select(i => Hits([i]))], [.. Enumerable.Range(0, 10).Select(i => new[] { i < 8 ? i : -1 })]);
        Assert.Equal((0.8, 10), (tens.Value, tens.Queries));
        Assert.Equal(0.4902, tens.Low, 4);
        Assert.Equal(0.9433, tens.High, 4);

        // The interval for 0 of 20 is 0 to 0.1611.
        var none = RetrievalMeasures.MeanReciprocalRank([.. Enumerable.Repeat(Hits([1]), 20)], [.. Enumerable.Repeat(new[] { 2 }, 20)]);
        Assert.Equal((0, 0), (none.Value, none.Low));
        Assert.Equal(0.1611, none.High, 4);
    }

    [Fact]
    public void MeasuresEqualTheirDefinitions() => Check.One(Config.QuickThrowOnFailure, Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
    {
        var random = new Random(seed);
        var (rows, queries) = (random.Next(2, 30), random.Next(1, 20));
        var found = Draw(() => Hits([.. Enumerable.Range(0, rows).OrderBy(_ => random.Next())]));
        var relevant = Draw(() => Enumerable.Range(0, rows).OrderBy(_ => random.Next()).Take(random.Next(1, rows)).ToArray());
        var before = 0.0;
        for (var k = 1; k <= rows; k++)
        {
            var recall = RetrievalMeasures.RecallAt(k, found, relevant);
            Value(found.Zip(relevant, (f, r) => (double)f[..k].Select(h => h.Row).Intersect(r).Count() / r.Length).Average(), recall);
            Assert.True(0 <= recall.Low && recall.Low <= recall.Value && recall.Value <= recall.High && recall.High <= 1);
            Assert.True(recall.Value >= before);
            before = recall.Value;
        }

        Assert.Equal(1, before, 12);
        var ranks = found.Zip(relevant, (f, r) => 1.0 / (1 + r.Min(row => Array.FindIndex(f, h => h.Row == row))));
        Value(ranks.Average(), RetrievalMeasures.MeanReciprocalRank(found, relevant));

        // If each row has a label of its own, an answer is right when the only relevant row comes first.
        var labels = Draw(() => random.Next(rows));
        Value(
            RetrievalMeasures.RecallAt(1, found, [.. labels.Select(l => new[] { l })]).Value,
            RetrievalMeasures.NearestNeighbourAccuracy(found, labels, [.. Enumerable.Range(0, rows)]));

        T[] Draw<T>(Func<T> draw) => [.. Enumerable.Range(0, queries).Select(_ => draw())];
    }));

    [Fact]
    public void InvalidInputIsRefused()
    {
        Refused("recall at 4 needs 4", () => RetrievalMeasures.RecallAt(4, s_found, s_relevant));
        Refused("hits of 4 queries, but relevant of 3", () => RetrievalMeasures.RecallAt(1, s_found, s_relevant[..3]));
        Refused("Query 1 has no relevant rows", () => RetrievalMeasures.MeanReciprocalRank(s_found, [[1], [], [1], [1]]));
        Refused("no queries", () => RetrievalMeasures.RecallAt(1, [], []));
        Refused("Query 0 has no hits", () => RetrievalMeasures.NearestNeighbourAccuracy([[]], [1], [1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => RetrievalMeasures.RecallAt(0, s_found, s_relevant));

        static void Refused(string says, Func<RetrievalMeasure> measure) =>
            Assert.Contains(says, Assert.Throws<ArgumentException>(() => measure()).Message);
    }

    private static SearchHit[] Hits(int[] rows) => [.. rows.Select((row, rank) => new SearchHit(row, 1f / (rank + 1)))];

    private static void Value(double expected, RetrievalMeasure measure) => Assert.Equal(expected, measure.Value, 12);
}

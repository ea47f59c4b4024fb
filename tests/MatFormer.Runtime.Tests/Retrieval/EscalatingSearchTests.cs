using FsCheck;
using FsCheck.Fluent;

namespace MatFormer.Runtime.Tests.Retrieval;

public sealed class EscalatingSearchTests : IDisposable
{
    private const int Width = 2;
    private static readonly QueryEncoder<int> s_small = new("S", 1, queries => [.. queries.SelectMany(_ => new float[] { 1, 0 })]);
    private static readonly QueryEncoder<int> s_large = s_small with { Name = "XL", FlopsPerQuery = 2 };
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void AQueryWithASmallMarginGoesToTheNextEncoder()
    {
        // Query 0 is near row 0 for both encoders. Query 1 lies between rows 0 and 1 for the small encoder, and at row 1 for the large one.
        Vectors.Write(_folder["a"], [1, 0, 0, 1, -1, 0], Width, []);
        using var index = VectorIndex.Open(_folder["a"]);
        var asked = new List<string>();
        QueryEncoder<string>[] encoders =
        [
            Encoder("S", 1, text => text == "sure" ? [1, 0.1f] : [0.71f, 0.7f]),
            Encoder("XL", 4, text => text == "sure" ? [1, 0] : [0, 1]),
        ];
        var search = new EscalatingSearch<string>(index, encoders, [0.5f]);
        var result = search.Search(["sure", "unsure"], new SearchOptions { Count = 1 });
        Assert.Equal([[new SearchHit(0, 1)], [new SearchHit(1, 1)]], result.Hits);
        Assert.Equal([0, 1], result.Rungs);
        Assert.Equal([1, 1], result.Answered.AsEnumerable());
        Assert.Equal((1 + 1 + 4) / 8.0, result.ComputeShare, 12);
        Assert.Equal(["S: sure, unsure", "XL: unsure"], asked);

        QueryEncoder<string> Encoder(string name, double flops, Func<string, float[]> embed) => new(name, flops, queries =>
        {
            asked.Add($"{name}: {string.Join(", ", queries)}");
            return [.. queries.SelectMany(embed)];
        });
    }

    [Fact]
    public void HitsAreThoseOfTheEncoderThatAnswered() => Ladder(4, (random, index, ladder, queries, relevant) =>
    {
        var options = new SearchOptions { Count = random.Next(1, 12), Prefix = random.Next(2) == 0 ? 4 : null, Shortlist = 12 };
        var alone = ladder.Select(encoder => index.SearchBatch(encoder.Embed(queries), options)).ToArray();
        for (var first = 0; first < ladder.Length; first++)
        {
            // With these thresholds, encoder number `first` answers every query.
            float[] thresholds = [.. Enumerable.Range(0, ladder.Length - 1).Select(rung => rung < first ? float.PositiveInfinity : 0)];
            var only = new EscalatingSearch<int>(index, ladder, thresholds).Search(queries, options);
            Assert.Equal(alone[first], only.Hits);
            Assert.All(only.Rungs, rung => Assert.Equal(first, rung));
            Assert.Equal(ladder[..(first + 1)].Sum(e => e.FlopsPerQuery) / ladder[^1].FlopsPerQuery, only.ComputeShare, 9);
        }

        var some = new EscalatingSearch<int>(index, ladder, [.. ladder[1..].Select(_ => random.NextSingle() * 0.3f)]);
        var result = some.Search(queries, options);
        Assert.All(result.Hits.Select((hits, query) => (hits, query)),
            found => Assert.Equal(alone[result.Rungs[found.query]][found.query], found.hits));
        Assert.Equal(queries.Length, result.Answered.Sum());
        Assert.Equal(Enumerable.Range(0, ladder.Length).Select(rung => result.Rungs.Count(r => r == rung)), result.Answered.AsEnumerable());
        var spent = result.Rungs.Sum(rung => ladder[..(rung + 1)].Sum(e => e.FlopsPerQuery));
        Assert.Equal(spent / (queries.Length * ladder[^1].FlopsPerQuery), result.ComputeShare, 9);
    });

    [Fact]
    public void CalibrationFindsTheCheapestChoiceThatKeepsRecall() => Ladder(3, (random, index, ladder, queries, relevant) =>
    {
        var options = new SearchOptions { Count = random.Next(1, 6) };
        var tolerance = random.Next(3) * 0.05;
        var calibrated = EscalatingSearch<int>.Calibrate(index, ladder, queries, relevant, options, tolerance);
        var best = Measure(new([.. calibrated.Encoders], [.. calibrated.Thresholds]));
        var whole = Measure(new([ladder[^1]], []));
        Assert.True(best.Recall >= whole.Recall - tolerance - 1e-9);

        // Tries every choice of encoders, with every threshold at which a result changes.
        var margins = ladder.Select(e => index.SearchBatch(e.Embed(queries), options with { Count = options.Count + 1 })
            .Select(h => h[0].Score - h[^1].Score).Distinct().ToArray()).ToArray();
        foreach (var first in margins[0].Cast<float?>().Append(null))
        {
            foreach (var second in margins[1].Cast<float?>().Append(null))
            {
                float?[] thresholds = [first, second];
                var other = Measure(new(
                    [.. ladder.Where((_, rung) => rung == 2 || thresholds[rung] is not null)], [.. thresholds.OfType<float>()]));
                Assert.True(other.Recall < whole.Recall - tolerance - 1e-9 || other.Share >= best.Share - 1e-9, $"{other} beats {best}");
            }
        }

        (double Recall, double Share) Measure(in Choice choice)
        {
            var result = new EscalatingSearch<int>(index, choice.Encoders, choice.Thresholds).Search(queries, options);
            return (RetrievalMeasures.RecallAt(options.Count, result.Hits, relevant).Value,
                result.ComputeShare * choice.Encoders[^1].FlopsPerQuery / ladder[^1].FlopsPerQuery);
        }
    }, cases: 12, queries: 14);

    [Fact]
    public void TheRecallOfTheLargestEncoderIsReachedWithLessCompute()
    {
        // A larger encoder embeds a query nearer to its document. A query that is hard for one encoder is hard for all of them.
        var (random, width, rows) = (new Random(4), 32, 4000);
        var corpus = Vectors.Normalise(Vectors.Draw(random, rows, width), width);
        Vectors.Write(_folder["corpus"], corpus, width, []);
        using var index = VectorIndex.Open(_folder["corpus"]);
        var hardness = Enumerable.Range(0, rows).Select(_ => 0.25 * random.NextDouble() * random.NextDouble()).ToArray();
        QueryEncoder<int>[] ladder = [Encoder("S", 1, 1.6), Encoder("M", 2, 1.2), Encoder("XL", 6, 1)];
        int[] held = [.. Enumerable.Range(0, 1000)], others = [.. Enumerable.Range(1000, 1000)];
        var search = EscalatingSearch<int>.Calibrate(index, ladder, held, Relevant(held), tolerance: 0.005);
        var result = search.Search(others);
        var whole = index.SearchBatch(ladder[^1].Embed(others));
        var small = index.SearchBatch(ladder[0].Embed(others));
        var (recall, top, bottom) = (Recall(result.Hits), Recall(whole), Recall(small));
        Assert.True(bottom < top - 0.03, $"{bottom} of S, {top} of XL");
        Assert.True(recall >= top - 0.015, $"{recall}, {top} of XL");
        Assert.True(result.ComputeShare < 0.6, $"{result.ComputeShare}, {recall} of {bottom} to {top}");

        double Recall(SearchHit[][] found) => RetrievalMeasures.RecallAt(10, found, Relevant(others)).Value;

        QueryEncoder<int> Encoder(string name, double flops, double noise) => new(name, flops, queries =>
        [
            .. queries.SelectMany(query =>
            {
                var own = new Random(query);
                var scale = (float)(noise * (0.1 + hardness[query]) * 0.7);
                return Vectors.Normalise(
                    [.. corpus.AsSpan(query * width, width).ToArray().Select(v => v + (scale * Vectors.Normal(own)))], width);
            }),
        ]);
    }

    [Fact]
    public void InvalidLaddersAreRefused()
    {
        Vectors.Write(_folder["a"], [1, 0, 0, 1], Width, []);
        using var index = VectorIndex.Open(_folder["a"]);
        var (small, large) = (s_small, s_large);
        Refused("There are no encoders", []);
        Refused("'S' takes 1 FLOPs for a query, no more than 'XL'", [large, small], 1);
        Refused("'S' takes 0 FLOPs", [small with { FlopsPerQuery = 0 }]);
        Refused("'S' takes NaN FLOPs", [small with { FlopsPerQuery = double.NaN }]);
        Refused("0 thresholds for 2 encoders", [small, large]);
        Refused("thresholds NaN are not all 0 or more", [small, large], float.NaN);
        Refused("thresholds -1 are not all 0 or more", [small, large], -1);

        void Refused(string says, QueryEncoder<int>[] encoders, params float[] thresholds) =>
            Assert.Contains(says, Assert.Throws<ArgumentException>(() => new EscalatingSearch<int>(index, encoders, thresholds)).Message);
    }

    [Fact]
    public void InvalidQueriesAreRefused()
    {
        Vectors.Write(_folder["a"], [1, 0, 0, 1], Width, []);
        using var index = VectorIndex.Open(_folder["a"]);
        var search = new EscalatingSearch<int>(index, [s_small], []);
        Assert.Contains("no queries", Assert.Throws<ArgumentException>(() => search.Search([])).Message);
        var odd = new EscalatingSearch<int>(index, [s_small with { Embed = _ => [1, 2, 3] }], []);
        Assert.Contains("'S' gave 3 numbers for 1 queries", Assert.Throws<InvalidOperationException>(() => odd.Search([1])).Message);
        Assert.Contains("hits of 1 queries, but relevant of 2", Assert.Throws<ArgumentException>(
            () => EscalatingSearch<int>.Calibrate(index, [s_small], [1], [[1], [1]])).Message);
    }

    [Fact]
    public void TheFirstEncoderAnswersIfEveryRowIsAHit()
    {
        Vectors.Write(_folder["a"], [1, 0, 0, 1], Width, []);
        using var index = VectorIndex.Open(_folder["a"]);
        QueryEncoder<int>[] ladder = [s_small, s_large];
        Assert.Equal([3, 0], new EscalatingSearch<int>(index, ladder, [9]).Search([1, 2, 3]).Answered.AsEnumerable());
        Assert.All(EscalatingSearch<int>.Calibrate(index, ladder, [1], [[1]]).Thresholds, margin => Assert.True(float.IsFinite(margin)));
    }

    private static int[][] Relevant(int[] queries) => [.. queries.Select(query => new[] { query })];

    private readonly record struct Choice(QueryEncoder<int>[] Encoders, float[] Thresholds);

    // Makes queries for rows of an index of 40, and encoders of which each embeds the queries better than the one before it.
    private void Ladder(
        int encoders, Action<Random, VectorIndex, QueryEncoder<int>[], int[], int[][]> property,
        int cases = 30, int queries = 25) => Check.One(
        Config.QuickThrowOnFailure.WithMaxTest(cases),
        Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            const int width = 8;
            var vectors = Vectors.Normalise(Vectors.Draw(random, 40, width), width);
            var path = _folder[Guid.NewGuid().ToString("N")];
            Vectors.Write(path, vectors, width, [4]);
            using var index = VectorIndex.Open(path);
            double flops = 0;
            QueryEncoder<int>[] ladder =
            [
                .. Enumerable.Range(1, encoders).Select(rung =>
                {
                    var noise = Vectors.Draw(random, 40, width);
                    return new QueryEncoder<int>($"{rung}", flops += random.Next(1, 5), asked =>
                        [.. asked.SelectMany(
                            query => Enumerable.Range(query * width, width).Select(i => vectors[i] + (0.6f / rung * noise[i])))]);
                }),
            ];
            int[] asked = [.. Enumerable.Range(0, queries).Select(_ => random.Next(40))];
            property(random, index, ladder, asked, Relevant(asked));
        }));
}

using FsCheck;
using FsCheck.Fluent;

namespace MatFormer.Runtime.Tests.Retrieval;

/// <summary>Compares searching with ranking every vector in double precision.</summary>
public sealed class SearchTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<int> RegisterBits =>
        [.. new[] { 128, 256, 512 }.Where(bits => bits <= DecodingKernels.RegisterBits)];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public unsafe void InnerProductsEqualTheValueWorkedOutByHand()
    {
        foreach (var bits in RegisterBits)
        {
            // The products 1*1 + 2*2 + ... + 17*17 fill the vector lanes and leave a remainder.
            var ramp = Enumerable.Range(1, 17).Select(i => (float)i).ToArray();
            fixed (float* x = ramp) Assert.Equal(1785, InnerProducts.Create(bits).Dot(x, x, 17));
        }
    }

    [Theory]
    [MemberData(nameof(RegisterBits))]
    public void SearchingEqualsRankingEveryVector(int bits) => Property(bits, (random, index, vectors) =>
    {
        var (rows, width) = (index.Count, index.Width);
        var queries = Vectors.Draw(random, random.Next(1, 10), width);
        var options = new SearchOptions { Count = random.Next(1, rows + 3) };
        var batch = index.SearchBatch(queries, options);
        Assert.Equal(queries.Length / width, batch.Length);
        for (var q = 0; q < batch.Length; q++)
        {
            var query = queries.AsSpan(q * width, width);
            var expected = Vectors.Rank(vectors, width, query);
            var hits = batch[q];
            Assert.Equal(Math.Min(options.Count, rows), hits.Length);
            Assert.Equal(hits.Length, hits.Select(h => h.Row).Distinct().Count());
            Assert.All(hits.Zip(expected), pair => Assert.Equal(pair.Second.Score, pair.First.Score, 1e-4 * width));

            // A query alone and a query on several threads give the same bits.
            Assert.Equal(hits, index.Search(query, options));
            Assert.Equal(hits, index.Search(query, options with { Threads = random.Next(2, 6) }));
        }

        Assert.Equal(batch, index.SearchBatch(queries, options with { Threads = 3 }));
    });

    // Small whole numbers have exact products. Many scores are equal, so the order of the rows decides.
    [Theory]
    [MemberData(nameof(RegisterBits))]
    public void TheLowerRowComesFirstAmongEqualScores(int bits) => Property(
        bits,
        (random, index, vectors) =>
        {
            var query = Whole(random, index.Width);
            var expected = Vectors.Rank(vectors, index.Width, query).Select(e => new SearchHit(e.Row, (float)e.Score)).ToArray();
            for (var count = 1; count <= index.Count; count += random.Next(1, 5))
            {
                var options = new SearchOptions { Count = count, Threads = random.Next(1, 5) };
                Assert.Equal(expected[..count], index.Search(query, options));
                Assert.All(index.SearchBatch([.. query, .. query, .. query, .. query, .. query], options),
                    hits => Assert.Equal(expected[..count], hits));
            }
        },
        Whole);

    [Fact]
    public void APrefixRanksByItsCosine() => Property(DecodingKernels.RegisterBits, (random, index, vectors) =>
    {
        if (index.Prefixes.IsEmpty) return;
        var prefix = index.Prefixes[random.Next(index.Prefixes.Length)];
        var query = Vectors.Draw(random, 1, index.Width);
        var options = new SearchOptions { Count = random.Next(1, index.Count + 1), Prefix = prefix, Shortlist = 0 };
        var hits = index.Search(query, options);
        var expected = Vectors.Rank(Vectors.Prefix(vectors, index.Width, prefix), prefix, Vectors.Prefix(query, index.Width, prefix));
        Assert.All(hits.Zip(expected), pair => Assert.Equal(pair.Second.Score, pair.First.Score, 1e-5));
        Assert.Equal(hits, index.SearchBatch([.. query, .. query], options)[1]);
        Assert.Equal(hits, index.Search(query, options with { Threads = 2 }));
    });

    [Fact]
    public void AShortlistIsRankedAtFullWidth() => Property(DecodingKernels.RegisterBits, (random, index, vectors) =>
    {
        if (index.Prefixes.IsEmpty) return;
        var queries = Vectors.Draw(random, 3, index.Width);
        var count = random.Next(1, index.Count + 1);
        var options = new SearchOptions
        {
            Count = count,
            Prefix = index.Prefixes[random.Next(index.Prefixes.Length)],
            Shortlist = random.Next(count, index.Count + 3),
        };
        var first = index.SearchBatch(queries, options with { Count = options.Shortlist, Shortlist = 0 });
        var found = index.SearchBatch(queries, options);
        for (var q = 0; q < found.Length; q++)
        {
            var query = queries.AsSpan(q * index.Width, index.Width);
            var all = index.Search(query, new SearchOptions { Count = index.Count });

            // The hits are the best rows of the first pass, with the scores and in the order of a search at full width.
            Assert.Equal(all.Where(h => first[q].Any(f => f.Row == h.Row)).Take(count), found[q]);
            Assert.Equal(found[q], index.Search(query, options with { Threads = 4 }));
            if (options.Shortlist >= index.Count) Assert.Equal(all.Take(count), found[q]);
        }
    });

    [Fact]
    public void ALongerShortlistNeverFindsLess()
    {
        // The first dimensions carry most of the information, as in nested embeddings.
        var (random, width) = (new Random(3), 64);
        var vectors = Vectors.Draw(random, 3000, width);
        for (var i = 0; i < vectors.Length; i++) vectors[i] /= 1 + (i % width / 8);
        vectors = Vectors.Normalise(vectors, width);
        Vectors.Write(_folder["nested"], vectors, width, [8, 16]);
        using var index = VectorIndex.Open(_folder["nested"]);
        var queries = Vectors.Normalise([.. vectors[..(100 * width)].Select(v => v + (0.02f * Vectors.Normal(random)))], width);
        var truth = index.SearchBatch(queries);
        double[] shares = [.. new[] { 10, 50, 200, 3000 }.Select(
            shortlist => Overlap(index.SearchBatch(queries, new SearchOptions { Prefix = 8, Shortlist = shortlist })))];
        Assert.Equal(shares.Order(), shares);
        Assert.Equal(1, shares[^1]);
        Assert.True(shares[0] < shares[2], $"{shares[0]} of 10, {shares[2]} of 200");
        Assert.True(Overlap(index.SearchBatch(queries, new SearchOptions { Prefix = 16, Shortlist = 50 })) > shares[1]);

        double Overlap(SearchHit[][] found) =>
            found.Zip(truth, (f, t) => f.Select(h => h.Row).Intersect(t.Select(h => h.Row)).Count()).Sum() / (10.0 * truth.Length);
    }

    [Fact]
    public void AVectorWithAZeroPrefixScoresZero()
    {
        Vectors.Write(_folder["zero"], [0, 0, 1, 1, 0, 0, -1, 0, 0], 3, [2]);
        using var index = VectorIndex.Open(_folder["zero"]);
        Assert.Equal([new(1, 1), new(0, 0), new(2, -1)], index.Search([5, 0, 9], new SearchOptions { Prefix = 2, Shortlist = 0 }));
        Assert.Equal([new(0, 9), new(1, 5), new(2, -5)], index.Search([5, 0, 9], new SearchOptions { Prefix = 2 }));
    }

    [Fact]
    public void InvalidSearchesAreRefused()
    {
        Vectors.Write(_folder["a"], new float[12], 3, [1, 2]);
        using var index = VectorIndex.Open(_folder["a"]);
        Refused("has 2 dimensions, but the vectors of", [1, 2]);
        Refused("Query 0 is NaN in dimension 1", [1, float.NaN, 2]);
        Refused("first 2 dimensions of query 0 are zero", [0, 0, 2], new() { Prefix = 2 });
        Refused("has no prefix of 3 dimensions; choose one of 1, 2", [1, 1, 2], new() { Prefix = 3 });
        Refused("A shortlist of 9 cannot give 10 hits", [1, 1, 2], new() { Prefix = 2, Shortlist = 9 });
        Refused("A shortlist of -1 cannot give 10 hits", [1, 1, 2], new() { Prefix = 2, Shortlist = -1 });
        Assert.Throws<ArgumentOutOfRangeException>(() => index.Search([1, 1, 2], new() { Count = 0 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => index.Search([1, 1, 2], new() { Threads = 0 }));
        Assert.Contains(
            "not a multiple of the 3 dimensions", Assert.Throws<ArgumentException>(() => index.SearchBatch(new float[4])).Message);
        Assert.Empty(index.SearchBatch([]));
        Vectors.Write(_folder["b"], new float[12], 3, []);
        using var without = VectorIndex.Open(_folder["b"]);
        Assert.Contains("has none", Assert.Throws<ArgumentException>(() => without.Search([1, 1, 2], new() { Prefix = 2 })).Message);

        void Refused(string says, float[] query, SearchOptions? options = null) =>
            Assert.Contains(says, Assert.Throws<ArgumentException>(() => index.Search(query, options)).Message);
    }

    [Fact]
    public void AQueryAllocatesOnlyItsResult()
    {
        var vectors = Vectors.Draw(new Random(1), 500, 32);
        Vectors.Write(_folder["a"], vectors, 32, [8]);
        using var index = VectorIndex.Open(_folder["a"]);
        foreach (var options in (SearchOptions[])[new(), new() { Prefix = 8 }, new() { Prefix = 8, Shortlist = 0 }])
        {
            index.Search(vectors.AsSpan(0, 32), options);
            var before = GC.GetAllocatedBytesForCurrentThread();
            var hits = index.Search(vectors.AsSpan(0, 32), options);
            var bytes = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.Equal(10, hits.Length);
            Assert.True(bytes <= 24 + (10 * 8), $"{bytes} bytes");
        }
    }

    [Fact]
    public async Task ThreadsMaySearchTheSameIndex()
    {
        var vectors = Vectors.Draw(new Random(1), 2000, 24);
        Vectors.Write(_folder["a"], vectors, 24, [8]);
        using var index = VectorIndex.Open(_folder["a"]);
        var options = new SearchOptions { Prefix = 8, Shortlist = 50 };
        var found = await Task.WhenAll(
            Enumerable.Range(0, 16).Select(i => Task.Run(() => index.Search(vectors.AsSpan(i * 24, 24), options))));
        Assert.Equal(found, Enumerable.Range(0, 16).Select(i => index.Search(vectors.AsSpan(i * 24, 24), options)));
    }

    private static float[] Whole(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => (float)random.Next(-2, 3))];

    // Checks a property for random numbers of vectors, widths and prefixes.
    private void Property(int bits, Action<Random, VectorIndex, float[]> property, Func<Random, int, float[]>? draw = null) => Check.One(
        Config.QuickThrowOnFailure.WithMaxTest(40),
        Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            var width = random.Next(1, 70);
            var rows = random.Next(8) == 0 ? random.Next(300, 1500) : random.Next(1, 40);
            var vectors = draw?.Invoke(random, rows * width) ?? Vectors.Draw(random, rows, width);
            var path = _folder[Guid.NewGuid().ToString("N")];
            Vectors.Write(path, vectors, width, [.. Enumerable.Range(0, random.Next(4)).Select(_ => random.Next(1, width + 1))]);
            using var index = VectorIndex.Open(path, InnerProducts.Create(bits));
            property(random, index, vectors);
        }));
}

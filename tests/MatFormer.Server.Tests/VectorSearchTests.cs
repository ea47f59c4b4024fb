using Microsoft.Extensions.AI;
using Microsoft.Extensions.VectorData;

namespace MatFormer.Server.Tests;

public sealed class VectorSearchTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-search-").FullName;
    private readonly TinyEncoder _model = Encoders.New();
    private readonly MatFormerEmbeddingGenerator _generator;
    private readonly VectorIndex _index;
    private readonly MatFormerVectorSearch _search;

    public VectorSearchTests()
    {
        var path = Path.Combine(_folder, "index.safetensors");
        Embedder("XL").WriteIndex(path, Enumerable.Range(0, 40).Select(i => new IndexEntry($"entry {i}", $"text {i * 37 % 101}")));
        _index = VectorIndex.Open(path);
        _generator = new MatFormerEmbeddingGenerator(Embedder("S"));
        _search = new MatFormerVectorSearch(_index, _generator);
    }

    public void Dispose()
    {
        _index.Dispose();
        _generator.Dispose();
        _model.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task ATextIsEmbeddedAndFindsWhatTheIndexFinds()
    {
        var wanted = _index.Search(Embedder("S").Embed(["text 5"]), new SearchOptions { Count = 4 });
        var found = await _search.SearchAsync("text 5", 4).ToListAsync();
        Assert.Equal(wanted.Select(hit => (hit.Row, (double?)hit.Score)), found.Select(f => (f.Record.Id, f.Score)));
        Assert.All(found,
            f => Assert.Equal((_index.EntryOf(f.Record.Id), null), (new IndexEntry(f.Record.Title, f.Record.Text), f.Record.Vector)));
    }

    [Fact]
    public async Task AVectorOfAnyKindFindsTheSame()
    {
        var query = Embedder("M").Embed(["text 5"]);
        var wanted = _index.Search(query, new SearchOptions { Count = 3 }).Select(hit => hit.Row).ToList();
        Assert.Equal(wanted, await Rows(_search.SearchAsync(query, 3)));
        Assert.Equal(wanted, await Rows(_search.SearchAsync(new ReadOnlyMemory<float>(query), 3)));
        Assert.Equal(wanted, await Rows(_search.SearchAsync(new Embedding<float>(query), 3)));
        Assert.Equal(wanted, await Rows(_search.SearchAsync<object>(query, 3)));
    }

    [Fact]
    public async Task SkippedHitsAreLeftOut()
    {
        var all = await Rows(_search.SearchAsync("text 5", 10));
        Assert.Equal(10, all.Count);
        Assert.Equal(all[3..8], await Rows(_search.SearchAsync("text 5", 5, new() { Skip = 3 })));
        Assert.Equal(3, (await Rows(_search.SearchAsync("text 5", 5, new() { Skip = 37 }))).Count);
        Assert.Empty(await Rows(_search.SearchAsync("text 5", int.MaxValue, new() { Skip = 100 })));
        Assert.Equal(40, (await Rows(_search.SearchAsync("text 5", int.MaxValue))).Count);
    }

    [Fact]
    public async Task HitsBelowTheThresholdAreLeftOut()
    {
        var all = await _search.SearchAsync("text 5", 10).ToListAsync();
        var kept = await _search.SearchAsync("text 5", 10, new() { ScoreThreshold = all[6].Score }).ToListAsync();
        Assert.Equal(all.TakeWhile(f => f.Score >= all[6].Score).Select(f => f.Record), kept.Select(f => f.Record));
        Assert.InRange(kept.Count, 7, 9);
    }

    [Fact]
    public async Task VectorsAreReturnedIfAskedFor()
    {
        var found = await _search.SearchAsync("text 5", 2, new() { IncludeVectors = true }).ToListAsync();
        var wanted = new float[_index.Width];
        foreach (var its in found)
        {
            _index.CopyVector(its.Record.Id, wanted);
            Assert.Equal(wanted, its.Record.Vector!.Value.ToArray());
        }
    }

    [Fact]
    public async Task APrefixIsSearchedFirst()
    {
        var options = new SearchOptions { Prefix = 4, Shortlist = 3 };
        var byPrefix = new MatFormerVectorSearch(_index, _generator, options);
        var query = Embedder("S").Embed(["text 5"]);
        Assert.Equal(
            _index.Search(query, options with { Count = 3 }).Select(hit => hit.Row), await Rows(byPrefix.SearchAsync("text 5", 3)));

        // The shortlist is made long enough.
        Assert.Equal(
            _index.Search(query, options with { Count = 9, Shortlist = 9 }).Select(hit => hit.Row),
            await Rows(byPrefix.SearchAsync("text 5", 9)));
    }

    [Fact]
    public async Task CheapFirstAnswersTextsAndVectors()
    {
        QueryEncoder<string>[] encoders =
            [.. ((string[])["S", "XL"]).Select((name, i) => new QueryEncoder<string>(name, i + 1, texts => Embedder(name).Embed(texts)))];
        var query = Embedder("XL").Embed(["text 5"]);
        foreach (var (threshold, name) in new[] { (0f, "S"), (float.PositiveInfinity, "XL") })
        {
            var search = new MatFormerVectorSearch(new EscalatingSearch<string>(_index, encoders, [threshold]));
            var wanted = _index.Search(Embedder(name).Embed(["text 5"]), new SearchOptions { Count = 6 }).Select(hit => hit.Row);
            Assert.Equal(wanted.Skip(1), await Rows(search.SearchAsync("text 5", 5, new() { Skip = 1 })));
            Assert.Equal(_index.Search(query)[0].Row, Assert.Single(await Rows(search.SearchAsync(query, 1))));
        }
    }

    [Fact]
    public void WhatCannotBeHonouredIsRefusedByName()
    {
        Assert.Contains("has Filter,", Refused<string>("x", new() { Filter = its => its.Title == "x" }), StringComparison.Ordinal);
        Assert.Contains(
            "has VectorProperty,", Refused<string>("x", new() { VectorProperty = its => its.Vector }), StringComparison.Ordinal);
        Assert.Contains("for a Double;", Refused(1.5), StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => _search.SearchAsync("x", 0));

        string Refused<T>(T value, VectorSearchOptions<IndexRecord>? options = null)
            where T : notnull => Assert.Throws<NotSupportedException>(() => _search.SearchAsync(value, 1, options)).Message;
    }

    [Fact]
    public async Task AVectorOfAnotherWidthIsRefused()
    {
        var refused = await Assert.ThrowsAsync<ArgumentException>(() => Rows(_search.SearchAsync(new float[7], 1)));
        Assert.Contains("has 7 dimensions", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AGeneratorOfAnotherWidthOrModelIsRefused()
    {
        using var narrow = new MatFormerEmbeddingGenerator(Embedder("S").WithWidth(8));
        Assert.Contains("16 dimensions",
            Assert.Throws<CheckpointException>(() => new MatFormerVectorSearch(_index, narrow)).Message, StringComparison.Ordinal);
        using var model = Encoders.New();
        using (TorchSharp.torch.no_grad()) ((TorchSharp.torch.Tensor)model.named_parameters().First().Item2).add_(1);
        using var other = new MatFormerEmbeddingGenerator(TextEmbedder.Of(model, TinyEncoder.Profile.S, Tokenizer.ByteLevel));
        Assert.Contains("weights",
            Assert.Throws<CheckpointException>(() => new MatFormerVectorSearch(_index, other)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ACancelledSearchFindsNothing()
    {
        var cancelled = new CancellationToken(canceled: true);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Rows(_search.SearchAsync("x", 1, null, cancelled)));
    }

    [Fact]
    public void ServicesAreFoundByType()
    {
        Assert.Same(_index, _search.GetService(typeof(VectorIndex)));
        Assert.Same(_generator, _search.GetService(typeof(MatFormerEmbeddingGenerator)));
        Assert.Same(_search, _search.GetService(typeof(IVectorSearchable<IndexRecord>)));
        Assert.Equal(_index.Path,
            Assert.IsType<VectorStoreCollectionMetadata>(_search.GetService(typeof(VectorStoreCollectionMetadata))).CollectionName);
        Assert.Null(_search.GetService(typeof(VectorIndex), "key"));
        Assert.Null(_search.GetService(typeof(string)));
    }

    private TextEmbedder Embedder(string profile) => TextEmbedder.Of(_model, Profile<TinyEncoder>.Parse(profile), Tokenizer.ByteLevel);

    private static async Task<List<int>> Rows(IAsyncEnumerable<VectorSearchResult<IndexRecord>> results) =>
        [.. (await results.ToListAsync()).Select(result => result.Record.Id)];
}

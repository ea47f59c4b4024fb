using Parquet;
using Parquet.Schema;

namespace MatFormer.Runtime.Tests.Data;

public sealed class ParquetTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public ParquetTests() => ParquetData.Register();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task TheColumnTextHoldsDocuments()
    {
        string[] texts = [.. Enumerable.Range(0, 100).Select(
            i => $"Dokument {i} ä \ud83d\ude00\n{new string((char)('a' + (i % 26)), 900)}")];
        await WriteAsync(
            _folder["a.PARQUET"], 7, ["id", "text", "url"], [.. texts.Index().Select(text => new[] { $"{text.Index}", text.Item, null })]);
        using var corpus = TextCorpus.Open(_folder["a.PARQUET"], _folder["out"]);
        Assert.Equal(
            texts.Select(text => text + "\n\n").Order(StringComparer.Ordinal),
            TextCorpusTests.Documents(corpus.Training).Concat(TextCorpusTests.Documents(corpus.Validation)).Order(StringComparer.Ordinal));

        // A null is no document, and neither is an empty text.
        await WriteAsync(_folder["b.parquet"], 1000, ["text"], [.. texts.Append(null).Append("").Select(text => new[] { text })]);
        using var other = TextCorpus.Open(_folder["b.parquet"], _folder["out2"]);
        Assert.Equal(corpus.Fingerprint, other.Fingerprint);
    }

    [Fact]
    public async Task TheColumnsQueryAndDocumentHoldPairs()
    {
        string?[][] rows = [.. Enumerable.Range(0, 30).Select(i => new[] { $"answer {i}", null, $"query {i}" })];
        await WriteAsync(_folder["a.parquet"], 8, ["document", "id", "query"], rows);
        File.WriteAllLines(_folder["a.tsv"], Enumerable.Range(0, 30).Select(i => $"query {i}\tanswer {i}"));
        Assert.Equal(PairCorpus.Open(_folder["a.tsv"]).Fingerprint, PairCorpus.Open(_folder["a.parquet"]).Fingerprint);

        await WriteAsync(_folder["a.parquet"], 8, ["document", "id", "query"], [.. rows, ["answer", "1", null]]);
        var e = Assert.Throws<DataException>(() => PairCorpus.Open(_folder["a.parquet"]));
        Assert.Contains("a.parquet': the query or the document of pair 31 is empty", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ALackingColumnIsNamedWithThoseThatAreThere()
    {
        await WriteAsync(_folder["a.parquet"], 10, ["id", "content"], [["1", "a"]]);
        Fails("it has no column 'text', but 'id', 'content'; rename the column that holds the texts to 'text'");
        await using (var stream = File.Create(_folder["a.parquet"]))
        {
            var schema = new ParquetSchema(new DataField<int>("text"));
            var token = TestContext.Current.CancellationToken;
            await using var writer = await ParquetWriter.CreateAsync(schema, stream, cancellationToken: token);
            using var group = writer.CreateRowGroup();
            await group.WriteAsync<int>(schema.DataFields[0], new[] { 1, 2 }, cancellationToken: token);
        }

        Fails("its column 'text' is not of texts, but of Int32; write it as strings");
    }

    [Fact]
    public async Task DamagedFilesAreRefused()
    {
        File.WriteAllText(_folder["a.parquet"], "text");
        Fails("it cannot be read as Parquet");
        await WriteAsync(_folder["a.parquet"], 10, ["text"], [.. Enumerable.Range(0, 100).Select(i => new[] { $"text {i}" })]);
        var file = await File.ReadAllBytesAsync(_folder["a.parquet"], TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(_folder["a.parquet"], file[..(file.Length / 2)], TestContext.Current.CancellationToken);
        Fails("it cannot be read as Parquet");
    }

    [Fact]
    public async Task CancellingBetweenRowGroupsLeavesNothing()
    {
        await WriteAsync(
            _folder["a.parquet"], 1000, ["text"],
            Enumerable.Range(0, 20_000).Select(i => new[] { $"{i} {new Random(i).NextInt64():x} {i}" }));
        var before = _folder.Files;
        using var cancelled = new CancellationTokenSource();
        var groups = 0;
        RecordFormats.Add(".parquet.counted", (file, columns) => Count(file, columns));
        File.Move(_folder["a.parquet"], _folder["a.parquet.counted"]);
        Assert.ThrowsAny<OperationCanceledException>(
            () => TextCorpus.Open(_folder["a.parquet.counted"], _folder["out"], cancellationToken: cancelled.Token));
        RecordFormats.Remove(".parquet.counted");
        Assert.Equal(5000, groups); // the next row needs the next group
        Assert.Equal(["a.parquet.counted"], _folder.Files);
        Assert.Single(before);

        IEnumerable<string[]> Count(Stream file, IReadOnlyList<string> columns)
        {
            Assert.True(RecordFormats.TryFind("a.parquet", out var read));
            foreach (var row in read(file, columns))
            {
                if (++groups == 4500) cancelled.Cancel();
                yield return row;
            }
        }
    }

    /// <summary>Writes a file of strings, in row groups of some rows.</summary>
    internal static async Task WriteAsync(string path, int rowsOfGroup, string[] columns, IEnumerable<string?[]> rows)
    {
        var schema = new ParquetSchema(columns.Select(column => new DataField<string>(column)));
        await using var stream = File.Create(path);
        await using var writer = await ParquetWriter.CreateAsync(schema, stream, cancellationToken: TestContext.Current.CancellationToken);
        foreach (var chunk in rows.Chunk(rowsOfGroup))
        {
            using var group = writer.CreateRowGroup();
            for (var column = 0; column < columns.Length; column++)
                await group.WriteAsync(schema.DataFields[column], chunk.Select(row => row[column]!).ToArray());
        }
    }

    private void Fails(string says)
    {
        var e = Assert.Throws<DataException>(() => TextCorpus.Open(_folder["a.parquet"], _folder["out"]));
        Assert.StartsWith($"'{_folder["a.parquet"]}': ", e.Message, StringComparison.Ordinal);
        Assert.Contains(says, e.Message, StringComparison.Ordinal);
    }
}

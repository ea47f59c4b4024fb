using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.Json;

namespace MatFormer.Runtime.Tests.Data;

/// <summary>Files whose records are documents or pairs.</summary>
public sealed class RecordTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose()
    {
        RecordFormats.Remove(".lines");
        _folder.Dispose();
    }

    [Fact]
    public void EachLineOfJsonLinesIsADocument()
    {
        string[] texts = [.. Texts(100), "Zeile 1\nZeile 2 \"ä\" \ud83d\ude00", "  ", ""];
        File.WriteAllText(_folder["a.jsonl"], "\uFEFF" + string.Concat(texts.Index().Select(text =>
            $"{{\"id\": {text.Index}, \"more\": {{\"text\": \"no\"}}, \"text\": {JsonSerializer.Serialize(text.Item)}}}\r\n\n")));
        using var corpus = TextCorpus.Open(_folder["a.jsonl"], _folder["out"]);
        Assert.Equal(
            texts[..^2].Select(text => text + "\n\n").Order(StringComparer.Ordinal),
            TextCorpusTests.Documents(corpus.Training).Concat(TextCorpusTests.Documents(corpus.Validation)).Order(StringComparer.Ordinal));

        // The last line needs no line end, and names may be in upper case.
        WriteLines("b.JSONL", texts);
        File.WriteAllText(_folder["b.JSONL"], File.ReadAllText(_folder["b.JSONL"]).TrimEnd('\n'));
        using var other = TextCorpus.Open(_folder["b.JSONL"], _folder["out2"]);
        Assert.Equal(corpus.Fingerprint, other.Fingerprint);
    }

    [Fact]
    public void ALineMayBeLongerThanTheBuffer()
    {
        var line = new string('x', 10) + " " + string.Join(' ', Enumerable.Range(0, 500_000));
        WriteLines("a.jsonl", ["first", line, "last"]);
        using var corpus = TextCorpus.Open(_folder["a.jsonl"], _folder["out"]);
        var documents = TextCorpusTests.Documents(corpus.Training).Concat(TextCorpusTests.Documents(corpus.Validation)).ToList();
        Assert.Contains("first\n\n", documents);
        Assert.Contains("last\n\n", documents);
        var pieces = documents.Where(text => text is not ("first\n\n" or "last\n\n")).Select(text => text[..^2]).ToList();
        Assert.Equal(line.Count(c => c != ' '), pieces.Sum(piece => piece.Count(c => c != ' ')));
        Assert.All(pieces, piece => Assert.Contains(piece, line, StringComparison.Ordinal));
    }

    [Fact]
    public void JsonLinesMayBeZipped()
    {
        WriteLines("a.jsonl", Texts(100));
        Zip("a.jsonl", "b.jsonl.gz");
        using var corpus = TextCorpus.Open(_folder["a.jsonl"], _folder["out"]);
        using var zipped = TextCorpus.Open(_folder["b.jsonl.gz"], _folder["out2"]);
        Assert.Equal(corpus.Fingerprint, zipped.Fingerprint);

        File.WriteAllLines(
            _folder["c.jsonl"],
            Enumerable.Range(0, 30).Select(i => $$"""{"document": "answer {{i}}", "query": "query {{i}}"}"""));
        Zip("c.jsonl", "d.jsonl.gz");
        Assert.Equal(PairCorpus.Open(_folder["c.jsonl"]).Fingerprint, PairCorpus.Open(_folder["d.jsonl.gz"]).Fingerprint);
    }

    [Fact]
    public void ADamagedZipIsRefused()
    {
        WriteLines("a.jsonl", Texts(100));
        Zip("a.jsonl", "a.jsonl.gz");
        var file = File.ReadAllBytes(_folder["a.jsonl.gz"]);
        foreach (var damaged in new[] { file[..^10], file[..(file.Length / 2)], [.. file[..^6], (byte)(file[^6] ^ 1), .. file[^5..]] })
        {
            File.WriteAllBytes(_folder["a.jsonl.gz"], damaged);
            Fails("a.jsonl.gz");
        }
    }

    [Theory]
    [InlineData("{\"text\": \"a\"", "not valid JSON (byte 13: ")]
    [InlineData("text", "not valid JSON (byte 2: ")]
    [InlineData("{\"text\": \"a\"} {}", "not valid JSON (byte 15: ")]
    [InlineData("{\"content\": \"a\"}", "needs a string \"text\", as in {\"text\": \"...\"}")]
    [InlineData("{\"text\": null}", "needs a string \"text\"")]
    [InlineData("{\"text\": [\"a\"]}", "needs a string \"text\"")]
    [InlineData("[\"text\"]", "needs a string \"text\"")]
    [InlineData("\"text\"", "needs a string \"text\"")]
    [InlineData("{\"text\": \"a \\ud83d\"}", "unpaired surrogate")]
    [InlineData("{\"text\": \"\\ude00 a\"}", "unpaired surrogate")]
    public void ABrokenLineIsRefusedWithFileAndLine(string line, string says)
    {
        var texts = _folder.WriteTexts();
        File.WriteAllText(Path.Combine(texts, "a.jsonl"), $"{{\"text\": \"a\"}}\n\n{line}\n");
        Fails("texts", "a.jsonl", "line 3", says);
    }

    [Fact]
    public void BytesThatAreNotUtf8AreRefused()
    {
        File.WriteAllBytes(_folder["a.jsonl"], [.. "{\"text\": \""u8, 0xC3, .. "\"}"u8]);
        Fails("a.jsonl", "line 1", "not UTF-8");
    }

    [Fact]
    public void AProgramMayAddAFormat()
    {
        var texts = Texts(100).ToArray();
        RecordFormats.Add(".lines", (file, columns) => ReadLines(file, columns.Count));
        File.WriteAllLines(_folder["a.LINES"], texts);
        WriteLines("a.jsonl", texts);
        using var corpus = TextCorpus.Open(_folder["a.LINES"], _folder["out"]);
        using var same = TextCorpus.Open(_folder["a.jsonl"], _folder["out2"]);
        Assert.Equal(same.Fingerprint, corpus.Fingerprint);

        File.WriteAllLines(_folder["b.lines"], Enumerable.Range(0, 30).Select(i => $"query {i}|answer {i}"));
        File.WriteAllLines(_folder["c.tsv"], Enumerable.Range(0, 30).Select(i => $"query {i}\tanswer {i}"));
        Assert.Equal(PairCorpus.Open(_folder["c.tsv"]).Fingerprint, PairCorpus.Open(_folder["b.lines"]).Fingerprint);
        File.AppendAllText(_folder["b.lines"], "query 30| \n");
        var e = Assert.Throws<DataException>(() => PairCorpus.Open(_folder["b.lines"]));
        Assert.Equal($"'{_folder["b.lines"]}': the query or the document of pair 31 is empty; write both, or remove the pair.", e.Message);
        Assert.Throws<ArgumentException>(() => RecordFormats.Add("lines", (file, columns) => []));

        static IEnumerable<string[]> ReadLines(Stream file, int columns)
        {
            var reader = new StreamReader(file);
            while (reader.ReadLine() is { } line) yield return line.Split('|', columns);
        }
    }

    [Fact]
    public void AFormatOfAPackageThatIsMissingNamesThePackage()
    {
        RecordFormats.Remove(".parquet");
        File.WriteAllText(_folder["a.parquet"], "PAR1");
        Action[] all = [() => TextCorpus.Open(_folder["a.parquet"], _folder["out"]), () => PairCorpus.Open(_folder.Path)];
        foreach (var open in all)
        {
            var e = Assert.Throws<DataException>(open);
            Assert.Contains(_folder["a.parquet"], e.Message, StringComparison.Ordinal);
            Assert.Contains("dotnet add package MatFormer.Extensions.Parquet", e.Message, StringComparison.Ordinal);
            Assert.Contains("ParquetData.Register(); before ModelProgram.RunAsync", e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void ProgressCountsTheBytesOfAllFilesAndOfTheText()
    {
        var texts = _folder.WriteTexts();
        WriteLines("texts/a.jsonl", Texts(20_000));
        Zip("texts/a.jsonl", "texts/b.jsonl.gz");
        using var learn = TextCorpus.Open(texts, _folder["learn"]);
        var tokenizer = Tokenizer.Train(learn, new TokenizerOptions { Vocabulary = 300 });
        var reports = new Reports();
        using (TextCorpus.Open(texts, _folder["out"], tokenizer, progress: reports)) { }
        var total = Directory.GetFiles(texts).Sum(file => new FileInfo(file).Length);
        var reading = reports.Where(report => report.Step == "reading text").ToList();
        Assert.True(reading.Count >= 3);
        Assert.All(reading, report => Assert.Equal(total, report.Total));
        Assert.Equal(reading.Select(report => report.Done).Distinct().Order(), reading.Select(report => report.Done));
        Assert.Equal(total, reading[^1].Done);

        var encoding = reports.Skip(reading.Count).ToList();
        var bytes = learn.Training.Bytes + learn.Validation.Bytes;
        Assert.All(encoding, report => Assert.Equal(("encoding text", bytes), (report.Step, report.Total)));
        Assert.Equal(encoding.Select(report => report.Done).Distinct().Order(), encoding.Select(report => report.Done));
        Assert.Equal(encoding[^1].Total, encoding[^1].Done);

        // Nothing is reported if nothing is prepared.
        reports.Clear();
        using (TextCorpus.Open(texts, _folder["out"], tokenizer, progress: reports)) { }
        Assert.Empty(reports);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void CancellingBetweenRecordsLeavesNothing(int after)
    {
        WriteLines("a.jsonl", Texts(40_000));
        var before = _folder.Files;
        using var cancelled = new CancellationTokenSource();
        var reports = new Reports();
        reports.Reported += () =>
        {
            if (reports.Count == after) cancelled.Cancel();
        };
        Assert.ThrowsAny<OperationCanceledException>(
            () => TextCorpus.Open(_folder["a.jsonl"], _folder["out"], progress: reports, cancellationToken: cancelled.Token));
        Assert.Equal(after, reports.Count);
        Assert.Equal(before, _folder.Files);
    }

    private sealed class Reports : List<PreparationProgress>, IProgress<PreparationProgress>
    {
        public event Action? Reported;

        public void Report(PreparationProgress value)
        {
            Add(value);
            Reported?.Invoke();
        }
    }

    private static IEnumerable<string> Texts(int count) => Enumerable.Range(0, count).Select(i => string.Create(
        CultureInfo.InvariantCulture, $"Document {i}: {new string((char)('a' + (i % 26)), 30 + (count < 1000 ? 800 : i % 100))} ends."));

    private void WriteLines(string name, IEnumerable<string> texts) => File.WriteAllText(
        _folder[name], string.Concat(texts.Select(text => $"{{\"text\": {JsonSerializer.Serialize(text)}}}\n")), Encoding.UTF8);

    private void Zip(string from, string to)
    {
        using var stream = new GZipStream(File.Create(_folder[to]), CompressionLevel.Fastest);
        stream.Write(File.ReadAllBytes(_folder[from]));
    }

    private void Fails(params string[] says)
    {
        var before = _folder.Files;
        var e = Assert.Throws<DataException>(() => TextCorpus.Open(_folder[says[0]], _folder["out"]));
        Assert.All(says, text => Assert.Contains(text, e.Message, StringComparison.Ordinal));
        Assert.Equal(before, _folder.Files);
    }
}

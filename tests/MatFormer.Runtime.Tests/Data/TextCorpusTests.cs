using System.Text;

namespace MatFormer.Runtime.Tests.Data;

public sealed class TextCorpusTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void TheSplitDependsOnTheTextsAlone()
    {
        using var corpus = TextCorpus.Open(_folder.WriteTexts(), _folder["out"]);
        Assert.Equal(60, corpus.Files);
        Assert.Equal(60, corpus.Training.Documents + corpus.Validation.Documents);
        Assert.InRange(corpus.Validation.Bytes, 16384, 20000);

        // The same texts are in another folder, under other names and in another order.
        Directory.CreateDirectory(_folder["other"]);
        foreach (var file in Directory.GetFiles(_folder["texts"]))
            File.Copy(file, Path.Combine(_folder["other"], $"{99 - int.Parse(Path.GetFileNameWithoutExtension(file))}.md"));
        using var other = TextCorpus.Open(_folder["other"], _folder["out2"]);
        Assert.Equal(Documents(corpus.Validation), Documents(other.Validation));
        Assert.Equal(Documents(corpus.Training), Documents(other.Training));
        Assert.Empty(Documents(corpus.Validation).Intersect(Documents(corpus.Training)));
    }

    [Fact]
    public void ThePreparedFileIsUsedUntilASourceChanges()
    {
        var texts = _folder.WriteTexts();
        DateTime Prepared() => File.GetLastWriteTimeUtc(_folder["out/corpus.bin"]);
        string first;
        using (var corpus = TextCorpus.Open(texts, _folder["out"])) first = corpus.Fingerprint;
        File.SetLastWriteTimeUtc(_folder["out/corpus.bin"], new DateTime(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        var stamp = Prepared();
        using (var corpus = TextCorpus.Open(texts, _folder["out"])) Assert.Equal(first, corpus.Fingerprint);
        Assert.Equal(stamp, Prepared());

        File.AppendAllText(Path.Combine(texts, "00.txt"), "More.");
        using (var corpus = TextCorpus.Open(texts, _folder["out"])) Assert.NotEqual(first, corpus.Fingerprint);
        Assert.NotEqual(stamp, Prepared());

        File.WriteAllText(_folder["out/corpus.bin"], "damaged");
        using (var corpus = TextCorpus.Open(texts, _folder["out"])) Assert.Equal(60, corpus.Files);
        Assert.DoesNotContain(_folder.Files, f => f.Contains(".tmp", StringComparison.Ordinal));
    }

    [Fact]
    public void OneLargeFileIsSplitAtLines()
    {
        var lines = string.Concat(Enumerable.Range(0, 20_000).Select(i => $"line {i} of the file\r\n"));
        File.WriteAllText(_folder["big.txt"], "\uFEFF" + lines);
        using var corpus = TextCorpus.Open(_folder["big.txt"], _folder["out"]);
        var documents = Documents(corpus.Training).Concat(Documents(corpus.Validation)).ToList();
        Assert.True(documents.Count > 20);
        Assert.All(documents, d => Assert.InRange(Encoding.UTF8.GetByteCount(d), 1, (1 << 14) + 2));
        var expected = lines.Split("\r\n", StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal);
        Assert.Equal(expected,
            documents.SelectMany(d => d.Split('\n', StringSplitOptions.RemoveEmptyEntries)).Order(StringComparer.Ordinal));
        Assert.All(documents, d => Assert.EndsWith("file\n\n", d, StringComparison.Ordinal));
    }

    [Fact]
    public void AFileLargerThanTheBufferIsReadCompletely()
    {
        // The text has no line ends, and its characters take two bytes. It may be cut between characters only.
        var text = string.Concat(Enumerable.Range(0, 900_000).Select(i => (char)('à' + (i * 7919 % 30))));
        File.WriteAllText(_folder["big.txt"], text);
        using var corpus = TextCorpus.Open(_folder["big.txt"], _folder["out"]);
        var documents = Documents(corpus.Training).Concat(Documents(corpus.Validation)).ToList();
        Assert.DoesNotContain(documents, d => d.Contains('\uFFFD', StringComparison.Ordinal));

        // The text repeats itself. Duplicate pieces are left out, and all other pieces are parts of the text.
        Assert.Equal(documents.Count, documents.Distinct().Count());
        Assert.All(documents, d => Assert.Contains(d.Trim(), text, StringComparison.Ordinal));
    }

    [Fact]
    public void DuplicatesBinariesAndHiddenFilesAreLeftOut()
    {
        var texts = _folder.WriteTexts();
        File.Copy(Path.Combine(texts, "07.txt"), Path.Combine(texts, "copy.txt"));
        File.WriteAllBytes(Path.Combine(texts, "image.bin"), [1, 0, 2]);
        Directory.CreateDirectory(Path.Combine(texts, ".git"));
        File.WriteAllText(Path.Combine(texts, ".git", "config"), "hidden");
        using var corpus = TextCorpus.Open(texts, _folder["out"]);
        Assert.Equal(60, corpus.Training.Documents + corpus.Validation.Documents);
        Assert.Equal((61, 1), (corpus.Files, corpus.SkippedFiles));
        Assert.Contains("1 left out", corpus.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public void TheOutputFolderIsNotRead()
    {
        _folder.WriteTexts();
        var output = _folder["out"];
        string first;
        using (var corpus = TextCorpus.Open(_folder.Path, output)) first = corpus.Fingerprint;
        File.WriteAllText(_folder["out/metrics.jsonl"], "not to be learnt");
        using (var corpus = TextCorpus.Open(_folder.Path, output)) Assert.Equal(first, corpus.Fingerprint);
        using (var corpus = TextCorpus.Open(_folder["**/*.*"], output)) Assert.Equal(first, corpus.Fingerprint);

        // Text beside the files of the output is read.
        using (var corpus = TextCorpus.Open(_folder["texts"], _folder.Path)) Assert.Equal(first, corpus.Fingerprint);
    }

    [Theory]
    [InlineData("nowhere", "does not exist")]
    [InlineData("empty", "has no files")]
    [InlineData("texts/*.md", "No file matches")]
    [InlineData("small", "at least 65536")]
    public void MissingOrTooLittleDataIsRefused(string data, string says)
    {
        _folder.WriteTexts();
        _folder.WriteTexts("small", documents: 3);
        Directory.CreateDirectory(_folder["empty"]);
        var before = _folder.Files;
        var e = Assert.Throws<DataException>(() => TextCorpus.Open(_folder[data], _folder["out"]));
        Assert.Contains(_folder[data], e.Message, StringComparison.Ordinal);
        Assert.Contains(says, e.Message, StringComparison.Ordinal);
        Assert.Equal(before, _folder.Files);
    }

    [Fact]
    public void ACancelledPreparationLeavesNoFiles()
    {
        var texts = _folder.WriteTexts();
        var before = _folder.Files;
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => TextCorpus.Open(texts, _folder["out"], cancellationToken: cancelled.Token));
        Assert.Equal(before, _folder.Files);
    }

    [Theory]
    [InlineData("*.txt", "a.txt", true)]
    [InlineData("*.txt", "b/a.txt", false)]
    [InlineData("**", "b/a.txt", true)]
    [InlineData("**/*.txt", "a.txt", true)]
    [InlineData("**/*.txt", "b/c/a.txt", true)]
    [InlineData("**/c/*.txt", "b/c/a.txt", true)]
    [InlineData("b/**/a.*", "b/a.md", true)]
    [InlineData("b/?.md", "b/a.md", true)]
    [InlineData("b/?.md", "b/aa.md", false)]
    [InlineData("**/*.txt", "a.md", false)]
    public void GlobsMatchPaths(string pattern, string path, bool matches) =>
        Assert.Equal(matches, DataSources.Matches(path.Split('/'), pattern.Split('/')));

    [Fact]
    public void TheNewestSdkDocumentationIsFound()
    {
        foreach (var path in new[] { "B.App.Ref/9.0.1/ref/net9.0/Old.xml", "B.App.Ref/10.0.2/ref/net10.0/B.xml",
            "Microsoft.NETCore.App.Ref/10.0.10/ref/net10.0/A.xml", "Microsoft.NETCore.App.Ref/10.0.9/ref/net10.0/A.xml" })
        {
            var file = _folder["packs/" + path];
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.WriteAllText(file, "<doc/>");
        }

        var found = DataSources.SdkDocumentation([_folder["nowhere"], _folder.Path]);
        Assert.Equal(["Microsoft.NETCore.App.Ref/10.0.10/ref/net10.0/A.xml", "B.App.Ref/10.0.2/ref/net10.0/B.xml"],
            found.Select(f => Path.GetRelativePath(_folder["packs"], f)));
        var e = Assert.Throws<DataException>(() => DataSources.SdkDocumentation([_folder["nowhere"]]));
        Assert.Contains("--data", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1000)] // the text
    [InlineData(-140)] // the records
    [InlineData(-60)] // the hash of the text
    public void ADamagedPreparedTextIsReportedAndMadeAgain(int place)
    {
        var (texts, path) = (_folder.WriteTexts(), _folder["out/corpus.bin"]);
        using (TextCorpus.Open(texts, _folder["out"])) { }
        var whole = File.ReadAllBytes(path);
        var damaged = whole.ToArray();
        damaged[place < 0 ? damaged.Length + place : place] ^= 1;
        File.WriteAllBytes(path, damaged);
        using var log = new StringWriter();
        using (TextCorpus.Open(texts, _folder["out"], logger: new LineLogger(log))) { }
        Assert.Equal(whole, File.ReadAllBytes(path));
        Assert.Contains($"'{path}' is damaged", log.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void EveryEpochTakesEachWindowOnce()
    {
        using var corpus = TextCorpus.Open(_folder.WriteTexts(), _folder["out"]);
        const int Context = 500;
        const int Batch = 3;
        var batches = new TrainingBatches(corpus.Training, Context, Batch, seed: 4);
        var windows = corpus.Training.Windows(Context);
        var epochs = new List<HashSet<string>> { new(), new() };
        var batch = (TokenBatch)batches.NewBatch();
        for (long step = 1; ((step - 1) * Batch) + Batch <= 2 * windows; step++)
        {
            batches.Fill(step, batch);
            for (var row = 0; row < Batch; row++)
            {
                var index = ((step - 1) * Batch) + row;
                var window = batch.Tokens.AsSpan(row * Context, Context);
                Assert.True(epochs[(int)(index / windows)].Add(string.Join(',', window.ToArray())));
                Assert.Equal(window[1..].ToArray(), batch.Targets.AsSpan(row * Context, Context - 1).ToArray());
            }
        }

        Assert.Equal(windows, epochs[0].Count);
        Assert.NotEqual(epochs[0], epochs[1]);
    }

    [Fact]
    public void ABatchDependsOnSeedAndStepAlone()
    {
        using var corpus = TextCorpus.Open(_folder.WriteTexts(), _folder["out"]);
        long[] Batch(TrainingBatches batches, long step)
        {
            var batch = (TokenBatch)batches.NewBatch();
            batches.Fill(step, batch);
            return batch.Tokens;
        }

        var one = new TrainingBatches(corpus.Training, 16, 4, seed: 1);
        var late = corpus.Training.Windows(16) / 2;
        var (first, second) = (Batch(one, 1), Batch(one, late));
        var two = new TrainingBatches(corpus.Training, 16, 4, seed: 1);
        Assert.Equal(second, Batch(two, late));
        Assert.Equal(first, Batch(two, 1));
        Assert.NotEqual(first, second);
        Assert.NotEqual(first, Batch(new TrainingBatches(corpus.Training, 16, 4, seed: 2), 1));
    }

    [Fact]
    public void ValidationWindowsAreSpreadAndFixed()
    {
        using var corpus = TextCorpus.Open(_folder.WriteTexts(), _folder["out"]);
        var few = Windows.Fixed(corpus.Validation, 100, 5).ToList();
        Assert.Equal(5, few.Count);
        Assert.Equal(few, Windows.Fixed(corpus.Validation, 100, 5).ToList());
        var all = Windows.Fixed(corpus.Validation, 100, int.MaxValue).ToList();
        Assert.Equal(corpus.Validation.Windows(100), all.Count);
        Assert.Equal(all[0], few[0]);
        var e = Assert.Throws<DataException>(() => corpus.Validation.Windows(1 << 20));
        Assert.Contains("validation", e.Message, StringComparison.Ordinal);
    }

    internal static List<string> Documents(CorpusSplit split)
    {
        var bytes = new byte[split.Bytes];
        split.Text.Read(0, bytes);
        return [.. split.Lengths.Select(DocumentAt).Order(StringComparer.Ordinal)];

        string DocumentAt(int length, int index) => Encoding.UTF8.GetString(bytes, split.Lengths.Take(index).Sum(), length);
    }
}

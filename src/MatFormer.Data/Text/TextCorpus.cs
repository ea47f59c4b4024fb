using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace MatFormer;

/// <summary>
/// Text for training and validation. It is prepared once, into a memory-mapped file of documents without duplicates. A hash of each
/// document's content decides whether it is for training or for validation. Unless bytes are the tokens, the text is also encoded once,
/// into a memory-mapped file of tokens.
/// </summary>
/// <example>
/// <code>
/// using var corpus = TextCorpus.Open("docs", "out/cache");
/// Console.WriteLine(corpus.Describe());
/// </code>
/// </example>
public sealed class TextCorpus : TrainingData
{
    /// <summary>The minimum size of a corpus in bytes.</summary>
    public const int MinimumBytes = 1 << 16;

    /// <summary>The maximum size of text that is used of the SDK's documentation, in bytes.</summary>
    public const int DefaultCorpusLimit = 32_000_000;

    private readonly MappedFile _text;
    private MappedFile? _tokens;

    private TextCorpus(string source, string path, MappedFile text, CorpusFile.Footer footer, long[] offsets, int[] lengths)
    {
        Source = source;
        Path = path;
        Fingerprint = Convert.ToHexStringLower(footer.ContentHash);
        Files = footer.Files;
        SkippedFiles = footer.SkippedFiles;
        _text = text;
        var middle = footer.TrainingDocuments;
        Training = NewSplit("training", new Documents(text, 1, offsets[..middle], lengths[..middle]));
        Validation = NewSplit("validation", new Documents(text, 1, offsets[middle..], lengths[middle..]));

        CorpusSplit NewSplit(string name, Documents documents) => new(this, name, documents, documents);
    }

    /// <inheritdoc/>
    public override string Source { get; }

    /// <summary>The path of the prepared text.</summary>
    public string Path { get; }

    /// <inheritdoc/>
    public override string Fingerprint { get; }

    /// <summary>The number of files that were read.</summary>
    public int Files { get; }

    /// <summary>The number of files that were left out because they are not text (they contain zero bytes).</summary>
    public int SkippedFiles { get; }

    /// <summary>The tokenizer of the text.</summary>
    public Tokenizer Tokenizer { get; private set; } = Tokenizer.ByteLevel;

    /// <summary>The part for training.</summary>
    public CorpusSplit Training { get; private set; }

    /// <summary>The part for validation: about 3% of the text, the documents with the smallest hashes.</summary>
    public CorpusSplit Validation { get; private set; }

    /// <summary>
    /// Opens the text of a file, a folder or a glob. XML documentation becomes plain text without tags, with one document per type. Each
    /// line of .jsonl and .jsonl.gz, <c>{"text": ...}</c>, is a document, and so is the column <c>text</c> of each record of other formats
    /// (<see cref="RecordFormats"/>). Other files are text as they are. Documents of more than 16 KiB are cut into several. The prepared
    /// files are kept in <paramref name="cacheFolder"/> and reused until the sources or the tokenizer change. Their hashes are checked
    /// here, and a damaged file is made again. The files may be larger than memory.
    /// </summary>
    /// <param name="data">A file, folder or glob, or null for the XML documentation of the .NET SDK.</param>
    /// <param name="cacheFolder">The folder for the prepared files. It is not read as data, even if it is below a data folder.</param>
    /// <param name="tokenizer">The tokenizer, or null for bytes.</param>
    /// <param name="logger">The logger that reports what is prepared.</param>
    /// <param name="progress">Gets the progress of the preparation. It is not called if nothing has to be prepared.</param>
    /// <param name="cancellationToken">Cancels the preparation; nothing is left behind.</param>
    /// <exception cref="DataException">The data is missing, damaged, empty or too small.</exception>
    public static TextCorpus Open(
        string? data, string cacheFolder, Tokenizer? tokenizer = null, ILogger? logger = null,
        IProgress<PreparationProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(cacheFolder);
        logger ??= NullLogger.Instance;
        var source = data is null ? "the XML documentation of the .NET SDK" : $"'{data}'";
        TextCorpus? corpus = null;
        try
        {
            var folder = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(cacheFolder));
            corpus = OpenText(data, source, folder, logger, progress, cancellationToken);
            corpus.Place = PlaceOf(data);
            if (tokenizer is { IsByteLevel: false })
                corpus.UseTokens(tokenizer, System.IO.Path.Combine(folder, "tokens.bin"), logger, progress, cancellationToken);
            return corpus;
        }
        catch (Exception e)
        {
            corpus?.Dispose();
            if (e is IOException or UnauthorizedAccessException && e is not DataException)
                throw new DataException($"The data {source} cannot be prepared: {e.Message}", e);
            throw;
        }
    }

    /// <summary>Returns one line that says what the text is and how much there is.</summary>
    public string Describe() => string.Create(
        CultureInfo.InvariantCulture,
        $"{Source}: {Counted.Of(Files, "file")}{(SkippedFiles > 0 ? $" ({SkippedFiles} left out, not text)" : string.Empty)}, "
        + $"{Counted.Of(Training.Documents + Validation.Documents, "document")}, {Training.Bytes / 1e6:0.00} MB to train on, "
        + $"{Validation.Bytes / 1e6:0.00} MB to validate on; tokens: {Tokenizer.Describe()}{(Tokenizer.IsByteLevel ? string.Empty
            : string.Create(CultureInfo.InvariantCulture, $", of {Training.BytesPerToken:0.00} bytes each"))}");

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing) return;
        _text.Dispose();
        _tokens?.Dispose();
    }

    /// <inheritdoc/>
    internal override Tokenizer TextTokenizer => Tokenizer;

    /// <summary>
    /// Returns the text that a token stands for. The token between documents stands for the blank line that it replaces. The other tokens
    /// that are added around documents stand for nothing.
    /// </summary>
    internal ReadOnlySpan<byte> TextOf(int token) => token == Tokenizer.EndOfText ? CorpusFile.BlankLine
        : Tokenizer.Before.Contains(token) || Tokenizer.After.Contains(token) ? [] : Tokenizer.BytesOf(token);

    private static TextCorpus OpenText(
        string? data, string source, string folder, ILogger logger, IProgress<PreparationProgress>? progress,
        CancellationToken cancellationToken)
    {
        var files = data is null ? DataSources.SdkDocumentation() : DataSources.Find(data, exclude: folder);
        long limit = data is null ? DefaultCorpusLimit : long.MaxValue;
        var key = Key(files, limit);
        var path = System.IO.Path.Combine(folder, "corpus.bin");
        if (Map(source, path, key, logger, cancellationToken) is { } prepared) return prepared;

        logger.LogInformation("Preparing text from {Source} ({Files}).", source, Counted.Of(files.Count, "file"));
        CorpusFile.Write(path, files, limit, key, source, progress, cancellationToken);
        return Map(source, path, key, logger, cancellationToken)
            ?? throw new DataException($"The prepared text '{path}' changed while it was opened; run again.");
    }

    private static TextCorpus? Map(string source, string path, byte[] key, ILogger logger, CancellationToken cancellationToken)
    {
        if (!File.Exists(path) || new FileInfo(path).Length == 0) return null;
        var file = new MappedFile(path);
        try
        {
            if (CorpusFile.ReadFooter(file) is { } footer && footer.Key.AsSpan().SequenceEqual(key))
            {
                if (CorpusFile.ReadRecords(file, footer, cancellationToken) is var (offsets, lengths))
                    return new TextCorpus(source, path, file, footer, offsets, lengths);
                logger.LogWarning("The prepared text '{Path}' is damaged, so it is made again.", path);
            }
        }
        catch
        {
            file.Dispose();
            throw;
        }

        file.Dispose();
        return null;
    }

    private void UseTokens(
        Tokenizer tokenizer, string path, ILogger logger, IProgress<PreparationProgress>? progress, CancellationToken cancellationToken)
    {
        var hash = Convert.FromHexString(Fingerprint);
        var documents = Training.Documents + Validation.Documents;
        if (!MapTokens(tokenizer, path, hash, documents, cancellationToken))
        {
            logger.LogInformation("Encoding text ({Tokenizer}).", tokenizer.Describe());
            var (reported, bytes) = (0, 0L);
            TokenFile.Write(
                path, tokenizer, hash, documents,
                i => i < Training.Documents ? Training.ReadDocument(i) : Validation.ReadDocument(i - Training.Documents),
                encoded =>
                {
                    for (; reported < encoded; reported++) bytes += LengthOf(reported);
                    progress?.Report(new PreparationProgress("encoding text", bytes, Training.Bytes + Validation.Bytes));
                },
                cancellationToken);
            if (!MapTokens(tokenizer, path, hash, documents, cancellationToken))
                throw new DataException($"The prepared tokens '{path}' changed while they were opened; run again.");
        }

        Tokenizer = tokenizer;

        int LengthOf(int i) => i < Training.Documents ? Training.Lengths[i] : Validation.Lengths[i - Training.Documents];
    }

    private bool MapTokens(Tokenizer tokenizer, string path, byte[] hash, int documents, CancellationToken cancellationToken)
    {
        if (!File.Exists(path) || new FileInfo(path).Length == 0) return false;
        var file = new MappedFile(path);
        (int Width, long[] Offsets, int[] Lengths)? found = null;
        try
        {
            found = TokenFile.Read(file, tokenizer, hash, documents, cancellationToken);
        }
        finally
        {
            if (found is null) file.Dispose();
        }

        if (found is not var (width, offsets, lengths)) return false;
        _tokens = file;
        var middle = Training.Documents;
        Training = Training.With(new Documents(file, width, offsets[..middle], lengths[..middle]));
        Validation = Validation.With(new Documents(file, width, offsets[middle..], lengths[middle..]));
        return true;
    }

    // The prepared file is reused while the paths, sizes and times of its sources stay the same.
    private static byte[] Key(List<string> files, long limit)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{CorpusFile.Version}\n{limit}\n")));
        foreach (var path in files)
        {
            var info = new FileInfo(path);
            hash.AppendData(Encoding.UTF8.GetBytes(
                string.Create(CultureInfo.InvariantCulture, $"{path}\n{info.Length}\n{info.LastWriteTimeUtc.Ticks}\n")));
        }

        return hash.GetHashAndReset();
    }
}

/// <summary>
/// One part of a corpus: a sequence of documents. A blank line follows each document, or the tokenizer's token between documents if it has
/// one.
/// </summary>
public sealed class CorpusSplit
{
    private readonly TextCorpus _corpus;
    private readonly Documents _text;
    private readonly Documents _tokens;

    internal CorpusSplit(TextCorpus corpus, string name, Documents text, Documents tokens)
    {
        _corpus = corpus;
        _text = text;
        _tokens = tokens;
        Name = name;
        int[] order = [.. Enumerable.Range(0, text.Count)];
        Text = new DocumentOrder(text, order);
        Stored = new DocumentOrder(tokens, order);
    }

    /// <summary>The name of the part: training or validation.</summary>
    public string Name { get; }

    /// <summary>The number of documents.</summary>
    public int Documents => _text.Count;

    /// <summary>The size of the text in bytes, including the blank lines between documents.</summary>
    public long Bytes => _text.Total;

    /// <summary>The number of tokens, including those between documents.</summary>
    public long Tokens => _tokens.Total;

    /// <summary>The average number of bytes of text per token.</summary>
    public double BytesPerToken => (double)Bytes / Tokens;

    /// <summary>The size of each document in bytes, in stored order.</summary>
    internal IReadOnlyList<int> Lengths => _text.Lengths;

    /// <summary>The text of the documents in stored order.</summary>
    internal DocumentOrder Text { get; }

    /// <summary>The tokens of the documents in stored order.</summary>
    internal DocumentOrder Stored { get; }

    /// <summary>Returns the tokens of the documents in a different order for each seed and epoch.</summary>
    internal DocumentOrder Shuffled(long seed, long epoch)
    {
        var order = Enumerable.Range(0, Documents).ToArray();
        new CounterRandom(seed, RandomPurpose.DocumentOrder, epoch).Shuffle(order);
        return new DocumentOrder(_tokens, order);
    }

    /// <summary>Returns the same text with other tokens.</summary>
    internal CorpusSplit With(Documents tokens) => new(_corpus, Name, _text, tokens);

    /// <summary>Returns the text of a document.</summary>
    internal byte[] ReadDocument(int document)
    {
        var bytes = new byte[_text.Lengths[document]];
        _text.Read(document, 0, bytes);
        return bytes;
    }

    /// <summary>
    /// Returns the number of windows of <paramref name="length"/> tokens. Windows do not overlap, and one more token follows each window,
    /// as its last target.
    /// </summary>
    /// <exception cref="DataException">The text is shorter than one window.</exception>
    internal long Windows(int length)
    {
        var count = (Tokens - 1) / length;
        return count > 0 ? count : throw new DataException(
            $"The {Name} part of {_corpus.Source} has {Tokens} tokens, but a context of {length} needs {length + 1}; give more text.");
    }
}

using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace MatFormer;

/// <summary>
/// Text, prepared once into one memory-mapped file of documents without duplicates, split into a training and a validation part by a hash
/// of each document's content, and encoded once into a memory-mapped file of tokens, unless bytes are the tokens.
/// </summary>
public sealed class TextCorpus : TrainingData
{
    /// <summary>The least text that a corpus must hold, in bytes.</summary>
    public const int MinimumBytes = 1 << 16;

    /// <summary>The most text of the SDK's documentation that is used, in bytes.</summary>
    public const int DefaultCorpusLimit = 32_000_000;

    private readonly MappedFile _text;
    private MappedFile? _tokens;

    private TextCorpus(string source, string path, MappedFile text, CorpusFile.Footer footer)
    {
        Source = source;
        Path = path;
        Fingerprint = Convert.ToHexStringLower(footer.ContentHash);
        Files = footer.Files;
        SkippedFiles = footer.SkippedFiles;
        _text = text;
        var (offsets, lengths) = CorpusFile.ReadRecords(text, footer);
        var middle = footer.TrainingDocuments;
        Training = NewSplit("training", new Documents(text, 1, offsets[..middle], lengths[..middle]));
        Validation = NewSplit("validation", new Documents(text, 1, offsets[middle..], lengths[middle..]));

        CorpusSplit NewSplit(string name, Documents documents) => new(this, name, documents, documents);
    }

    /// <inheritdoc/>
    public override string Source { get; }

    /// <summary>The prepared file.</summary>
    public string Path { get; }

    /// <inheritdoc/>
    public override string Fingerprint { get; }

    /// <summary>Files that were read.</summary>
    public int Files { get; }

    /// <summary>Files that were left out because they are no text (they have zero bytes).</summary>
    public int SkippedFiles { get; }

    /// <summary>What its tokens are.</summary>
    public Tokenizer Tokenizer { get; private set; } = Tokenizer.ByteLevel;

    /// <summary>What is trained on.</summary>
    public CorpusSplit Training { get; private set; }

    /// <summary>What is measured on: about 3% of the documents, those with the smallest hashes.</summary>
    public CorpusSplit Validation { get; private set; }

    /// <summary>
    /// Opens the text of a file, a folder or a glob; XML documentation is taken as text only, without tags, one document per type. The
    /// prepared files are kept in <paramref name="cacheFolder"/> and used again as long as the sources and the tokenizer stay as they are.
    /// </summary>
    /// <param name="data">A file, folder or glob; null for the XML documentation of the .NET SDK.</param>
    /// <param name="cacheFolder">Where the prepared files are kept; left out if it is below a folder of data.</param>
    /// <param name="tokenizer">What the tokens are; bytes if null.</param>
    /// <param name="logger">Told what is prepared.</param>
    /// <param name="cancellationToken">Stops the preparation; nothing is left behind.</param>
    /// <exception cref="DataException">The data is missing, empty or too small.</exception>
    public static TextCorpus Open(
        string? data, string cacheFolder, Tokenizer? tokenizer = null, ILogger? logger = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(cacheFolder);
        logger ??= NullLogger.Instance;
        var source = data is null ? "the XML documentation of the .NET SDK" : $"'{data}'";
        TextCorpus? corpus = null;
        try
        {
            var folder = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(cacheFolder));
            corpus = OpenText(data, source, folder, logger, cancellationToken);
            if (tokenizer is { IsByteLevel: false })
                corpus.UseTokens(tokenizer, System.IO.Path.Combine(folder, "tokens.bin"), logger, cancellationToken);
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

    /// <summary>One line: what the text is and how much of it.</summary>
    public string Describe() => string.Create(
        CultureInfo.InvariantCulture,
        $"{Source}: {Files} files{(SkippedFiles > 0 ? $" ({SkippedFiles} left out, no text)" : string.Empty)}, "
        + $"{Training.Documents + Validation.Documents} documents, {Training.Bytes / 1e6:0.00} MB to train on, "
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

    /// <summary>The text that a token stands for: of the token between documents the blank line in its place.</summary>
    internal ReadOnlySpan<byte> TextOf(int token) => token == Tokenizer.EndOfText ? CorpusFile.BlankLine : Tokenizer.BytesOf(token);

    private static TextCorpus OpenText(string? data, string source, string folder, ILogger logger, CancellationToken cancellationToken)
    {
        var files = data is null ? DataSources.SdkDocumentation() : DataSources.Find(data, exclude: folder);
        long limit = data is null ? DefaultCorpusLimit : long.MaxValue;
        var key = Key(files, limit);
        var path = System.IO.Path.Combine(folder, "corpus.bin");
        if (Map(source, path, key) is { } prepared) return prepared;

        logger.LogInformation("Preparing text from {Source} ({Files} files).", source, files.Count);
        CorpusFile.Write(path, files, limit, key, source, cancellationToken);
        return Map(source, path, key) ?? throw new DataException($"The prepared text '{path}' changed while it was opened; run again.");
    }

    private static TextCorpus? Map(string source, string path, byte[] key)
    {
        if (!File.Exists(path) || new FileInfo(path).Length == 0) return null;
        var file = new MappedFile(path);
        try
        {
            if (CorpusFile.ReadFooter(file) is { } footer && footer.Key.AsSpan().SequenceEqual(key))
                return new TextCorpus(source, path, file, footer);
        }
        catch
        {
            file.Dispose();
            throw;
        }

        file.Dispose();
        return null;
    }

    private void UseTokens(Tokenizer tokenizer, string path, ILogger logger, CancellationToken cancellationToken)
    {
        var hash = Convert.FromHexString(Fingerprint);
        var documents = Training.Documents + Validation.Documents;
        if (!MapTokens(tokenizer, path, hash, documents))
        {
            logger.LogInformation("Encoding text ({Tokenizer}).", tokenizer.Describe());
            TokenFile.Write(
                path, tokenizer, hash, documents,
                i => i < Training.Documents ? Training.ReadDocument(i) : Validation.ReadDocument(i - Training.Documents),
                cancellationToken);
            if (!MapTokens(tokenizer, path, hash, documents))
                throw new DataException($"The prepared tokens '{path}' changed while they were opened; run again.");
        }

        Tokenizer = tokenizer;
    }

    private bool MapTokens(Tokenizer tokenizer, string path, byte[] hash, int documents)
    {
        if (!File.Exists(path) || new FileInfo(path).Length == 0) return false;
        var file = new MappedFile(path);
        if (TokenFile.Read(file, tokenizer, hash, documents) is not { } found)
        {
            file.Dispose();
            return false;
        }

        _tokens = file;
        var (width, offsets, lengths) = found;
        var middle = Training.Documents;
        Training = Training.With(new Documents(file, width, offsets[..middle], lengths[..middle]));
        Validation = Validation.With(new Documents(file, width, offsets[middle..], lengths[middle..]));
        return true;
    }

    // The prepared file is used again while paths, sizes and times of its sources are the same.
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
/// One part of a corpus: documents one after the other, each followed by a blank line, which is the token between documents if there is
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

    /// <summary>training or validation.</summary>
    public string Name { get; }

    /// <summary>Documents.</summary>
    public int Documents => _text.Count;

    /// <summary>Bytes of text, blank lines between documents included.</summary>
    public long Bytes => _text.Total;

    /// <summary>Tokens, those between documents included.</summary>
    public long Tokens => _tokens.Total;

    /// <summary>Bytes of text that a token stands for, on average.</summary>
    public double BytesPerToken => (double)Bytes / Tokens;

    /// <summary>Bytes of each document, as they are stored.</summary>
    internal IReadOnlyList<int> Lengths => _text.Lengths;

    /// <summary>The text of the documents as they are stored.</summary>
    internal DocumentOrder Text { get; }

    /// <summary>The tokens of the documents as they are stored.</summary>
    internal DocumentOrder Stored { get; }

    /// <summary>The tokens of the documents in an order of their own for each seed and epoch.</summary>
    internal DocumentOrder Shuffled(long seed, long epoch)
    {
        var order = Enumerable.Range(0, Documents).ToArray();
        new CounterRandom(seed, RandomPurpose.DocumentOrder, epoch).Shuffle(order);
        return new DocumentOrder(_tokens, order);
    }

    /// <summary>The same text with other tokens.</summary>
    internal CorpusSplit With(Documents tokens) => new(_corpus, Name, _text, tokens);

    /// <summary>The text of a document.</summary>
    internal byte[] ReadDocument(int document)
    {
        var bytes = new byte[_text.Lengths[document]];
        _text.Read(document, 0, bytes);
        return bytes;
    }

    /// <summary>Windows of <paramref name="length"/> tokens, each followed by the token to predict, that fit one after the other.</summary>
    /// <exception cref="DataException">There is none.</exception>
    internal long Windows(int length)
    {
        var count = (Tokens - 1) / length;
        return count > 0 ? count : throw new DataException(
            $"The {Name} part of {_corpus.Source} has {Tokens} tokens, but a context of {length} needs {length + 1}; give more text.");
    }
}

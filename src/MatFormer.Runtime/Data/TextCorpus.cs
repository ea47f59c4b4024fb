using System.Buffers.Binary;
using System.Globalization;
using System.IO.MemoryMappedFiles;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace MatFormer;

/// <summary>
/// Text as bytes, prepared once into one memory-mapped file of documents without duplicates, and split into a training and a validation
/// part
/// by a hash of each document's content.
/// </summary>
public sealed class TextCorpus : IDisposable
{
    /// <summary>The least text that a corpus must hold, in bytes.</summary>
    public const int MinimumBytes = 1 << 16;

    /// <summary>The most text of the SDK's documentation that is used, in bytes.</summary>
    public const int DefaultCorpusLimit = 32_000_000;

    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _view;
    private readonly unsafe byte* _bytes;
    private bool _disposed;

    private unsafe TextCorpus(string source, string path, MemoryMappedFile file, CorpusFile.Footer footer)
    {
        Source = source;
        Path = path;
        Fingerprint = Convert.ToHexStringLower(footer.ContentHash);
        Files = footer.Files;
        SkippedFiles = footer.SkippedFiles;
        _file = file;
        _view = file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _bytes);
        var records = new ReadOnlySpan<byte>(
            _bytes + footer.DataLength, (footer.TrainingDocuments + footer.ValidationDocuments) * CorpusFile.RecordLength);
        Training = new CorpusSplit(this, "training", records[..(footer.TrainingDocuments * CorpusFile.RecordLength)]);
        Validation = new CorpusSplit(this, "validation", records[(footer.TrainingDocuments * CorpusFile.RecordLength)..]);
    }

    /// <summary>Where the text comes from, in words.</summary>
    public string Source { get; }

    /// <summary>The prepared file.</summary>
    public string Path { get; }

    /// <summary>A hash of the text, hexadecimal: a resumed run must see the same.</summary>
    public string Fingerprint { get; }

    /// <summary>Files that were read.</summary>
    public int Files { get; }

    /// <summary>Files that were left out because they are no text (they have zero bytes).</summary>
    public int SkippedFiles { get; }

    /// <summary>What is trained on.</summary>
    public CorpusSplit Training { get; }

    /// <summary>What is measured on: about 3% of the documents, those with the smallest hashes.</summary>
    public CorpusSplit Validation { get; }

    /// <summary>
    /// Opens the text of a file, a folder or a glob; XML documentation is taken as text only, without tags, one document per type. The
    /// prepared file is
    /// kept in <paramref name="cacheFolder"/> and used again as long as the sources stay as they are.
    /// </summary>
    /// <param name="data">A file, folder or glob; null for the XML documentation of the .NET SDK.</param>
    /// <param name="cacheFolder">Where the prepared file is kept; left out if it is below a folder of data.</param>
    /// <param name="logger">Told what is prepared.</param>
    /// <param name="cancellationToken">Stops the preparation; nothing is left behind.</param>
    /// <exception cref="DataException">The data is missing, empty or too small.</exception>
    public static TextCorpus Open(string? data, string cacheFolder, ILogger? logger = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(cacheFolder);
        logger ??= NullLogger.Instance;
        var source = data is null ? "the XML documentation of the .NET SDK" : $"'{data}'";
        try
        {
            var folder = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(cacheFolder));
            var files = data is null ? DataSources.SdkDocumentation() : DataSources.Find(data, exclude: folder);
            long limit = data is null ? DefaultCorpusLimit : long.MaxValue;
            var key = Key(files, limit);
            var path = System.IO.Path.Combine(folder, "corpus.bin");
            if (Map(source, path, key) is { } prepared) return prepared;

            logger.LogInformation("Preparing text from {Source} ({Files} files).", source, files.Count);
            CorpusFile.Write(path, files, limit, key, source, cancellationToken);
            return Map(source, path, key) ?? throw new DataException($"The prepared text '{path}' changed while it was opened; run again.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException && e is not DataException)
        {
            throw new DataException($"The data {source} cannot be prepared: {e.Message}", e);
        }
    }

    /// <summary>One line: what the text is and how much of it.</summary>
    public string Describe() => string.Create(
        CultureInfo.InvariantCulture,
        $"{Source}: {Files} files{(SkippedFiles > 0 ? $" ({SkippedFiles} left out, no text)" : string.Empty)}, "
        + $"{Training.Documents + Validation.Documents} documents, {Training.Bytes / 1e6:0.00} MB to train on, "
            + $"{Validation.Bytes / 1e6:0.00} MB to validate on");

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed) return;
        _disposed = true;
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _file.Dispose();
    }

    /// <summary>Copies prepared bytes.</summary>
    internal unsafe void Read(long offset, Span<byte> destination)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        new ReadOnlySpan<byte>(_bytes + offset, destination.Length).CopyTo(destination);
    }

    private static TextCorpus? Map(string source, string path, byte[] key)
    {
        if (!File.Exists(path)) return null;
        var file = MemoryMappedFile.CreateFromFile(
            new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete), null, 0, MemoryMappedFileAccess.Read,
                HandleInheritability.None, leaveOpen: false);
        try
        {
            if (CorpusFile.ReadFooter(path) is { } footer && footer.Key.AsSpan().SequenceEqual(key))
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

/// <summary>One part of a corpus: documents one after the other, each followed by a blank line.</summary>
public sealed class CorpusSplit
{
    private readonly TextCorpus _corpus;
    private readonly long[] _offsets;
    private readonly int[] _lengths;

    internal CorpusSplit(TextCorpus corpus, string name, ReadOnlySpan<byte> records)
    {
        _corpus = corpus;
        Name = name;
        var count = records.Length / CorpusFile.RecordLength;
        _offsets = new long[count];
        _lengths = new int[count];
        for (var i = 0; i < count; i++)
        {
            var record = records.Slice(i * CorpusFile.RecordLength, CorpusFile.RecordLength);
            _offsets[i] = BinaryPrimitives.ReadInt64LittleEndian(record);
            _lengths[i] = BinaryPrimitives.ReadInt32LittleEndian(record[8..]);
            Bytes += _lengths[i];
        }

        Stored = new Order(this, [.. Enumerable.Range(0, count)]);
    }

    /// <summary>training or validation.</summary>
    public string Name { get; }

    /// <summary>Documents.</summary>
    public int Documents => _offsets.Length;

    /// <summary>Bytes, blank lines between documents included.</summary>
    public long Bytes { get; }

    /// <summary>Bytes of each document, as they are stored.</summary>
    internal IReadOnlyList<int> Lengths => _lengths;

    /// <summary>The documents as they are stored.</summary>
    internal Order Stored { get; }

    /// <summary>The documents in an order of their own for each seed and epoch.</summary>
    internal Order Shuffled(long seed, long epoch)
    {
        var order = Enumerable.Range(0, Documents).ToArray();
        new CounterRandom(seed, RandomPurpose.DocumentOrder, epoch).Shuffle(order);
        return new Order(this, order);
    }

    /// <summary>Windows of <paramref name="length"/> bytes, each followed by the byte to predict, that fit one after the other.</summary>
    /// <exception cref="DataException">There is none.</exception>
    internal long Windows(int length)
    {
        var count = (Bytes - 1) / length;
        return count > 0 ? count : throw new DataException(
            $"The {Name} part of {_corpus.Source} has {Bytes} bytes, but a context of {length} needs {length + 1}; give more text.");
    }

    /// <summary>The documents in some order, as one text.</summary>
    internal sealed class Order
    {
        private readonly CorpusSplit _split;
        private readonly int[] _order;
        private readonly long[] _starts;

        public Order(CorpusSplit split, int[] order)
        {
            _split = split;
            _order = order;
            _starts = new long[order.Length];
            long start = 0;
            for (var i = 0; i < order.Length; i++)
            {
                _starts[i] = start;
                start += split._lengths[order[i]];
            }
        }

        /// <summary>Copies bytes from a position on, across documents.</summary>
        public void Read(long position, Span<byte> destination)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(position);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(position, _split.Bytes - destination.Length);
            var i = Array.BinarySearch(_starts, position);
            if (i < 0) i = ~i - 1;
            while (!destination.IsEmpty)
            {
                var within = position - _starts[i];
                var document = _order[i++];
                var count = (int)Math.Min(destination.Length, _split._lengths[document] - within);
                _split._corpus.Read(_split._offsets[document] + within, destination[..count]);
                destination = destination[count..];
                position += count;
            }
        }
    }
}

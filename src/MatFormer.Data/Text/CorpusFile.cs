using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace MatFormer;

/// <summary>
/// The file of prepared text. It holds all documents, then a record for each document with its offset (8 bytes) and length (4 bytes), then
/// a footer. The records of the training documents come first, then those of the validation documents. The footer has the hash of the
/// documents, and the hash of the records and of the rest of the footer. Numbers are little-endian.
/// </summary>
internal static class CorpusFile
{
    /// <summary>The version of the preparation. Raise it when text is prepared differently, so that older files are replaced.</summary>
    public const int Version = 3;

    public const int RecordLength = 12;

    /// <summary>
    /// The maximum length of a document in bytes. Longer documents are cut into pieces, so that one large file can be split into training
    /// and validation too.
    /// </summary>
    public const int MaxDocumentLength = 1 << 14;

    private const double ValidationShare = 0.03;
    private const int CheckedFooterLength = 8 + (4 * 4) + 32 + 32;
    private const int FooterLength = CheckedFooterLength + 32 + 8;

    /// <summary>The text that ends each document.</summary>
    public static ReadOnlySpan<byte> BlankLine => "\n\n"u8;

    private static ReadOnlySpan<byte> Magic => "MFcorpus"u8;

    public sealed record Footer(
        long DataLength, int TrainingDocuments, int ValidationDocuments, int Files, int SkippedFiles, byte[] Key, byte[] ContentHash,
        byte[] Checksum);

    /// <summary>
    /// Reads the footer. Returns null if the file is not a complete prepared text. The hashes are not checked yet.
    /// </summary>
    public static Footer? ReadFooter(MappedFile file)
    {
        if (file.Length < FooterLength) return null;
        var bytes = new byte[FooterLength];
        file.Read(file.Length - FooterLength, bytes);
        if (!bytes.AsSpan(FooterLength - 8).SequenceEqual(Magic)) return null;
        var footer = new Footer(
            BinaryPrimitives.ReadInt64LittleEndian(bytes),
            BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(8)),
            BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(12)),
            BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(16)),
            BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(20)),
            bytes[24..56],
            bytes[56..CheckedFooterLength],
            bytes[CheckedFooterLength..^8]);
        if (footer.DataLength > file.Length) return null;
        var expected = footer.DataLength + (((long)footer.TrainingDocuments + footer.ValidationDocuments) * RecordLength) + FooterLength;
        return footer is { DataLength: > 0, TrainingDocuments: > 0, ValidationDocuments: > 0 } && expected == file.Length ? footer : null;
    }

    /// <summary>
    /// Reads the offset and length of each document: first the training documents, then the validation documents. Returns null if the
    /// file is damaged, which the hashes of all of its bytes tell.
    /// </summary>
    public static (long[] Offsets, int[] Lengths)? ReadRecords(MappedFile file, Footer footer, CancellationToken cancellationToken)
    {
        var recordsLength = file.Length - FooterLength - footer.DataLength;
        if (!file.Hash(footer.DataLength, recordsLength + CheckedFooterLength, cancellationToken).AsSpan().SequenceEqual(footer.Checksum)
            || !file.Hash(0, footer.DataLength, cancellationToken).AsSpan().SequenceEqual(footer.ContentHash)) return null;
        var count = checked(footer.TrainingDocuments + footer.ValidationDocuments);
        var (offsets, lengths) = (new long[count], new int[count]);
        Span<byte> record = stackalloc byte[RecordLength];
        for (var i = 0; i < count; i++)
        {
            file.Read(footer.DataLength + ((long)i * RecordLength), record);
            offsets[i] = BinaryPrimitives.ReadInt64LittleEndian(record);
            lengths[i] = BinaryPrimitives.ReadInt32LittleEndian(record[8..]);
            if (offsets[i] < 0 || lengths[i] <= 0 || offsets[i] > footer.DataLength - lengths[i]) return null;
        }

        return (offsets, lengths);
    }

    /// <summary>Prepares the text of files into one file.</summary>
    /// <exception cref="DataException">There is too little text, or a file is damaged.</exception>
    public static void Write(
        string path, List<string> files, long limit, byte[] key, string source, IProgress<PreparationProgress>? progress,
        CancellationToken cancellationToken) =>
        AtomicFile.Write(path, stream => new Preparation(stream, limit, progress, cancellationToken).Run(files, key, source));

    private readonly record struct Document(UInt128 Hash, long Offset, int Length);

    private sealed class Preparation(
        FileStream stream, long limit, IProgress<PreparationProgress>? progress, CancellationToken cancellationToken)
    {
        private const long ProgressInterval = 1 << 20;
        private readonly HashSet<UInt128> _seen = [];
        private readonly HashSet<string> _types = new(StringComparer.Ordinal);
        private readonly List<Document> _documents = [];
        private readonly IncrementalHash _content = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private readonly IncrementalHash _rest = IncrementalHash.CreateHash(HashAlgorithmName.SHA256); // records, then the footer
        private readonly byte[] _piece = new byte[MaxDocumentLength + BlankLine.Length];
        private long _length;
        private long _read; // bytes of the sources
        private long _total;
        private long _reported;

        private bool Full => _length >= limit;

        public void Run(List<string> files, byte[] key, string source)
        {
            var read = 0;
            var skipped = 0;
            var ends = files.ConvertAll(file => _total += new FileInfo(file).Length);
            foreach (var (i, file) in files.Index())
            {
                if (Full) break;
                cancellationToken.ThrowIfCancellationRequested();
                if (AddFile(file)) read++;
                else skipped++;
                Count(ends[i] - _read); // what the reader left out, or read twice
            }

            Count(_total - _read);

            if (_length < MinimumBytes)
            {
                var left = skipped > 0 ? $" ({Counted.Of(skipped, "file")} with zero bytes left out, not text)" : string.Empty;
                throw new DataException($"The data {source} holds {_length} bytes of text without duplicates{left}, but at least "
                    + $"{MinimumBytes} are needed; give more text.");
            }

            var (training, validation) = Split();
            WriteRecords(training);
            WriteRecords(validation);
            Span<byte> footer = stackalloc byte[FooterLength];
            BinaryPrimitives.WriteInt64LittleEndian(footer, _length);
            BinaryPrimitives.WriteInt32LittleEndian(footer[8..], training.Count);
            BinaryPrimitives.WriteInt32LittleEndian(footer[12..], validation.Count);
            BinaryPrimitives.WriteInt32LittleEndian(footer[16..], read);
            BinaryPrimitives.WriteInt32LittleEndian(footer[20..], skipped);
            key.CopyTo(footer[24..]);
            _content.GetHashAndReset().CopyTo(footer[56..]);
            _rest.AppendData(footer[..CheckedFooterLength]);
            _rest.GetHashAndReset().CopyTo(footer[CheckedFooterLength..]);
            Magic.CopyTo(footer[^8..]);
            stream.Write(footer);
            _content.Dispose();
            _rest.Dispose();
        }

        private const int MinimumBytes = TextCorpus.MinimumBytes;

        // The documents with the smallest hashes are for validation. So the order of files does not matter, and some are always held out.
        private (List<Document> Training, List<Document> Validation) Split()
        {
            var target = Math.Max((long)(_length * ValidationShare), Math.Min(_length / 4, MaxDocumentLength));
            var validation = new HashSet<UInt128>();
            long bytes = 0;
            foreach (var document in _documents.OrderBy(d => d.Hash))
            {
                if (bytes >= target) break;
                validation.Add(document.Hash);
                bytes += document.Length;
            }

            return (_documents.FindAll(d => !validation.Contains(d.Hash)), _documents.FindAll(d => validation.Contains(d.Hash)));
        }

        private void WriteRecords(List<Document> documents)
        {
            Span<byte> record = stackalloc byte[RecordLength];
            foreach (var document in documents)
            {
                BinaryPrimitives.WriteInt64LittleEndian(record, document.Offset);
                BinaryPrimitives.WriteInt32LittleEndian(record[8..], document.Length);
                stream.Write(record);
                _rest.AppendData(record);
            }
        }

        // Returns false if the file is not text.
        private bool AddFile(string path)
        {
            if (XmlDocumentation.IsDocumentation(path))
            {
                foreach (var (type, text) in XmlDocumentation.Read(path))
                {
                    // The same type may be in several versions and packs. The first one is the newest.
                    if (_types.Add(type)) AddText(Encoding.UTF8.GetBytes(text));
                    if (Full) break;
                }

                return true;
            }

            // Files are read in pieces, because they may be larger than memory.
            if (RecordFormats.TryFind(path, out var reader))
            {
                foreach (var record in RecordFormats.Read(reader, path, Open(path, 1 << 16), "text"))
                {
                    AddText(Encoding.UTF8.GetBytes(record[0]));
                    if (Full) break;
                }

                return true;
            }

            using var file = Open(path, 1);
            var buffer = new byte[1 << 20];
            var kept = 0;
            var first = true;
            while (!Full)
            {
                var count = file.ReadAtLeast(buffer.AsSpan(kept), buffer.Length - kept, throwOnEndOfStream: false);
                var text = buffer.AsSpan(0, kept + count);
                var last = text.Length < buffer.Length;
                if (first)
                {
                    if (text[..Math.Min(text.Length, 8192)].Contains((byte)0)) return false;
                    if (text.StartsWith("\uFEFF"u8)) text = text[3..];
                    first = false;
                }

                var used = AddPieces(text, last);
                if (last) break;
                var rest = text[used..];
                kept = rest.Length;
                rest.CopyTo(buffer);
            }

            return true;
        }

        private CountingStream Open(string path, int buffer) =>
            new(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, buffer), read => Count(read), cancellationToken);

        private void Count(long bytes)
        {
            _read += bytes;
            if (_read - _reported < ProgressInterval && (_read < _total || _reported == _total)) return;
            progress?.Report(new PreparationProgress("reading text", Math.Min(_read, _total), _total));
            _reported = _read;
        }

        private void AddText(ReadOnlySpan<byte> text) => AddPieces(text, last: true);

        // Adds the text as documents and returns the number of bytes used. If more text follows, an incomplete document at the end is left.
        private int AddPieces(ReadOnlySpan<byte> text, bool last)
        {
            var start = 0;
            while (start < text.Length && !Full)
            {
                var rest = text[start..];
                if (!last && rest.Length < MaxDocumentLength) break;
                var length = Cut(rest);
                AddDocument(rest[..length]);
                start += length;
            }

            return start;
        }

        // Returns where to end a document: at a blank line if possible, otherwise at the end of a line, otherwise between two characters.
        private static int Cut(ReadOnlySpan<byte> text)
        {
            if (text.Length <= MaxDocumentLength) return text.Length;
            var window = text[..MaxDocumentLength];
            var blank = window[(MaxDocumentLength / 2)..].LastIndexOf("\n\n"u8);
            if (blank >= 0) return (MaxDocumentLength / 2) + blank + 2;
            var line = window[(MaxDocumentLength / 2)..].LastIndexOf((byte)'\n');
            if (line >= 0) return (MaxDocumentLength / 2) + line + 1;
            var end = MaxDocumentLength;
            while (end > MaxDocumentLength - 4 && (text[end] & 0xC0) == 0x80) end--;
            return end;
        }

        private void AddDocument(ReadOnlySpan<byte> text)
        {
            text = text.Trim("\r\n \t"u8);
            if (text.IsEmpty) return;
            var length = 0;
            foreach (var value in text)
            {
                if (value != '\r') _piece[length++] = value;
            }

            BlankLine.CopyTo(_piece.AsSpan(length));
            length += BlankLine.Length;
            var piece = _piece.AsSpan(0, length);
            Span<byte> hash = stackalloc byte[32];
            SHA256.HashData(piece, hash);
            var id = BinaryPrimitives.ReadUInt128BigEndian(hash);
            if (!_seen.Add(id)) return;
            stream.Write(piece);
            _content.AppendData(piece);
            _documents.Add(new Document(id, _length, length));
            _length += length;
        }
    }
}

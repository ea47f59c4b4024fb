using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace MatFormer;

/// <summary>
/// The file with the tokens of a prepared text. It holds a header (format, hash of the text, fingerprint of the tokenizer, sizes, hash of
/// the rest of the file), the tokens of all documents (training documents first), and the number of tokens of each document (4 bytes). A
/// token has 2 bytes, or 4 if the vocabulary has more than 65536 tokens. Numbers are little-endian.
/// </summary>
internal static class TokenFile
{
    private const int Version = 2;
    private const int SourceLength = 8 + (4 * 4) + 8 + 32 + 32;
    private const int HeaderLength = SourceLength + 32;
    private const int Block = 256;
    private static ReadOnlySpan<byte> Magic => "MFtokens"u8;

    /// <summary>Encodes documents into a file, on all cores.</summary>
    /// <param name="path">The file.</param>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="textHash">The hash of the text.</param>
    /// <param name="count">The number of documents.</param>
    /// <param name="read">Reads a document by its index.</param>
    /// <param name="encoded">Gets the number of documents that are encoded so far.</param>
    /// <param name="cancellationToken">Cancels the encoding; nothing is left behind.</param>
    public static void Write(
        string path, Tokenizer tokenizer, byte[] textHash, int count, Func<int, ReadOnlyMemory<byte>> read, Action<int> encoded,
        CancellationToken cancellationToken)
        => AtomicFile.Write(path, stream =>
        {
            var width = WidthOf(tokenizer);
            var lengths = new int[count];
            var total = 0L;
            stream.Write(new byte[HeaderLength]);
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            var block = new List<int>[Block];
            for (var i = 0; i < Block; i++) block[i] = [];
            var cores = new ParallelOptions { CancellationToken = cancellationToken, MaxDegreeOfParallelism = Environment.ProcessorCount };
            for (var start = 0; start < count; start += Block)
            {
                var documents = Math.Min(Block, count - start);
                Parallel.For(0, documents, cores, i =>
                {
                    block[i].Clear();
                    Encode(tokenizer, read(start + i).Span, block[i]);
                });
                for (var i = 0; i < documents; i++)
                {
                    lengths[start + i] = block[i].Count;
                    total += block[i].Count;
                    var tokens = CollectionsMarshal.AsSpan(block[i]);
                    if (width == 4) Append(MemoryMarshal.AsBytes(tokens));
                    else Append(MemoryMarshal.AsBytes<ushort>(Array.ConvertAll(tokens.ToArray(), token => (ushort)token)));
                }

                encoded(start + documents);
            }

            Append(MemoryMarshal.AsBytes(lengths.AsSpan()));
            stream.Position = 0;
            stream.Write(Source(tokenizer, textHash, count, total));
            stream.Write(hash.GetHashAndReset());

            void Append(ReadOnlySpan<byte> bytes)
            {
                stream.Write(bytes);
                hash.AppendData(bytes);
            }
        });

    /// <summary>
    /// Reads the size of a token in bytes, and the offset and the number of tokens of each document. Returns null if the file is
    /// incomplete, damaged (which the hash tells), or belongs to another text or tokenizer.
    /// </summary>
    public static (int Width, long[] Offsets, int[] Lengths)? Read(
        MappedFile file, Tokenizer tokenizer, byte[] textHash, int count, CancellationToken cancellationToken)
    {
        if (file.Length < HeaderLength) return null;
        var header = new byte[HeaderLength];
        file.Read(0, header);
        var total = BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(24));
        var width = WidthOf(tokenizer);
        if (!header.AsSpan(0, SourceLength).SequenceEqual(Source(tokenizer, textHash, count, total))
            || total < 0 || total > file.Length || file.Length != HeaderLength + (total * width) + ((long)count * 4)
            || !file.Hash(HeaderLength, file.Length - HeaderLength, cancellationToken).AsSpan().SequenceEqual(header.AsSpan(SourceLength)))
            return null;
        var lengths = new int[count];
        file.Read(HeaderLength + (total * width), MemoryMarshal.AsBytes(lengths.AsSpan()));
        var offsets = new long[count];
        long offset = HeaderLength;
        for (var i = 0; i < count; i++)
        {
            offsets[i] = offset;
            offset += (long)lengths[i] * width;
            if (lengths[i] < 0 || offset > HeaderLength + (total * width)) return null;
        }

        return (width, offsets, lengths);
    }

    // A document begins and ends as a text does. If the tokenizer has a token between documents, that token replaces the blank line, and it
    // is not repeated where it also begins or ends a text.
    private static void Encode(Tokenizer tokenizer, ReadOnlySpan<byte> document, List<int> tokens)
    {
        var end = tokenizer.EndOfText;
        if (tokenizer.Before is not [var only] || only != end) tokens.AddRange(tokenizer.Before);
        tokenizer.Encode(end is null ? document : document[..^CorpusFile.BlankLine.Length], tokens, specialTokens: false);
        tokens.AddRange(tokenizer.After);
        if (end is { } token && !(tokenizer.After is [.., var last] && last == token)) tokens.Add(token);
    }

    private static int WidthOf(Tokenizer tokenizer) => tokenizer.VocabularySize <= ushort.MaxValue + 1 ? 2 : 4;

    // The part of the header that says what the tokens were made from.
    private static byte[] Source(Tokenizer tokenizer, byte[] textHash, int count, long total)
    {
        var header = new byte[SourceLength];
        Magic.CopyTo(header);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(8), Version);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(12), WidthOf(tokenizer));
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(16), tokenizer.VocabularySize);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(20), count);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(24), total);
        textHash.CopyTo(header.AsSpan(32));
        FingerprintOf(tokenizer).CopyTo(header.AsSpan(64));
        return header;
    }

    // The tokenizer's fingerprint does not tell which tokens are added around a document.
    private static byte[] FingerprintOf(Tokenizer tokenizer)
    {
        var fingerprint = Convert.FromHexString(tokenizer.Fingerprint);
        if (tokenizer.Before.IsEmpty && tokenizer.After.IsEmpty) return fingerprint;
        int[] around = [.. tokenizer.Before, -1, .. tokenizer.After];
        return SHA256.HashData([.. fingerprint, .. MemoryMarshal.AsBytes(around.AsSpan())]);
    }
}

using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>
/// The tokens of a prepared text: a header (what it is, of which text and tokenizer, how much); the tokens of all documents, training
/// first, in 2 bytes each or, with more than 65536 different ones, 4; then the number of tokens of each document (4 bytes). Little-endian.
/// </summary>
internal static class TokenFile
{
    private const int Version = 1;
    private const int HeaderLength = 8 + (4 * 4) + 8 + 32 + 32;
    private const int Block = 256;
    private static ReadOnlySpan<byte> Magic => "MFtokens"u8;

    /// <summary>Encodes documents into a file, on all cores.</summary>
    /// <param name="path">The file.</param>
    /// <param name="tokenizer">Makes the tokens.</param>
    /// <param name="textHash">The hash of the text.</param>
    /// <param name="count">Documents.</param>
    /// <param name="read">Reads a document.</param>
    /// <param name="cancellationToken">Stops it; nothing is left behind.</param>
    public static void Write(
        string path, Tokenizer tokenizer, byte[] textHash, int count, Func<int, ReadOnlyMemory<byte>> read,
        CancellationToken cancellationToken)
        => AtomicFile.Write(path, stream =>
        {
            var width = WidthOf(tokenizer);
            var lengths = new int[count];
            var total = 0L;
            stream.Write(new byte[HeaderLength]);
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
                    if (width == 4) stream.Write(MemoryMarshal.AsBytes(tokens));
                    else stream.Write(MemoryMarshal.AsBytes<ushort>(Array.ConvertAll(tokens.ToArray(), token => (ushort)token)));
                }
            }

            stream.Write(MemoryMarshal.AsBytes(lengths.AsSpan()));
            stream.Position = 0;
            stream.Write(Header(tokenizer, textHash, count, total));
        });

    /// <summary>
    /// Bytes of a token, and where each document begins in a file and how many tokens it has; null if it is not a whole file of this text
    /// and tokenizer.
    /// </summary>
    public static (int Width, long[] Offsets, int[] Lengths)? Read(MappedFile file, Tokenizer tokenizer, byte[] textHash, int count)
    {
        if (file.Length < HeaderLength) return null;
        var header = new byte[HeaderLength];
        file.Read(0, header);
        var total = BinaryPrimitives.ReadInt64LittleEndian(header.AsSpan(24));
        var width = WidthOf(tokenizer);
        if (!header.AsSpan().SequenceEqual(Header(tokenizer, textHash, count, total))
            || file.Length != HeaderLength + (total * width) + ((long)count * 4)) return null;
        var lengths = new int[count];
        file.Read(HeaderLength + (total * width), MemoryMarshal.AsBytes(lengths.AsSpan()));
        var offsets = new long[count];
        long offset = HeaderLength;
        for (var i = 0; i < count; i++)
        {
            offsets[i] = offset;
            offset += (long)lengths[i] * width;
        }

        return (width, offsets, lengths);
    }

    // With a token between documents, it takes the place of the blank line.
    private static void Encode(Tokenizer tokenizer, ReadOnlySpan<byte> document, List<int> tokens)
    {
        if (tokenizer.EndOfText is not { } end)
        {
            tokenizer.Encode(document, tokens, specialTokens: false);
            return;
        }

        tokenizer.Encode(document[..^CorpusFile.BlankLine.Length], tokens, specialTokens: false);
        tokens.Add(end);
    }

    private static int WidthOf(Tokenizer tokenizer) => tokenizer.VocabularySize <= ushort.MaxValue + 1 ? 2 : 4;

    private static byte[] Header(Tokenizer tokenizer, byte[] textHash, int count, long total)
    {
        var header = new byte[HeaderLength];
        Magic.CopyTo(header);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(8), Version);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(12), WidthOf(tokenizer));
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(16), tokenizer.VocabularySize);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(20), count);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(24), total);
        textHash.CopyTo(header.AsSpan(32));
        Convert.FromHexString(tokenizer.Fingerprint).CopyTo(header.AsSpan(64));
        return header;
    }
}

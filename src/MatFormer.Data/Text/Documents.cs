using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>Documents in a file, as numbers of 1, 2 or 4 bytes. The numbers are bytes of text, or tokens.</summary>
/// <param name="file">The file.</param>
/// <param name="width">The size of a number in bytes.</param>
/// <param name="offsets">The offset of each document in the file, in bytes.</param>
/// <param name="lengths">The length of each document in numbers.</param>
internal sealed class Documents(MappedFile file, int width, long[] offsets, int[] lengths)
{
    /// <summary>The number of documents.</summary>
    public int Count => lengths.Length;

    /// <summary>The length of each document in numbers.</summary>
    public IReadOnlyList<int> Lengths => lengths;

    /// <summary>The total length of all documents in numbers.</summary>
    public long Total { get; } = lengths.Sum(length => (long)length);

    /// <summary>Copies numbers of a document from a position on.</summary>
    public void Read(int document, long position, Span<int> destination)
    {
        var start = offsets[document] + (position * width);
        if (width == 4)
        {
            file.Read(start, MemoryMarshal.AsBytes(destination));
            return;
        }

        // The bytes are read into the end of the destination and widened from its beginning on, so no number is overwritten before it is
        // read.
        var bytes = MemoryMarshal.AsBytes(destination)[^(destination.Length * width)..];
        file.Read(start, bytes);
        var narrow = MemoryMarshal.Cast<byte, ushort>(bytes);
        for (var i = 0; i < destination.Length; i++) destination[i] = width == 1 ? bytes[i] : narrow[i];
    }

    /// <summary>Copies bytes of a document from a position on. The documents must be text.</summary>
    public void Read(int document, long position, Span<byte> destination) => file.Read(offsets[document] + position, destination);
}

/// <summary>Documents in a given order, as one sequence of numbers.</summary>
internal sealed class DocumentOrder
{
    private readonly Documents _documents;
    private readonly int[] _order;
    private readonly long[] _starts;

    public DocumentOrder(Documents documents, int[] order)
    {
        _documents = documents;
        _order = order;
        _starts = new long[order.Length];
        long start = 0;
        for (var i = 0; i < order.Length; i++)
        {
            _starts[i] = start;
            start += documents.Lengths[order[i]];
        }
    }

    /// <summary>Copies numbers from a position on, across documents.</summary>
    public void Read(long position, Span<int> destination)
    {
        for (var i = Find(position, destination.Length); !destination.IsEmpty; i++)
        {
            var (document, within, count) = Part(i, position, destination.Length);
            _documents.Read(document, within, destination[..count]);
            destination = destination[count..];
            position += count;
        }
    }

    /// <summary>Copies bytes of text from a position on, across documents.</summary>
    public void Read(long position, Span<byte> destination)
    {
        for (var i = Find(position, destination.Length); !destination.IsEmpty; i++)
        {
            var (document, within, count) = Part(i, position, destination.Length);
            _documents.Read(document, within, destination[..count]);
            destination = destination[count..];
            position += count;
        }
    }

    private int Find(long position, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(position);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(position, _documents.Total - count);
        var i = Array.BinarySearch(_starts, position);
        return i < 0 ? ~i - 1 : i;
    }

    private (int Document, long Within, int Count) Part(int i, long position, int most)
    {
        var within = position - _starts[i];
        return (_order[i], within, (int)Math.Min(most, _documents.Lengths[_order[i]] - within));
    }
}

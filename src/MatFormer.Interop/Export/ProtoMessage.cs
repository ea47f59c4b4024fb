using System.Buffers.Binary;
using System.Text;

namespace MatFormer;

/// <summary>
/// The bytes of a message in the wire format of Protocol Buffers (https://protobuf.dev/programming-guides/encoding). A field is its number
/// and type, then its value. Numbers are in base 128, 7 bits in each byte, the lowest first. Texts and messages have their length in front.
/// </summary>
internal sealed class ProtoMessage
{
    // The wire types.
    private const int Varint = 0;
    private const int Bytes = 2;
    private const int Fixed32 = 5;
    private readonly MemoryStream _stream = new();

    public long Length => _stream.Length;

    public ProtoMessage Add(int field, long value)
    {
        WriteVarint(_stream, (ulong)((field << 3) | Varint));
        WriteVarint(_stream, (ulong)value);
        return this;
    }

    public ProtoMessage Add(int field, float value)
    {
        WriteVarint(_stream, (ulong)((field << 3) | Fixed32));
        Span<byte> bytes = stackalloc byte[sizeof(float)];
        BinaryPrimitives.WriteSingleLittleEndian(bytes, value);
        _stream.Write(bytes);
        return this;
    }

    public ProtoMessage Add(int field, string text) => Add(field, Encoding.UTF8.GetBytes(text));

    public ProtoMessage Add(int field, ReadOnlySpan<byte> bytes)
    {
        Begin(_stream, field, bytes.Length);
        _stream.Write(bytes);
        return this;
    }

    public ProtoMessage Add(int field, ProtoMessage message)
    {
        Begin(_stream, field, message.Length);
        message.WriteTo(_stream);
        return this;
    }

    /// <summary>Begins a field whose bytes are written later, with its length.</summary>
    public ProtoMessage Begin(int field, long length)
    {
        Begin(_stream, field, length);
        return this;
    }

    public void WriteTo(Stream stream) => _stream.WriteTo(stream);

    /// <summary>Begins a field of bytes with its length.</summary>
    public static void Begin(Stream stream, int field, long length)
    {
        WriteVarint(stream, (ulong)((field << 3) | Bytes));
        WriteVarint(stream, (ulong)length);
    }

    /// <summary>Returns the size of a field of bytes, with its number and its length.</summary>
    public static long SizeOf(int field, long length) => VarintSize((ulong)field << 3) + VarintSize((ulong)length) + length;

    private static int VarintSize(ulong value)
    {
        var size = 1;
        for (; value >= 0x80; value >>= 7) size++;
        return size;
    }

    private static void WriteVarint(Stream stream, ulong value)
    {
        for (; value >= 0x80; value >>= 7) stream.WriteByte((byte)(value | 0x80));
        stream.WriteByte((byte)value);
    }
}

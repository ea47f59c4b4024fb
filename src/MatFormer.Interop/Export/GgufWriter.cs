using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Text;

namespace MatFormer;

/// <summary>One tensor of a GGUF file.</summary>
/// <param name="Name">The name.</param>
/// <param name="Shape">The shape in row-major order. In the file, the fastest dimension comes first.</param>
/// <param name="Encoding">The encoding of the data.</param>
internal sealed record GgufTensor(string Name, ImmutableArray<long> Shape, WeightEncoding Encoding)
{
    /// <summary>The size of the data in bytes.</summary>
    public long Length => WeightEncoder.ByteCount(Encoding, Shape.Aggregate(1L, (product, dimension) => checked(product * dimension)));
}

/// <summary>
/// Writes the format GGUF, version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). The file holds keys and values, then the
/// name, shape, type and offset of each tensor, then the data, where each tensor begins at a multiple of 32 bytes. All numbers are
/// little-endian.
/// </summary>
internal sealed class GgufWriter
{
    private const int Alignment = 32;
    private const int Version = 3;
    private readonly MemoryStream _values = new();
    private ulong _count;

    private enum ValueType
    {
        UInt32 = 4,
        Int32 = 5,
        Float32 = 6,
        Bool = 7,
        String = 8,
        Array = 9,
    }

    public GgufWriter() => Add("general.alignment", (uint)Alignment);

    public void Add(string key, uint value)
    {
        Begin(key, ValueType.UInt32);
        Write(_values, value);
    }

    public void Add(string key, float value)
    {
        Begin(key, ValueType.Float32);
        Write(_values, BitConverter.SingleToUInt32Bits(value));
    }

    public void Add(string key, bool value)
    {
        Begin(key, ValueType.Bool);
        _values.WriteByte(value ? (byte)1 : (byte)0);
    }

    public void Add(string key, string value)
    {
        Begin(key, ValueType.String);
        Write(_values, value);
    }

    public void Add(string key, IReadOnlyCollection<int> values)
    {
        BeginArray(key, ValueType.Int32, values.Count);
        foreach (var value in values) Write(_values, (uint)value);
    }

    public void Add(string key, IReadOnlyCollection<float> values)
    {
        BeginArray(key, ValueType.Float32, values.Count);
        foreach (var value in values) Write(_values, BitConverter.SingleToUInt32Bits(value));
    }

    public void Add(string key, IReadOnlyCollection<string> values)
    {
        BeginArray(key, ValueType.String, values.Count);
        foreach (var value in values) Write(_values, value);
    }

    /// <summary>Writes the file atomically. <paramref name="writeData"/> streams the bytes of each tensor.</summary>
    /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
    public void Write(string path, IReadOnlyList<GgufTensor> tensors, Action<GgufTensor, Stream> writeData) =>
        AtomicFile.Write(path, stream => Write(stream, tensors, writeData));

    private void Write(Stream stream, IReadOnlyList<GgufTensor> tensors, Action<GgufTensor, Stream> writeData)
    {
        stream.Write("GGUF"u8);
        Write(stream, (uint)Version);
        Write(stream, (ulong)tensors.Count);
        Write(stream, _count);
        _values.WriteTo(stream);
        long offset = 0;
        foreach (var tensor in tensors)
        {
            Write(stream, tensor.Name);
            Write(stream, (uint)tensor.Shape.Length);
            foreach (var dimension in tensor.Shape.Reverse()) Write(stream, (ulong)dimension);
            Write(stream, (uint)TypeOf(tensor.Encoding));
            Write(stream, (ulong)offset);
            offset = Aligned(checked(offset + tensor.Length));
        }

        Pad(stream);
        foreach (var tensor in tensors)
        {
            var start = stream.Position;
            writeData(tensor, stream);
            if (stream.Position - start != tensor.Length)
            {
                throw new InvalidOperationException($"The tensor '{tensor.Name}' has {tensor.Length} bytes, but "
                    + $"{stream.Position - start} were written.");
            }

            Pad(stream);
        }
    }

    // Values of ggml's ggml_type.
    private static int TypeOf(WeightEncoding encoding) => encoding switch
    {
        WeightEncoding.Float32 => 0,
        WeightEncoding.Float16 => 1,
        WeightEncoding.Nested4 => 2,
        WeightEncoding.Q8 or WeightEncoding.Nested8 => 8,
        WeightEncoding.BFloat16 => 30,
        _ => throw new ArgumentOutOfRangeException(nameof(encoding), encoding, null),
    };

    private void Begin(string key, ValueType type)
    {
        _count++;
        Write(_values, key);
        Write(_values, (uint)type);
    }

    private void BeginArray(string key, ValueType type, int count)
    {
        Begin(key, ValueType.Array);
        Write(_values, (uint)type);
        Write(_values, (ulong)count);
    }

    private static long Aligned(long offset) => (offset + Alignment - 1) / Alignment * Alignment;

    private static void Pad(Stream stream) => stream.Write(stackalloc byte[(int)(Aligned(stream.Position) - stream.Position)]);

    private static void Write(Stream stream, uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        stream.Write(bytes);
    }

    private static void Write(Stream stream, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        stream.Write(bytes);
    }

    private static void Write(Stream stream, string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        Write(stream, (ulong)bytes.Length);
        stream.Write(bytes);
    }
}

using System.Runtime.InteropServices;
using System.Text;

namespace MatFormer.Functional.Tests;

/// <summary>
/// Reads a GGUF file. The reader follows the specification of the format and not our writer, so that mistakes of the writer show.
/// </summary>
internal sealed class GgufFile
{
    private readonly byte[] _bytes;
    private int _position;

    public GgufFile(string path)
    {
        _bytes = File.ReadAllBytes(path);
        Assert.Equal("GGUF", Encoding.ASCII.GetString(_bytes, 0, 4));
        _position = 4;
        Assert.Equal(3u, Read<uint>());
        var tensors = Read<ulong>();
        var pairs = Read<ulong>();
        for (var i = 0UL; i < pairs; i++) Values.Add(ReadString(), ReadValue(Read<uint>()));
        var infos = new List<(string Name, long[] Shape, uint Type, ulong Offset)>();
        for (var i = 0UL; i < tensors; i++)
        {
            var name = ReadString();
            var dimensions = new long[Read<uint>()];
            for (var d = dimensions.Length - 1; d >= 0; d--) dimensions[d] = (long)Read<ulong>();
            infos.Add((name, dimensions, Read<uint>(), Read<ulong>()));
        }

        var alignment = (ulong)(uint)Values["general.alignment"];
        var start = ((ulong)_position + alignment - 1) / alignment * alignment;
        foreach (var (name, shape, type, offset) in infos)
        {
            Assert.Equal(0UL, offset % alignment);
            var count = shape.Aggregate(1L, (product, d) => product * d);
            var length = type switch
            {
                0 => count * 4,
                1 or 30 => count * 2,
                2 => count / 32 * 18,
                8 => count / 32 * 34,
                _ => throw new InvalidDataException($"type {type}"),
            };
            Tensors.Add(name, (shape, type, _bytes.AsMemory(checked((int)(start + offset)), checked((int)length))));
        }

        Assert.Equal(0, _bytes.Length % (int)alignment);
    }

    public Dictionary<string, object> Values { get; } = [];

    /// <summary>The tensors: the shape in row-major order, the number of the type, and the bytes.</summary>
    public Dictionary<string, (long[] Shape, uint Type, ReadOnlyMemory<byte> Data)> Tensors { get; } = [];

    public T Value<T>(string key) => (T)Values[key];

    /// <summary>Returns the value of a layer for a key that has one value for all layers, or a list.</summary>
    public int Of(string key, int layer) => Values[key] is object[] list ? (int)list[layer] : (int)(uint)Values[key];

    /// <summary>Returns the values of a tensor in float32.</summary>
    public float[] Floats(string name)
    {
        var (_, type, data) = Tensors[name];
        var bytes = data.Span;
        if (type == 0) return MemoryMarshal.Cast<byte, float>(bytes).ToArray();
        if (type == 1) return Array.ConvertAll(MemoryMarshal.Cast<byte, Half>(bytes).ToArray(), half => (float)half);
        if (type == 30)
            return Array.ConvertAll(
                MemoryMarshal.Cast<byte, ushort>(bytes).ToArray(), half => BitConverter.UInt32BitsToSingle((uint)half << 16));
        var values = new List<float>();
        for (; !bytes.IsEmpty; bytes = bytes[34..])
        {
            var scale = (float)MemoryMarshal.Read<Half>(bytes);
            foreach (var quantized in MemoryMarshal.Cast<byte, sbyte>(bytes[2..34])) values.Add(scale * quantized);
        }

        return [.. values];
    }

    private object ReadValue(uint type)
    {
        if (type == 4) return Read<uint>();
        if (type == 5) return Read<int>();
        if (type == 6) return Read<float>();
        if (type == 7) return Read<byte>() switch { 0 => false, 1 => true, var other => throw new InvalidDataException($"bool {other}") };
        if (type == 8) return ReadString();
        if (type != 9) throw new InvalidDataException($"value type {type}");
        var element = Read<uint>();
        var list = new object[Read<ulong>()];
        for (var i = 0; i < list.Length; i++) list[i] = ReadValue(element);
        return list;
    }

    private string ReadString()
    {
        var length = (int)Read<ulong>();
        _position += length;
        return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(_bytes, _position - length, length);
    }

    private T Read<T>()
        where T : unmanaged
    {
        var value = MemoryMarshal.Read<T>(_bytes.AsSpan(_position));
        _position += Marshal.SizeOf<T>();
        return value;
    }
}

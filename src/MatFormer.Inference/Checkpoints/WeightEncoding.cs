using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>How the weights of an extracted file are stored.</summary>
public enum WeightEncoding
{
    /// <summary>Four bytes for each weight, without rounding.</summary>
    Float32,

    /// <summary>Two bytes for each weight, rounded to the nearest; the largest magnitude is 65504.</summary>
    Float16,

    /// <summary>Two bytes for each weight, rounded to the nearest.</summary>
    BFloat16,

    /// <summary>
    /// GGUF's Q8_0: 32 neighbours in a row share a float16 scale, which is a 127th of the largest magnitude, and each weight takes one
    /// byte. Rows whose width is not a multiple of 32 are stored in float16.
    /// </summary>
    Q8,

    /// <summary>
    /// GGUF's Q8_0 with the rounding of <see cref="DecodingWeights.Nested8"/>: llama.cpp computes with the weights of our decoder. Rows
    /// whose width is not a multiple of 32 are stored in float16.
    /// </summary>
    Nested8,

    /// <summary>
    /// GGUF's Q4_0 with the rounding of <see cref="DecodingWeights.Nested4"/>: llama.cpp computes with the weights of our decoder. Rows
    /// whose width is not a multiple of 32 are stored in float16.
    /// </summary>
    Nested4,
}

/// <summary>Encodes float32 values as little-endian bytes.</summary>
internal static class WeightEncoder
{
    /// <summary>The number of values in a row that share a scale in the encodings of blocks.</summary>
    public const int BlockValues = 32;

    private const int BlockBytes = 2 + BlockValues;
    private const int SmallBlockBytes = 2 + (BlockValues / 2);

    /// <summary>Returns true if values that share a scale are encoded together, which GGUF alone can store.</summary>
    public static bool HasBlocks(WeightEncoding encoding) =>
        encoding is WeightEncoding.Q8 or WeightEncoding.Nested8 or WeightEncoding.Nested4;

    /// <summary>Returns the number of bytes of encoded values. The encodings of blocks need whole blocks of values.</summary>
    public static long ByteCount(WeightEncoding encoding, long values) => encoding switch
    {
        WeightEncoding.Float32 => checked(values * 4),
        WeightEncoding.Float16 or WeightEncoding.BFloat16 => checked(values * 2),
        WeightEncoding.Q8 or WeightEncoding.Nested8 => checked(values / BlockValues * BlockBytes),
        WeightEncoding.Nested4 => checked(values / BlockValues * SmallBlockBytes),
        _ => throw new ArgumentOutOfRangeException(nameof(encoding), encoding, null),
    };

    /// <summary>Encodes values. Returns false if a value is too large for the encoding, or, in blocks, not finite.</summary>
    public static bool TryEncode(WeightEncoding encoding, ReadOnlySpan<float> values, Span<byte> bytes)
    {
        switch (encoding)
        {
            case WeightEncoding.Float32:
                MemoryMarshal.AsBytes(values).CopyTo(bytes);
                return true;
            case WeightEncoding.Float16:
                return TryEncode(values, MemoryMarshal.Cast<byte, Half>(bytes));
            case WeightEncoding.BFloat16:
                return TryEncodeBFloat16(values, MemoryMarshal.Cast<byte, ushort>(bytes));
            case WeightEncoding.Nested8 or WeightEncoding.Nested4:
                var size = encoding == WeightEncoding.Nested4 ? SmallBlockBytes : BlockBytes;
                for (; !values.IsEmpty; values = values[BlockValues..], bytes = bytes[size..])
                {
                    if (!TryEncodeNested(values[..BlockValues], bytes[..size])) return false;
                }

                return true;
            default:
                for (; !values.IsEmpty; values = values[BlockValues..], bytes = bytes[BlockBytes..])
                {
                    if (!TryEncodeBlock(values[..BlockValues], bytes[..BlockBytes])) return false;
                }

                return true;
        }
    }

    private static bool TryEncode(ReadOnlySpan<float> values, Span<Half> halves)
    {
        var fits = true;
        for (var i = 0; i < values.Length; i++)
        {
            halves[i] = (Half)values[i];
            fits &= Half.IsFinite(halves[i]) || !float.IsFinite(values[i]);
        }

        return fits;
    }

    private static bool TryEncodeBFloat16(ReadOnlySpan<float> values, Span<ushort> halves)
    {
        var fits = true;
        for (var i = 0; i < values.Length; i++)
        {
            // Round to nearest, ties to even. A NaN stays a NaN.
            var bits = BitConverter.SingleToUInt32Bits(values[i]);
            halves[i] = float.IsNaN(values[i]) ? (ushort)((bits >> 16) | 0x40) : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
            fits &= (halves[i] & 0x7F80) != 0x7F80 || !float.IsFinite(values[i]);
        }

        return fits;
    }

    // The number of bytes says the number of bits. A block of 4 bits has the first 16 values in the lower halves of its bytes.
    private static bool TryEncodeNested(ReadOnlySpan<float> values, Span<byte> block)
    {
        if (values.ContainsAnyExceptInRange(float.MinValue, float.MaxValue)) return false;
        Span<sbyte> integers = stackalloc sbyte[BlockValues];
        Span<Half> scale = stackalloc Half[1];
        NestedRounding.Quantize(values, integers, scale);
        if (block.Length == BlockBytes)
        {
            MemoryMarshal.Write(block, scale[0]);
            MemoryMarshal.AsBytes(integers).CopyTo(block[2..]);
            return true;
        }

        var wide = (Half)(16 * (float)scale[0]);
        MemoryMarshal.Write(block, wide);
        for (var i = 0; i < BlockValues / 2; i++) block[2 + i] = (byte)(Upper(integers[i]) | (Upper(integers[i + (BlockValues / 2)]) << 4));
        return Half.IsFinite(wide);

        static int Upper(int integer) => ((integer + 8) >> 4) + 8;
    }

    // This follows ggml's reference: the scale is rounded to float16 only after the values were divided by it; halves round away from zero.
    private static bool TryEncodeBlock(ReadOnlySpan<float> values, Span<byte> block)
    {
        var largest = 0f;
        foreach (var value in values)
        {
            if (!float.IsFinite(value)) return false;
            largest = Math.Max(largest, Math.Abs(value));
        }

        var scale = largest / 127;
        var inverse = 1 / scale;
        if (!float.IsFinite(inverse)) inverse = 0;
        var half = (Half)scale;
        MemoryMarshal.Write(block, half);
        for (var i = 0; i < values.Length; i++)
            block[2 + i] = (byte)(sbyte)MathF.Round(values[i] * inverse, MidpointRounding.AwayFromZero);
        return Half.IsFinite(half);
    }
}

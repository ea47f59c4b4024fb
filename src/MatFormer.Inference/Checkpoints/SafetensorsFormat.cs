using System.Collections.Immutable;

namespace MatFormer;

/// <summary>The element types of safetensors files that MatFormer reads and writes.</summary>
public enum SafetensorsType
{
    /// <summary>F32, 4 bytes.</summary>
    Float32,

    /// <summary>F16, 2 bytes.</summary>
    Float16,

    /// <summary>BF16, 2 bytes.</summary>
    BFloat16,

    /// <summary>I64, 8 bytes.</summary>
    Int64,

    /// <summary>U8, 1 byte.</summary>
    UInt8,
}

/// <summary>One tensor of a safetensors file.</summary>
/// <param name="Name">The name, unique in the file.</param>
/// <param name="Type">The element type.</param>
/// <param name="Shape">The shape; empty for a scalar.</param>
public sealed record SafetensorsEntry(string Name, SafetensorsType Type, ImmutableArray<long> Shape)
{
    /// <summary>The number of bytes of the data.</summary>
    /// <exception cref="OverflowException">The tensor has more than <see cref="long.MaxValue"/> bytes.</exception>
    public long Length =>
        Shape.Aggregate((long)SafetensorsFormat.ElementSize(Type), static (product, dimension) => checked(product * dimension));

    /// <summary>The offset of the data in bytes, from the start of the file.</summary>
    public long Offset { get; init; }

    /// <summary>The index of the file that holds the tensor, in a set of files.</summary>
    internal int File { get; init; }
}

/// <summary>
/// The safetensors format (https://huggingface.co/docs/safetensors): the header's length as 8 bytes little-endian, a JSON header with
/// names, types, shapes and offsets, then the data without holes.
/// </summary>
internal static class SafetensorsFormat
{
    /// <summary>The longest header that is read, as in the reference implementation.</summary>
    public const int MaxHeaderLength = 100_000_000;

    /// <summary>The largest number of dimensions of a tensor that is read.</summary>
    public const int MaxDimensions = 64;

    public const string MetadataKey = "__metadata__";

    public static bool IsFloatingPoint(SafetensorsType type) =>
        type is SafetensorsType.Float32 or SafetensorsType.Float16 or SafetensorsType.BFloat16;

    public static int ElementSize(SafetensorsType type) => type switch
    {
        SafetensorsType.Float32 => 4,
        SafetensorsType.Float16 or SafetensorsType.BFloat16 => 2,
        SafetensorsType.Int64 => 8,
        SafetensorsType.UInt8 => 1,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, null),
    };

    public static string Code(SafetensorsType type) => type switch
    {
        SafetensorsType.Float32 => "F32",
        SafetensorsType.Float16 => "F16",
        SafetensorsType.BFloat16 => "BF16",
        SafetensorsType.Int64 => "I64",
        SafetensorsType.UInt8 => "U8",
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, null),
    };

    public static SafetensorsType? TypeOf(string code) => code switch
    {
        "F32" => SafetensorsType.Float32,
        "F16" => SafetensorsType.Float16,
        "BF16" => SafetensorsType.BFloat16,
        "I64" => SafetensorsType.Int64,
        "U8" => SafetensorsType.UInt8,
        _ => null,
    };
}

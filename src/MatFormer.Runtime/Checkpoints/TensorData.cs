using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Moves tensors to and from safetensors files, with at most one tensor in memory beside the model.</summary>
internal static class TensorData
{
    // A span has at most 2^31 - 1 bytes, but a tensor may have more. Every element size divides this number.
    private const int ChunkBytes = 1 << 26;

    /// <summary>Returns the entry of a tensor, in the tensor's dtype.</summary>
    /// <exception cref="ArgumentException">The dtype is not supported.</exception>
    public static SafetensorsEntry Entry(string name, Tensor tensor) => new(name, TypeOf(name, tensor.dtype), [.. tensor.shape]);

    /// <summary>Writes the elements in row-major order, little-endian.</summary>
    public static void Write(Tensor tensor, Stream stream)
    {
        using var detached = tensor.detach();
        using var contiguous = detached.contiguous();
        using var host = contiguous.cpu();
        ForEachChunk(host, chunk => stream.Write(chunk.bytes));
    }

    /// <summary>Reads an entry of the same shape into a tensor of any floating-point dtype.</summary>
    public static void Read(SafetensorsReader reader, SafetensorsEntry entry, Tensor destination)
    {
        using var host = empty(entry.Shape.AsSpan(), DtypeOf(entry.Type));
        long offset = 0;
        ForEachChunk(host, chunk =>
        {
            var bytes = chunk.bytes;
            reader.Read(entry, offset, bytes);
            offset += bytes.Length;
        });
        using var unrecorded = no_grad();
        destination.copy_(host);
    }

    private static void ForEachChunk(Tensor host, Action<Tensor> action)
    {
        using var flat = host.view(-1);
        var count = flat.numel();
        var step = ChunkBytes / flat.element_size();
        for (long start = 0; start < count; start += step)
        {
            using var chunk = flat.narrow(0, start, Math.Min(step, count - start));
            action(chunk);
        }
    }

    private static SafetensorsType TypeOf(string name, ScalarType dtype) => dtype switch
    {
        ScalarType.Float32 => SafetensorsType.Float32,
        ScalarType.Float16 => SafetensorsType.Float16,
        ScalarType.BFloat16 => SafetensorsType.BFloat16,
        _ => throw new ArgumentException($"The tensor '{name}' is {dtype}; only Float32, Float16 and BFloat16 can be saved."),
    };

    private static ScalarType DtypeOf(SafetensorsType type) => type switch
    {
        SafetensorsType.Float32 => ScalarType.Float32,
        SafetensorsType.Float16 => ScalarType.Float16,
        SafetensorsType.BFloat16 => ScalarType.BFloat16,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, null),
    };
}

using System.Runtime.InteropServices;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Is given a row of a weight, as float32.</summary>
internal delegate void RowReader(int row, ReadOnlySpan<float> values);

/// <summary>Where a decoder's weights come from.</summary>
internal abstract class WeightSource
{
    /// <summary>Reads the first rows and columns of a weight; a vector is one row.</summary>
    public abstract void Read(string name, int rows, int columns, RowReader reader);
}

/// <summary>A model's parameters, on whichever device, as they are now.</summary>
internal sealed class ModelWeights(MatFormerModel model) : WeightSource
{
    // As much of a tensor as is in memory beside it.
    private const int PieceBytes = 1 << 22;

    private readonly Dictionary<string, Parameter> _parameters = model.named_parameters().ToDictionary(p => p.Item1, p => p.Item2);

    /// <inheritdoc/>
    public override void Read(string name, int rows, int columns, RowReader reader)
    {
        using var scope = NewDisposeScope();
        var weight = _parameters[name].detach();
        if (weight.dim() == 1) weight = weight.unsqueeze(0);
        var atOnce = Math.Max(1, PieceBytes / (columns * sizeof(float)));
        for (var row = 0; row < rows; row += atOnce)
        {
            using var piece = weight.narrow(0, row, Math.Min(atOnce, rows - row)).narrow(1, 0, columns);
            using var host = piece.to(ScalarType.Float32).cpu().contiguous();
            var values = MemoryMarshal.Cast<byte, float>(host.bytes);
            for (var i = 0; values.Length > 0; i++, values = values[columns..]) reader(row + i, values[..columns]);
        }
    }
}

/// <summary>A safetensors file, of which no more is read than is kept.</summary>
internal sealed class FileWeights(SafetensorsReader reader) : WeightSource
{
    private float[] _values = [];

    /// <inheritdoc/>
    public override void Read(string name, int rows, int columns, RowReader rowReader)
    {
        var entry = reader.Find(name) ?? throw new CheckpointException(reader.Path, $"has no tensor '{name}'.");
        var width = entry.Shape[^1];
        if (!SafetensorsFormat.IsFloatingPoint(entry.Type) || width < columns || (entry.Shape is [var held, _] ? held : 1) < rows)
        {
            throw new CheckpointException(
                reader.Path, $"has a tensor '{name}' of shape ({string.Join(", ", entry.Shape)}) and type {entry.Type}, but ({rows}, "
                + $"{columns}) of a floating-point type is needed.");
        }

        if (_values.Length < columns) _values = new float[columns];
        var values = _values.AsSpan(0, columns);
        for (var row = 0; row < rows; row++)
        {
            reader.ReadValues(entry, row * width, values);
            rowReader(row, values);
        }
    }
}

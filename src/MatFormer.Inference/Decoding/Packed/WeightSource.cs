namespace MatFormer;

/// <summary>Receives a row of a weight as float32.</summary>
internal delegate void RowReader(int row, ReadOnlySpan<float> values);

/// <summary>The source of a decoder's weights.</summary>
internal abstract class WeightSource
{
    /// <summary>Reads the first rows and columns of a weight; a vector is one row.</summary>
    public abstract void Read(string name, int rows, int columns, RowReader reader);

    /// <summary>Returns the number of columns that a weight has; 0 if there is no such weight.</summary>
    public abstract int ColumnsOf(string name);
}

/// <summary>Weights of a safetensors file. Only the kept rows and columns are read.</summary>
internal sealed class FileWeights(SafetensorsReader reader) : WeightSource
{
    private float[] _values = [];

    /// <inheritdoc/>
    public override int ColumnsOf(string name) => (int)(reader.Find(name)?.Shape[^1] ?? 0);

    /// <inheritdoc/>
    public override void Read(string name, int rows, int columns, RowReader rowReader)
    {
        var entry = reader.Find(name) ?? throw new CheckpointException(reader.Path, $"has no tensor '{name}'; give another file.");
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

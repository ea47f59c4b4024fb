using System.ComponentModel;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>Rows of float32 that a decoder reads one at a time: a norm's weight, positions, angles. Used by generated code.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed unsafe class PackedTable : IDisposable
{
    private float* _values;

    internal PackedTable(int rows, int columns, bool holdsNothing = false)
    {
        Stride = PackedMatrix.RoundUp(columns);
        Bytes = (long)rows * Stride * sizeof(float);
        if (!holdsNothing) _values = (float*)PackedMatrix.Allocate((nint)Bytes);
    }

    internal int Stride { get; }

    internal long Bytes { get; }

    internal float* Row(int row) => _values + ((nint)row * Stride);

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.AlignedFree(_values);
        _values = null;
    }
}

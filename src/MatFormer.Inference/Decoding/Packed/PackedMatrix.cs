using System.ComponentModel;
using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>
/// A weight matrix (rows, columns) in the layout that a decoder reads: panels of 16 rows, each stored column by column. The first rows are
/// the first panels, and the first columns are the beginning of each panel. A submodel's part is therefore read without a copy.
/// </summary>
/// <remarks>Used by generated code. The last panel is padded with zeros.</remarks>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed unsafe class PackedMatrix : IDisposable
{
    /// <summary>The number of rows of a panel.</summary>
    internal const int Lanes = 16;

    private const int Line = 64;
    private const int Page = 4096;

    private readonly NestedPlanes? _nested;
    private byte* _panels;
    private float* _scales;
    private float* _bias;

    internal PackedMatrix(int rows, int columns, DecodingWeights type, bool hasBias, bool holdsNothing = false)
    {
        (Columns, Type) = (columns, type);
        Panels = RoundUp(rows) / Lanes;
        if (type.NestedBits is > 0 and var bits)
        {
            _nested = new NestedPlanes(Panels, columns, bits, holdsNothing);
            Bytes = _nested.Bytes;
            if (hasBias && !holdsNothing) _bias = (float*)Allocate((nint)Panels * Lanes * sizeof(float));
            return;
        }

        PanelBytes = (nint)columns * Lanes * SizeOf(type);
        Bytes = (Panels * (long)PanelBytes) + (type == DecodingWeights.Int8 ? Panels * Lanes * sizeof(float) : 0);
        if (holdsNothing) return;

        // Panels of rounded weights have a page or two each. If they are aligned to pages, fewer page lookups are needed, as measured.
        // Panels of float32 are longer, and faster without this alignment.
        _panels = (byte*)Allocate(Panels * PanelBytes, type == DecodingWeights.Float32 ? Line : Page);
        if (type == DecodingWeights.Int8) _scales = (float*)Allocate((nint)Panels * Lanes * sizeof(float));
        if (hasBias) _bias = (float*)Allocate((nint)Panels * Lanes * sizeof(float));
    }

    /// <summary>The number of columns.</summary>
    public int Columns { get; }

    internal DecodingWeights Type { get; }

    internal int Panels { get; }

    internal nint PanelBytes { get; }

    /// <summary>The size of the matrix in bytes.</summary>
    internal long Bytes { get; }

    /// <summary>The weights, if they are nested; else null.</summary>
    internal NestedPlanes? Nested => _nested;

    internal bool HasBias => _bias is not null;

    internal byte* Panel(int panel) => _panels + (panel * PanelBytes);

    /// <summary>Returns the factors of the products of a panel's rows; null if there are none.</summary>
    internal float* Scales(int panel) => _scales is null ? null : _scales + (panel * Lanes);

    /// <summary>Returns the bias of a panel's rows; null if there is none.</summary>
    internal float* Bias(int panel) => _bias is null ? null : _bias + (panel * Lanes);

    /// <summary>Rounds up to a multiple of 16.</summary>
    internal static int RoundUp(int count) => (count + Lanes - 1) / Lanes * Lanes;

    internal static int SizeOf(DecodingWeights type) => type switch
    {
        DecodingWeights.Float32 => Float32Element.Size,
        DecodingWeights.BFloat16 => BFloat16Element.Size,
        _ => Int8Element.Size,
    };

    /// <summary>Allocates zeroed memory, aligned to cache lines or more.</summary>
    internal static void* Allocate(nint bytes, int alignment = Line)
    {
        var size = (nuint)Math.Max(bytes, 1);
        var memory = NativeMemory.AlignedAlloc(size, (nuint)alignment);
        NativeMemory.Clear(memory, size);
        return memory;
    }

    /// <summary>
    /// Writes one row from float32 values. Those of nested weights may go on after the last column, up to the end of its group.
    /// </summary>
    internal void SetRow(int row, ReadOnlySpan<float> values)
    {
        if (_nested is not null)
        {
            _nested.SetRow(row, values);
            return;
        }

        var (panel, lane) = Math.DivRem(row, Lanes);
        var target = Panel(panel);
        switch (Type)
        {
            case DecodingWeights.Float32:
                Write<Float32Element>(target, lane, values, 1);
                break;
            case DecodingWeights.BFloat16:
                Write<BFloat16Element>(target, lane, values, 1);
                break;
            default:
                var largest = 0f;
                foreach (var value in values) largest = Math.Max(largest, Math.Abs(value));
                Scales(panel)[lane] = largest / 127;
                Write<Int8Element>(target, lane, values, largest > 0 ? 127 / largest : 0);
                break;
        }
    }

    /// <summary>Reads one row as float32, with the decoder's rounding.</summary>
    /// <param name="row">The row.</param>
    /// <param name="target">Gets the values.</param>
    /// <param name="weights">The format of nested weights: the matrix's own, or one of fewer bits.</param>
    internal void CopyRow(int row, float* target, DecodingWeights weights)
    {
        if (_nested is not null)
        {
            _nested.CopyRow(row, Columns, weights.NestedBits, target);
            return;
        }

        var (panel, lane) = Math.DivRem(row, Lanes);
        var source = Panel(panel);
        switch (Type)
        {
            case DecodingWeights.Float32:
                for (var c = 0; c < Columns; c++) target[c] = ((float*)source)[(c * Lanes) + lane];
                break;
            case DecodingWeights.BFloat16:
                for (var c = 0; c < Columns; c++)
                    target[c] = BitConverter.UInt32BitsToSingle((uint)((ushort*)source)[(c * Lanes) + lane] << 16);
                break;
            default:
                var scale = Scales(panel)[lane];
                for (var c = 0; c < Columns; c++) target[c] = ((sbyte*)source)[(c * Lanes) + lane] * scale;
                break;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _nested?.Dispose();
        NativeMemory.AlignedFree(_panels);
        NativeMemory.AlignedFree(_scales);
        NativeMemory.AlignedFree(_bias);
        _panels = null;
        _scales = null;
        _bias = null;
    }

    private static void Write<TElement>(byte* panel, int lane, ReadOnlySpan<float> values, float factor)
        where TElement : struct, IElement
    {
        var target = panel + (lane * TElement.Size);
        for (var c = 0; c < values.Length; c++) TElement.Store(values[c] * factor, target + (c * Lanes * TElement.Size));
    }
}

using System.Runtime.InteropServices;

namespace MatFormer;

/// <summary>
/// A matrix whose weights are rounded to 8 bits, of which the upper 4 and 2 bits are matrices too (<see cref="NestedRounding"/>). The bits
/// lie in three planes, and a fourth has the scales, so that a product reads only the planes that it needs.
/// </summary>
/// <remarks>
/// Each plane has the panels of 16 rows one after the other, and in each panel the groups of 32 columns. A vector of 64 bytes has four
/// columns of 16 rows. Two vectors of a group hold its upper two bits, two bits in each byte for each fourth column; so do the two vectors
/// of the next two bits; and four vectors hold the lower four. All are stored from 0 on: the upper four bits plus 8, the lower four plus 8.
/// </remarks>
internal sealed unsafe class NestedPlanes : IDisposable
{
    /// <summary>The bytes of the upper two bits of a group of 16 rows, and those of the next two.</summary>
    public const int PairBytes = Lanes * Group / 4;

    /// <summary>The bytes of the lower four bits of a group of 16 rows.</summary>
    public const int LowBytes = Lanes * Group / 2;

    private const int Lanes = PackedMatrix.Lanes;
    private const int Group = NestedRounding.Group;
    private const int ColumnsPerVector = 4;
    private const int VectorBytes = Lanes * ColumnsPerVector;
    private const int Page = 4096;

    private readonly int _bits;
    private readonly int _groups;
    private byte* _upper;
    private byte* _next;
    private byte* _low;
    private ushort* _scales;

    /// <param name="panels">The number of panels of 16 rows.</param>
    /// <param name="columns">The number of columns.</param>
    /// <param name="bits">The bits that are kept: 8, 4 or 2.</param>
    /// <param name="holdsNothing">True if only the size is wanted.</param>
    public NestedPlanes(int panels, int columns, int bits, bool holdsNothing)
    {
        (_bits, _groups) = (bits, GroupsOf(columns));
        var groups = (nint)panels * _groups;
        Bytes = groups * BytesPerGroup(bits);
        if (holdsNothing) return;
        _scales = (ushort*)PackedMatrix.Allocate(groups * Lanes * sizeof(ushort), Page);
        _upper = (byte*)PackedMatrix.Allocate(groups * PairBytes, Page);
        if (bits >= 4) _next = (byte*)PackedMatrix.Allocate(groups * PairBytes, Page);
        if (bits == 8) _low = (byte*)PackedMatrix.Allocate(groups * LowBytes, Page);
    }

    /// <summary>The bytes of all planes.</summary>
    public long Bytes { get; }

    /// <summary>Returns the number of groups of a row.</summary>
    public static int GroupsOf(int columns) => (columns + Group - 1) / Group;

    /// <summary>Returns the upper two bits of a panel.</summary>
    public byte* Upper(int panel) => _upper + ((nint)panel * _groups * PairBytes);

    /// <summary>Returns the two bits after the upper two of a panel.</summary>
    public byte* Next(int panel) => _next + ((nint)panel * _groups * PairBytes);

    /// <summary>Returns the lower four bits of a panel.</summary>
    public byte* Low(int panel) => _low + ((nint)panel * _groups * LowBytes);

    /// <summary>Returns the scales of a panel, as halves: 16 for each group.</summary>
    public ushort* Scales(int panel) => _scales + ((nint)panel * _groups * Lanes);

    /// <summary>Rounds a row and writes it. The values may go on after the last column, up to the end of its group.</summary>
    public void SetRow(int row, ReadOnlySpan<float> values)
    {
        var (panel, lane) = Math.DivRem(row, Lanes);
        var integers = new sbyte[values.Length];
        var scales = new Half[GroupsOf(values.Length)];
        NestedRounding.Quantize(values, integers, scales);
        for (var group = 0; group < scales.Length; group++)
            Scales(panel)[(group * Lanes) + lane] = BitConverter.HalfToUInt16Bits(scales[group]);
        for (var column = 0; column < integers.Length; column++)
        {
            var four = (integers[column] + 8) >> 4;
            var (pair, field) = PairPlace(column, lane);
            Put(Upper(panel) + pair, field, 3, (four + 8) >> 2);
            if (_bits >= 4) Put(Next(panel) + pair, field, 3, (four + 8) & 3);
            if (_bits < 8) continue;
            var (low, nibble) = LowPlace(column, lane);
            Put(Low(panel) + low, nibble, 15, integers[column] - (16 * four) + 8);
        }

        static void Put(byte* target, int shift, int mask, int value) => *target = (byte)((*target & ~(mask << shift)) | (value << shift));
    }

    /// <summary>Reads the first columns of a row in the given bits.</summary>
    public void CopyRow(int row, int columns, int bits, float* target)
    {
        var (panel, lane) = Math.DivRem(row, Lanes);
        for (var column = 0; column < columns; column++)
        {
            var scale = (float)BitConverter.UInt16BitsToHalf(Scales(panel)[(column / Group * Lanes) + lane]);
            var (pair, field) = PairPlace(column, lane);
            var two = (Upper(panel)[pair] >> field) & 3;
            if (bits == 2)
            {
                target[column] = ((4 * two) - 6.5f) * 16 * scale;
                continue;
            }

            var four = (4 * two) + ((Next(panel)[pair] >> field) & 3) - 8;
            var value = 16 * four;
            if (bits == 8)
            {
                var (low, nibble) = LowPlace(column, lane);
                value += ((Low(panel)[low] >> nibble) & 15) - 8;
            }

            target[column] = value * scale;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.AlignedFree(_upper);
        NativeMemory.AlignedFree(_next);
        NativeMemory.AlignedFree(_low);
        NativeMemory.AlignedFree(_scales);
        _upper = _next = _low = null;
        _scales = null;
    }

    private static int BytesPerGroup(int bits) =>
        (Lanes * sizeof(ushort)) + PairBytes + (bits >= 4 ? PairBytes : 0) + (bits == 8 ? LowBytes : 0);

    // The byte and the bit of a column in the planes of two bits: four vectors of columns share a vector of bytes.
    private static (int Byte, int Bit) PairPlace(int column, int lane)
    {
        var (group, within) = Math.DivRem(column, Group);
        var (vector, part) = Math.DivRem(within, ColumnsPerVector);
        return ((group * PairBytes) + (vector / 4 * VectorBytes) + (lane * ColumnsPerVector) + part, vector % 4 * 2);
    }

    // Two vectors of columns share a vector of bytes.
    private static (int Byte, int Bit) LowPlace(int column, int lane)
    {
        var (group, within) = Math.DivRem(column, Group);
        var (vector, part) = Math.DivRem(within, ColumnsPerVector);
        return ((group * LowBytes) + (vector / 2 * VectorBytes) + (lane * ColumnsPerVector) + part, vector % 2 * 4);
    }
}

using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace MatFormer;

/// <summary>
/// A vector register for integer products: bytes of several rows and four columns, the 16-bit sums of their products in pairs, or one
/// 32-bit sum or float32 number a row.
/// </summary>
/// <remarks>
/// Every implementation computes the same bits, because integers are exact and each row has one chain of float32 operations.
/// </remarks>
internal unsafe interface IDotLanes<TSelf>
    where TSelf : struct, IDotLanes<TSelf>
{
    /// <summary>The number of rows of a panel in the register: a quarter of its bytes.</summary>
    static abstract int Rows { get; }

    static abstract TSelf Load(byte* source);

    /// <summary>Fills the register with one byte.</summary>
    static abstract TSelf Fill(byte value);

    /// <summary>Repeats four bytes for each row.</summary>
    static abstract TSelf Repeat(sbyte* fourBytes);

    static abstract TSelf And(TSelf a, TSelf b);

    /// <summary>Takes the bits of the first where the mask has ones, else those of the second.</summary>
    static abstract TSelf Select(TSelf mask, TSelf a, TSelf b);

    /// <summary>Shifts each 16 bits to the left.</summary>
    static abstract TSelf ShiftLeft(TSelf a, [ConstantExpected] int bits);

    /// <summary>Shifts each 16 bits to the right.</summary>
    static abstract TSelf ShiftRight(TSelf a, [ConstantExpected] int bits);

    /// <summary>The products of unsigned and signed bytes, summed in pairs to 16 bits. No sum may exceed 16 bits.</summary>
    static abstract TSelf Products(TSelf unsigned, TSelf signed);

    /// <summary>Adds numbers of 16 bits.</summary>
    static abstract TSelf Add(TSelf a, TSelf b);

    /// <summary>Sums pairs of 16-bit numbers to 32 bits, times a factor.</summary>
    static abstract TSelf SumPairs(TSelf a, short factor);

    /// <summary>Adds numbers of 32 bits.</summary>
    static abstract TSelf AddSums(TSelf a, TSelf b);

    /// <summary>Converts a half for each row to float32. They are 0 or more, and finite.</summary>
    static abstract TSelf LoadHalves(ushort* source);

    /// <summary>target[i] += (sums[i] - offset) * (scales[i] * scale)</summary>
    static abstract void Accumulate(TSelf sums, int offset, TSelf scales, float scale, float* target);
}

/// <summary>A register of 512 bits (AVX-512), which holds all rows of a panel.</summary>
internal readonly unsafe struct Dot512 : IDotLanes<Dot512>
{
    private readonly Vector512<byte> _all;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Dot512(Vector512<byte> all) => _all = all;

    public static int Rows => 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 Load(byte* source) => new(Vector512.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 Fill(byte value) => new(Vector512.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 Repeat(sbyte* fourBytes) => new(Vector512.Create(*(int*)fourBytes).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 And(Dot512 a, Dot512 b) => new(a._all & b._all);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 Select(Dot512 mask, Dot512 a, Dot512 b) => new(Vector512.ConditionalSelect(mask._all, a._all, b._all));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 ShiftLeft(Dot512 a, [ConstantExpected] int bits) => new((a._all.AsUInt16() << bits).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 ShiftRight(Dot512 a, [ConstantExpected] int bits) => new((a._all.AsUInt16() >>> bits).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 Products(Dot512 unsigned, Dot512 signed) =>
        new(Avx512BW.MultiplyAddAdjacent(unsigned._all, signed._all.AsSByte()).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 Add(Dot512 a, Dot512 b) => new((a._all.AsInt16() + b._all.AsInt16()).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 SumPairs(Dot512 a, short factor) =>
        new(Avx512BW.MultiplyAddAdjacent(a._all.AsInt16(), Vector512.Create(factor)).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 AddSums(Dot512 a, Dot512 b) => new((a._all.AsInt32() + b._all.AsInt32()).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot512 LoadHalves(ushort* source) =>
        new(((Avx512F.ConvertToVector512UInt32(Vector256.Load(source)) << HalfBits.Shift).AsSingle() * HalfBits.Factor).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Accumulate(Dot512 sums, int offset, Dot512 scales, float scale, float* target) =>
        Vector512.FusedMultiplyAdd(
            Avx512F.ConvertToVector512Single(sums._all.AsInt32() - Vector512.Create(offset)), scales._all.AsSingle() * scale,
            Vector512.Load(target)).Store(target);
}

/// <summary>A register of 256 bits (AVX2), which holds half of the rows of a panel.</summary>
internal readonly unsafe struct Dot256 : IDotLanes<Dot256>
{
    private readonly Vector256<byte> _all;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Dot256(Vector256<byte> all) => _all = all;

    public static int Rows => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 Load(byte* source) => new(Vector256.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 Fill(byte value) => new(Vector256.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 Repeat(sbyte* fourBytes) => new(Vector256.Create(*(int*)fourBytes).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 And(Dot256 a, Dot256 b) => new(a._all & b._all);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 Select(Dot256 mask, Dot256 a, Dot256 b) => new(Vector256.ConditionalSelect(mask._all, a._all, b._all));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 ShiftLeft(Dot256 a, [ConstantExpected] int bits) => new((a._all.AsUInt16() << bits).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 ShiftRight(Dot256 a, [ConstantExpected] int bits) => new((a._all.AsUInt16() >>> bits).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 Products(Dot256 unsigned, Dot256 signed) =>
        new(Avx2.MultiplyAddAdjacent(unsigned._all, signed._all.AsSByte()).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 Add(Dot256 a, Dot256 b) => new((a._all.AsInt16() + b._all.AsInt16()).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 SumPairs(Dot256 a, short factor) =>
        new(Avx2.MultiplyAddAdjacent(a._all.AsInt16(), Vector256.Create(factor)).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 AddSums(Dot256 a, Dot256 b) => new((a._all.AsInt32() + b._all.AsInt32()).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot256 LoadHalves(ushort* source) =>
        new(((Avx2.ConvertToVector256Int32(source) << HalfBits.Shift).AsSingle() * HalfBits.Factor).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Accumulate(Dot256 sums, int offset, Dot256 scales, float scale, float* target) =>
        Vector256.FusedMultiplyAdd(
            Avx.ConvertToVector256Single(sums._all.AsInt32() - Vector256.Create(offset)), scales._all.AsSingle() * scale,
            Vector256.Load(target)).Store(target);
}

/// <summary>A register of 128 bits (every CPU), which holds a quarter of the rows of a panel.</summary>
internal readonly unsafe struct Dot128 : IDotLanes<Dot128>
{
    private readonly Vector128<byte> _all;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Dot128(Vector128<byte> all) => _all = all;

    public static int Rows => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 Load(byte* source) => new(Vector128.Load(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 Fill(byte value) => new(Vector128.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 Repeat(sbyte* fourBytes) => new(Vector128.Create(*(int*)fourBytes).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 And(Dot128 a, Dot128 b) => new(a._all & b._all);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 Select(Dot128 mask, Dot128 a, Dot128 b) => new(Vector128.ConditionalSelect(mask._all, a._all, b._all));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 ShiftLeft(Dot128 a, [ConstantExpected] int bits) => new((a._all.AsUInt16() << bits).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 ShiftRight(Dot128 a, [ConstantExpected] int bits) => new((a._all.AsUInt16() >>> bits).AsByte());

    // The even bytes and the odd bytes of pairs become 16-bit numbers by shifts, which every CPU has.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 Products(Dot128 unsigned, Dot128 signed)
    {
        var (u, s) = (unsigned._all.AsInt16(), signed._all.AsInt16());
        return new((((u & Vector128.Create((short)0xFF)) * ((s << 8) >> 8)) + ((u >>> 8) * (s >> 8))).AsByte());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 Add(Dot128 a, Dot128 b) => new((a._all.AsInt16() + b._all.AsInt16()).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 SumPairs(Dot128 a, short factor)
    {
        var pairs = a._all.AsInt32();
        return new(((((pairs << 16) >> 16) + (pairs >> 16)) * factor).AsByte());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 AddSums(Dot128 a, Dot128 b) => new((a._all.AsInt32() + b._all.AsInt32()).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Dot128 LoadHalves(ushort* source) =>
        new(((Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)source).AsUInt16()) << HalfBits.Shift).AsSingle()
            * HalfBits.Factor).AsByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Accumulate(Dot128 sums, int offset, Dot128 scales, float scale, float* target) =>
        Vector128.FusedMultiplyAdd(
            Vector128.ConvertToSingle(sums._all.AsInt32() - Vector128.Create(offset)), scales._all.AsSingle() * scale,
            Vector128.Load(target)).Store(target);
}

/// <summary>
/// The conversion of a finite half that is 0 or more: its bits, shifted to their places in a float32, are too small by a power of two.
/// </summary>
internal static class HalfBits
{
    public const int Shift = 13;
    public const float Factor = 5.192296858534828e33f; // 2^112
}

using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace MatFormer;

/// <summary>
/// Products of nested weights with rounded rows, in integers: exact sums for each group of 32 columns, which the scales of weights and rows
/// multiply. A result is bit for bit the same for every CPU, number of rows and number of threads.
/// </summary>
internal abstract unsafe class NestedKernels
{
    /// <summary>
    /// result[r, p] = panel p times the first columns of row r, for some rows. The stride of the result is in floats.
    /// </summary>
    /// <param name="weights">The matrix.</param>
    /// <param name="bits">The bits of the weights that are used: 8, 4 or 2.</param>
    /// <param name="panel">The first panel.</param>
    /// <param name="count">The number of panels.</param>
    /// <param name="columns">The number of columns.</param>
    /// <param name="x">The rows.</param>
    /// <param name="first">The first row.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="result">The results (rows, panels * 16).</param>
    /// <param name="resultStride">The distance of the results of two rows.</param>
    public abstract void Multiply(
        NestedPlanes weights, int bits, int panel, int count, int columns, in RoundedRows x, int first, int rows, float* result,
        nint resultStride);

    /// <summary>Returns the kernels for this CPU.</summary>
    public static NestedKernels Create(int? registerBits = null) => (registerBits ?? DecodingKernels.RegisterBits) switch
    {
        512 => new NestedKernels<Dot512>(),
        256 => new NestedKernels<Dot256>(),
        128 => new NestedKernels<Dot128>(),
        _ => throw new UnreachableException(),
    };
}

/// <remarks>
/// The sum of eight products in pairs fits in 16 bits, because weights have at most four bits in it: 8 * 2 * 15 * 128 is below 32768.
/// </remarks>
internal sealed unsafe class NestedKernels<TDot> : NestedKernels
    where TDot : struct, IDotLanes<TDot>
{
    private const MethodImplOptions Hot = MethodImplOptions.AggressiveOptimization;
    private const int Lanes = PackedMatrix.Lanes;
    private const int Vector = 4 * Lanes;
    private const int Line = 64;

    // The distance with the shortest times, as measured: that of a panel of 1024 columns.
    private const int GroupsAhead = 32;

    public override void Multiply(
        NestedPlanes weights, int bits, int panel, int count, int columns, in RoundedRows x, int first, int rows, float* result,
        nint resultStride)
    {
        for (var row = 0; row < rows; row++) new Span<float>(result + (row * resultStride), count * Lanes).Clear();
        for (var p = panel; p < panel + count; p++, result += Lanes)
        {
            if (bits == 8) Multiply8(weights, p, columns, x, first, rows, result, resultStride);
            else if (bits == 4) Multiply4(weights, p, columns, x, first, rows, result, resultStride);
            else Multiply2(weights, p, columns, x, first, rows, result, resultStride);
        }
    }

    // A weight is 16 times its upper four bits plus its lower four bits, which are stored plus 8 each.
    [MethodImpl(Hot)]
    private static void Multiply8(
        NestedPlanes weights, int panel, int columns, in RoundedRows x, int first, int rows, float* result, nint resultStride)
    {
        byte* upper = weights.Upper(panel), next = weights.Next(panel), low = weights.Low(panel);
        var halves = weights.Scales(panel);
        var groups = NestedPlanes.GroupsOf(columns);
        for (var group = 0; group < groups; group++)
        {
            Prefetch((byte*)halves, Lanes * sizeof(ushort));
            Prefetch(upper, NestedPlanes.PairBytes);
            Prefetch(next, NestedPlanes.PairBytes);
            Prefetch(low, NestedPlanes.LowBytes);
            var values = x.Values(group, first);
            var scales = x.Scales(group, first);
            var sums = x.Sums(group, first);
            for (var part = 0; part < Lanes; part += TDot.Rows)
            {
                var (h0, h1, h2, h3) = Four(upper + (part * 4), next + (part * 4));
                var (h4, h5, h6, h7) = Four(upper + (part * 4) + Vector, next + (part * 4) + Vector);
                var fifteen = TDot.Fill(15);
                var (a, b) = (TDot.Load(low + (part * 4)), TDot.Load(low + (part * 4) + Vector));
                var (c, d) = (TDot.Load(low + (part * 4) + (2 * Vector)), TDot.Load(low + (part * 4) + (3 * Vector)));
                var (l0, l1) = (TDot.And(a, fifteen), TDot.And(TDot.ShiftRight(a, 4), fifteen));
                var (l2, l3) = (TDot.And(b, fifteen), TDot.And(TDot.ShiftRight(b, 4), fifteen));
                var (l4, l5) = (TDot.And(c, fifteen), TDot.And(TDot.ShiftRight(c, 4), fifteen));
                var (l6, l7) = (TDot.And(d, fifteen), TDot.And(TDot.ShiftRight(d, 4), fifteen));
                var factors = TDot.LoadHalves(halves + part);
                for (var row = 0; row < rows; row++)
                {
                    var v = values + (row * NestedRounding.Group);
                    var high = Dot(v, h0, h1, h2, h3, h4, h5, h6, h7);
                    var lower = Dot(v, l0, l1, l2, l3, l4, l5, l6, l7);
                    TDot.Accumulate(
                        TDot.AddSums(TDot.SumPairs(high, 16), TDot.SumPairs(lower, 1)), 136 * sums[row], factors, scales[row],
                        result + (row * resultStride) + part);
                }
            }

            upper += NestedPlanes.PairBytes;
            next += NestedPlanes.PairBytes;
            low += NestedPlanes.LowBytes;
            halves += Lanes;
        }
    }

    // A weight is 16 times its upper four bits.
    [MethodImpl(Hot)]
    private static void Multiply4(
        NestedPlanes weights, int panel, int columns, in RoundedRows x, int first, int rows, float* result, nint resultStride)
    {
        byte* upper = weights.Upper(panel), next = weights.Next(panel);
        var halves = weights.Scales(panel);
        var groups = NestedPlanes.GroupsOf(columns);
        for (var group = 0; group < groups; group++)
        {
            Prefetch((byte*)halves, Lanes * sizeof(ushort));
            Prefetch(upper, NestedPlanes.PairBytes);
            Prefetch(next, NestedPlanes.PairBytes);
            var values = x.Values(group, first);
            var scales = x.Scales(group, first);
            var sums = x.Sums(group, first);
            for (var part = 0; part < Lanes; part += TDot.Rows)
            {
                var (h0, h1, h2, h3) = Four(upper + (part * 4), next + (part * 4));
                var (h4, h5, h6, h7) = Four(upper + (part * 4) + Vector, next + (part * 4) + Vector);
                var factors = TDot.LoadHalves(halves + part);
                for (var row = 0; row < rows; row++)
                {
                    TDot.Accumulate(
                        TDot.SumPairs(Dot(values + (row * NestedRounding.Group), h0, h1, h2, h3, h4, h5, h6, h7), 16), 128 * sums[row],
                        factors, scales[row], result + (row * resultStride) + part);
                }
            }

            upper += NestedPlanes.PairBytes;
            next += NestedPlanes.PairBytes;
            halves += Lanes;
        }
    }

    // A weight is 16 times the middle of its cell: 4 times its upper two bits, plus 1.5. They are stored plus 2.
    [MethodImpl(Hot)]
    private static void Multiply2(
        NestedPlanes weights, int panel, int columns, in RoundedRows x, int first, int rows, float* result, nint resultStride)
    {
        var upper = weights.Upper(panel);
        var halves = weights.Scales(panel);
        var groups = NestedPlanes.GroupsOf(columns);
        var three = TDot.Fill(3);
        for (var group = 0; group < groups; group++)
        {
            Prefetch((byte*)halves, Lanes * sizeof(ushort));
            Prefetch(upper, NestedPlanes.PairBytes);
            var values = x.Values(group, first);
            var scales = x.Scales(group, first);
            var sums = x.Sums(group, first);
            for (var part = 0; part < Lanes; part += TDot.Rows)
            {
                var (a, b) = (TDot.Load(upper + (part * 4)), TDot.Load(upper + (part * 4) + Vector));
                var (h0, h1) = (TDot.And(a, three), TDot.And(TDot.ShiftRight(a, 2), three));
                var (h2, h3) = (TDot.And(TDot.ShiftRight(a, 4), three), TDot.And(TDot.ShiftRight(a, 6), three));
                var (h4, h5) = (TDot.And(b, three), TDot.And(TDot.ShiftRight(b, 2), three));
                var (h6, h7) = (TDot.And(TDot.ShiftRight(b, 4), three), TDot.And(TDot.ShiftRight(b, 6), three));
                var factors = TDot.LoadHalves(halves + part);
                for (var row = 0; row < rows; row++)
                {
                    TDot.Accumulate(
                        TDot.SumPairs(Dot(values + (row * NestedRounding.Group), h0, h1, h2, h3, h4, h5, h6, h7), 64), 104 * sums[row],
                        factors, scales[row], result + (row * resultStride) + part);
                }
            }

            upper += NestedPlanes.PairBytes;
            halves += Lanes;
        }
    }

    // Reads some groups ahead into the cache, across the pages at which CPUs stop doing it on their own. The places need not exist.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* group, int bytes)
    {
        if (!Sse.IsSupported) return;
        for (var line = 0; line < bytes; line += Line) Sse.Prefetch0(group + (GroupsAhead * bytes) + line);
    }

    // The upper four bits of four vectors of columns. Those of two vectors are put together at once, in the halves of each byte.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (TDot A, TDot B, TDot C, TDot D) Four(byte* upper, byte* next)
    {
        var (u, n, fifteen, mask) = (TDot.Load(upper), TDot.Load(next), TDot.Fill(15), TDot.Fill(0b1100_1100));
        var even = TDot.Select(mask, TDot.ShiftLeft(u, 2), n);
        var odd = TDot.Select(mask, u, TDot.ShiftRight(n, 2));
        return (
            TDot.And(even, fifteen), TDot.And(odd, fifteen), TDot.And(TDot.ShiftRight(even, 4), fifteen),
            TDot.And(TDot.ShiftRight(odd, 4), fifteen));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TDot Dot(sbyte* x, TDot a, TDot b, TDot c, TDot d, TDot e, TDot f, TDot g, TDot h)
    {
        var ab = TDot.Add(TDot.Products(a, TDot.Repeat(x)), TDot.Products(b, TDot.Repeat(x + 4)));
        var cd = TDot.Add(TDot.Products(c, TDot.Repeat(x + 8)), TDot.Products(d, TDot.Repeat(x + 12)));
        var ef = TDot.Add(TDot.Products(e, TDot.Repeat(x + 16)), TDot.Products(f, TDot.Repeat(x + 20)));
        var gh = TDot.Add(TDot.Products(g, TDot.Repeat(x + 24)), TDot.Products(h, TDot.Repeat(x + 28)));
        return TDot.Add(TDot.Add(ab, cd), TDot.Add(ef, gh));
    }
}

using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace MatFormer;

/// <summary>Computes inner products of rows and queries in the widest vector registers of the CPU.</summary>
/// <remarks>
/// An inner product is always summed in the same order, so its bits do not depend on the other rows and queries of the same call.
/// </remarks>
internal abstract unsafe class InnerProducts
{
    /// <summary>The largest number of queries in a call of <see cref="Compute"/>.</summary>
    public const int MaxQueries = 4;

    /// <summary>The implementation for this CPU.</summary>
    public static InnerProducts Shared { get; } = Create(DecodingKernels.RegisterBits);

    /// <summary>Creates the implementation for registers of 512, 256 or 128 bits.</summary>
    public static InnerProducts Create(int registerBits) => registerBits switch
    {
        512 => new InnerProducts<Lanes512>(),
        256 => new InnerProducts<Lanes256>(),
        128 => new InnerProducts<Lanes128>(),
        _ => throw new UnreachableException(),
    };

    /// <summary>Returns the inner product of two vectors of <paramref name="width"/> float32 numbers.</summary>
    public abstract float Dot(float* a, float* b, int width);

    /// <summary>
    /// Computes scores[q * stride + r], the inner product of queries[q] and rows[r], for up to <see cref="MaxQueries"/> queries
    /// (count, width) and for rows (rowCount, width). Both are contiguous.
    /// </summary>
    public abstract void Compute(float* rows, int rowCount, int width, float* queries, int count, float* scores, int stride);
}

internal sealed unsafe class InnerProducts<TLanes> : InnerProducts
    where TLanes : struct, ILanes<TLanes>
{
    private const int Lanes = 16;

    // The prefetch distance in floats. Data must arrive in the cache before they are read, and must not be evicted before that.
    private const int Ahead = 2048;
    private const MethodImplOptions Hot = MethodImplOptions.AggressiveOptimization;

    [MethodImpl(Hot)]
    public override float Dot(float* a, float* b, int width)
    {
        var sum = TLanes.Broadcast(0);
        var whole = width / Lanes * Lanes;
        for (var i = 0; i < whole; i += Lanes) sum = TLanes.MultiplyAdd(TLanes.Load(a + i), TLanes.Load(b + i), sum);
        return Finish(sum, a, b, whole, width);
    }

    public override void Compute(float* rows, int rowCount, int width, float* queries, int count, float* scores, int stride)
    {
        var fours = rowCount / 4 * 4;
        if (count == MaxQueries)
        {
            Rows4Queries4(rows, fours, width, queries, scores, stride);
        }
        else
        {
            for (var q = 0; q < count; q++) Rows4(rows, fours, width, queries + ((nint)q * width), scores + (q * stride));
        }

        for (var r = fours; r < rowCount; r++)
        {
            for (var q = 0; q < count; q++)
                scores[(q * stride) + r] = Dot(rows + ((nint)r * width), queries + ((nint)q * width), width);
        }
    }

    // The hardware prefetcher does not predict reads from four rows in turn. Software prefetching saved a quarter to a third of the time.
    [MethodImpl(Hot)]
    private static void Rows4(float* rows, int rowCount, int width, float* query, float* scores)
    {
        var whole = width / Lanes * Lanes;
        for (var r = 0; r < rowCount; r += 4, rows += 4 * (nint)width)
        {
            float* r0 = rows, r1 = r0 + width, r2 = r1 + width, r3 = r2 + width;
            TLanes s0 = TLanes.Broadcast(0), s1 = s0, s2 = s0, s3 = s0;
            for (var i = 0; i < whole; i += Lanes)
            {
                if (Sse.IsSupported)
                {
                    var next = rows + (4 * i) + Ahead;
                    Sse.Prefetch0(next);
                    Sse.Prefetch0(next + Lanes);
                    Sse.Prefetch0(next + (2 * Lanes));
                    Sse.Prefetch0(next + (3 * Lanes));
                }

                var q = TLanes.Load(query + i);
                s0 = TLanes.MultiplyAdd(TLanes.Load(r0 + i), q, s0);
                s1 = TLanes.MultiplyAdd(TLanes.Load(r1 + i), q, s1);
                s2 = TLanes.MultiplyAdd(TLanes.Load(r2 + i), q, s2);
                s3 = TLanes.MultiplyAdd(TLanes.Load(r3 + i), q, s3);
            }

            scores[r] = Finish(s0, r0, query, whole, width);
            scores[r + 1] = Finish(s1, r1, query, whole, width);
            scores[r + 2] = Finish(s2, r2, query, whole, width);
            scores[r + 3] = Finish(s3, r3, query, whole, width);
        }
    }

    // Each load from a row serves four queries.
    [MethodImpl(Hot)]
    private static void Rows4Queries4(float* rows, int rowCount, int width, float* queries, float* scores, int stride)
    {
        var whole = width / Lanes * Lanes;
        float* q0 = queries, q1 = q0 + width, q2 = q1 + width, q3 = q2 + width;
        for (var r = 0; r < rowCount; r += 4, rows += 4 * (nint)width)
        {
            float* r0 = rows, r1 = r0 + width, r2 = r1 + width, r3 = r2 + width;
            TLanes s00 = TLanes.Broadcast(0), s01 = s00, s02 = s00, s03 = s00, s10 = s00, s11 = s00, s12 = s00, s13 = s00;
            TLanes s20 = s00, s21 = s00, s22 = s00, s23 = s00, s30 = s00, s31 = s00, s32 = s00, s33 = s00;
            for (var i = 0; i < whole; i += Lanes)
            {
                TLanes a = TLanes.Load(q0 + i), b = TLanes.Load(q1 + i), c = TLanes.Load(q2 + i), d = TLanes.Load(q3 + i);
                var row = TLanes.Load(r0 + i);
                s00 = TLanes.MultiplyAdd(row, a, s00);
                s10 = TLanes.MultiplyAdd(row, b, s10);
                s20 = TLanes.MultiplyAdd(row, c, s20);
                s30 = TLanes.MultiplyAdd(row, d, s30);
                row = TLanes.Load(r1 + i);
                s01 = TLanes.MultiplyAdd(row, a, s01);
                s11 = TLanes.MultiplyAdd(row, b, s11);
                s21 = TLanes.MultiplyAdd(row, c, s21);
                s31 = TLanes.MultiplyAdd(row, d, s31);
                row = TLanes.Load(r2 + i);
                s02 = TLanes.MultiplyAdd(row, a, s02);
                s12 = TLanes.MultiplyAdd(row, b, s12);
                s22 = TLanes.MultiplyAdd(row, c, s22);
                s32 = TLanes.MultiplyAdd(row, d, s32);
                row = TLanes.Load(r3 + i);
                s03 = TLanes.MultiplyAdd(row, a, s03);
                s13 = TLanes.MultiplyAdd(row, b, s13);
                s23 = TLanes.MultiplyAdd(row, c, s23);
                s33 = TLanes.MultiplyAdd(row, d, s33);
            }

            Finish4(s00, s01, s02, s03, r0, q0, whole, width, scores + r);
            Finish4(s10, s11, s12, s13, r0, q1, whole, width, scores + stride + r);
            Finish4(s20, s21, s22, s23, r0, q2, whole, width, scores + (2 * stride) + r);
            Finish4(s30, s31, s32, s33, r0, q3, whole, width, scores + (3 * stride) + r);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Finish4(
        TLanes s0, TLanes s1, TLanes s2, TLanes s3, float* rows, float* query, int whole, int width, float* scores)
    {
        scores[0] = Finish(s0, rows, query, whole, width);
        scores[1] = Finish(s1, rows + width, query, whole, width);
        scores[2] = Finish(s2, rows + (2 * width), query, whole, width);
        scores[3] = Finish(s3, rows + (3 * width), query, whole, width);
    }

    // Sums the lanes and adds the products of the elements after the last full group of lanes.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Finish(TLanes lanes, float* a, float* b, int whole, int width)
    {
        var sum = TLanes.Sum(lanes);
        for (var i = whole; i < width; i++) sum = MathF.FusedMultiplyAdd(a[i], b[i], sum);
        return sum;
    }
}

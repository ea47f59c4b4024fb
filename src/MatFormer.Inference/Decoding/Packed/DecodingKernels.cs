using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace MatFormer;

/// <summary>
/// The arithmetic of decoding over unmanaged memory, without tensors and native code. Rows are padded with zeros to multiples of 16.
/// </summary>
/// <remarks>
/// A result is bit for bit the same whether a row is computed alone or with others, and for any number of threads, because the order of
/// every sum depends only on its row. A draft is therefore verified by exactly the values that would be computed without it.
/// </remarks>
internal abstract unsafe class DecodingKernels
{
    protected const int Lanes = PackedMatrix.Lanes;

    /// <summary>The bytes of one element of a key or value.</summary>
    public abstract int CacheSize { get; }

    /// <summary>
    /// result[r, p] = panel p (columns, 16) times the first columns of x[r], for each of the rows; strides in floats. It applies neither
    /// scales nor bias.
    /// </summary>
    public abstract void Multiply(
        byte* panels, nint panelBytes, int count, int columns, float* x, nint stride, int rows, float* result, nint resultStride);

    /// <summary>result[i] = result[i] * scales[i] + bias[i]; scales and bias may be null.</summary>
    public abstract void Finish(float* result, float* scales, float* bias);

    /// <summary>target[i] += source[i]</summary>
    public abstract void Add(float* target, float* source, int count);

    /// <summary>Returns the sum of x[i] * y[i].</summary>
    public abstract float Dot(float* x, float* y, int count);

    /// <summary>x / sqrt(mean(x^2) + epsilon) * weight, over width numbers.</summary>
    public abstract void RmsNorm(float* x, float* weight, int width, float epsilon, float* result);

    /// <summary>(x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias, over width numbers.</summary>
    public abstract void LayerNorm(float* x, float* weight, float* bias, int width, float epsilon, float* result);

    /// <summary>Rotates the pairs (x[i], x[i + half]) by angles.</summary>
    public abstract void Rotate(float* x, float* cos, float* sin, int half);

    /// <summary>Computes 16 hidden units of a feed-forward. The gate is null if there is none.</summary>
    public abstract void Activate(FeedForwardKind kind, float* gate, float* up, float* hidden);

    /// <summary>
    /// Writes count elements, step bytes apart: a key into a column of keys (width, capacity), or a value into a row of values (capacity,
    /// stride).
    /// </summary>
    public abstract void Keep(float* source, byte* target, int count, nint step);

    /// <summary>
    /// Computes the attention of one query over positions first to last. Keys are (width, capacity), values are (capacity, stride), and
    /// scores is scratch memory for capacity numbers.
    /// </summary>
    public abstract void Attend(
        float* query, byte* keys, byte* values, int width, int stride, int capacity, int first, int last, float scale, float* scores,
        float* result);

    /// <summary>Returns the kernels for this CPU.</summary>
    public static DecodingKernels Create(DecodingWeights weights, int? registerBits = null) =>
        (registerBits ?? RegisterBits) switch
        {
            512 => Create<Lanes512>(weights),
            256 => Create<Lanes256>(weights),
            128 => Create<Lanes128>(weights),
            _ => throw new UnreachableException(),
        };

    /// <summary>The width in bits of the widest vector registers of this CPU.</summary>
    internal static int RegisterBits =>
        Vector512.IsHardwareAccelerated && Avx512F.IsSupported ? 512 : Avx2.IsSupported && Fma.IsSupported ? 256 : 128;

    private static DecodingKernels Create<TLanes>(DecodingWeights weights)
        where TLanes : struct, ILanes<TLanes> => weights switch
        {
            DecodingWeights.Float32 => new DecodingKernels<TLanes, Float32Element, Float32Element>(),
            DecodingWeights.BFloat16 => new DecodingKernels<TLanes, BFloat16Element, BFloat16Element>(),
            DecodingWeights.Int8 => new DecodingKernels<TLanes, Int8Element, BFloat16Element>(),

            // NestedKernels multiply nested weights.
            DecodingWeights.Nested8 or DecodingWeights.Nested4 or DecodingWeights.Nested2 =>
                new DecodingKernels<TLanes, Int8Element, BFloat16Element>(),
            _ => throw new UnreachableException(),
        };
}

internal sealed unsafe class DecodingKernels<TLanes, TWeight, TCache> : DecodingKernels
    where TLanes : struct, ILanes<TLanes>
    where TWeight : struct, IElement
    where TCache : struct, IElement
{
    private const MethodImplOptions Hot = MethodImplOptions.AggressiveOptimization;

    public override int CacheSize => TCache.Size;

    [MethodImpl(Hot)]
    public override void Multiply(
        byte* panels, nint panelBytes, int count, int columns, float* x, nint stride, int rows, float* result, nint resultStride)
    {
        var row = 0;
        for (; row + 1 < rows; row += 4)
        {
            Rows4(
                panels, panelBytes, count, columns, x + (row * stride), stride, Math.Min(4, rows - row), result + (row * resultStride),
                resultStride);
        }

        if (row < rows) Rows1(panels, panelBytes, count, columns, x + (row * stride), result + (row * resultStride));
    }

    [MethodImpl(Hot)]
    public override void Finish(float* result, float* scales, float* bias)
    {
        var value = TLanes.Load(result);
        if (scales is not null) value = TLanes.Multiply(value, TLanes.Load(scales));
        if (bias is not null) value = TLanes.Add(value, TLanes.Load(bias));
        TLanes.Store(value, result);
    }

    [MethodImpl(Hot)]
    public override void Add(float* target, float* source, int count)
    {
        for (var i = 0; i < count; i += Lanes) TLanes.Store(TLanes.Add(TLanes.Load(target + i), TLanes.Load(source + i)), target + i);
    }

    [MethodImpl(Hot)]
    public override float Dot(float* x, float* y, int count)
    {
        var sum = TLanes.Broadcast(0);
        for (var i = 0; i < count; i += Lanes) sum = TLanes.MultiplyAdd(TLanes.Load(x + i), TLanes.Load(y + i), sum);
        return TLanes.Sum(sum);
    }

    [MethodImpl(Hot)]
    public override void RmsNorm(float* x, float* weight, int width, float epsilon, float* result)
    {
        var sum = TLanes.Broadcast(0);
        for (var i = 0; i < width; i += Lanes) sum = TLanes.MultiplyAdd(TLanes.Load(x + i), TLanes.Load(x + i), sum);
        var scale = TLanes.Broadcast(1 / MathF.Sqrt((TLanes.Sum(sum) / width) + epsilon));
        for (var i = 0; i < width; i += Lanes)
            TLanes.Store(TLanes.Multiply(TLanes.Multiply(TLanes.Load(x + i), scale), TLanes.Load(weight + i)), result + i);
    }

    [MethodImpl(Hot)]
    public override void LayerNorm(float* x, float* weight, float* bias, int width, float epsilon, float* result)
    {
        var sum = TLanes.Broadcast(0);
        for (var i = 0; i < width; i += Lanes) sum = TLanes.Add(TLanes.Load(x + i), sum);
        var mean = TLanes.Sum(sum) / width;

        // The padding of the last lanes does not count.
        var squares = TLanes.Broadcast(0);
        var whole = width / Lanes * Lanes;
        for (var i = 0; i < whole; i += Lanes)
        {
            var centred = TLanes.Subtract(TLanes.Load(x + i), TLanes.Broadcast(mean));
            squares = TLanes.MultiplyAdd(centred, centred, squares);
        }

        var variance = TLanes.Sum(squares);
        for (var i = whole; i < width; i++) variance += (x[i] - mean) * (x[i] - mean);
        var scale = TLanes.Broadcast(1 / MathF.Sqrt((variance / width) + epsilon));
        for (var i = 0; i < width; i += Lanes)
        {
            var centred = TLanes.Subtract(TLanes.Load(x + i), TLanes.Broadcast(mean));
            TLanes.Store(TLanes.MultiplyAdd(TLanes.Multiply(centred, scale), TLanes.Load(weight + i), TLanes.Load(bias + i)), result + i);
        }
    }

    [MethodImpl(Hot)]
    public override void Rotate(float* x, float* cos, float* sin, int half)
    {
        var i = 0;
        for (; i + Lanes <= half; i += Lanes)
        {
            TLanes a = TLanes.Load(x + i), b = TLanes.Load(x + half + i), c = TLanes.Load(cos + i), s = TLanes.Load(sin + i);
            TLanes.Store(TLanes.Subtract(TLanes.Multiply(a, c), TLanes.Multiply(b, s)), x + i);
            TLanes.Store(TLanes.Add(TLanes.Multiply(b, c), TLanes.Multiply(a, s)), x + half + i);
        }

        for (; i < half; i++)
        {
            float a = x[i], b = x[half + i];
            x[i] = (a * cos[i]) - (b * sin[i]);
            x[half + i] = (b * cos[i]) + (a * sin[i]);
        }
    }

    [MethodImpl(Hot)]
    public override void Activate(FeedForwardKind kind, float* gate, float* up, float* hidden)
    {
        var value = TLanes.Load(up);
        TLanes.Store(
            kind switch
            {
                FeedForwardKind.SwiGlu => TLanes.Multiply(Silu(TLanes.Load(gate)), value),
                FeedForwardKind.GeGlu => TLanes.Multiply(Gelu(TLanes.Load(gate)), value),
                FeedForwardKind.Gelu => Gelu(value),
                _ => SquaredRelu(value),
            },
            hidden);
    }

    [MethodImpl(Hot)]
    public override void Keep(float* source, byte* target, int count, nint step)
    {
        for (var i = 0; i < count; i++, target += step) TCache.Store(source[i], target);
    }

    [MethodImpl(Hot)]
    public override void Attend(
        float* query, byte* keys, byte* values, int width, int stride, int capacity, int first, int last, float scale, float* scores,
        float* result)
    {
        // The loop starts at a multiple of 16, so that a row's sums do not depend on where a window begins within the lanes.
        var begin = first / Lanes * Lanes;
        var end = last + 1;
        var keyStep = (nint)capacity * TCache.Size;
        var scaled = TLanes.Broadcast(scale);
        var s = begin;
        for (; s + (4 * Lanes) <= PackedMatrix.RoundUp(end); s += 4 * Lanes)
        {
            var (a, b, c, d) = (TLanes.Broadcast(0), TLanes.Broadcast(0), TLanes.Broadcast(0), TLanes.Broadcast(0));
            var key = keys + ((nint)s * TCache.Size);
            for (var i = 0; i < width; i++, key += keyStep)
            {
                var q = TLanes.Broadcast(query[i]);
                a = TLanes.MultiplyAdd(q, TCache.Load<TLanes>(key), a);
                b = TLanes.MultiplyAdd(q, TCache.Load<TLanes>(key + (Lanes * TCache.Size)), b);
                c = TLanes.MultiplyAdd(q, TCache.Load<TLanes>(key + (2 * Lanes * TCache.Size)), c);
                d = TLanes.MultiplyAdd(q, TCache.Load<TLanes>(key + (3 * Lanes * TCache.Size)), d);
            }

            TLanes.Store(TLanes.Multiply(a, scaled), scores + s);
            TLanes.Store(TLanes.Multiply(b, scaled), scores + s + Lanes);
            TLanes.Store(TLanes.Multiply(c, scaled), scores + s + (2 * Lanes));
            TLanes.Store(TLanes.Multiply(d, scaled), scores + s + (3 * Lanes));
        }

        for (; s < end; s += Lanes)
        {
            var a = TLanes.Broadcast(0);
            var key = keys + ((nint)s * TCache.Size);
            for (var i = 0; i < width; i++, key += keyStep) a = TLanes.MultiplyAdd(TLanes.Broadcast(query[i]), TCache.Load<TLanes>(key), a);
            TLanes.Store(TLanes.Multiply(a, scaled), scores + s);
        }

        var padded = PackedMatrix.RoundUp(end);
        for (var i = begin; i < first; i++) scores[i] = float.NegativeInfinity;
        for (var i = end; i < padded; i++) scores[i] = float.NegativeInfinity;
        var largest = scores[last];
        for (var i = begin; i < end; i++) largest = MathF.Max(largest, scores[i]);
        var sum = TLanes.Broadcast(0);
        for (var i = begin; i < padded; i += Lanes)
        {
            var probability = TLanes.Exp(TLanes.Subtract(TLanes.Load(scores + i), TLanes.Broadcast(largest)));
            sum = TLanes.Add(sum, probability);
            TLanes.Store(probability, scores + i);
        }

        var share = TLanes.Broadcast(1 / TLanes.Sum(sum));
        var valueStep = (nint)stride * TCache.Size;
        for (var column = 0; column < stride; column += Lanes)
        {
            var (a, b, c, d) = (TLanes.Broadcast(0), TLanes.Broadcast(0), TLanes.Broadcast(0), TLanes.Broadcast(0));
            var value = values + ((begin * valueStep) + (column * TCache.Size));
            s = begin;
            for (; s + 4 <= end; s += 4, value += 4 * valueStep)
            {
                a = TLanes.MultiplyAdd(TLanes.Broadcast(scores[s]), TCache.Load<TLanes>(value), a);
                b = TLanes.MultiplyAdd(TLanes.Broadcast(scores[s + 1]), TCache.Load<TLanes>(value + valueStep), b);
                c = TLanes.MultiplyAdd(TLanes.Broadcast(scores[s + 2]), TCache.Load<TLanes>(value + (2 * valueStep)), c);
                d = TLanes.MultiplyAdd(TLanes.Broadcast(scores[s + 3]), TCache.Load<TLanes>(value + (3 * valueStep)), d);
            }

            for (; s < end; s++, value += valueStep) a = TLanes.MultiplyAdd(TLanes.Broadcast(scores[s]), TCache.Load<TLanes>(value), a);
            TLanes.Store(TLanes.Multiply(TLanes.Add(TLanes.Add(a, b), TLanes.Add(c, d)), share), result + column);
        }
    }

    // x / (1 + e^-x)
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TLanes Silu(TLanes x)
    {
        var one = TLanes.Broadcast(1);
        return TLanes.Divide(x, TLanes.Add(one, TLanes.Exp(TLanes.Subtract(TLanes.Broadcast(0), x))));
    }

    // x (1 + erf(x / sqrt 2)) / 2. The error of erf is at most 1.5e-7: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TLanes Gelu(TLanes x)
    {
        var one = TLanes.Broadcast(1);
        var z = TLanes.Multiply(x, TLanes.Broadcast(0.70710678f));
        var size = TLanes.Abs(z);
        var t = TLanes.Divide(one, TLanes.MultiplyAdd(TLanes.Broadcast(0.3275911f), size, one));
        var sum = TLanes.Broadcast(1.061405429f);
        sum = TLanes.MultiplyAdd(sum, t, TLanes.Broadcast(-1.453152027f));
        sum = TLanes.MultiplyAdd(sum, t, TLanes.Broadcast(1.421413741f));
        sum = TLanes.MultiplyAdd(sum, t, TLanes.Broadcast(-0.284496736f));
        sum = TLanes.MultiplyAdd(sum, t, TLanes.Broadcast(0.254829592f));
        var tail = TLanes.Multiply(TLanes.Multiply(sum, t), TLanes.Exp(TLanes.Subtract(TLanes.Broadcast(0), TLanes.Multiply(z, z))));
        var erf = TLanes.CopySign(TLanes.Subtract(one, tail), z);
        return TLanes.Multiply(TLanes.Multiply(x, TLanes.Broadcast(0.5f)), TLanes.Add(one, erf));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TLanes SquaredRelu(TLanes x)
    {
        var positive = TLanes.Max(x, TLanes.Broadcast(0));
        return TLanes.Multiply(positive, positive);
    }

    // Four panels at once give enough independent sums to keep a core busy.
    [MethodImpl(Hot)]
    private static void Rows1(byte* panels, nint panelBytes, int count, int columns, float* x, float* result)
    {
        var step = Lanes * TWeight.Size;
        var panel = 0;
        for (; panel + 4 <= count; panel += 4)
        {
            byte* p = panels + (panel * panelBytes), q = p + panelBytes, r = q + panelBytes, s = r + panelBytes;
            var (a, b, c, d) = (TLanes.Broadcast(0), TLanes.Broadcast(0), TLanes.Broadcast(0), TLanes.Broadcast(0));
            for (var k = 0; k < columns; k++)
            {
                var v = TLanes.Broadcast(x[k]);
                a = TLanes.MultiplyAdd(v, TWeight.Load<TLanes>(p), a);
                b = TLanes.MultiplyAdd(v, TWeight.Load<TLanes>(q), b);
                c = TLanes.MultiplyAdd(v, TWeight.Load<TLanes>(r), c);
                d = TLanes.MultiplyAdd(v, TWeight.Load<TLanes>(s), d);
                p += step;
                q += step;
                r += step;
                s += step;
            }

            TLanes.Store(a, result + (panel * Lanes));
            TLanes.Store(b, result + ((panel + 1) * Lanes));
            TLanes.Store(c, result + ((panel + 2) * Lanes));
            TLanes.Store(d, result + ((panel + 3) * Lanes));
        }

        if (panel + 2 <= count)
        {
            byte* p = panels + (panel * panelBytes), q = p + panelBytes;
            var (a, b) = (TLanes.Broadcast(0), TLanes.Broadcast(0));
            for (var k = 0; k < columns; k++)
            {
                var v = TLanes.Broadcast(x[k]);
                a = TLanes.MultiplyAdd(v, TWeight.Load<TLanes>(p), a);
                b = TLanes.MultiplyAdd(v, TWeight.Load<TLanes>(q), b);
                p += step;
                q += step;
            }

            TLanes.Store(a, result + (panel * Lanes));
            TLanes.Store(b, result + ((panel + 1) * Lanes));
            panel += 2;
        }

        if (panel < count)
        {
            var p = panels + (panel * panelBytes);
            var a = TLanes.Broadcast(0);
            for (var k = 0; k < columns; k++, p += step) a = TLanes.MultiplyAdd(TLanes.Broadcast(x[k]), TWeight.Load<TLanes>(p), a);
            TLanes.Store(a, result + (panel * Lanes));
        }
    }

    // Computes two to four rows. If there are fewer than four, the last row is computed repeatedly: reading the weights dominates the time.
    [MethodImpl(Hot)]
    private static void Rows4(
        byte* panels, nint panelBytes, int count, int columns, float* x, nint stride, int rows, float* result, nint resultStride)
    {
        var step = Lanes * TWeight.Size;
        var (third, fourth) = (Math.Min(2, rows - 1), rows - 1);
        float* x1 = x + stride, x2 = x + (third * stride), x3 = x + (fourth * stride);
        var panel = 0;
        // AVX-512 has registers for this many sums.
        for (; typeof(TLanes) == typeof(Lanes512) && panel + 4 <= count; panel += 4)
        {
            byte* p = panels + (panel * panelBytes), q = p + panelBytes, r = q + panelBytes, s = r + panelBytes;
            TLanes a0 = TLanes.Broadcast(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
            TLanes c0 = a0, c1 = a0, c2 = a0, c3 = a0, d0 = a0, d1 = a0, d2 = a0, d3 = a0;
            for (var k = 0; k < columns; k++)
            {
                var (t, u, v, w) = (TWeight.Load<TLanes>(p), TWeight.Load<TLanes>(q), TWeight.Load<TLanes>(r), TWeight.Load<TLanes>(s));
                var y = TLanes.Broadcast(x[k]);
                a0 = TLanes.MultiplyAdd(y, t, a0);
                b0 = TLanes.MultiplyAdd(y, u, b0);
                c0 = TLanes.MultiplyAdd(y, v, c0);
                d0 = TLanes.MultiplyAdd(y, w, d0);
                y = TLanes.Broadcast(x1[k]);
                a1 = TLanes.MultiplyAdd(y, t, a1);
                b1 = TLanes.MultiplyAdd(y, u, b1);
                c1 = TLanes.MultiplyAdd(y, v, c1);
                d1 = TLanes.MultiplyAdd(y, w, d1);
                y = TLanes.Broadcast(x2[k]);
                a2 = TLanes.MultiplyAdd(y, t, a2);
                b2 = TLanes.MultiplyAdd(y, u, b2);
                c2 = TLanes.MultiplyAdd(y, v, c2);
                d2 = TLanes.MultiplyAdd(y, w, d2);
                y = TLanes.Broadcast(x3[k]);
                a3 = TLanes.MultiplyAdd(y, t, a3);
                b3 = TLanes.MultiplyAdd(y, u, b3);
                c3 = TLanes.MultiplyAdd(y, v, c3);
                d3 = TLanes.MultiplyAdd(y, w, d3);
                p += step;
                q += step;
                r += step;
                s += step;
            }

            var target = result + (panel * Lanes);
            Store4(a0, b0, c0, d0, target);
            Store4(a1, b1, c1, d1, target + resultStride);
            Store4(a2, b2, c2, d2, target + (third * resultStride));
            Store4(a3, b3, c3, d3, target + (fourth * resultStride));
        }

        for (; panel + 2 <= count; panel += 2)
        {
            byte* p = panels + (panel * panelBytes), q = p + panelBytes;
            TLanes a0 = TLanes.Broadcast(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
            for (var k = 0; k < columns; k++)
            {
                var (v, w) = (TWeight.Load<TLanes>(p), TWeight.Load<TLanes>(q));
                var t = TLanes.Broadcast(x[k]);
                a0 = TLanes.MultiplyAdd(t, v, a0);
                b0 = TLanes.MultiplyAdd(t, w, b0);
                t = TLanes.Broadcast(x1[k]);
                a1 = TLanes.MultiplyAdd(t, v, a1);
                b1 = TLanes.MultiplyAdd(t, w, b1);
                t = TLanes.Broadcast(x2[k]);
                a2 = TLanes.MultiplyAdd(t, v, a2);
                b2 = TLanes.MultiplyAdd(t, w, b2);
                t = TLanes.Broadcast(x3[k]);
                a3 = TLanes.MultiplyAdd(t, v, a3);
                b3 = TLanes.MultiplyAdd(t, w, b3);
                p += step;
                q += step;
            }

            var target = result + (panel * Lanes);
            TLanes.Store(a0, target);
            TLanes.Store(b0, target + Lanes);
            TLanes.Store(a1, target + resultStride);
            TLanes.Store(b1, target + resultStride + Lanes);
            TLanes.Store(a2, target + (third * resultStride));
            TLanes.Store(b2, target + (third * resultStride) + Lanes);
            TLanes.Store(a3, target + (fourth * resultStride));
            TLanes.Store(b3, target + (fourth * resultStride) + Lanes);
        }

        if (panel == count) return;
        for (var row = 0; row < rows; row++)
        {
            Rows1(
                panels + (panel * panelBytes), panelBytes, 1, columns, x + (row * stride),
                result + (row * resultStride) + (panel * Lanes));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store4(TLanes a, TLanes b, TLanes c, TLanes d, float* target)
    {
        TLanes.Store(a, target);
        TLanes.Store(b, target + Lanes);
        TLanes.Store(c, target + (2 * Lanes));
        TLanes.Store(d, target + (3 * Lanes));
    }
}

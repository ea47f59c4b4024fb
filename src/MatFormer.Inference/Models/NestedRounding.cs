using System.Numerics;

namespace MatFormer;

/// <summary>
/// Rounds weights to 8 bits whose upper 4 and 2 bits are weights too, as in MatQuant (arXiv 2502.06786). 32 consecutive columns of a row
/// share a scale in half precision; the last group of a row may be shorter.
/// </summary>
/// <remarks>
/// <para>
/// With the scale max(largest / 119, -smallest / 128), an 8-bit number q8 = round(w / scale) lies in -128..119. The 4-bit number
/// q4 = (q8 + 8) >> 4 then lies in -8..7 without a clamp, and q2 = q4 >> 2 lies in -2..1. The values are q8 * scale, q4 * 16 * scale, and
/// (4 * q2 + 1.5) * 16 * scale: each of the four levels of 2 bits lies in the middle of its four numbers of 4 bits. 8 and 4 bits are Q8_0
/// and Q4_0 of llama.cpp.
/// </para>
/// <para>Every value is exact in float32: a scale has 11 significant bits, and a factor has at most 8.</para>
/// </remarks>
internal static class NestedRounding
{
    /// <summary>The number of consecutive columns that share a scale.</summary>
    public const int Group = 32;

    /// <summary>
    /// The largest 8-bit number. With it as the largest and <see cref="Smallest"/> as the smallest, 4 bits need no clamp.
    /// </summary>
    public const float Largest = 119;

    /// <summary>The smallest 8-bit number.</summary>
    public const float Smallest = -128;

    /// <summary>Rounds a row of finite weights.</summary>
    /// <param name="row">The weights of a row.</param>
    /// <param name="bits">8, 4 or 2.</param>
    /// <param name="rounded">Gets the rounded weights; it may be the row itself.</param>
    /// <exception cref="ArgumentOutOfRangeException">The bits are not 8, 4 or 2.</exception>
    public static void Round(ReadOnlySpan<float> row, int bits, Span<float> rounded)
    {
        if (bits is not (8 or 4 or 2)) throw new ArgumentOutOfRangeException(nameof(bits), bits, "Weights are rounded to 8, 4 or 2 bits.");
        for (var start = 0; start < row.Length; start += Group)
        {
            var group = row.Slice(start, Math.Min(Group, row.Length - start));
            var target = rounded.Slice(start, group.Length);
            var scale = (float)Scale(group);
            if (scale == 0)
            {
                target.Clear();
                continue;
            }

            var i = 0;
            for (; i <= group.Length - Vector<float>.Count; i += Vector<float>.Count)
            {
                var q = Vector.Round(new Vector<float>(group[i..]) / new Vector<float>(scale), MidpointRounding.ToEven);
                q = Vector.Max(Vector.Min(q, new Vector<float>(Largest)), new Vector<float>(Smallest));
                if (bits < 8) q = Vector.Floor((q + new Vector<float>(8)) * (1 / 16f));
                if (bits == 2) q = (Vector.Floor(q * (1 / 4f)) * 4) + new Vector<float>(1.5f);
                if (bits < 8) q *= 16;
                ((q * scale) + Vector<float>.Zero).CopyTo(target[i..]); // never -0, as an integer has no such value
            }

            for (; i < group.Length; i++) target[i] = scale * Value(Number(group[i], scale), bits);
        }
    }

    /// <summary>
    /// Computes the 8-bit numbers and the scales of a row of finite weights. The other planes are parts of these numbers.
    /// </summary>
    /// <param name="row">The weights of a row.</param>
    /// <param name="q8">Gets a number for each weight, -128 to 119.</param>
    /// <param name="scales">Gets a scale for each group of 32 weights. It is 0 if all numbers of the group are 0.</param>
    public static void Quantize(ReadOnlySpan<float> row, Span<sbyte> q8, Span<Half> scales)
    {
        for (var start = 0; start < row.Length; start += Group)
        {
            var group = row.Slice(start, Math.Min(Group, row.Length - start));
            var scale = Scale(group);
            scales[start / Group] = scale;
            for (var i = 0; i < group.Length; i++) q8[start + i] = scale == Half.Zero ? (sbyte)0 : (sbyte)Number(group[i], (float)scale);
        }
    }

    /// <summary>Returns the value of an 8-bit number, or of its upper 4 or 2 bits, in units of the scale.</summary>
    public static float Value(int q8, int bits) => bits switch
    {
        8 => q8,
        4 => ((q8 + 8) >> 4) * 16,
        _ => ((4 * ((q8 + 8) >> 6)) + 1.5f) * 16,
    };

    private static int Number(float weight, float scale) =>
        (int)Math.Clamp(MathF.Round(weight / scale, MidpointRounding.ToEven), Smallest, Largest);

    /// <summary>Returns the scale of a group of finite weights: 0 if its numbers are all 0.</summary>
    public static Half Scale(ReadOnlySpan<float> group)
    {
        float positive = 0, negative = 0;
        var i = 0;
        if (group.Length >= Vector<float>.Count)
        {
            Vector<float> most = Vector<float>.Zero, least = Vector<float>.Zero;
            for (; i <= group.Length - Vector<float>.Count; i += Vector<float>.Count)
            {
                var weights = new Vector<float>(group[i..]);
                (most, least) = (Vector.Max(most, weights), Vector.Min(least, weights));
            }

            for (var lane = 0; lane < Vector<float>.Count; lane++)
                (positive, negative) = (Math.Max(positive, most[lane]), Math.Max(negative, -least[lane]));
        }

        for (; i < group.Length; i++) (positive, negative) = (Math.Max(positive, group[i]), Math.Max(negative, -group[i]));
        var scale = (Half)Math.Max(positive / Largest, negative / -Smallest);
        return Half.IsInfinity(scale) ? Half.MaxValue : scale;
    }
}

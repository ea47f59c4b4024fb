using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace MatFormer;

/// <summary>
/// The rows of a product, rounded to 8 bits in groups of 32 columns, each with a scale (the largest magnitude of the group becomes 127) and
/// the sum of its integers. A group has all rows one after the other, so that a group of weights is multiplied by neighbours in memory.
/// </summary>
internal readonly unsafe struct RoundedRows
{
    private const int Group = NestedRounding.Group;

    private readonly sbyte* _values;
    private readonly float* _scales;
    private readonly int* _sums;

    /// <param name="memory">Memory of <see cref="Floats"/> numbers.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="columns">The number of columns that there is memory for.</param>
    public RoundedRows(float* memory, int rows, int columns)
    {
        var groups = NestedPlanes.GroupsOf(columns);
        Count = rows;
        _values = (sbyte*)memory;
        _scales = memory + ((nint)groups * rows * (Group / sizeof(float)));
        _sums = (int*)(_scales + ((nint)groups * rows));
    }

    /// <summary>The number of rows.</summary>
    public int Count { get; }

    /// <summary>Returns the number of float32 numbers that the memory needs.</summary>
    public static nint Floats(int rows, int columns) => (nint)NestedPlanes.GroupsOf(columns) * rows * ((Group / sizeof(float)) + 2);

    public sbyte* Values(int group, int row) => _values + ((((nint)group * Count) + row) * Group);

    public float* Scales(int group, int row) => _scales + ((nint)group * Count) + row;

    public int* Sums(int group, int row) => _sums + ((nint)group * Count) + row;

    /// <summary>Rounds one row. The columns after the given ones count as zeros, up to the end of their group.</summary>
    public void Round(float* x, int columns, int row)
    {
        var rest = stackalloc float[Group];
        for (var group = 0; columns > 0; group++, columns -= Group, x += Group)
        {
            var source = x;
            if (columns < Group)
            {
                new Span<float>(rest, Group).Clear();
                new ReadOnlySpan<float>(x, columns).CopyTo(new Span<float>(rest, Group));
                source = rest;
            }

            RoundGroup(source, Values(group, row), Scales(group, row), Sums(group, row));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundGroup(float* x, sbyte* values, float* scale, int* sum)
    {
        var magnitude = Vector128<float>.Zero;
        for (var i = 0; i < Group; i += 4) magnitude = Vector128.Max(magnitude, Vector128.Abs(Vector128.Load(x + i)));
        var largest = MathF.Max(MathF.Max(magnitude[0], magnitude[1]), MathF.Max(magnitude[2], magnitude[3]));

        // Numbers that are too small to be divided become zeros. NaN and infinity stay in the scale, so that they reach the logits.
        const float Least = 1e-30f;
        *scale = largest < Least ? 0 : largest / 127;
        var inverse = Vector128.Create(largest < Least ? 0 : 127 / largest);

        var sums = Vector128<int>.Zero;
        for (var i = 0; i < Group; i += 16)
        {
            var (a, b) = (Rounded(x + i, inverse), Rounded(x + i + 4, inverse));
            var (c, d) = (Rounded(x + i + 8, inverse), Rounded(x + i + 12, inverse));
            sums += a + b + (c + d);
            Vector128.Narrow(Vector128.Narrow(a, b), Vector128.Narrow(c, d)).Store(values + i);
        }

        *sum = Vector128.Sum(sums);
    }

    // A number of 2^23 or more has no fraction, so this sum is rounded to a whole number, ties to even.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<int> Rounded(float* source, Vector128<float> factor)
    {
        var whole = Vector128.Create(12582912f); // 1.5 * 2^23
        return ((Vector128.Load(source) * factor) + whole).AsInt32() - whole.AsInt32();
    }
}

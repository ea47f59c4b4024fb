using System.ComponentModel;

namespace MatFormer;

/// <summary>
/// Reads the weights that a decoder needs by name and packs them. Generated code calls it to create a network. The packed weights are
/// released with the network.
/// </summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed unsafe class WeightPacker
{
    private readonly WeightSource? _source;
    private readonly List<IDisposable> _made = [];

    /// <param name="source">The source of the weights. If it is null, weights are only counted, not packed.</param>
    /// <param name="type">The format of the packed weights.</param>
    internal WeightPacker(WeightSource? source, DecodingWeights type) => (_source, Type) = (source, type);

    internal DecodingWeights Type { get; }

    /// <summary>True if a router was packed.</summary>
    internal bool HasRouters { get; private set; }

    /// <summary>The total bytes of the packed weights.</summary>
    internal long Bytes { get; private set; }

    /// <summary>Packs a vector, such as a norm's weight, in float32.</summary>
    public PackedTable Vector(string name, int count) => Table(name, 1, count);

    /// <summary>Packs a table (rows, columns) that is read row by row, in float32.</summary>
    public PackedTable Table(string name, int rows, int columns)
    {
        var table = NewTable(rows, columns);
        Read(name, rows, columns, (row, values) => values.CopyTo(new Span<float>(table.Row(row), columns)));
        return table;
    }

    /// <summary>Computes the cosines and sines (context, headWidth / 2) of rotary positions, the same as in <c>RotaryTable</c>.</summary>
    public (PackedTable Cos, PackedTable Sin) Rotary(int context, int headWidth, double rotaryBase, RotaryScaling? scaling = null)
    {
        var half = headWidth / 2;
        var (cos, sin) = (NewTable(context, half), NewTable(context, half));
        if (_source is null) return (cos, sin);
        RotaryAngles.Fill(context, headWidth, rotaryBase, scaling, (position, pair, cosine, sine) =>
        {
            cos.Row(position)[pair] = cosine;
            sin.Row(position)[pair] = sine;
        });
        return (cos, sin);
    }

    /// <summary>
    /// Packs the router of a layer in float32. Returns null if the layer is not routed, or the weights are those of a slice, which has no
    /// routers.
    /// </summary>
    public PackedRouter? Router(string prefix, int granularities, int width, int budgets)
    {
        const string Weight = "router.weight";
        if (_source is null || _source.ColumnsOf(prefix + Weight) == 0) return null;
        HasRouters = true;
        return new PackedRouter(
            Table(prefix + Weight, granularities, width), Vector(prefix + "router.alpha", 1),
            Table(prefix + "router.thresholds", budgets, granularities - 1), granularities);
    }

    /// <summary>Packs a matrix (rows, columns).</summary>
    public PackedMatrix Matrix(string name, int rows, int columns, string? bias = null)
    {
        var matrix = New(rows, columns, bias is not null);
        ReadMatrix(name, rows, columns, matrix.SetRow);
        if (bias is not null) Read(bias, 1, rows, (_, values) => values.CopyTo(new Span<float>(matrix.Bias(0), rows)));
        return matrix;
    }

    /// <summary>Packs a projection to heads (heads * headWidth, columns). Each head begins a panel.</summary>
    public PackedMatrix ToHeads(string name, int heads, int headWidth, int columns, string? bias = null)
    {
        var padded = PackedMatrix.RoundUp(headWidth);
        var matrix = New(heads * padded, columns, bias is not null);
        ReadMatrix(
            name, heads * headWidth, columns,
            (row, values) => matrix.SetRow((row / headWidth * padded) + (row % headWidth), values));
        if (bias is not null)
        {
            Read(bias, 1, heads * headWidth, (_, values) =>
            {
                for (var head = 0; head < heads; head++)
                    values.Slice(head * headWidth, headWidth).CopyTo(new Span<float>(matrix.Bias(0) + (head * padded), headWidth));
            });
        }

        return matrix;
    }

    /// <summary>
    /// Packs a projection from heads (rows, heads * headWidth). Each head has as many columns as its panels have rows, but nested weights
    /// have no columns in between, which would move their groups.
    /// </summary>
    public PackedMatrix FromHeads(string name, int rows, int heads, int headWidth, string? bias = null)
    {
        if (Type.NestedBits > 0) return Matrix(name, rows, heads * headWidth, bias);
        var padded = PackedMatrix.RoundUp(headWidth);
        var matrix = New(rows, heads * padded, bias is not null);
        if (bias is not null) Read(bias, 1, rows, (_, values) => values.CopyTo(new Span<float>(matrix.Bias(0), rows)));
        var wide = new float[heads * padded];
        Read(name, rows, heads * headWidth, (row, values) =>
        {
            for (var head = 0; head < heads; head++)
                values.Slice(head * headWidth, headWidth).CopyTo(wide.AsSpan(head * padded));
            matrix.SetRow(row, wide);
        });
        return matrix;
    }

    /// <summary>
    /// Packs the weights (units, columns) that compute the hidden units of a gated feed-forward: the gate rows of 16 units, then their up
    /// rows, and so on.
    /// </summary>
    public PackedMatrix Gated(string gate, string up, int units, int columns, string? gateBias = null, string? upBias = null)
    {
        const int Lanes = PackedMatrix.Lanes;
        var matrix = New(2 * PackedMatrix.RoundUp(units), columns, gateBias is not null);
        foreach (var (name, bias, place) in (ReadOnlySpan<(string, string?, int)>)[(gate, gateBias, 0), (up, upBias, Lanes)])
        {
            ReadMatrix(name, units, columns, (unit, values) => matrix.SetRow((unit / Lanes * 2 * Lanes) + place + (unit % Lanes), values));
            if (bias is null) continue;
            Read(bias, 1, units, (_, values) =>
            {
                for (var unit = 0; unit < units; unit++) matrix.Bias(0)[(unit / Lanes * 2 * Lanes) + place + (unit % Lanes)] = values[unit];
            });
        }

        return matrix;
    }

    /// <summary>Releases all packed weights.</summary>
    internal void Release()
    {
        foreach (var made in _made) made.Dispose();
        _made.Clear();
    }

    private PackedTable NewTable(int rows, int columns)
    {
        var table = Made(new PackedTable(rows, columns, holdsNothing: _source is null));
        Bytes += table.Bytes;
        return table;
    }

    // A group of nested weights has the scale of all of its columns, also where a slice keeps only the first of them.
    private void ReadMatrix(string name, int rows, int columns, RowReader reader)
    {
        if (_source is null) return;
        if (Type.NestedBits == 0)
        {
            Read(name, rows, columns, reader);
            return;
        }

        var whole = Math.Min(_source.ColumnsOf(name), NestedPlanes.GroupsOf(columns) * NestedRounding.Group);
        Read(name, rows, Math.Max(columns, whole), (row, values) =>
        {
            if (values.ContainsAnyExceptInRange(float.MinValue, float.MaxValue))
                throw new DecodingException($"The weight '{name}' cannot be rounded: row {row} has a value that is not finite.");
            reader(row, values);
        });
    }

    private void Read(string name, int rows, int columns, RowReader reader) => _source?.Read(name, rows, columns, reader);

    private PackedMatrix New(int rows, int columns, bool hasBias)
    {
        var matrix = Made(new PackedMatrix(rows, columns, Type, hasBias, holdsNothing: _source is null));
        Bytes += matrix.Bytes;
        return matrix;
    }

    private T Made<T>(T made)
        where T : IDisposable
    {
        _made.Add(made);
        return made;
    }
}

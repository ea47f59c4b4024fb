using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Checks the operands of operations. TorchSharp ends the process at some misfits, so no operand may reach it unchecked.</summary>
internal static class Operand
{
    public static void Activation(string operation, string name, Tensor x)
    {
        ArgumentNullException.ThrowIfNull(x, name);
        if (x.dtype is ScalarType.Float32 or ScalarType.BFloat16) return;
        throw new ArgumentException($"{operation}: {name} is {x.dtype}, but must be Float32 or BFloat16.", name);
    }

    public static void Weight(string operation, string name, Tensor weight, Tensor beside, params ReadOnlySpan<long> shape)
    {
        ArgumentNullException.ThrowIfNull(weight, name);
        if (weight.dtype != ScalarType.Float32)
            throw new ArgumentException($"{operation}: {name} is {weight.dtype}, but must be Float32.", name);
        Shape(operation, name, weight, shape);
        Device(operation, name, weight, beside);
    }

    public static void Optional(string operation, string name, Tensor? weight, Tensor beside, params ReadOnlySpan<long> shape)
    {
        if (weight is not null) Weight(operation, name, weight, beside, shape);
    }

    public static void Integers(string operation, string name, Tensor x, Tensor beside)
    {
        ArgumentNullException.ThrowIfNull(x, name);
        if (x.dtype != ScalarType.Int64) throw new ArgumentException($"{operation}: {name} is {x.dtype}, but must be Int64.", name);
        Device(operation, name, x, beside);
    }

    public static void Rank(string operation, string name, Tensor x, int rank, string expected)
    {
        ArgumentNullException.ThrowIfNull(x, name);
        if (x.dim() != rank) throw Misfit(operation, name, x, expected);
    }

    public static void Shape(string operation, string name, Tensor x, params ReadOnlySpan<long> shape)
    {
        ArgumentNullException.ThrowIfNull(x, name);
        if (!x.shape.AsSpan().SequenceEqual(shape)) throw Misfit(operation, name, x, $"({string.Join(", ", shape.ToArray())})");
    }

    /// <summary>
    /// Returns the width that the weights beside x must have: that of x, or, if they are nested and wider, their own.
    /// </summary>
    public static long Width(long ofX, long ofWeights, bool nested) => nested ? Math.Max(ofX, ofWeights) : ofX;

    /// <summary>Returns how many rows of the batch of x (N, T, W) each stream has.</summary>
    public static int[] Rows(string operation, Tensor x, int streams, int[]? rows)
    {
        Rank(operation, "x", x, 3, "(N, T, W)");
        long[] shape = x.shape;
        if (shape[0] == 0 || shape[1] == 0 || shape[2] == 0) throw new ArgumentException($"{operation}: x is empty.", nameof(x));
        if (rows is null)
        {
            if (streams < 1 || shape[0] % streams != 0) throw Misfit(operation, "x", x, $"({streams}*B, T, W)");
            var counts = new int[streams];
            Array.Fill(counts, (int)(shape[0] / streams));
            return counts;
        }

        if (rows.Length == streams && !rows.Any(n => n < 1) && rows.Sum(n => (long)n) == shape[0]) return rows;
        throw new ArgumentException(
            $"{operation}: rows are ({string.Join(", ", rows)}), but must be {streams} numbers above 0 that add up to the rows of x, "
            + $"{shape[0]}.", nameof(rows));
    }

    public static void Device(string operation, string name, Tensor x, Tensor beside)
    {
        if (x.device_type == beside.device_type && x.device_index == beside.device_index) return;
        throw new ArgumentException($"{operation}: {name} is on {x.device}, but the rest is on {beside.device}.", name);
    }

    private static ArgumentException Misfit(string operation, string name, Tensor x, string expected) =>
        new($"{operation}: {name} is ({string.Join(", ", x.shape)}), but must be {expected}.", name);
}

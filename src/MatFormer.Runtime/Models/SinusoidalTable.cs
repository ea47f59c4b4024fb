using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The fixed positions of patches, (tokens, width) float32. The first half holds sines and cosines of the row, the second half those of the
/// column (MoCo v3, arXiv 2104.02057, section 4). The position of a class token is zero.
/// </summary>
public sealed class SinusoidalTable : IDisposable
{
    /// <summary>Computes the positions of grid x grid patches, row by row. The class token, if there is one, comes first.</summary>
    /// <exception cref="ArgumentException">The width is not a multiple of 4.</exception>
    public SinusoidalTable(int grid, int width, bool classToken, Device device)
    {
        var values = Values(grid, width, classToken);
        long[] shape = [values.Length / width, width];
        Table = tensor(values, shape, device: device).DetachFromDisposeScope();
    }

    /// <summary>The positions, (tokens, width). Do not dispose this tensor.</summary>
    public Tensor Table { get; private set; }

    /// <summary>Moves the table to a device.</summary>
    public void To(Device device)
    {
        if (Table.device_type == device.type && Table.device_index == device.index) return;
        (Table, var old) = (Table.to(device).DetachFromDisposeScope(), Table);
        old.Dispose();
    }

    /// <inheritdoc/>
    public void Dispose() => Table.Dispose();

    /// <summary>Computes the numbers of the table, row by row.</summary>
    /// <exception cref="ArgumentException">The width is not a multiple of 4.</exception>
    internal static float[] Values(int grid, int width, bool classToken)
    {
        if (width % 4 != 0)
        {
            throw new ArgumentException(
                $"Sinusoidal positions need a width that is a multiple of 4 (sines and cosines of row and column), but it is {width}.",
                nameof(width));
        }

        var (first, quarter) = (classToken ? 1 : 0, width / 4);
        var values = new float[(first + (grid * grid)) * width];
        for (var patch = 0; patch < grid * grid; patch++)
        {
            var row = values.AsSpan((first + patch) * width, width);
            for (var i = 0; i < quarter; i++)
            {
                var frequency = Math.Pow(10000, -(double)i / quarter);
                foreach (var (start, place) in (ReadOnlySpan<(int, int)>)[(0, patch / grid), (2 * quarter, patch % grid)])
                {
                    row[start + i] = (float)Math.Sin(place * frequency);
                    row[start + quarter + i] = (float)Math.Cos(place * frequency);
                }
            }
        }

        return values;
    }
}

using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Fixed positions of patches, (tokens, width) float32: sines and cosines of the row in the first half, of the column in the second
/// (MoCo v3, arXiv 2104.02057, section 4); those of a class token are zero.
/// </summary>
public sealed class SinusoidalTable : IDisposable
{
    /// <summary>Positions of grid x grid patches, row by row, and of a class token in front of them if there is one.</summary>
    /// <exception cref="ArgumentException">The width is no multiple of 4.</exception>
    public SinusoidalTable(int grid, int width, bool classToken, Device device)
    {
        if (width % 4 != 0)
        {
            throw new ArgumentException(
                $"Sinusoidal positions need a width that is a multiple of 4, as each of row and column has sines and cosines, not {width}.",
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

        long[] shape = [first + (grid * grid), width];
        Table = tensor(values, shape, device: device).DetachFromDisposeScope();
    }

    /// <summary>The positions, (tokens, width); not to be disposed.</summary>
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
}

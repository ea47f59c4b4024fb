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
        var values = SinusoidalPositions.Of(grid, width, classToken);
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
}

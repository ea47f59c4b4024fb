using System.Runtime.InteropServices;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Reads a model's current parameters from any device.</summary>
internal sealed class ModelWeights(MatFormerModel model) : WeightSource
{
    // The size of the pieces in which a tensor is converted and copied to the host.
    private const int PieceBytes = 1 << 22;

    private readonly Dictionary<string, Parameter> _parameters = model.named_parameters().ToDictionary(p => p.Item1, p => p.Item2);

    /// <inheritdoc/>
    public override int ColumnsOf(string name) => _parameters.TryGetValue(name, out var weight) ? (int)weight.shape[^1] : 0;

    /// <inheritdoc/>
    public override void Read(string name, int rows, int columns, RowReader reader)
    {
        using var scope = NewDisposeScope();
        var weight = _parameters[name].detach();
        if (weight.dim() == 1) weight = weight.unsqueeze(0);
        var atOnce = Math.Max(1, PieceBytes / (columns * sizeof(float)));
        for (var row = 0; row < rows; row += atOnce)
        {
            using var piece = weight.narrow(0, row, Math.Min(atOnce, rows - row)).narrow(1, 0, columns);
            using var host = piece.to(ScalarType.Float32).cpu().contiguous();
            var values = MemoryMarshal.Cast<byte, float>(host.bytes);
            for (var i = 0; values.Length > 0; i++, values = values[columns..]) reader(row + i, values[..columns]);
        }
    }
}

using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Examples in memory, before they become tensors. A batch is reused from step to step.</summary>
internal abstract class Batch
{
    /// <summary>The number of examples.</summary>
    public abstract int Examples { get; }

    /// <summary>Creates the model's input and the targets of its loss.</summary>
    public abstract (Tensor Input, Tensor Targets) ToTensors(Device device);
}

/// <summary>A batch of rows of tokens. The targets are the tokens one position later.</summary>
internal sealed class TokenBatch(int rows, int context) : Batch
{
    /// <inheritdoc/>
    public override int Examples => rows;

    /// <summary>The input tokens, (B, T), row-major.</summary>
    public long[] Tokens { get; } = new long[rows * context];

    /// <summary>The target tokens, (B, T), row-major.</summary>
    public long[] Targets { get; } = new long[rows * context];

    /// <summary>Creates a batch with one row for each window of context + 1 tokens.</summary>
    public static TokenBatch Of(IReadOnlyList<int[]> windows)
    {
        var batch = new TokenBatch(windows.Count, windows[0].Length - 1);
        for (var row = 0; row < windows.Count; row++) batch.Set(row, windows[row]);
        return batch;
    }

    /// <summary>Fills a row with a window of context + 1 tokens.</summary>
    public void Set(int row, ReadOnlySpan<int> window)
    {
        for (var t = 0; t < context; t++)
        {
            Tokens[(row * context) + t] = window[t];
            Targets[(row * context) + t] = window[t + 1];
        }
    }

    /// <inheritdoc/>
    public override (Tensor Input, Tensor Targets) ToTensors(Device device)
    {
        long[] shape = [rows, context];
        return (tensor(Tokens, shape, device: device), tensor(Targets, shape, device: device));
    }
}

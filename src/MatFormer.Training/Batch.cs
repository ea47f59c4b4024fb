using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Examples in memory, before they are tensors; filled anew from step to step.</summary>
internal abstract class Batch
{
    /// <summary>How many examples.</summary>
    public abstract int Examples { get; }

    /// <summary>What the model takes, and what its loss compares with.</summary>
    public abstract (Tensor Input, Tensor Targets) ToTensors(Device device);
}

/// <summary>Rows of tokens, and the tokens after them.</summary>
internal sealed class TokenBatch(int rows, int context) : Batch
{
    /// <inheritdoc/>
    public override int Examples => rows;

    /// <summary>(B, T), row by row.</summary>
    public long[] Tokens { get; } = new long[rows * context];

    /// <summary>(B, T), row by row.</summary>
    public long[] Targets { get; } = new long[rows * context];

    /// <summary>Windows of context + 1 tokens, one a row.</summary>
    public static TokenBatch Of(IReadOnlyList<int[]> windows)
    {
        var batch = new TokenBatch(windows.Count, windows[0].Length - 1);
        for (var row = 0; row < windows.Count; row++) batch.Set(row, windows[row]);
        return batch;
    }

    /// <summary>Makes a row of a window of context + 1 tokens.</summary>
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

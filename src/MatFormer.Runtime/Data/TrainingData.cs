using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// What a <see cref="Trainer{TModel}"/> learns from: a <see cref="TextCorpus"/> for language models, and what other kinds of model take.
/// </summary>
public abstract class TrainingData : IDisposable
{
    private protected TrainingData()
    {
    }

    /// <summary>Where it comes from, in words.</summary>
    public abstract string Source { get; }

    /// <summary>A hash of the contents, hexadecimal: a resumed run must see the same.</summary>
    public abstract string Fingerprint { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Closes what it reads from.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }

    /// <summary>What its texts are tokens of, or null if it has none.</summary>
    internal virtual Tokenizer? TextTokenizer => null;

    /// <summary>Checks that it is data for a model, and for its shape.</summary>
    /// <exception cref="DataException">It is not.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the data.</exception>
    internal abstract void CheckFits(MatFormerModel model);

    /// <summary>The training batches of a run.</summary>
    /// <exception cref="DataException">There is not enough of it.</exception>
    internal abstract IBatches Batches(ModelSpec spec, TrainerOptions options);

    /// <summary>
    /// At most so many examples that are not trained on, the same ones every time, in batches of at most <paramref name="batch"/>.
    /// </summary>
    /// <exception cref="DataException">There are none.</exception>
    internal abstract IEnumerable<Batch> HeldOut(ModelSpec spec, int batch, int examples);

    /// <summary>
    /// Some of what is trained on, the same every time, as the model takes it, in batches without padding; the caller disposes them.
    /// </summary>
    /// <exception cref="DataException">There is not enough of it.</exception>
    internal abstract IEnumerable<Tensor> Samples(ModelSpec spec);

    /// <summary>At most so many of some examples, spread evenly over them.</summary>
    private protected static IEnumerable<int> Spread(int examples, int most)
    {
        var taken = Math.Min(examples, most);
        return Enumerable.Range(0, taken).Select(i => (int)((long)i * examples / taken));
    }
}

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

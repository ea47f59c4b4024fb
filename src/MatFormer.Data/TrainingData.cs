namespace MatFormer;

/// <summary>
/// The data that models learn from: a <see cref="TextCorpus"/> for language models, a <see cref="PairCorpus"/> for text encoders, or an
/// <see cref="ImageCorpus"/> for vision transformers.
/// </summary>
public abstract class TrainingData : IDisposable
{
    private protected TrainingData()
    {
    }

    /// <summary>A description of where the data comes from.</summary>
    public abstract string Source { get; }

    /// <summary>A hexadecimal hash of the contents. A resumed run must see the same hash.</summary>
    public abstract string Fingerprint { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Closes the files that the data is read from.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }

    /// <summary>The tokenizer of the texts, or null if the data has no texts.</summary>
    internal virtual Tokenizer? TextTokenizer => null;
}

namespace MatFormer;

/// <summary>
/// What models learn from: a <see cref="TextCorpus"/> for language models, a <see cref="PairCorpus"/> for text encoders, an
/// <see cref="ImageCorpus"/> for vision transformers.
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
}

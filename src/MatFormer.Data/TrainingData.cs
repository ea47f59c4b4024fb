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

    /// <summary>The absolute path or glob of the data, or null for the XML documentation of the .NET SDK.</summary>
    internal string? Place { get; private protected set; }

    /// <summary>What the weights of a model that is trained on this data remember of it.</summary>
    internal RememberedData Remembered => new(Place, Fingerprint);

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

    private protected static string? PlaceOf(string? data) => data is null ? null : Path.GetFullPath(data);

    /// <summary>The tokenizer of the texts, or null if the data has no texts.</summary>
    internal virtual Tokenizer? TextTokenizer => null;
}

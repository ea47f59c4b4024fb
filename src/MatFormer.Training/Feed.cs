using static TorchSharp.torch;

namespace MatFormer;

/// <summary>What a model takes of training data: batches to train on, others to measure on.</summary>
internal abstract class Feed
{
    /// <summary>The feed of some data.</summary>
    public static Feed Of(TrainingData data) => data switch
    {
        TextCorpus text => new TextFeed(text),
        PairCorpus pairs => new PairFeed(pairs),
        ImageCorpus images => new ImageFeed(images),
        _ => throw new ArgumentException($"There is no feed of {data.GetType().Name}.", nameof(data)),
    };

    /// <summary>Checks that it is data for a model, and for its shape.</summary>
    /// <exception cref="DataException">It is not.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the data.</exception>
    public abstract void CheckFits(MatFormerModel model);

    /// <summary>The training batches of a run.</summary>
    /// <exception cref="DataException">There is not enough of it.</exception>
    public abstract IBatches Batches(ModelSpec spec, TrainerOptions options);

    /// <summary>
    /// At most so many examples that are not trained on, the same ones every time, in batches of at most <paramref name="batch"/>.
    /// </summary>
    /// <exception cref="DataException">There are none.</exception>
    public abstract IEnumerable<Batch> HeldOut(ModelSpec spec, int batch, int examples);

    /// <summary>
    /// Some of what is trained on, the same every time, as the model takes it, in batches without padding; the caller disposes them.
    /// </summary>
    /// <exception cref="DataException">There is not enough of it.</exception>
    public abstract IEnumerable<Tensor> Samples(ModelSpec spec);

    /// <summary>At most so many of some examples, spread evenly over them.</summary>
    protected static IEnumerable<int> Spread(int examples, int most)
    {
        var taken = Math.Min(examples, most);
        return Enumerable.Range(0, taken).Select(i => (int)((long)i * examples / taken));
    }
}

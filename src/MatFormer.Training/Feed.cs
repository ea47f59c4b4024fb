using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Turns training data into what a model takes: batches to train on and batches to evaluate on.</summary>
internal abstract class Feed
{
    /// <summary>Returns the feed of some data.</summary>
    public static Feed Of(TrainingData data) => data switch
    {
        TextCorpus text => new TextFeed(text),
        PairCorpus pairs => new PairFeed(pairs),
        ImageCorpus images => new ImageFeed(images),
        _ => throw new ArgumentException(
            $"Models cannot be trained on a {data.GetType().Name}; give a TextCorpus, PairCorpus or ImageCorpus.", nameof(data)),
    };

    /// <summary>Checks that the data fit a model's kind and shape.</summary>
    /// <exception cref="DataException">The data do not fit.</exception>
    /// <exception cref="TokenizerException">The model and the data have different tokenizers.</exception>
    public abstract void CheckFits(MatFormerModel model);

    /// <summary>Returns the training batches of a run.</summary>
    /// <exception cref="DataException">There are not enough data.</exception>
    public abstract IBatches Batches(ModelSpec spec, TrainerOptions options);

    /// <summary>
    /// Returns at most <paramref name="examples"/> validation examples, in batches of at most <paramref name="batch"/>. Every call returns
    /// the same examples.
    /// </summary>
    /// <exception cref="DataException">There are no validation examples.</exception>
    public abstract IEnumerable<Batch> HeldOut(ModelSpec spec, int batch, int examples);

    /// <summary>
    /// Returns some training examples as inputs of the model, in batches without padding. Every call returns the same examples. The caller
    /// disposes the tensors.
    /// </summary>
    /// <exception cref="DataException">There are not enough data.</exception>
    public abstract IEnumerable<Tensor> Samples(ModelSpec spec);

    /// <summary>Returns the indices of at most <paramref name="most"/> examples, spread evenly over all of them.</summary>
    protected static IEnumerable<int> Spread(int examples, int most)
    {
        var taken = Math.Min(examples, most);
        return Enumerable.Range(0, taken).Select(i => (int)((long)i * examples / taken));
    }
}

using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Feeds queries and their documents to a text encoder.</summary>
internal sealed class PairFeed(PairCorpus pairs) : Feed
{
    /// <inheritdoc/>
    public override void CheckFits(MatFormerModel model)
    {
        if (model.Architecture.Kind != ModelKind.TextEncoder)
            throw new DataException($"{model.Architecture.Name} is not a text encoder, so it cannot be trained on pairs of texts.");
        pairs.Tokenizer.CheckFits(model);
    }

    /// <inheritdoc/>
    public override IBatches Batches(ModelSpec spec, TrainerOptions options)
    {
        if (options.Batch >= 2) return new PairBatches(pairs.Training, pairs.Tokenizer, spec.Context, options);
        throw new DataException($"{spec.Name} uses the other pairs of a batch as negatives, but a batch of {options.Batch} has none; "
            + "train with a batch of at least 2, better 64 or more.");
    }

    /// <inheritdoc/>
    public override IEnumerable<Batch> HeldOut(ModelSpec spec, int batch, int examples) =>
        Spread(pairs.Validation.Count, examples).Select(i => pairs.Validation[i]).Chunk(batch).Select(chunk =>
        {
            var batchOfPairs = new PairBatch(chunk.Length, spec.Context);
            batchOfPairs.Fill(chunk, pairs.Tokenizer);
            return batchOfPairs;
        });

    /// <inheritdoc/>
    public override IEnumerable<Tensor> Samples(ModelSpec spec)
    {
        var buffer = new List<int>();
        var texts = Spread(pairs.Training.Count, 256).SelectMany(i => (string[])[pairs.Training[i].Query, pairs.Training[i].Document])
            .Select(text => TokenRows.Encode(text, pairs.Tokenizer, spec.Context, buffer));
        foreach (var alike in texts.Where(text => text.Length > 0).GroupBy(text => text.Length))
        {
            foreach (var some in alike.Chunk(16))
                yield return tensor([.. some.SelectMany(text => text).Select(token => (long)token)], [some.Length, alike.Key]);
        }
    }
}

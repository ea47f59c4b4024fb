using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Windows of a text.</summary>
internal sealed class TextFeed(TextCorpus text) : Feed
{
    /// <inheritdoc/>
    public override void CheckFits(MatFormerModel model)
    {
        if (model.Architecture.Kind != ModelKind.LanguageModel)
            throw new DataException($"{model.Architecture.Name} is no language model, and does not learn from a text corpus.");
        text.Tokenizer.CheckFits(model);
    }

    /// <inheritdoc/>
    public override IBatches Batches(ModelSpec spec, TrainerOptions options) =>
        new TrainingBatches(text.Training, spec.Context, options.Batch, options.Seed);

    /// <inheritdoc/>
    public override IEnumerable<Batch> HeldOut(ModelSpec spec, int batch, int examples) =>
        Windows.Fixed(text.Validation, spec.Context, examples).Chunk(batch).Select(TokenBatch.Of);

    /// <inheritdoc/>
    public override IEnumerable<Tensor> Samples(ModelSpec spec)
    {
        // Of a long window more tokens take memory and say little more.
        foreach (var windows in Windows.Fixed(text.Training, Math.Min(spec.Context, 512), 32).Chunk(4))
        {
            var (tokens, targets) = TokenBatch.Of(windows).ToTensors(CPU);
            targets.Dispose();
            yield return tokens;
        }
    }
}

using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Feeds windows of a text to a language model.</summary>
internal sealed class TextFeed(TextCorpus text) : Feed
{
    /// <inheritdoc/>
    public override void CheckFits(MatFormerModel model)
    {
        if (model.Architecture.Kind != ModelKind.LanguageModel)
            throw new DataException($"{model.Architecture.Name} is not a language model, so it cannot be trained on a text corpus.");
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
        // Longer windows would take more memory and add little information.
        foreach (var windows in Windows.Fixed(text.Training, Math.Min(spec.Context, 512), 32).Chunk(4))
        {
            var (tokens, targets) = TokenBatch.Of(windows).ToTensors(CPU);
            targets.Dispose();
            yield return tokens;
        }
    }
}

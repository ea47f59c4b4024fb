using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Begins training from existing weights: those of the same model, of another MatFormer of the same shape, or of a dense model of the same
/// shape. The hidden units of a dense model are sorted by importance, so that the submodels, which keep the first units, begin well. Routers
/// that the weights do not have stay as they were drawn.
/// </summary>
public static class WarmStart
{
    /// <summary>
    /// Loads weights. If they belong to a dense model (MatFormer did not write the file), sorts the hidden units with
    /// <see cref="OrderHiddenUnits"/>.
    /// </summary>
    /// <param name="model">The universal model, on its device.</param>
    /// <param name="path">
    /// A folder, an index or a safetensors file with weights in float32, float16 or bfloat16. The names of the weights are those of Hugging
    /// Face's Llama checkpoints, or of its ViT checkpoints for vision transformers. For a language model, a <c>config.json</c> beside the
    /// weights must agree with the declaration.
    /// </param>
    /// <param name="data">The data that the model will be trained on.</param>
    /// <returns>True if the weights were those of a dense model.</returns>
    /// <exception cref="CheckpointException">
    /// The file is damaged, has another shape or another tokenizer, or its <c>config.json</c> describes a model that computes something
    /// else. The model is unchanged.
    /// </exception>
    /// <exception cref="DataException">
    /// The data do not fit the model, or the text is shorter than one window (the model's context, at most 512 tokens).
    /// </exception>
    public static bool Load<TModel>(TModel model, string path, TrainingData data)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(data);
        CheckData(model, data); // before any weight is changed
        bool isDense;
        using (var reader = TModel.Spec.Kind == ModelKind.LanguageModel ? DenseModel.Open(path, TModel.Spec) : SafetensorsReader.Open(path))
        {
            isDense = !CheckpointHeader.IsOurs(reader);
            if (CheckpointHeader.IsOf(reader, TModel.Spec)) CheckpointHeader.ReadUniversal(reader, TModel.Spec);
            if (data.TextTokenizer is { } tokens && reader.Metadata.TryGetValue(CheckpointHeader.TokenizerKey, out var tokenizer)
                && tokenizer != tokens.Fingerprint)
            {
                throw new CheckpointException(path, "was trained with another tokenizer than the one that encodes this text; give the "
                    + "tokenizer.json beside the weights.");
            }

            Checkpoint.Load(reader, model, mayLackRouters: true);
        }

        if (isDense) OrderHiddenUnits(model, data);
        return isDense;
    }

    /// <summary>
    /// Sorts the hidden units of every layer by importance, the most important first. The importance of a unit is the mean magnitude of its
    /// activation over some of the training data, times the norm of its output weights. The whole model computes the same function as
    /// before, up to rounding.
    /// </summary>
    /// <exception cref="DataException">
    /// The data do not fit the model, or the text is shorter than one window (the model's context, at most 512 tokens).
    /// </exception>
    public static void OrderHiddenUnits<TModel>(TModel model, TrainingData data)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(data);
        CheckData(model, data);
        var sums = TModel.Spec.Blocks.Select(block => new double[block.HiddenWidth]).ToArray();
        foreach (var sample in Feed.Of(data).Samples(TModel.Spec))
        {
            using var scope = NewDisposeScope();
            using var its = sample; // the scope does not own it, because it was created before the scope
            var importance = model.HiddenImportance(sample.to(model.Device));
            for (var layer = 0; layer < sums.Length; layer++)
            {
                // The importances are means, so they are weighted by the size of the sample.
                var ofUnits = importance[layer].cpu().data<float>().ToArray();
                for (var unit = 0; unit < ofUnits.Length; unit++) sums[layer][unit] += (double)ofUnits[unit] * sample.numel();
            }
        }

        for (var layer = 0; layer < sums.Length; layer++)
        {
            // The sort is stable, so units of equal importance keep their order.
            var units = Enumerable.Range(0, sums[layer].Length).OrderByDescending(unit => sums[layer][unit]).Select(unit => (long)unit);
            using var order = tensor(units.ToArray(), device: model.Device);
            model.ReorderHiddenUnits(layer, order);
        }
    }

    private static void CheckData<TModel>(TModel model, TrainingData data)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        Feed.Of(data).CheckFits(model);
        Feed.Of(data).Samples(TModel.Spec).First().Dispose();
    }
}

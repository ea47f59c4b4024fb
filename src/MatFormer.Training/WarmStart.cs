using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Begins training from weights that are there: those of the same model, of another MatFormer of its shape, or of a dense model of its
/// shape, whose hidden units are put into the order of their importance, so that prefixes of them are good submodels to begin with.
/// </summary>
public static class WarmStart
{
    /// <summary>
    /// Loads weights; if they are a dense model's (a file that MatFormer did not write), orders its hidden units by
    /// <see cref="OrderHiddenUnits"/>.
    /// </summary>
    /// <param name="model">The universal model, on its device.</param>
    /// <param name="path">
    /// Weights with the names of Hugging Face's Llama or, of vision transformers, ViT checkpoints, in float32, float16 or bfloat16: a
    /// folder, an index or a safetensors file. What a <c>config.json</c> beside those of a language model says must be what is declared.
    /// </param>
    /// <param name="data">What will be trained on.</param>
    /// <returns>True if they were a dense model's.</returns>
    /// <exception cref="CheckpointException">
    /// The file is damaged, of another shape or of another tokenizer, or its <c>config.json</c> describes a model that computes something
    /// else; the model is unchanged.
    /// </exception>
    /// <exception cref="DataException">
    /// It is no data for the model, or text shorter than a window, of the model's context or 512 tokens.
    /// </exception>
    public static bool Load<TModel>(TModel model, string path, TrainingData data)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(data);
        CheckData(model, data); // better now than with half of it done
        bool isDense;
        using (var reader = TModel.Spec.Kind == ModelKind.LanguageModel ? DenseModel.Open(path, TModel.Spec) : SafetensorsReader.Open(path))
        {
            isDense = !CheckpointHeader.IsOurs(reader);
            if (data.TextTokenizer is { } tokens && reader.Metadata.TryGetValue(CheckpointHeader.TokenizerKey, out var tokenizer)
                && tokenizer != tokens.Fingerprint)
            {
                throw new CheckpointException(path, "was trained on the tokens of another tokenizer than this text is read by; give the "
                    + "tokenizer.json that lies beside it.");
            }

            Checkpoint.Load(reader, model);
        }

        if (isDense) OrderHiddenUnits(model, data);
        return isDense;
    }

    /// <summary>
    /// Puts the hidden units of every layer into the order of their importance: the mean magnitude of their activations over some of the
    /// training data times the norm of what they write. The whole model computes what it did, up to rounding.
    /// </summary>
    /// <exception cref="DataException">
    /// It is no data for the model, or text shorter than a window, of the model's context or 512 tokens.
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
            using var its = sample; // made before the scope
            var importance = model.HiddenImportance(sample.to(model.Device));
            for (var layer = 0; layer < sums.Length; layer++)
            {
                // Means, each of as many tokens or patches.
                var ofUnits = importance[layer].cpu().data<float>().ToArray();
                for (var unit = 0; unit < ofUnits.Length; unit++) sums[layer][unit] += (double)ofUnits[unit] * sample.numel();
            }
        }

        for (var layer = 0; layer < sums.Length; layer++)
        {
            // A stable order, so that equal units stay where they are.
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

using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Begins training from weights that are there: those of the same model, of another MatFormer of its shape, or of a dense model of its
/// shape, whose hidden units are put into the order of their importance, so that prefixes of them are good submodels to begin with.
/// </summary>
public static class WarmStart
{
    /// <summary>Windows of the training text over which importance is measured.</summary>
    private const int Samples = 32;

    private const int Batch = 4;

    // Of a window: more tokens take memory and say little more.
    private const int MaxTokens = 512;

    /// <summary>
    /// Loads weights; if they are a dense model's (a file that MatFormer did not write), orders its hidden units by
    /// <see cref="OrderHiddenUnits"/>.
    /// </summary>
    /// <param name="model">The universal model, on its device.</param>
    /// <param name="path">
    /// Weights with the names of Hugging Face's Llama checkpoints, in float32, float16 or bfloat16: a folder, an index or a safetensors
    /// file. What a <c>config.json</c> beside them says must be what is declared.
    /// </param>
    /// <param name="corpus">The training text.</param>
    /// <returns>True if they were a dense model's.</returns>
    /// <exception cref="CheckpointException">
    /// The file is damaged, of another shape or of another tokenizer, or its <c>config.json</c> describes a model that computes something
    /// else; the model is unchanged.
    /// </exception>
    /// <exception cref="DataException">The text is shorter than a window, of the model's context or 512 tokens.</exception>
    public static bool Load<TModel>(TModel model, string path, TextCorpus corpus)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(corpus);
        corpus.Training.Windows(WindowOf(TModel.Spec)); // better now than with half of it done
        bool isDense;
        using (var reader = DenseModel.Open(path, TModel.Spec))
        {
            isDense = !Checkpoint.IsOurs(reader);
            if (reader.Metadata.TryGetValue(Checkpoint.TokenizerKey, out var tokenizer) && tokenizer != corpus.Tokenizer.Fingerprint)
            {
                throw new CheckpointException(path, "was trained on the tokens of another tokenizer than this text is read by; give the "
                    + "tokenizer.json that lies beside it.");
            }

            Checkpoint.Load(reader, model);
        }

        if (isDense) OrderHiddenUnits(model, corpus);
        return isDense;
    }

    /// <summary>
    /// Puts the hidden units of every layer into the order of their importance: the mean magnitude of their activations over some of the
    /// training text times the norm of what they write. The whole model computes what it did, up to rounding.
    /// </summary>
    /// <exception cref="DataException">The text is shorter than a window, of the model's context or 512 tokens.</exception>
    public static void OrderHiddenUnits<TModel>(TModel model, TextCorpus corpus)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(corpus);
        var sums = TModel.Spec.Blocks.Select(block => new double[block.HiddenWidth]).ToArray();
        foreach (var windows in Windows.Fixed(corpus.Training, WindowOf(TModel.Spec), Samples).Chunk(Batch))
        {
            using var scope = NewDisposeScope();
            var (tokens, _) = TokenBatch.Of(windows).ToTensors(model.Device);
            var importance = model.HiddenImportance(tokens);
            for (var layer = 0; layer < sums.Length; layer++)
            {
                var ofUnits = importance[layer].cpu().data<float>().ToArray();
                for (var unit = 0; unit < ofUnits.Length; unit++) sums[layer][unit] += ofUnits[unit] * windows.Length;
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
    private static int WindowOf(ModelSpec spec) => Math.Min(spec.Context, MaxTokens);
}

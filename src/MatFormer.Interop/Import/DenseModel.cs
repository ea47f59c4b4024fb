namespace MatFormer;

/// <summary>
/// Imports dense models of Llama's family, as Hugging Face's transformers save them: a folder with <c>config.json</c> and weights in
/// safetensors, in one file or in several with an index. A dense model becomes the widest granularity of a declared model of the same
/// shape.
/// </summary>
public static class DenseModel
{
    /// <summary>
    /// Writes a universal model's file in float32, which <see cref="Checkpoint.OpenUniversal"/> loads. Hidden units keep their order, so
    /// narrow sizes are poor before training; <c>WarmStart</c> orders hidden units by importance. Weights are copied from file to file in
    /// pieces.
    /// </summary>
    /// <param name="from">The folder, a safetensors file, or the index of several.</param>
    /// <param name="path">The file to write.</param>
    /// <param name="tokenizer">The model's tokenizer, or null if it is not known. The file stores the tokenizer's fingerprint.</param>
    /// <exception cref="CheckpointException">
    /// The weights are damaged or have another shape (the message names the first tensor and what to declare), or <c>config.json</c>
    /// describes a model that computes something else.
    /// </exception>
    /// <exception cref="TokenizerException">The tokenizer has more tokens than the model, or the weights belong to another one.</exception>
    /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
    public static void Import<TModel>(string from, string path, Tokenizer? tokenizer = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        using var weights = Weights<TModel>(from, tokenizer);
        Write(weights, path);
    }

    /// <summary>
    /// Returns the C# declaration that fits a model, with granularities of an eighth, a quarter, half and all of its hidden units.
    /// </summary>
    /// <param name="from">The folder, or a file in it.</param>
    /// <param name="name">The name of the class.</param>
    /// <exception cref="CheckpointException">
    /// There is no <c>config.json</c>, the file is damaged, or it describes parts that no declaration can express. The message lists all
    /// such parts.
    /// </exception>
    public static string Declare(string from, string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(from);
        ArgumentException.ThrowIfNullOrEmpty(name);
        if (!Path.Exists(from)) throw new CheckpointException(from, $"does not exist; give a folder with a {DenseConfig.FileName}.");
        return DeclarationText.Of(DenseConfig.Read(DenseConfig.PathFor(from)), name);
    }

    /// <summary>Writes weights as a universal model's file.</summary>
    internal static void Write(SlicedWeights weights, string path) =>
        Extraction.WriteSafetensors(path, weights, weights.RememberingMetadata, tensor => tensor.Name, WeightEncoding.Float32);

    /// <summary>Checks that the <c>config.json</c> beside weights, if any, fits the declared model, and opens the weights.</summary>
    /// <exception cref="CheckpointException">A file is damaged, or <c>config.json</c> describes another model.</exception>
    internal static SafetensorsReader Open(string from, ModelSpec spec)
    {
        // The check comes first, because weights of other architectures often have types that cannot be read.
        if (ConfigOf(from) is { } config) config.CheckFits(spec);
        return SafetensorsReader.Open(from);
    }

    /// <summary>Reads the <c>config.json</c> beside weights. Returns null if there is none.</summary>
    /// <exception cref="CheckpointException">The file is damaged, or describes a model that cannot be declared.</exception>
    internal static DenseConfig? ConfigOf(string from) =>
        Path.Exists(from) && DenseConfig.PathFor(from) is var path && File.Exists(path) ? DenseConfig.Read(path) : null;

    /// <summary>Opens weights and checks that they have the declared model's shapes.</summary>
    /// <exception cref="CheckpointException">The weights have other shapes.</exception>
    /// <exception cref="TokenizerException">The tokenizer does not belong to the weights.</exception>
    internal static SlicedWeights Weights<TModel>(string from, Tokenizer? tokenizer)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var reader = Open(from, TModel.Spec);
        try
        {
            var trainedWith = reader.Metadata.GetValueOrDefault(CheckpointHeader.TokenizerKey);
            tokenizer?.CheckFits(TModel.Spec, trainedWith);
            return SlicedWeights.Of(reader, TModel.Granularities[^1], tokenizer?.Fingerprint ?? trainedWith);
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }
}

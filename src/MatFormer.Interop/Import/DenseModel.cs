namespace MatFormer;

/// <summary>
/// Dense models of Llama's family, as Hugging Face's transformers save them: a folder with <c>config.json</c> and weights in safetensors,
/// in one file or in several with an index. Taken into a declared model of the same shape, they are its widest granularity.
/// </summary>
public static class DenseModel
{
    /// <summary>
    /// Writes a universal model's file, float32, which <see cref="Checkpoint.OpenUniversal"/> loads. Hidden units keep their order, which
    /// makes poor narrow sizes: <c>WarmStart</c> orders them by importance. Weights go from file to file in pieces.
    /// </summary>
    /// <param name="from">The folder, a safetensors file, or the index of several.</param>
    /// <param name="path">The file to write.</param>
    /// <param name="tokenizer">The model's tokenizer, which the file then names; null if it is not known.</param>
    /// <exception cref="CheckpointException">
    /// The weights are damaged or of another shape (the message names the first tensor and what to declare), or <c>config.json</c>
    /// describes a model that computes something else.
    /// </exception>
    /// <exception cref="TokenizerException">The tokenizer has more tokens than the model, or is not that of the weights.</exception>
    /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
    public static void Import<TModel>(string from, string path, Tokenizer? tokenizer = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        using var weights = Weights<TModel>(from, tokenizer);
        Write(weights, path);
    }

    /// <summary>
    /// Writes the C# declaration that fits a model, with granularities of an eighth, a quarter, half and all of its hidden units.
    /// </summary>
    /// <param name="from">The folder, or a file in it.</param>
    /// <param name="name">The name of the class.</param>
    /// <exception cref="CheckpointException">
    /// There is no <c>config.json</c>, it is damaged, or it says what no declaration can; then the message lists all such parts.
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
        Extraction.WriteSafetensors(path, weights, weights.Metadata, tensor => tensor.Name, WeightEncoding.Float32);

    /// <summary>Opens weights, whosever they are, after what lies beside them is known to describe the declared model.</summary>
    /// <exception cref="CheckpointException">They are damaged, or the model is another.</exception>
    internal static SafetensorsReader Open(string from, ModelSpec spec)
    {
        // First: the weights of other architectures are often of types that cannot be read.
        if (ConfigOf(from) is { } config) config.CheckFits(spec);
        return SafetensorsReader.Open(from);
    }

    /// <summary>What lies beside weights and describes them, or null.</summary>
    /// <exception cref="CheckpointException">It is damaged, or describes what cannot be declared.</exception>
    internal static DenseConfig? ConfigOf(string from) =>
        Path.Exists(from) && DenseConfig.PathFor(from) is var path && File.Exists(path) ? DenseConfig.Read(path) : null;

    /// <summary>Weights that are known to have the declared model's shapes.</summary>
    /// <exception cref="CheckpointException">They have others.</exception>
    /// <exception cref="TokenizerException">The tokenizer is not theirs.</exception>
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

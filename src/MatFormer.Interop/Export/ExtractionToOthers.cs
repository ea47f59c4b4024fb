namespace MatFormer;

/// <summary>Adds extraction to the formats of other programs.</summary>
public static class ExtractionToOthers
{
    extension(Extraction)
    {
        /// <summary>
        /// Writes a folder that Hugging Face's transformers load: <c>config.json</c>, <c>model.safetensors</c>, and the tokenizer. The
        /// architecture of a language model is Llama's, Qwen2's if of the projections of attention only the output has no bias, or Qwen3's
        /// if queries and keys are normed, with the same sizes in every layer. Layers that the profile skips are not counted. The
        /// architecture of a vision transformer is ViT's.
        /// </summary>
        /// <param name="checkpoint">The universal model's file.</param>
        /// <param name="profile">The profile to extract.</param>
        /// <param name="folder">The folder to write. It is created if it does not exist.</param>
        /// <param name="tokenizer">The model's tokenizer, or null to write none.</param>
        /// <param name="encoding">The encoding of the weights. <see cref="WeightEncoding.Q8"/> is not supported.</param>
        /// <exception cref="CheckpointException">The checkpoint is damaged, belongs to another model, or is a slice.</exception>
        /// <exception cref="TokenizerException">The tokenizer is not the model's.</exception>
        /// <exception cref="ExtractionException">
        /// The model fits none of these architectures, the encoding is not supported, or a weight does not fit the encoding.
        /// </exception>
        /// <exception cref="IOException">A file cannot be written.</exception>
        public static void ToHuggingFace<TModel>(
            string checkpoint, Profile<TModel> profile, string folder, Tokenizer? tokenizer, WeightEncoding encoding = WeightEncoding.Float32)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            ArgumentNullException.ThrowIfNull(profile);
            ArgumentException.ThrowIfNullOrEmpty(folder);
            using var weights = SlicedWeights.Open(checkpoint, profile);
            tokenizer?.CheckFits(weights.Spec, weights.TokenizerFingerprint);
            Extraction.CheckSafetensors(encoding);
            if (weights.Spec.Image is not null) new HuggingFaceViT(weights, encoding).Write(folder);
            else new HuggingFaceFolder(weights, tokenizer, encoding).Write(folder);
        }

        /// <summary>
        /// Writes a GGUF file that llama.cpp loads, with the tokenizer in it. The architecture is <c>llama</c>, <c>deci</c> (<c>llama</c>
        /// with different sizes in each layer), <c>qwen2</c> (with biases of queries, keys and values only) or <c>qwen3</c> (with norms of
        /// queries and keys). Layers that the profile skips are not counted. Norms and biases stay float32 in every encoding.
        /// </summary>
        /// <param name="checkpoint">The universal model's file.</param>
        /// <param name="profile">The profile to extract.</param>
        /// <param name="path">The file to write.</param>
        /// <param name="tokenizer">The model's tokenizer, or null to write none, for programs that pass tokens themselves.</param>
        /// <param name="encoding">The encoding of the matrices.</param>
        /// <exception cref="CheckpointException">The checkpoint is damaged, belongs to another model, or is a slice.</exception>
        /// <exception cref="TokenizerException">The tokenizer is not the model's.</exception>
        /// <exception cref="ExtractionException">
        /// llama.cpp does not support the architecture or the tokenizer, or a weight does not fit the encoding.
        /// </exception>
        /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
        public static void ToGguf<TModel>(
            string checkpoint, Profile<TModel> profile, string path, Tokenizer? tokenizer, WeightEncoding encoding = WeightEncoding.Float32)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            ArgumentNullException.ThrowIfNull(profile);
            ArgumentException.ThrowIfNullOrEmpty(path);
            using var weights = SlicedWeights.Open(checkpoint, profile);
            tokenizer?.CheckFits(weights.Spec, weights.TokenizerFingerprint);
            new GgufModel(weights, tokenizer, encoding).Write(path);
        }
    }
}

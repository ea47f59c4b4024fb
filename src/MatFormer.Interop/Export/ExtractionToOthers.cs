namespace MatFormer;

/// <summary>Extraction to the formats of other programs.</summary>
public static class ExtractionToOthers
{
    extension(Extraction)
    {
        /// <summary>
        /// Writes a folder that Hugging Face's transformers load: <c>config.json</c>, <c>model.safetensors</c>, and the tokenizer. The
        /// architecture is Llama's, or Qwen3's if queries and keys are normed, with the same sizes in every layer; layers that the profile
        /// leaves out are not counted. Of a vision transformer it is ViT's.
        /// </summary>
        /// <param name="checkpoint">The universal model's file.</param>
        /// <param name="profile">What to extract.</param>
        /// <param name="folder">The folder; made if need be.</param>
        /// <param name="tokenizer">The model's tokenizer; null to write none.</param>
        /// <param name="encoding">What to store weights as; not <see cref="WeightEncoding.Q8"/>.</param>
        /// <exception cref="CheckpointException">The checkpoint is damaged, of another model, or a slice.</exception>
        /// <exception cref="TokenizerException">The tokenizer is not the model's.</exception>
        /// <exception cref="ExtractionException">The model is of neither architecture, or a weight does not fit the encoding.</exception>
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
        /// Writes a GGUF file that llama.cpp loads, with the tokenizer in it. The architecture is <c>llama</c>, <c>deci</c> (the same with
        /// sizes of each layer's own) or <c>qwen3</c> (with norms of queries and keys); layers that the profile leaves out are not counted.
        /// Norms and biases stay float32 in every encoding.
        /// </summary>
        /// <param name="checkpoint">The universal model's file.</param>
        /// <param name="profile">What to extract.</param>
        /// <param name="path">The file to write.</param>
        /// <param name="tokenizer">The model's tokenizer; null to write none, for programs that pass tokens themselves.</param>
        /// <param name="encoding">What to store matrices as.</param>
        /// <exception cref="CheckpointException">The checkpoint is damaged, of another model, or a slice.</exception>
        /// <exception cref="TokenizerException">The tokenizer is not the model's.</exception>
        /// <exception cref="ExtractionException">The model is of another architecture, or a weight does not fit the encoding.</exception>
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

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
        /// <param name="encoding">
        /// The encoding of the weights. GGUF alone has those in blocks, such as <see cref="WeightEncoding.Q8"/>.
        /// </param>
        /// <param name="chatTemplate">The model's chat template in Jinja, or null to write none.</param>
        /// <exception cref="CheckpointException">The checkpoint is damaged, belongs to another model, or is a slice.</exception>
        /// <exception cref="TokenizerException">The tokenizer is not the model's.</exception>
        /// <exception cref="ExtractionException">
        /// The model fits none of these architectures, the encoding is not supported, or a weight does not fit the encoding.
        /// </exception>
        /// <exception cref="IOException">A file cannot be written.</exception>
        public static void ToHuggingFace<TModel>(
            string checkpoint, Profile<TModel> profile, string folder, Tokenizer? tokenizer,
            WeightEncoding encoding = WeightEncoding.Float32, string? chatTemplate = null)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            ArgumentNullException.ThrowIfNull(profile);
            ArgumentException.ThrowIfNullOrEmpty(folder);
            using var weights = SlicedWeights.Open(checkpoint, profile);
            tokenizer?.CheckFits(weights.Spec, weights.TokenizerFingerprint);
            Extraction.CheckSafetensors(encoding);
            if (weights.Spec.Image is not null) new HuggingFaceViT(weights, encoding).Write(folder);
            else new HuggingFaceFolder(weights, tokenizer, encoding, chatTemplate).Write(folder);
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
        /// <param name="chatTemplate">The model's chat template in Jinja, or null to write none.</param>
        /// <exception cref="CheckpointException">The checkpoint is damaged, belongs to another model, or is a slice.</exception>
        /// <exception cref="TokenizerException">The tokenizer is not the model's.</exception>
        /// <exception cref="ExtractionException">
        /// llama.cpp does not support the architecture or the tokenizer, or a weight does not fit the encoding.
        /// </exception>
        /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
        public static void ToGguf<TModel>(
            string checkpoint, Profile<TModel> profile, string path, Tokenizer? tokenizer, WeightEncoding encoding = WeightEncoding.Float32,
            string? chatTemplate = null)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            ArgumentNullException.ThrowIfNull(profile);
            ArgumentException.ThrowIfNullOrEmpty(path);
            using var weights = SlicedWeights.Open(checkpoint, profile);
            tokenizer?.CheckFits(weights.Spec, weights.TokenizerFingerprint);
            new GgufModel(weights, tokenizer, encoding, chatTemplate).Write(path);
        }

        /// <summary>
        /// Writes an ONNX file (operator set 17) of a text encoder or a vision transformer, for any ONNX runtime. Weights are float32.
        /// <para>
        /// A text encoder takes <c>input_ids</c> (batch, tokens) int64 and <c>attention_mask</c> (batch, tokens) int64, which is 1 for the
        /// tokens of a text and 0 for the padding behind them. It gives <c>embedding</c> (batch, width), scaled to length 1.
        /// </para>
        /// <para>
        /// A vision transformer takes <c>pixel_values</c> (batch, channels, size, size) float32, from -1 to 1. It gives <c>logits</c>
        /// (batch, classes), and <c>embedding</c> (batch, width), scaled to length 1.
        /// </para>
        /// </summary>
        /// <param name="checkpoint">The universal model's file.</param>
        /// <param name="profile">The profile to extract.</param>
        /// <param name="path">The file to write.</param>
        /// <param name="width">
        /// One of the declared dimensions to cut embeddings to, or null for the whole embedding. The logits are computed from it, too.
        /// </param>
        /// <exception cref="CheckpointException">The checkpoint is damaged, belongs to another model, or is a slice.</exception>
        /// <exception cref="ArgumentException">The width is not a declared dimension.</exception>
        /// <exception cref="ExtractionException">The model is a language model, or too large for the format (2 GB).</exception>
        /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
        /// <example><code>
        /// Extraction.ToOnnx("out/Docs/model.safetensors", DocsEncoder.Profile.S, "out/Docs/s.onnx");
        /// </code></example>
        public static void ToOnnx<TModel>(string checkpoint, Profile<TModel> profile, string path, int? width = null)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            ArgumentNullException.ThrowIfNull(profile);
            ArgumentException.ThrowIfNullOrEmpty(path);
            using var weights = SlicedWeights.Open(checkpoint, profile);

            // A narrower vision transformer has no more numbers than its residual stream.
            if (weights.Spec.Image is not null && width is { } given)
                width = Math.Min(TModel.Spec.CheckEmbeddingWidth(given), weights.Spec.EmbeddingWidth);
            new OnnxModel(weights, width).Write(path);
        }
    }
}

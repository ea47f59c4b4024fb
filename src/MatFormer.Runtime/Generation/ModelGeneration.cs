using System.Collections.Immutable;
using System.Text;

namespace MatFormer;

/// <summary>Generates text with a model in memory.</summary>
/// <remarks>
/// A model on the CPU is packed into a <see cref="DecodingEngine"/> for each call. If you generate often, create one engine and reuse it.
/// Other models run their own forward pass.
/// </remarks>
public static class ModelGeneration
{
    extension(TextGenerator)
    {
        /// <summary>Continues a prompt with a universal model (at its widest granularity), a view or a slice.</summary>
        /// <param name="model">The model.</param>
        /// <param name="prompt">
        /// The text to continue. If it is empty, generation starts at the beginning of a document, or after a line end if no token
        /// separates documents.
        /// </param>
        /// <param name="options">The options of generation.</param>
        /// <param name="text">Receives the text as it is generated, in whole characters and without a stop string.</param>
        /// <param name="cancellationToken">Stops generation at the next token.</param>
        /// <exception cref="ArgumentException">An option is out of range.</exception>
        /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
        /// <exception cref="DecodingException">The model's logits are damaged.</exception>
        /// <exception cref="OperationCanceledException">Generation was cancelled.</exception>
        public static GenerationResult Generate(
            MatFormerModel model, string prompt, GenerationOptions? options = null, Action<string>? text = null,
            CancellationToken cancellationToken = default)
        {
            options ??= new GenerationOptions();
            Check(model, options);
            return TextGenerator.Generate(given => Begin(model, given, options), prompt, text, cancellationToken);
        }

        /// <summary>
        /// Continues several prompts together, each as if it were alone. The model reads its weights once for one token of every prompt. On
        /// devices other than the CPU, prompts of similar length are best: what a prompt has beyond the shortest is processed token by
        /// token.
        /// </summary>
        /// <param name="model">The model.</param>
        /// <param name="prompts">
        /// The texts to continue, at least one. Each prompt has its own random numbers, even if prompts are equal. The first prompt draws
        /// the numbers that it draws alone.
        /// </param>
        /// <param name="options">The options of generation.</param>
        /// <param name="cancellationToken">Stops generation at the next token.</param>
        /// <returns>The result for each prompt. Its tokens per second are over the time that all prompts took.</returns>
        /// <exception cref="ArgumentException">There is no prompt, or an option is out of range.</exception>
        /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
        /// <exception cref="DecodingException">The model's logits are damaged.</exception>
        /// <exception cref="OperationCanceledException">Generation was cancelled.</exception>
        public static ImmutableArray<GenerationResult> GenerateBatch(
            MatFormerModel model, IReadOnlyList<string> prompts, GenerationOptions? options = null,
            CancellationToken cancellationToken = default)
        {
            TextGenerator.CheckPrompts(prompts);
            options ??= new GenerationOptions();
            Check(model, options);
            return TextGenerator.GenerateBatch(given => Begin(model, given, options), prompts, cancellationToken);
        }

        /// <summary>
        /// Generates the same text and tokens as <c>Generate</c>, but returns them piece by piece. A separate thread computes from the
        /// request for the first piece until the enumerator is disposed. It stays at most a few pieces ahead of the reader.
        /// </summary>
        /// <param name="model">The model. Do not change or dispose it meanwhile.</param>
        /// <param name="prompt">The text to continue, as for <c>Generate</c>.</param>
        /// <param name="options">The options of generation.</param>
        /// <param name="cancellationToken">
        /// Stops generation at the next token. This is not an error: finished pieces still arrive, and the last piece has the finish reason
        /// <see cref="FinishReason.Cancelled"/>.
        /// </param>
        /// <returns>The pieces. The last piece has a finish reason.</returns>
        /// <exception cref="ArgumentException">An option is out of range.</exception>
        /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
        /// <exception cref="DecodingException">The model's logits are damaged. Earlier pieces arrive before the exception.</exception>
        public static IAsyncEnumerable<TextPiece> StreamAsync(
            MatFormerModel model, string prompt, GenerationOptions? options = null, CancellationToken cancellationToken = default)
        {
            ArgumentNullException.ThrowIfNull(prompt);
            options ??= new GenerationOptions();
            Check(model, options);
            return TextGenerator.Stream(given => Begin(model, given, options), Encoding.UTF8.GetBytes(prompt), cancellationToken);
        }
    }

    // Uses an engine if the model supports one, otherwise the model's own forward pass.
    private static Generation Begin(MatFormerModel model, IReadOnlyList<byte[]> prompts, GenerationOptions options)
    {
        if (!DecodingEngine.Supports(model)) return new TensorGeneration(model, prompts, options);
        var engine = DecodingEngine.Create(model, DecodingOptions.For(model) with { Sequences = prompts.Count });
        return new EngineGeneration(engine, prompts, options, ownsEngine: true);
    }

    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    private static void Check(MatFormerModel model, GenerationOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        options.Validate();
        options.Tokenizer.CheckFits(model);
        if (options.Draft.IsDefault && options.Cascade.IsEmpty) return;
        if (!DecodingEngine.Supports(model))
        {
            var option = options.Draft.IsDefault ? nameof(options.Cascade) : nameof(options.Draft);
            throw new ArgumentException(
                $"The generation option {option} needs a generated model on the CPU, but {model.Architecture.Name} on "
                + $"{model.Device} is not; leave the option out.");
        }

        if (!options.Draft.IsDefault) DecodingEngine.CheckDraft(options.Draft, model.Layers, model.Architecture);
        DecodingEngine.CheckCascade(options.Cascade, model.Layers, model.Architecture);
        if (options.DraftWeights is { } weights && weights != ModelDecoding.WeightsOf(model.ComputeType))
        {
            throw new ArgumentException(
                $"The generation option {nameof(options.DraftWeights)} needs an engine that holds {weights}; generate with an engine of "
                + $"{nameof(DecodingOptions)}.{nameof(DecodingOptions.Weights)} = {DecodingWeights.Nested8}.");
        }
    }
}

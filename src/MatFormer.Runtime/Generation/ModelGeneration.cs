using System.Collections.Immutable;
using System.Text;

namespace MatFormer;

/// <summary>Generation with a model in memory.</summary>
/// <remarks>
/// A model on the CPU is packed into a <see cref="DecodingEngine"/> for each call. To generate often, make an engine once and give that.
/// Other models run by their own forward pass.
/// </remarks>
public static class ModelGeneration
{
    extension(TextGenerator)
    {
        /// <summary>Continues a prompt with a universal model (its whole self), a view or a slice.</summary>
        /// <param name="model">The model.</param>
        /// <param name="prompt">
        /// What to continue; if empty, the beginning of a document, or a line end if no token stands between documents.
        /// </param>
        /// <param name="options">How.</param>
        /// <param name="text">Told the text as it comes, in whole characters, without a stop string.</param>
        /// <param name="cancellationToken">Stops at a token.</param>
        /// <exception cref="ArgumentException">An option is out of range.</exception>
        /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
        /// <exception cref="DecodingException">The model's logits are damaged.</exception>
        /// <exception cref="OperationCanceledException">It was stopped.</exception>
        public static GenerationResult Generate(
            MatFormerModel model, string prompt, GenerationOptions? options = null, Action<string>? text = null,
            CancellationToken cancellationToken = default)
        {
            options ??= new GenerationOptions();
            Check(model, options);
            return TextGenerator.Generate(given => Begin(model, given, options), prompt, text, cancellationToken);
        }

        /// <summary>
        /// Continues several prompts together, each as if it were alone: the model reads its weights once for a token of each. On devices other
        /// than the CPU best with prompts of about the same length: what one has beyond the shortest is taken token by token there.
        /// </summary>
        /// <param name="model">The model.</param>
        /// <param name="prompts">
        /// What to continue, at least one. Each draws numbers of its own, also of prompts that are alike; the first those it draws alone.
        /// </param>
        /// <param name="options">How.</param>
        /// <param name="cancellationToken">Stops at a token.</param>
        /// <returns>For each prompt what was generated, its tokens per second over the time that all took.</returns>
        /// <exception cref="ArgumentException">There is no prompt, or an option is out of range.</exception>
        /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
        /// <exception cref="DecodingException">The model's logits are damaged.</exception>
        /// <exception cref="OperationCanceledException">It was stopped.</exception>
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
        /// The same as <c>Generate</c>, piece by piece as it comes: the same texts and tokens. A thread of its own computes, from when the
        /// first piece is asked for until the enumerator is disposed of, and no more than a few pieces ahead of its reader.
        /// </summary>
        /// <param name="model">The model; not to be changed or disposed of meanwhile.</param>
        /// <param name="prompt">What to continue, as for <c>Generate</c>.</param>
        /// <param name="options">How.</param>
        /// <param name="cancellationToken">
        /// Stops at a token. This is no error: what is there still comes, and the last piece says <see cref="FinishReason.Cancelled"/>.
        /// </param>
        /// <returns>Pieces; the last has a finish reason.</returns>
        /// <exception cref="ArgumentException">An option is out of range.</exception>
        /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
        /// <exception cref="DecodingException">The model's logits are damaged: after the pieces before that.</exception>
        public static IAsyncEnumerable<TextPiece> StreamAsync(
            MatFormerModel model, string prompt, GenerationOptions? options = null, CancellationToken cancellationToken = default)
        {
            ArgumentNullException.ThrowIfNull(prompt);
            options ??= new GenerationOptions();
            Check(model, options);
            return TextGenerator.Stream(given => Begin(model, given, options), Encoding.UTF8.GetBytes(prompt), cancellationToken);
        }
    }

    // The way that is there for a model.
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
        if (options.Draft.IsDefault) return;
        if (!DecodingEngine.Supports(model))
        {
            throw new ArgumentException(
                $"The generation option {nameof(options.Draft)} is there for generated models on the CPU, which {model.Architecture.Name} "
                + $"on {model.Device} is not; leave it out.");
        }

        DecodingEngine.CheckDraft(options.Draft, model.Layers, model.Architecture);
    }
}

using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;

namespace MatFormer;

/// <summary>
/// Answers with a universal model (its whole self), a view or a slice. For several threads: one request is computed at a time, the others
/// wait.
/// </summary>
/// <remarks>
/// Of <see cref="ChatOptions"/>, Temperature, TopK, TopP, MaxOutputTokens, Seed, StopSequences and Instructions count; where they are
/// null, the client's own <see cref="GenerationOptions"/>, or those that RawRepresentationFactory returns, which have what ChatOptions
/// lacks.
/// What would change an answer and is not there is refused: tools, JSON, conversations kept here, other models, contents other than text,
/// and frequency and presence penalties, which are no <see cref="GenerationOptions.RepetitionPenalty"/>.
/// </remarks>
public sealed class MatFormerChatClient : IChatClient
{
    private readonly MatFormerModel? _model;
    private readonly DecodingEngine? _engine;
    private readonly bool _ownsEngine;
    private readonly Lock _ending = new();
    private readonly GenerationOptions _defaults;
    private readonly ChatTemplate _template;
    private readonly ChatClientMetadata _metadata;
    private readonly SemaphoreSlim _turn = new(1);
    private volatile bool _isDisposed;

    /// <summary>Makes one. A model on the CPU is packed now: later changes of its weights are not seen.</summary>
    /// <param name="model">The model; it stays the caller's to dispose of, after the last request.</param>
    /// <param name="defaults">The tokenizer, and what a request leaves open.</param>
    /// <param name="template">What messages become; <see cref="ChatTemplate.Continuation"/> if null.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public MatFormerChatClient(MatFormerModel model, GenerationOptions? defaults = null, ChatTemplate? template = null)
        : this(defaults, template, model?.Architecture.Name + "/" + model?.ProfileName)
    {
        _model = model!;
        TextGenerator.StreamAsync(_model, string.Empty, _defaults); // checks, and computes nothing as nobody reads
        if (!DecodingEngine.Supports(_model)) return;
        _engine = DecodingEngine.Create(_model, DecodingOptions.For(_model));
        _ownsEngine = true;
    }

    /// <summary>Makes one that uses the first sequence of an engine, as the submodel that this is set to.</summary>
    /// <param name="engine">
    /// The engine; it stays the caller's to dispose of, after the last request, and is for nothing else until then.
    /// </param>
    /// <param name="defaults">The tokenizer, and what a request leaves open.</param>
    /// <param name="template">What messages become; <see cref="ChatTemplate.Continuation"/> if null.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public MatFormerChatClient(DecodingEngine engine, GenerationOptions? defaults = null, ChatTemplate? template = null)
        : this(defaults, template, engine?.Architecture.Name + "/" + engine?.ProfileName)
    {
        _engine = engine!;
        TextGenerator.StreamAsync(_engine, string.Empty, _defaults);
    }

    private MatFormerChatClient(GenerationOptions? defaults, ChatTemplate? template, string modelId)
    {
        _defaults = defaults ?? new GenerationOptions();
        _template = template ?? ChatTemplate.Continuation;
        _metadata = new ChatClientMetadata("matformer", defaultModelId: modelId);
    }

    /// <summary>Answers, all at once.</summary>
    /// <inheritdoc cref="GetStreamingResponseAsync"/>
    public async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        await GetStreamingResponseAsync(messages, options, cancellationToken).ToChatResponseAsync(cancellationToken).ConfigureAwait(false);

    /// <summary>Answers piece by piece; the last has the finish reason and the tokens used.</summary>
    /// <param name="messages">The chat so far, at least one message.</param>
    /// <param name="options">How to answer.</param>
    /// <param name="cancellationToken">Stops at a token.</param>
    /// <exception cref="ArgumentException">There is no message, or an option is out of range.</exception>
    /// <exception cref="NotSupportedException">Something is asked for that is not there; the message names it.</exception>
    /// <exception cref="ObjectDisposedException">The client was disposed of.</exception>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        CheckSupported(options);
        var all = messages.ToList();
        if (options?.Instructions is { Length: > 0 } instructions) all.Insert(0, new ChatMessage(ChatRole.System, instructions));
        if (all.Count == 0) throw new ArgumentException("There is no message to answer; give at least one.", nameof(messages));
        foreach (var content in all.SelectMany(m => m.Contents))
        {
            if (content is not TextContent)
                throw new NotSupportedException($"A message has {content.GetType().Name}, and {ModelId} reads text only; leave it out.");
        }

        return Stream(_template.Prompt(all), Options(options), cancellationToken);
    }

    /// <summary>The <see cref="ChatClientMetadata"/>, the model, the engine, or this.</summary>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : new object?[] { this, _metadata, _model, _engine }.FirstOrDefault(serviceType.IsInstanceOfType);
    }

    /// <summary>Refuses further requests; does not dispose of the model, or of an engine that it was given.</summary>
    public void Dispose()
    {
        lock (_ending)
        {
            if (_isDisposed) return;
            _isDisposed = true;
        }

        // A request that is being answered ends first, and then does this.
        if (!_turn.Wait(0)) return;
        if (_ownsEngine) _engine!.Dispose();
        _turn.Release();
    }

    private string ModelId => _metadata.DefaultModelId!;

    private async IAsyncEnumerable<ChatResponseUpdate> Stream(
        string prompt, GenerationOptions options, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        // Before the turn: what is refused does not wait.
        var pieces = _engine is null ? TextGenerator.StreamAsync(_model!, prompt, options, cancellationToken)
            : TextGenerator.StreamAsync(_engine, prompt, options, cancellationToken);
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            var (id, created) = (Guid.NewGuid().ToString("N"), DateTimeOffset.UtcNow);
            var generated = 0L;
            await foreach (var piece in pieces.ConfigureAwait(false))
            {
                if (piece.FinishReason == FinishReason.Cancelled) cancellationToken.ThrowIfCancellationRequested();
                generated += piece.Tokens.Length;
                var update = new ChatResponseUpdate(ChatRole.Assistant, piece.Text)
                {
                    ResponseId = id,
                    MessageId = id,
                    ModelId = ModelId,
                    CreatedAt = created,
                    RawRepresentation = piece,
                };
                if (piece.FinishReason is { } reason)
                {
                    var given = options.Tokenizer.Encode(prompt).Length;
                    update.FinishReason = reason == FinishReason.Length ? ChatFinishReason.Length : ChatFinishReason.Stop;
                    update.Contents.Add(new UsageContent(new UsageDetails
                    {
                        InputTokenCount = given,
                        OutputTokenCount = generated,
                        TotalTokenCount = given + generated,
                    }));
                }

                yield return update;
            }
        }
        finally
        {
            lock (_ending)
            {
                if (_isDisposed && _ownsEngine) _engine!.Dispose();
                _turn.Release();
            }
        }
    }

    private void CheckSupported(ChatOptions? options)
    {
        if (options is null) return;
        Refuse(options.Tools is { Count: > 0 }, "Tools", "it calls none");
        Refuse(options.ResponseFormat is ChatResponseFormatJson, "ResponseFormat", "it writes text, not JSON");
        Refuse(options.ConversationId is not null, "ConversationId", "nothing is kept between requests: give all messages");
        Refuse(
            options.FrequencyPenalty is not (null or 0), "FrequencyPenalty",
            "it has another kind: GenerationOptions.RepetitionPenalty, by RawRepresentationFactory");
        Refuse(
            options.PresencePenalty is not (null or 0), "PresencePenalty",
            "it has another kind: GenerationOptions.RepetitionPenalty, by RawRepresentationFactory");
        Refuse(options.ModelId is { } model && model != ModelId, $"ModelId '{options.ModelId}'", "it is the only model here");

        void Refuse(bool isThere, string what, string why)
        {
            if (isThere) throw new NotSupportedException($"ChatOptions has {what}, and {ModelId} cannot do that: {why}; leave it out.");
        }
    }

    private GenerationOptions Options(ChatOptions? options)
    {
        var open = options?.RawRepresentationFactory?.Invoke(this) as GenerationOptions ?? _defaults;
        return open with
        {
            Tokens = options?.MaxOutputTokens ?? open.Tokens,
            Temperature = options?.Temperature ?? open.Temperature,
            TopK = options?.TopK ?? open.TopK,
            TopP = options?.TopP ?? open.TopP,
            Seed = options?.Seed ?? open.Seed,
            StopStrings = [.. open.StopStrings, .. _template.StopStrings, .. options?.StopSequences ?? []],
        };
    }
}

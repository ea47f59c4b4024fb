using System.Runtime.CompilerServices;
using System.Text;
using Microsoft.Extensions.AI;

namespace MatFormer;

/// <summary>
/// Answers chats with a universal model (the whole of it), a view or a slice. Several threads may use a client: it computes one request at
/// a time, and the others wait.
/// </summary>
/// <remarks>
/// The client reads Temperature, TopK, TopP, FrequencyPenalty, PresencePenalty, MaxOutputTokens, Seed, StopSequences and Instructions of
/// <see cref="ChatOptions"/>. For a value that is null, it uses the <see cref="GenerationOptions"/> that RawRepresentationFactory returns,
/// or else its own. These also have the options that ChatOptions lacks.
/// The client refuses what it does not support and what would change an answer: tools, JSON, stored conversations, other models, and
/// contents other than text.
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

    /// <summary>Creates a client for a model. A model on the CPU is packed now, so later changes of its weights have no effect.</summary>
    /// <param name="model">The model. The caller disposes of it, after the last request.</param>
    /// <param name="defaults">The tokenizer, and the values that a request does not set.</param>
    /// <param name="template">How messages become a text; <see cref="ChatTemplate.Continuation"/> if null.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public MatFormerChatClient(MatFormerModel model, GenerationOptions? defaults = null, ChatTemplate? template = null)
        : this(defaults, template, model?.Architecture.Name + "/" + model?.ProfileName)
    {
        _model = model!;
        TextGenerator.StreamAsync(_model, string.Empty, _defaults); // only checks: nothing is computed until somebody reads
        if (!DecodingEngine.Supports(_model)) return;
        _engine = DecodingEngine.Create(_model, DecodingOptions.For(_model));
        _ownsEngine = true;
    }

    /// <summary>Creates a client that uses the first sequence of an engine, with the submodel that the sequence is set to.</summary>
    /// <param name="engine">
    /// The engine. The caller disposes of it, after the last request, and must not use it for anything else until then.
    /// </param>
    /// <param name="defaults">The tokenizer, and the values that a request does not set.</param>
    /// <param name="template">How messages become a text; <see cref="ChatTemplate.Continuation"/> if null.</param>
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

    /// <summary>Returns the whole answer at once.</summary>
    /// <inheritdoc cref="GetStreamingResponseAsync"/>
    public async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        await GetStreamingResponseAsync(messages, options, cancellationToken).ToChatResponseAsync(cancellationToken).ConfigureAwait(false);

    /// <summary>Returns the answer piece by piece. The last piece has the finish reason and the number of tokens used.</summary>
    /// <param name="messages">The chat so far, at least one message.</param>
    /// <param name="options">How to answer.</param>
    /// <param name="cancellationToken">Stops the answer after the current token.</param>
    /// <exception cref="ArgumentException">There is no message, or an option is out of range.</exception>
    /// <exception cref="NotSupportedException">The request asks for something that is not supported; the message names it.</exception>
    /// <exception cref="ObjectDisposedException">The client was disposed of.</exception>
    /// <exception cref="OperationCanceledException">The request was cancelled.</exception>
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
                throw new NotSupportedException($"A message has {content.GetType().Name}, but {ModelId} reads only text; leave it out.");
        }

        return Stream(_template.Prompt(all), Options(options), cancellationToken);
    }

    /// <summary>
    /// Returns the <see cref="ChatClientMetadata"/>, the model, the engine or this client, depending on the type; null for other types.
    /// </summary>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : new object?[] { this, _metadata, _model, _engine }.FirstOrDefault(serviceType.IsInstanceOfType);
    }

    /// <summary>Refuses further requests. Does not dispose of the model, nor of an engine that the client was given.</summary>
    public void Dispose()
    {
        lock (_ending)
        {
            if (_isDisposed) return;
            _isDisposed = true;
        }

        // A request that is being answered disposes of the engine when it ends.
        if (!_turn.Wait(0)) return;
        if (_ownsEngine) _engine!.Dispose();
        _turn.Release();
    }

    private string ModelId => _metadata.DefaultModelId!;

    private async IAsyncEnumerable<ChatResponseUpdate> Stream(
        string prompt, GenerationOptions options, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        // Invalid options are refused here, before the request waits for its turn.
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
                    var given = options.Tokenizer.EncodePrompt(Encoding.UTF8.GetBytes(prompt)).Count;
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
        Refuse(options.Tools is { Count: > 0 }, "Tools", "it cannot call tools");
        Refuse(options.ResponseFormat is ChatResponseFormatJson, "ResponseFormat", "it writes text, not JSON");
        Refuse(options.ConversationId is not null, "ConversationId", "it keeps nothing between requests, so give all messages");
        Refuse(options.ModelId is { } model && model != ModelId, $"ModelId '{options.ModelId}'", "it is the only model of this client");

        void Refuse(bool isThere, string what, string why)
        {
            if (isThere) throw new NotSupportedException($"ChatOptions has {what}, which {ModelId} does not support: {why}; leave it out.");
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
            FrequencyPenalty = options?.FrequencyPenalty ?? open.FrequencyPenalty,
            PresencePenalty = options?.PresencePenalty ?? open.PresencePenalty,
            Seed = options?.Seed ?? open.Seed,
            StopStrings = [.. open.StopStrings, .. _template.StopStrings, .. options?.StopSequences ?? []],
        };
    }
}

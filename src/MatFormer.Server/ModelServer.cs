using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace MatFormer;

/// <summary>
/// Serves all sizes of one model. Each request chooses its size by name, by budget or by load. The endpoints are OpenAI's.
/// <see cref="ModelServerEndpoints.MapMatFormer"/> adds them to a web application, and <see cref="ModelServerHost"/> is a complete web
/// application.
/// </summary>
/// <example>
/// <code>
/// var options = new DecodingOptions { Sequences = 16, HiddenStates = true };
/// var engine = DecodingEngine.Open&lt;DocsLm&gt;("model.safetensors", options: options);
/// await using var server = ModelServer.Create&lt;DocsLm&gt;(engine, new ModelServerOptions { MaxTokens = 1000 });
/// app.MapMatFormer(server);
/// </code>
/// </example>
public abstract class ModelServer : IAsyncDisposable
{
    private readonly byte[]? _token;
    private readonly ConcurrentDictionary<int, long> _answers = new();
    private readonly ConcurrentDictionary<string, long> _requests = new(StringComparer.Ordinal);
    private volatile bool _isDraining;

    private protected ModelServer(ModelSpec spec, ProfileCatalog catalog, string? token, long maxBodyBytes)
    {
        (Spec, Catalog, MaxBodyBytes) = (spec, catalog, maxBodyBytes);
        _token = token is null ? null : Hash(token);
    }

    /// <summary>The declared model.</summary>
    public ModelSpec Spec { get; }

    /// <summary>
    /// The granularities and declared profiles that are served, at each declared grid of compressed tokens, and the declared routing
    /// budgets, with their costs on this machine.
    /// </summary>
    public ImmutableArray<ServedProfile> Profiles => Catalog.Profiles;

    internal ProfileCatalog Catalog { get; }

    internal long MaxBodyBytes { get; }

    internal bool HasToken => _token is not null;

    internal DateTimeOffset Started { get; } = DateTimeOffset.UtcNow;

    /// <summary>True if no more requests are accepted.</summary>
    internal abstract bool IsStopping { get; }

    /// <summary>True if load balancers should send no more requests here, although they are still accepted.</summary>
    internal bool IsDraining => _isDraining;

    /// <summary>The number of requests that run and wait.</summary>
    internal abstract (int Running, int Waiting) Load { get; }

    /// <summary>The most tokens of a text.</summary>
    internal abstract int MaxPromptTokens { get; }

    /// <summary>The most texts or images that a request for embeddings may have.</summary>
    internal abstract int MaxInputs { get; }

    /// <summary>The numbers of dimensions that an embedding may have.</summary>
    internal abstract ImmutableArray<int> EmbeddingDimensions { get; }

    /// <summary>Returns the tokens of a text to embed.</summary>
    internal abstract int[] Encode(string text);

    /// <summary>Selects the size of a request by its model and budgets, for a load that includes the request's inputs.</summary>
    /// <exception cref="ApiException">There is no such size, or none within the budgets.</exception>
    internal abstract ServedProfile Select(string model, long? maxFlops, double? maxMs, int inputs);

    /// <summary>Measures how long a token takes in each size of a language model, and starts the scheduler.</summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    /// <param name="engine">
    /// The engine with the weights of the whole model or of a slice. The server owns and disposes the engine. Embeddings need
    /// <see cref="DecodingOptions.HiddenStates"/>.
    /// </param>
    /// <param name="options">The options of the server; null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range, or the engine belongs to another model.</exception>
    /// <exception cref="TokenizerException">The tokenizer does not fit the model.</exception>
    public static LanguageModelServer Create<TModel>(DecodingEngine engine, ModelServerOptions? options = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(engine);
        options ??= new ModelServerOptions();
        options.Validate();
        if (engine.Architecture.Fingerprint != TModel.Spec.Fingerprint)
            throw new ArgumentException($"The engine has the model {engine.Architecture.Name}, not {TModel.Spec.Name}.", nameof(engine));
        DecodingScheduler.Check(options.Defaults, engine);
        return new LanguageModelServer(TModel.Spec, engine, ProfileCatalog.Measure<TModel>(engine, options.AutoMsPerToken), options);
    }

    /// <summary>
    /// Measures how long a text or an image takes in each size of a text encoder or a vision transformer, and serves its embeddings.
    /// </summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    /// <param name="encoder">
    /// The universal model, all sizes of which are served, or a slice, which is served as the only size. The server owns and disposes the
    /// model.
    /// </param>
    /// <param name="options">The options of the server; null for the defaults.</param>
    /// <exception cref="ArgumentException">
    /// An option is out of range, or the model is a language model or is another model than <typeparamref name="TModel"/>.
    /// </exception>
    /// <exception cref="TokenizerException">The tokenizer does not fit the model.</exception>
    public static EncoderServer Create<TModel>(MatFormerModel encoder, EncoderServerOptions? options = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(encoder);
        options ??= new EncoderServerOptions();
        options.Validate();
        if (encoder.Architecture.Fingerprint != TModel.Spec.Fingerprint)
            throw new ArgumentException($"The model is {encoder.Architecture.Name}, not {TModel.Spec.Name}.", nameof(encoder));
        var universal = encoder.IsUniversal ? encoder as TModel : null;
        Func<ServedProfile, RequestEmbedder> embedderOf =
            encoder.Architecture.Kind == ModelKind.VisionTransformer ? EmbedderOfImages : EmbedderOfTexts;
        return new EncoderServer(
            encoder, embedderOf, ProfileCatalog.Measure<TModel>(encoder, embedderOf, options.AutoMs), options);

        RequestEmbedder EmbedderOfImages(ServedProfile size)
        {
            var profile = new Profile<TModel>(size.Name, size.Layers);
            if (size.Grid is { } side) profile = profile.At(side);
            var images = new ImageEmbedder(
                encoder,
                universal is null ? size.Grid is { } grid ? (pixels, width) => encoder.Embed(grid, pixels, width) : encoder.Embed
                    : size.Budget is { } budget ? (pixels, width) => universal.Embed(budget, pixels, width)
                    : (pixels, width) => universal.Embed(profile, pixels, width));
            return (request, cancellationToken) => images.Embed(request.Images, request.Width, cancellationToken);
        }

        RequestEmbedder EmbedderOfTexts(ServedProfile size)
        {
            var texts = universal is null ? TextEmbedder.OfSlice(encoder, options.Tokenizer)
                : size.Budget is { } budget ? TextEmbedder.Of(universal, budget, options.Tokenizer)
                : TextEmbedder.Of(universal, new Profile<TModel>(size.Name, size.Layers), options.Tokenizer);
            return (request, cancellationToken) => texts.WithWidth(request.Width).EmbedTokens(request.Texts, cancellationToken);
        }
    }

    /// <summary>
    /// Makes <c>/readyz</c> answer 503 from now on, so that load balancers send further requests elsewhere. Requests are still answered
    /// until <see cref="StopAsync"/>, because load balancers take a while to notice.
    /// </summary>
    public void Drain() => _isDraining = true;

    /// <summary>
    /// Refuses new requests, waits for running ones, cancels the rest after the grace period, and frees the weights.
    /// </summary>
    public abstract Task StopAsync(TimeSpan grace);

    /// <summary>Cancels all requests, and frees the weights.</summary>
    public async ValueTask DisposeAsync()
    {
        await StopAsync(TimeSpan.Zero).ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }

    /// <summary>The number of answers with each status.</summary>
    internal IEnumerable<KeyValuePair<int, long>> Answers => _answers.OrderBy(p => p.Key);

    /// <summary>The number of requests for each declared size, and for all other sizes together.</summary>
    internal IEnumerable<KeyValuePair<string, long>> Requests => _requests.OrderBy(p => p.Key, StringComparer.Ordinal);

    internal void CountAnswer(int status) => _answers.AddOrUpdate(status, 1, static (_, count) => count + 1);

    internal void CountRequest(ServedProfile profile) =>
        _requests.AddOrUpdate(NameOf(profile), 1, static (_, count) => count + 1);

    /// <summary>Returns the name under which requests of a size are counted. Sizes that are not declared share one.</summary>
    internal string NameOf(ServedProfile profile) => Profiles.Contains(profile) ? profile.Name : "other";

    /// <exception cref="ApiException">The token is missing or wrong.</exception>
    internal void Authorize(HttpRequest request)
    {
        if (_token is null) return;
        const string Scheme = "Bearer ";
        var given = request.Headers.Authorization is [{ } header] && header.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase)
            ? header[Scheme.Length..].Trim() : string.Empty;

        // Comparing hashes reveals neither by time nor by length how much of a token was right.
        if (CryptographicOperations.FixedTimeEquals(Hash(given), _token)) return;
        throw new ApiException(
            StatusCodes.Status401Unauthorized, "The token is missing or wrong; send it as 'Authorization: Bearer TOKEN'.",
            code: "invalid_api_key");
    }

    internal static ApiException Stopping() =>
        new(StatusCodes.Status503ServiceUnavailable, "The server is stopping.", code: "stopping") { RetryAfterSeconds = 5 };

    /// <summary>Returns the error for a request that finds the queue full.</summary>
    /// <param name="secondsToWait">The estimated seconds until a request in the queue would have ended.</param>
    private protected ApiException QueueIsFull(double secondsToWait)
    {
        var (running, waiting) = Load;
        var seconds = (int)Math.Clamp(Math.Ceiling(secondsToWait), 1, 60);
        return new ApiException(
            StatusCodes.Status429TooManyRequests,
            $"{Counted.Of(running, "request runs", "requests run")} and {Counted.Of(waiting, "waits", "wait")}; the queue is full. "
            + FormattableString.Invariant($"Try again in {seconds} s."),
            code: "queue_full")
        {
            RetryAfterSeconds = seconds,
        };
    }

    private static byte[] Hash(string token) => SHA256.HashData(Encoding.UTF8.GetBytes(token));
}

using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace MatFormer;

/// <summary>
/// Serves all sizes of one model from one set of packed weights. Each request chooses its size by name, by budget or by load. The endpoints
/// are OpenAI's. <see cref="ModelServerEndpoints.MapMatFormer"/> adds them to a web application, and <see cref="ModelServerHost"/> is a
/// complete web application.
/// </summary>
/// <example>
/// <code>
/// var options = new DecodingOptions { Sequences = 16, HiddenStates = true };
/// var engine = DecodingEngine.Open&lt;DocsLm&gt;("model.safetensors", options: options);
/// await using var server = ModelServer.Create&lt;DocsLm&gt;(engine, new ModelServerOptions { MaxTokens = 1000 });
/// app.MapMatFormer(server);
/// </code>
/// </example>
public sealed class ModelServer : IAsyncDisposable
{
    private readonly byte[]? _token;
    private readonly ConcurrentDictionary<int, long> _answers = new();
    private readonly ConcurrentDictionary<string, long> _requests = new(StringComparer.Ordinal);

    private ModelServer(ModelSpec spec, DecodingEngine engine, ProfileCatalog catalog, ModelServerOptions options)
    {
        (Spec, Catalog, Options) = (spec, catalog, options);
        (Weights, WeightBytes, CacheBytes) = (engine.Weights, engine.WeightBytes, engine.SequenceBytes * engine.Sequences);
        EmbedsTexts = engine.KeepsHiddenStates;
        MaxPromptTokens = Math.Min(options.MaxPromptTokens ?? engine.Capacity, engine.Capacity);
        _token = options.Token is { } token ? Hash(token) : null;
        Scheduler = new DecodingScheduler(engine, options.Scheduler);
    }

    /// <summary>The declared model.</summary>
    public ModelSpec Spec { get; }

    /// <summary>The granularities and declared profiles that are served, with their costs on this machine.</summary>
    public ImmutableArray<ServedProfile> Profiles => Catalog.Profiles;

    /// <summary>The options of the server.</summary>
    public ModelServerOptions Options { get; }

    /// <summary>The scheduler that runs the requests.</summary>
    public DecodingScheduler Scheduler { get; }

    /// <summary>The type in which the weights are kept.</summary>
    public DecodingWeights Weights { get; }

    /// <summary>Bytes of the packed weights.</summary>
    public long WeightBytes { get; }

    /// <summary>Bytes of the key/value caches of all sequences.</summary>
    public long CacheBytes { get; }

    internal ProfileCatalog Catalog { get; }

    internal bool EmbedsTexts { get; }

    internal int MaxPromptTokens { get; }

    internal DateTimeOffset Started { get; } = DateTimeOffset.UtcNow;

    /// <summary>Measures how long a token takes in each size, and starts the scheduler.</summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    /// <param name="engine">
    /// The engine with the weights of the whole model or of a slice. The server owns and disposes the engine. Embeddings need
    /// <see cref="DecodingOptions.HiddenStates"/>.
    /// </param>
    /// <param name="options">The options of the server; null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range, or the engine belongs to another model.</exception>
    /// <exception cref="TokenizerException">The tokenizer does not fit the model.</exception>
    public static ModelServer Create<TModel>(DecodingEngine engine, ModelServerOptions? options = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(engine);
        options ??= new ModelServerOptions();
        options.Validate();
        if (engine.Architecture.Fingerprint != TModel.Spec.Fingerprint)
            throw new ArgumentException($"The engine has the model {engine.Architecture.Name}, not {TModel.Spec.Name}.", nameof(engine));
        DecodingScheduler.Check(options.Defaults, engine);
        return new ModelServer(TModel.Spec, engine, ProfileCatalog.Measure<TModel>(engine, options.AutoMsPerToken), options);
    }

    /// <summary>Refuses new requests, waits for running ones, cancels the rest after the grace period, and frees the weights.</summary>
    public Task StopAsync(TimeSpan grace) => Scheduler.StopAsync(grace);

    /// <summary>Cancels all requests, and frees the weights.</summary>
    public ValueTask DisposeAsync() => Scheduler.DisposeAsync();

    /// <summary>The number of answers with each status.</summary>
    internal IEnumerable<KeyValuePair<int, long>> Answers => _answers.OrderBy(p => p.Key);

    /// <summary>The number of requests for each declared size, and for all other sizes together.</summary>
    internal IEnumerable<KeyValuePair<string, long>> Requests => _requests.OrderBy(p => p.Key, StringComparer.Ordinal);

    internal void CountAnswer(int status) => _answers.AddOrUpdate(status, 1, static (_, count) => count + 1);

    internal void CountRequest(ServedProfile profile) =>
        _requests.AddOrUpdate(Profiles.Contains(profile) ? profile.Name : "other", 1, static (_, count) => count + 1);

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

    /// <summary>Returns the error for a request that was not accepted.</summary>
    internal ApiException Refused()
    {
        if (Scheduler.IsStopping) return Stopping();
        var now = Scheduler.Statistics;
        var seconds = (int)Math.Clamp(Math.Ceiling(now.RequestSeconds * (1 + now.Waiting) / Scheduler.Sequences), 1, 60);
        return new ApiException(
            StatusCodes.Status429TooManyRequests,
            FormattableString.Invariant($"{now.Running} requests run and {now.Waiting} wait; the queue is full. Try again in {seconds} s."),
            code: "queue_full")
        {
            RetryAfterSeconds = seconds,
        };
    }

    internal static ApiException Stopping() =>
        new(StatusCodes.Status503ServiceUnavailable, "The server is stopping.", code: "stopping") { RetryAfterSeconds = 5 };

    private static byte[] Hash(string token) => SHA256.HashData(Encoding.UTF8.GetBytes(token));
}

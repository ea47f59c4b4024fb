using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace MatFormer;

/// <summary>
/// All sizes of one model, served from one set of packed weights: each request has a size of its own, by name, by budget or by load. Its
/// endpoints are OpenAI's: <see cref="ModelServerEndpoints.MapMatFormer"/> adds them to a web application;
/// <see cref="ModelServerHost"/> is one.
/// </summary>
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

    /// <summary>The granularities and declared profiles that are served, with what they cost on this machine.</summary>
    public ImmutableArray<ServedProfile> Profiles => Catalog.Profiles;

    /// <summary>How it serves.</summary>
    public ModelServerOptions Options { get; }

    /// <summary>What computes.</summary>
    public DecodingScheduler Scheduler { get; }

    /// <summary>How the weights are kept.</summary>
    public DecodingWeights Weights { get; }

    /// <summary>Bytes of the packed weights.</summary>
    public long WeightBytes { get; }

    /// <summary>Bytes of the keys and values of all sequences.</summary>
    public long CacheBytes { get; }

    internal ProfileCatalog Catalog { get; }

    internal bool EmbedsTexts { get; }

    internal int MaxPromptTokens { get; }

    internal DateTimeOffset Started { get; } = DateTimeOffset.UtcNow;

    /// <summary>Measures how long a token takes in each size, and starts the scheduler.</summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    /// <param name="engine">
    /// Its weights, of all of it or of a slice; the server's from here on. Embeddings need <see cref="DecodingOptions.HiddenStates"/>.
    /// </param>
    /// <param name="options">How.</param>
    /// <exception cref="ArgumentException">An option is out of range, or the engine is another model's.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not those of the tokenizer.</exception>
    public static ModelServer Create<TModel>(DecodingEngine engine, ModelServerOptions? options = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(engine);
        options ??= new ModelServerOptions();
        options.Validate();
        if (engine.Architecture.Fingerprint != TModel.Spec.Fingerprint)
            throw new ArgumentException($"The engine is {engine.Architecture.Name}'s, not {TModel.Spec.Name}'s.", nameof(engine));
        DecodingScheduler.Check(options.Defaults, engine);
        return new ModelServer(TModel.Spec, engine, ProfileCatalog.Measure<TModel>(engine, options.AutoMsPerToken), options);
    }

    /// <summary>Takes no more requests, lets those that are there end, cancels what is left after a while, and frees the weights.</summary>
    public Task StopAsync(TimeSpan grace) => Scheduler.StopAsync(grace);

    /// <summary>Cancels what is there, and frees the weights.</summary>
    public ValueTask DisposeAsync() => Scheduler.DisposeAsync();

    /// <summary>How often an answer had each status.</summary>
    internal IEnumerable<KeyValuePair<int, long>> Answers => _answers.OrderBy(p => p.Key);

    /// <summary>How many requests were computed by each declared size, and by any other.</summary>
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

        // Of hashes, so that neither the time nor the length tells how much was right.
        if (CryptographicOperations.FixedTimeEquals(Hash(given), _token)) return;
        throw new ApiException(
            StatusCodes.Status401Unauthorized, "The token is missing or wrong; send it as 'Authorization: Bearer TOKEN'.",
            code: "invalid_api_key");
    }

    /// <summary>Why a request was not taken.</summary>
    internal ApiException Refused()
    {
        if (Scheduler.IsStopping) return Stopping();
        var now = Scheduler.Statistics;
        var seconds = (int)Math.Clamp(Math.Ceiling(now.RequestSeconds * (1 + now.Waiting) / Scheduler.Sequences), 1, 60);
        return new ApiException(
            StatusCodes.Status429TooManyRequests,
            FormattableString.Invariant($"{now.Running} requests run and {now.Waiting} wait, as many as may; try again in {seconds} s."),
            code: "queue_full")
        {
            RetryAfterSeconds = seconds,
        };
    }

    internal static ApiException Stopping() =>
        new(StatusCodes.Status503ServiceUnavailable, "The server is stopping.", code: "stopping") { RetryAfterSeconds = 5 };

    private static byte[] Hash(string token) => SHA256.HashData(Encoding.UTF8.GetBytes(token));
}

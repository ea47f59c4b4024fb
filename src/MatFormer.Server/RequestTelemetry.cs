using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Globalization;

namespace MatFormer;

/// <summary>
/// What is told about one request: its metrics and its activity, by OpenTelemetry's conventions for generative AI
/// (docs/monitoring.md). There is none while nobody listens.
/// </summary>
internal sealed class RequestTelemetry : IDisposable
{
    private const string Name = "MatFormer.Server";

    private static readonly ActivitySource s_source = new(Name);
    private static readonly Meter s_meter = new(Name);

    private static readonly Histogram<double> s_duration = Seconds(
        "gen_ai.server.request.duration", "Time of a request.",
        [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]);

    private static readonly Histogram<double> s_timeToFirstToken = Seconds(
        "gen_ai.server.time_to_first_token", "Time to the first token of an answer.",
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]);

    private static readonly Histogram<double> s_timePerToken = Seconds(
        "gen_ai.server.time_per_output_token", "Time of each token after the first.",
        [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5]);

    private static readonly Histogram<long> s_tokens = s_meter.CreateHistogram(
        "gen_ai.client.token.usage", "{token}", "Tokens of a request.", advice: new InstrumentAdvice<long>
        {
            HistogramBucketBoundaries = [.. Enumerable.Range(0, 14).Select(power => 1L << (2 * power))],
        });

    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly Activity? _activity;
    private TagList _tags;
    private long _firstToken;
    private int _outputTokens;
    private bool _hasFailed;

    private RequestTelemetry(ModelServer server, string operation)
    {
        _tags = new TagList
        {
            { "gen_ai.operation.name", operation }, { "gen_ai.provider.name", "matformer" }, { "gen_ai.request.model", server.Spec.Name },
        };
        _activity = s_source.HasListeners()
            ? s_source.StartActivity(ActivityKind.Internal, tags: _tags, name: $"{operation} {server.Spec.Name}") : null;
    }

    /// <summary>Begins a request. Returns null if nobody listens.</summary>
    /// <param name="server">The server.</param>
    /// <param name="operation">The name that the conventions give to the operation, such as <c>chat</c>.</param>
    public static RequestTelemetry? Start(ModelServer server, string operation) =>
        s_source.HasListeners() || s_duration.Enabled || s_timeToFirstToken.Enabled || s_timePerToken.Enabled || s_tokens.Enabled
            ? new RequestTelemetry(server, operation) : null;

    /// <summary>Tells the size that was chosen.</summary>
    public void Choose(ModelServer server, ServedProfile profile)
    {
        // Requests may ask for any mix. A metric has one series for the declared sizes each, and one for all others.
        _tags.Add("gen_ai.response.model", $"{server.Spec.Name}/{server.NameOf(profile)}");
        _activity?.SetTag("gen_ai.response.model", server.Catalog.IdOf(profile));
    }

    /// <summary>Tells how a text is generated.</summary>
    public void Choose(GenerationOptions options) => _activity?.SetTag("gen_ai.request.max_tokens", options.Tokens)
        .SetTag("gen_ai.request.temperature", options.Temperature).SetTag("gen_ai.request.top_p", options.TopP)
        .SetTag("gen_ai.request.seed", options.Seed);

    /// <summary>Tells of tokens that were generated.</summary>
    public void Generated(int tokens)
    {
        if (tokens > 0 && _outputTokens == 0) _firstToken = Stopwatch.GetTimestamp();
        _outputTokens += tokens;
    }

    /// <summary>Tells that the answer is complete.</summary>
    /// <param name="inputTokens">The tokens of the prompt or of the texts.</param>
    /// <param name="reason">Why a text ended; null for embeddings.</param>
    public void Complete(long inputTokens, FinishReason? reason = null)
    {
        Count("input", inputTokens);
        if (_outputTokens > 0)
        {
            Count("output", _outputTokens);
            s_timeToFirstToken.Record(Stopwatch.GetElapsedTime(_start, _firstToken).TotalSeconds, _tags);
            if (_outputTokens > 1)
                s_timePerToken.Record(Stopwatch.GetElapsedTime(_firstToken).TotalSeconds / (_outputTokens - 1), _tags);
        }

        _activity?.SetTag("gen_ai.usage.input_tokens", inputTokens);
        if (reason is null) return;
        _activity?.SetTag("gen_ai.usage.output_tokens", _outputTokens)
            .SetTag("gen_ai.response.finish_reasons", new[] { reason == FinishReason.Length ? "length" : "stop" });

        void Count(string type, long tokens)
        {
            var tags = _tags;
            tags.Add("gen_ai.token.type", type);
            s_tokens.Record(tokens, tags);
        }
    }

    /// <summary>Tells that the request failed or was refused.</summary>
    public void Fail(Exception e)
    {
        if (_hasFailed) return;
        _hasFailed = true;
        var type = e is ApiException api ? api.Code ?? api.Status.ToString(CultureInfo.InvariantCulture) : e.GetType().FullName;
        _tags.Add("error.type", type);
        _activity?.SetStatus(ActivityStatusCode.Error, e.Message).SetTag("error.type", type);
        if (e is not (ApiException or OperationCanceledException)) _activity?.AddException(e);
    }

    /// <summary>Ends the request.</summary>
    public void Dispose()
    {
        s_duration.Record(Stopwatch.GetElapsedTime(_start).TotalSeconds, _tags);
        _activity?.Dispose();
    }

    private static Histogram<double> Seconds(string name, string description, IReadOnlyList<double> bounds) =>
        s_meter.CreateHistogram(name, "s", description, advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = bounds });
}

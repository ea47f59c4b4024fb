using System.Collections.Immutable;
using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace MatFormer;

/// <summary>
/// The meter and the activity source of decoding and scheduling, which docs/monitoring.md describes. They cost nothing while nobody
/// listens.
/// </summary>
internal static class DecodingTelemetry
{
    private const string Name = "MatFormer.Inference";

    private static readonly ActivitySource s_source = new(Name);
    private static readonly Counter<long> s_tokens;
    private static readonly Histogram<double> s_duration;
    private static readonly Histogram<double> s_timeToFirstToken;

    static DecodingTelemetry()
    {
        Meter = new Meter(Name);
        var seconds = new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] };
        s_tokens = Meter.CreateCounter<long>("matformer.decoding.tokens", "{token}", "Tokens, by what was done with them.");
        s_duration = Meter.CreateHistogram(
            "matformer.decoding.duration", "s", "Time of a generation without a scheduler.", advice: seconds);
        s_timeToFirstToken = Meter.CreateHistogram(
            "matformer.decoding.time_to_first_token", "s", "Time from the submission of a prompt to the first token after it.",
            advice: seconds);
    }

    public static Meter Meter { get; }

    public static bool MeasuresDurations => s_duration.Enabled;

    /// <summary>Begins an activity for text or an embedding. Returns null if nobody listens.</summary>
    /// <param name="operation">What is done.</param>
    /// <param name="spec">The model.</param>
    /// <param name="layers">The submodel; default if there are several.</param>
    /// <param name="budget">The compute budget, at which each token chooses its hidden units; null if there is none.</param>
    public static Activity? Start(string operation, ModelSpec spec, ImmutableArray<LayerSlice> layers, double? budget)
    {
        if (!s_source.HasListeners()) return null;
        var activity = s_source.StartActivity($"{operation} {spec.Name}");
        activity?.SetTag("matformer.model", spec.Name);
        if (!layers.IsDefault) activity?.SetTag("matformer.profile", NameOf(spec, layers, budget));
        return activity;
    }

    /// <summary>Marks an activity as failed.</summary>
    public static void Fail(Activity? activity, Exception e) =>
        activity?.SetStatus(ActivityStatusCode.Error, e.Message).SetTag("error.type", e.GetType().FullName).AddException(e);

    public static KeyValuePair<string, object?> Model(ModelSpec spec) => new("matformer.model", spec.Name);

    /// <summary>Counts tokens.</summary>
    /// <param name="spec">The model.</param>
    /// <param name="type">What was done with them: prompt, cached, generated, drafted, accepted or escalated.</param>
    /// <param name="count">Their number. 0 is not reported.</param>
    public static void CountTokens(ModelSpec spec, string type, long count)
    {
        if (count > 0) s_tokens.Add(count, Model(spec), new("matformer.token.type", type));
    }

    public static void RecordFirstToken(ModelSpec spec, double seconds) => s_timeToFirstToken.Record(seconds, Model(spec));

    public static void RecordDuration(ModelSpec spec, ImmutableArray<LayerSlice> layers, double? budget, double seconds)
    {
        if (layers.IsDefault) s_duration.Record(seconds, Model(spec));
        else s_duration.Record(seconds, Model(spec), new("matformer.profile", NameOf(spec, layers, budget)));
    }

    private static string NameOf(ModelSpec spec, ImmutableArray<LayerSlice> layers, double? budget) =>
        budget is { } share ? RoutingBudget.NameOf(share) : spec.FormatPattern(layers.AsSpan());
}

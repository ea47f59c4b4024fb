using System.Collections.Immutable;
using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace MatFormer;

/// <summary>
/// The meter and the activity source of training, which docs/monitoring.md describes. They cost nothing while nobody listens.
/// </summary>
internal static class TrainingTelemetry
{
    private const string Name = "MatFormer.Training";
    private const string ModelKey = "matformer.model";
    private const string RankKey = "matformer.rank";

    private static readonly ActivitySource s_source = new(Name);
    private static readonly Meter s_meter = new(Name);
    private static readonly Histogram<double> s_stepDuration = s_meter.CreateHistogram(
        "matformer.training.step.duration", "s", "Time of a step.", advice: new InstrumentAdvice<double>
        {
            HistogramBucketBoundaries = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100],
        });

    private static readonly Counter<long> s_tokens = s_meter.CreateCounter<long>(
        "matformer.training.tokens", "{token}", "Tokens that this process computed in all steps.");

    private static readonly Counter<long> s_skippedSteps = s_meter.CreateCounter<long>(
        "matformer.training.skipped_steps", "{step}", "Steps that were skipped because a number was not finite.");

    private static readonly Gauge<long> s_step = s_meter.CreateGauge<long>("matformer.training.step", "{step}", "Number of the last step.");

    private static readonly Gauge<double> s_learningRate = s_meter.CreateGauge<double>(
        "matformer.training.learning_rate", "1", "Learning rate of the last step.");

    private static readonly Gauge<double> s_gradientNorm = s_meter.CreateGauge<double>(
        "matformer.training.gradient_norm", "1", "Norm of all gradients of the last step, before clipping.");

    private static readonly Gauge<double> s_loss = s_meter.CreateGauge<double>(
        "matformer.training.loss", "{nat}", "Last training loss of a granularity or mix.");

    private static readonly Gauge<double> s_divergence = s_meter.CreateGauge<double>(
        "matformer.training.divergence", "{nat}", "Last divergence of a distilled granularity or mix.");

    private static readonly Gauge<double> s_validationLoss = s_meter.CreateGauge<double>(
        "matformer.training.validation.loss", "{nat}", "Last loss of a granularity on validation data.");

    /// <summary>Begins an activity. Returns null if nobody listens.</summary>
    /// <param name="operation">What is done.</param>
    /// <param name="model">The model's name.</param>
    /// <param name="rank">The number of this process among several, boxed once; null if it trains alone.</param>
    public static Activity? Start(string operation, string model, object? rank)
    {
        if (!s_source.HasListeners()) return null;
        var activity = s_source.StartActivity($"{operation} {model}");
        activity?.SetTag(ModelKey, model);
        if (rank is not null) activity?.SetTag(RankKey, rank);
        return activity;
    }

    /// <summary>Reports what a step did.</summary>
    /// <param name="model">The model's name.</param>
    /// <param name="rank">The number of this process among several, boxed once; null if it trains alone.</param>
    /// <param name="result">The step.</param>
    /// <param name="tokens">The number of tokens in the batches of all ranks.</param>
    /// <param name="own">The number of these tokens that this rank computed.</param>
    public static void Report(string model, object? rank, StepResult result, long tokens, long own)
    {
        var its = Tags(model, rank);
        s_stepDuration.Record(tokens / result.TokensPerSecond, its);
        s_tokens.Add(own, its);
        s_step.Record(result.Step, its);
        s_learningRate.Record(result.LearningRate, its);
        if (result.Skipped is not null) s_skippedSteps.Add(1, its);
        else s_gradientNorm.Record(result.GradientNorm, its);
        Report(s_loss, its, result.Losses);
        Report(s_divergence, its, result.Divergences);
    }

    /// <summary>Reports the losses on validation data.</summary>
    public static void ReportValidation(string model, object? rank, ImmutableArray<(string Granularity, float Loss)> losses) =>
        Report(s_validationLoss, Tags(model, rank), losses);

    private static TagList Tags(string model, object? rank)
    {
        var tags = new TagList { { ModelKey, model } };
        if (rank is not null) tags.Add(RankKey, rank);
        return tags;
    }

    private static void Report(Gauge<double> gauge, in TagList its, ImmutableArray<(string Granularity, float Number)> numbers)
    {
        if (!gauge.Enabled) return;
        foreach (var (granularity, number) in numbers)
        {
            var tags = its;
            tags.Add("matformer.granularity", granularity);
            gauge.Record(number, tags);
        }
    }
}

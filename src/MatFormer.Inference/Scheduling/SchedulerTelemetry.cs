using System.Collections.Concurrent;
using System.Diagnostics.Metrics;

namespace MatFormer;

/// <summary>
/// Reports the statistics of a scheduler to the meter of <see cref="DecodingTelemetry"/>, as what was added since the last report.
/// </summary>
internal sealed class SchedulerTelemetry
{
    private static readonly ConcurrentDictionary<SchedulerTelemetry, bool> s_living = [];

    private static readonly Counter<long> s_requests = DecodingTelemetry.Meter.CreateCounter<long>(
        "matformer.scheduler.requests", "{request}", "Requests that ended or were refused, by outcome.");

    private static readonly Counter<long> s_passes = DecodingTelemetry.Meter.CreateCounter<long>(
        "matformer.scheduler.passes", "{pass}", "Passes through the model, including those of drafts.");

    private static readonly Counter<double> s_passTime = DecodingTelemetry.Meter.CreateCounter<double>(
        "matformer.scheduler.pass.time", "s", "Time spent in passes.");

    private readonly DecodingScheduler _scheduler;
    private readonly ModelSpec _spec;
    private SchedulerStatistics _told = new();

    static SchedulerTelemetry() => DecodingTelemetry.Meter.CreateObservableUpDownCounter(
        "matformer.scheduler.active_requests", Active, "{request}", "Requests that run or wait, by state.");

    public SchedulerTelemetry(DecodingScheduler scheduler, ModelSpec spec)
    {
        (_scheduler, _spec) = (scheduler, spec);
        s_living.TryAdd(this, true);
    }

    /// <summary>Counts a request that was refused. Any thread may call it; it is not part of a report.</summary>
    public void CountRefused() => CountRequests("refused", 1);

    /// <summary>Reports what was added since the last report.</summary>
    public void Report(SchedulerStatistics now)
    {
        var told = _told;
        if (ReferenceEquals(now, told)) return;
        _told = now;
        CountRequests("completed", now.Completed - told.Completed);
        CountRequests("cancelled", now.Cancelled - told.Cancelled);
        CountRequests("failed", now.Failed - told.Failed);
        DecodingTelemetry.CountTokens(_spec, "prompt", now.PromptTokens - told.PromptTokens);
        DecodingTelemetry.CountTokens(_spec, "cached", now.CachedTokens - told.CachedTokens);
        DecodingTelemetry.CountTokens(_spec, "generated", now.GeneratedTokens - told.GeneratedTokens);
        DecodingTelemetry.CountTokens(_spec, "drafted", now.DraftedTokens - told.DraftedTokens);
        DecodingTelemetry.CountTokens(_spec, "accepted", now.AcceptedTokens - told.AcceptedTokens);
        DecodingTelemetry.CountTokens(_spec, "escalated", now.EscalatedTokens - told.EscalatedTokens);
        if (now.Passes == told.Passes) return;
        s_passes.Add(now.Passes - told.Passes, DecodingTelemetry.Model(_spec));
        s_passTime.Add(now.PassSeconds - told.PassSeconds, DecodingTelemetry.Model(_spec));
    }

    /// <summary>Makes the last report. Then the scheduler is no longer observed.</summary>
    public void End(SchedulerStatistics last)
    {
        Report(last);
        s_living.TryRemove(this, out _);
    }

    // A model may have several schedulers. Their requests are added up.
    private static IEnumerable<Measurement<long>> Active() => s_living.Keys
        .Select(its => (its._spec, its._scheduler.Statistics))
        .GroupBy(its => its._spec.Name)
        .SelectMany(its => (Measurement<long>[])
        [
            new(its.Sum(i => i.Statistics.Running), DecodingTelemetry.Model(its.First()._spec), new("matformer.request.state", "running")),
            new(its.Sum(i => i.Statistics.Waiting), DecodingTelemetry.Model(its.First()._spec), new("matformer.request.state", "waiting")),
        ]);

    private void CountRequests(string outcome, long count)
    {
        if (count > 0) s_requests.Add(count, DecodingTelemetry.Model(_spec), new("matformer.request.outcome", outcome));
    }
}

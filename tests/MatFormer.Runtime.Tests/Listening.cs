using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace MatFormer.Tests;

/// <summary>Listens to the meter and the activity source of one room.</summary>
internal sealed class Listening : IDisposable
{
    private readonly MeterListener _meters = new();
    private readonly ActivityListener _activities;
    private readonly ConcurrentQueue<Activity> _ended = [];
    private readonly ConcurrentQueue<(Instrument Instrument, double Number, Dictionary<string, object?> Tags)> _measured = [];

    public Listening(string room)
    {
        _meters.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == room) listener.EnableMeasurementEvents(instrument);
        };
        _meters.SetMeasurementEventCallback<long>((instrument, number, tags, _) => Add(instrument, number, tags));
        _meters.SetMeasurementEventCallback<double>((instrument, number, tags, _) => Add(instrument, number, tags));
        _meters.Start();
        _activities = new ActivityListener
        {
            ShouldListenTo = source => source.Name == room,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = _ended.Enqueue,
        };
        ActivitySource.AddActivityListener(_activities);
    }

    /// <summary>The activities that have ended, in the order of their ends.</summary>
    public IReadOnlyList<Activity> Activities => [.. _ended];

    /// <summary>The names of the instruments that measured something, with their units.</summary>
    public IEnumerable<string> Instruments =>
        _measured.Select(m => $"{m.Instrument.Name} {m.Instrument.Unit}").Distinct().Order(StringComparer.Ordinal);

    /// <summary>What an instrument measured with the given tags and perhaps others, in order.</summary>
    public IReadOnlyList<double> Of(string instrument, params (string Key, string Value)[] tags) =>
        [.. _measured.Where(m => m.Instrument.Name == instrument && tags.All(t => Equals(m.Tags.GetValueOrDefault(t.Key), t.Value)))
            .Select(m => m.Number)];

    /// <summary>The different values of a tag of an instrument.</summary>
    public IEnumerable<object?> Values(string instrument, string tag) =>
        _measured.Where(m => m.Instrument.Name == instrument).Select(m => m.Tags.GetValueOrDefault(tag)).Distinct();

    /// <summary>Reads the instruments that are measured when they are read.</summary>
    public void Observe() => _meters.RecordObservableInstruments();

    public void Dispose()
    {
        _meters.Dispose();
        _activities.Dispose();
    }

    private void Add(Instrument instrument, double number, ReadOnlySpan<KeyValuePair<string, object?>> tags) =>
        _measured.Enqueue((instrument, number, new(tags.ToArray())));
}

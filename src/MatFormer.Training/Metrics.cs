using System.Buffers;
using System.Collections.Immutable;
using System.Text.Json;

namespace MatFormer;

/// <summary>The file metrics.jsonl. It has one JSON object per step, with the loss of each granularity.</summary>
internal sealed class MetricsFile : IDisposable
{
    private readonly FileStream _stream;
    private readonly ArrayBufferWriter<byte> _buffer = new();

    private MetricsFile(FileStream stream) => _stream = stream;

    /// <summary>Creates an empty file at step 0. At a later step, drops the lines of an existing file that come after this step.</summary>
    public static MetricsFile Open(string path, long step)
    {
        var kept = step == 0 || !File.Exists(path) ? []
            : File.ReadLines(path).TakeWhile(line => Parse(line) is { } result && result.Step <= step).ToList();
        AtomicFile.WriteText(path, string.Concat(kept.Select(line => line + "\n")));
        return new MetricsFile(new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.Read));
    }

    /// <summary>Reads the steps of a file, up to the first incomplete line, which a killed process may leave.</summary>
    public static IEnumerable<StepResult> Read(string path)
    {
        foreach (var line in File.ReadLines(path))
        {
            if (Parse(line) is not { } result) yield break;
            yield return result;
        }
    }

    /// <summary>Adds a step in one write, so that a killed process leaves at most one unfinished line.</summary>
    public void Add(StepResult result)
    {
        _buffer.ResetWrittenCount();
        using (var json = new Utf8JsonWriter(_buffer))
        {
            json.WriteStartObject();
            json.WriteNumber("step", result.Step);
            json.WriteString("objective", Objectives.NameOf(result.Objective));
            WriteNumbers(json, "loss", result.Losses);
            if (!result.Divergences.IsEmpty) WriteNumbers(json, "divergence", result.Divergences);
            json.WriteNumber("learning_rate", result.LearningRate);
            if (double.IsFinite(result.GradientNorm)) json.WriteNumber("gradient_norm", result.GradientNorm);
            else json.WriteNull("gradient_norm");
            json.WriteNumber("tokens_per_second", Math.Round(result.TokensPerSecond, 1));
            if (result.Skipped is { } reason) json.WriteString("skipped", reason);
            if (!result.Validation.IsEmpty) WriteNumbers(json, "validation", result.Validation);
            if (result.Communication is { } communication)
            {
                json.WriteStartObject("communication");
                json.WriteNumber("bytes", communication.Bytes);
                json.WriteNumber("seconds", Math.Round(communication.Seconds, 6));
                json.WriteNumber("waiting_seconds", Math.Round(communication.WaitingSeconds, 6));
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        _buffer.Write("\n"u8);
        _stream.Write(_buffer.WrittenSpan);
        _stream.Flush();
    }

    public void Dispose() => _stream.Dispose();

    /// <summary>Writes an object with one number for each submodel.</summary>
    public static void WriteNumbers(Utf8JsonWriter json, string name, ImmutableArray<(string Granularity, float Number)> numbers)
    {
        json.WriteStartObject(name);
        foreach (var (granularity, number) in numbers)
            json.WriteNumber(granularity, number); // writes the fewest digits that parse to the same float
        json.WriteEndObject();
    }

    private static ImmutableArray<(string, float)> ReadNumbers(JsonElement numbers) =>
        [.. numbers.EnumerateObject().Select(p => (p.Name, p.Value.GetSingle()))];

    private static StepResult? Parse(string line)
    {
        try
        {
            using var document = JsonDocument.Parse(line);
            var root = document.RootElement;
            return new StepResult(
                root.GetProperty("step").GetInt64(),
                Objectives.Parse(root.GetProperty("objective").GetString()) ?? throw new FormatException("no objective"),
                ReadNumbers(root.GetProperty("loss")),
                root.GetProperty("learning_rate").GetDouble(),
                root.GetProperty("gradient_norm") is { ValueKind: JsonValueKind.Number } norm ? norm.GetDouble() : double.NaN,
                root.GetProperty("tokens_per_second").GetDouble())
            {
                Divergences = root.TryGetProperty("divergence", out var divergences) ? ReadNumbers(divergences) : [],
                Skipped = root.TryGetProperty("skipped", out var reason) ? reason.GetString() : null,
                Validation = root.TryGetProperty("validation", out var validation) ? ReadNumbers(validation) : [],
                Communication = root.TryGetProperty("communication", out var exchange)
                    ? new(
                        exchange.GetProperty("bytes").GetInt64(), exchange.GetProperty("seconds").GetDouble(),
                        exchange.GetProperty("waiting_seconds").GetDouble())
                    : null,
            };
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            return null; // an incomplete line
        }
    }
}

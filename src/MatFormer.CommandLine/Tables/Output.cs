using System.Buffers;
using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Spectre.Console;

namespace MatFormer;

/// <summary>Prints the tables and JSON documents of commands.</summary>
internal static class Output
{
    /// <summary>Writes one JSON document and a line end.</summary>
    public static void Json(TextWriter writer, Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(
            buffer, new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        writer.WriteLine(Encoding.UTF8.GetString(buffer.WrittenSpan));
    }

    public static void WriteCosts(Utf8JsonWriter json, ProfileCosts costs, string unit = "token")
    {
        json.WriteString("name", costs.Name);
        json.WriteString("kind", costs.Budget is not null ? "routed" : costs.IsGranularity ? "granularity" : "profile");
        if (costs.Budget is { } budget) json.WriteNumber("budget", budget);
        if (costs.Grid is { } grid) json.WriteNumber("grid", grid);
        json.WriteString("pattern", costs.Pattern);
        if (costs.Width is { } width) json.WriteNumber("width", width);
        json.WriteNumber("parameters", costs.Parameters);
        json.WriteNumber("non_embedding_parameters", costs.NonEmbeddingParameters);
        json.WriteNumber("flops_per_" + unit, costs.Flops);
        if (unit == "token") json.WriteNumber("key_value_cache_bytes_per_token", costs.KeyValueCacheBytesPerToken);
        if (costs.Bits is { } bits) json.WriteNumber("bits", bits);
        if (costs.WeightBytes is { } bytes) json.WriteNumber("weight_bytes", bytes);
    }

    public static void WriteEvaluation(Utf8JsonWriter json, Evaluation evaluation)
    {
        json.WriteNumber("bigram_bits_per_byte", evaluation.BigramBitsPerByte);
        json.WriteNumber("validation_tokens", evaluation.Tokens);
        json.WriteNumber("validation_bytes", evaluation.Bytes);
        WriteObjects(json, "results", evaluation.Rows, row => WriteRow(json, row));
    }

    /// <summary>Writes an array of objects. The action writes the properties of each object.</summary>
    public static void WriteObjects<T>(Utf8JsonWriter json, string name, IEnumerable<T> items, Action<T> write)
    {
        json.WriteStartArray(name);
        foreach (var item in items)
        {
            json.WriteStartObject();
            write(item);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    public static void WriteRow(Utf8JsonWriter json, EvaluationRow row)
    {
        WriteCosts(json, row.Costs);
        json.WriteNumber("bits_per_byte", row.BitsPerByte);
        json.WriteNumber("nats_per_token", row.NatsPerToken);
        if (row.UsedShare is { } used) json.WriteNumber("used_share", used);
        if (row.Consistency is not { } consistency) return;
        json.WriteNumber("agreement", consistency.Agreement);
        if (consistency.GeneratedAgreement is { } generated) json.WriteNumber("generated_agreement", generated);
        json.WriteNumber("divergence", consistency.Divergence);
        json.WriteNumber("reverse_divergence", consistency.ReverseDivergence);
    }

    public static void Table(TextWriter writer, ImmutableArray<ProfileCosts> rows, string unit)
    {
        string[] cache = unit == "token" ? ["KV cache/token"] : [];
        string[] stored = rows.Any(row => row.Bits is not null) ? ["bits", "weight bytes"] : [];
        var table = NewTable(["", "layers", "parameters", "non-embedding", "FLOPs/" + unit, .. cache, .. stored]);
        foreach (var row in rows)
        {
            string[] cells =
            [
                row.Name, row.Layout, Count(row.Parameters), Count(row.NonEmbeddingParameters), Short(row.Flops),
                .. cache.Select(_ => Invariant($"{row.KeyValueCacheBytesPerToken:n0} B")),
                .. stored.Zip([Invariant($"{row.Bits}"), Invariant($"{row.WeightBytes:n0}")], (_, cell) => cell),
            ];
            table.AddRow(cells.Select(Cell));
        }

        Print(writer, table);
    }

    public static void Table(TextWriter writer, Evaluation evaluation, string whole)
    {
        // A slice is evaluated without the whole model, so there is no agreement to show.
        string[] consistency = evaluation.Rows.All(r => r.Consistency is null) ? []
            : ["agrees with " + whole, $"on {whole}'s text", $"KL(.||{whole})", $"KL({whole}||.)"];
        var table = NewTable(["", "layers", "parameters", "FLOPs/token", "bits/byte", "nats/token", .. consistency]);
        foreach (var row in evaluation.Rows)
        {
            string[] cells =
            [
                row.Costs.Name, row.UsedShare is { } used ? Invariant($"by token, {used:0.000} used") : row.Costs.Layout,
                Count(row.Costs.Parameters), Short(row.Costs.Flops), Invariant($"{row.BitsPerByte:0.000}"),
                Invariant($"{row.NatsPerToken:0.000}"), Percent(row.Consistency?.Agreement),
                Percent(row.Consistency?.GeneratedAgreement), Nats(row.Consistency?.Divergence), Nats(row.Consistency?.ReverseDivergence),
            ];
            table.AddRow(cells[..table.Columns.Count].Select(Cell));
        }

        table.AddEmptyRow();
        table.AddRow([Cell("bigram"), Cell(""), Cell(""), Cell(""), Cell(Invariant($"{evaluation.BigramBitsPerByte:0.000}"))]);
        Print(writer, table);
    }

    /// <summary>Writes the bits per byte of each profile at each of some bits of the weights, with the bytes of the weights.</summary>
    public static void Table(TextWriter writer, ImmutableArray<PrecisionRow> rows)
    {
        var table = NewTable(["", "layers", .. rows.Select(row => Invariant($"bits/byte at {row.Bits}")), "weights"]);
        for (var i = 0; i < rows[0].Evaluation.Rows.Length; i++)
        {
            var costs = rows[0].Evaluation.Rows[i].Costs;
            string[] cells =
            [
                costs.Name, costs.Pattern, .. rows.Select(row => Invariant($"{row.Evaluation.Rows[i].BitsPerByte:0.000}")),
                string.Join(" / ", rows.Select(row => Invariant($"{row.WeightBytes[i] / 1e6:0.00}"))) + " MB",
            ];
            table.AddRow(cells.Select(Cell));
        }

        Print(writer, table);
    }

    /// <summary>Writes the change of each matrix's outputs at each of the bits: by plain rounding, and after calibration.</summary>
    public static void Table(TextWriter writer, WeightCalibration calibration)
    {
        var table = NewTable(["", .. calibration.Bits.Select(bits => Invariant($"outputs at {bits} bits: rounded / calibrated"))]);
        foreach (var matrix in calibration.Matrices)
        {
            table.AddRow(matrix.Plain.Zip(matrix.Calibrated, (plain, calibrated) => Invariant($"{plain:0.0000%} / {calibrated:0.0000%}"))
                .Prepend(matrix.Name).Select(Cell));
        }

        Print(writer, table);
    }

    public static void Table(TextWriter writer, CascadeCalibration calibration, string whole)
    {
        var table = NewTable("threshold", "", "bits/byte", "agrees with " + whole, whole + " asked", "FLOPs/token");
        foreach (var row in calibration.Rows)
        {
            string[] cells =
            [
                Invariant($"{row.Threshold}"), row == calibration.Best ? "best" : string.Empty, Invariant($"{row.BitsPerByte:0.0000}"),
                Percent(row.Agreement), Percent(row.Asked[^1]), Short((long)row.Flops),
            ];
            table.AddRow(cells.Select(Cell));
        }

        Print(writer, table);
    }

    /// <summary>Writes an array with an object for each of the bits.</summary>
    public static void WritePrecision(Utf8JsonWriter json, ImmutableArray<PrecisionRow> rows)
    {
        WriteObjects(json, "precision", rows, row =>
        {
            json.WriteNumber("bits", row.Bits);
            WriteObjects(json, "results", row.Evaluation.Rows.Zip(row.WeightBytes), result =>
            {
                json.WriteString("name", result.First.Costs.Name);
                json.WriteNumber("bits_per_byte", result.First.BitsPerByte);
                json.WriteNumber("weight_bytes", result.Second);
            });
        });
    }

    /// <summary>Formats a share as 12.3%. An unknown share gives an empty string.</summary>
    public static string Percent(double? share) => share is { } known ? Invariant($"{known:0.0%}") : string.Empty;

    /// <summary>Formats nats as 0.1234. An unknown number gives an empty string.</summary>
    public static string Nats(double? nats) => nats is { } known ? Invariant($"{known:0.0000}") : string.Empty;

    /// <summary>Formats a difference as +0.123. An unknown difference gives an empty string.</summary>
    public static string Signed(double? difference) =>
        difference is { } known ? Invariant($"{known:+0.000;-0.000;0.000}") : string.Empty;

    /// <summary>Formats a number as 12,345,678.</summary>
    public static string Count(long number) => Invariant($"{number:n0}");

    /// <summary>Formats a number in millions, as 12.3 M; one that would be 0.0 M in thousands, as 12.3 k, or as 345.</summary>
    public static string Short(long number) => number switch
    {
        >= 99_950 => Invariant($"{number / 1e6:0.0} M"),
        >= 1_000 => Invariant($"{number / 1e3:0.0} k"),
        _ => Invariant($"{number}"),
    };

    /// <summary>Formats text whose numbers are the same in every culture.</summary>
    public static string Invariant(ref InvariantText text) => text.ToString();

    internal static Table NewTable(params string[] headings)
    {
        var table = new Table { Border = TableBorder.Rounded };
        for (var i = 0; i < headings.Length; i++)
        {
            var column = new TableColumn(Markup.Escape(headings[i])) { NoWrap = true };
            table.AddColumn(i < 2 ? column : column.RightAligned());
        }

        return table;
    }

    internal static Markup Cell(string text) => new(Markup.Escape(text));

    internal static void Print(TextWriter writer, Table table)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer) });

        // A file has no width. On a narrow terminal, lines wrap.
        console.Profile.Width = Math.Max(console.Profile.Width, 150);
        console.Write(table);
    }
}

/// <summary>An interpolated string whose numbers are the same in every culture.</summary>
[InterpolatedStringHandler]
internal ref struct InvariantText(int literalLength, int formattedCount)
{
    private DefaultInterpolatedStringHandler _text = new(literalLength, formattedCount, CultureInfo.InvariantCulture);

    public void AppendLiteral(string value) => _text.AppendLiteral(value);

    public void AppendFormatted<T>(T value, string? format = null) => _text.AppendFormatted(value, format);

    public override string ToString() => _text.ToStringAndClear();
}

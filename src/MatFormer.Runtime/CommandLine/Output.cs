using System.Buffers;
using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Spectre.Console;

namespace MatFormer;

/// <summary>Tables and documents that commands print.</summary>
internal static class Output
{
    /// <summary>One JSON document with a line end.</summary>
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
        json.WriteString("kind", costs.IsGranularity ? "granularity" : "profile");
        json.WriteString("pattern", costs.Pattern);
        json.WriteNumber("parameters", costs.Parameters);
        json.WriteNumber("non_embedding_parameters", costs.NonEmbeddingParameters);
        json.WriteNumber("flops_per_" + unit, costs.Flops);
        if (unit == "token") json.WriteNumber("key_value_cache_bytes_per_token", costs.KeyValueCacheBytesPerToken);
    }

    public static void WriteEvaluation(Utf8JsonWriter json, Evaluation evaluation)
    {
        json.WriteNumber("bigram_bits_per_byte", evaluation.BigramBitsPerByte);
        json.WriteNumber("validation_tokens", evaluation.Tokens);
        json.WriteNumber("validation_bytes", evaluation.Bytes);
        json.WriteStartArray("results");
        foreach (var row in evaluation.Rows)
        {
            json.WriteStartObject();
            WriteRow(json, row);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    public static void WriteSweep(Utf8JsonWriter json, Evaluation evaluation, Evaluation sweep)
    {
        json.WriteStartArray("sweep");
        foreach (var row in ByFlops(sweep))
        {
            json.WriteStartObject();
            json.WriteString("shape", NameOf(row.Costs.Shape));
            WriteRow(json, row);
            if (evaluation.ExcessOf(row) is { } excess) json.WriteNumber("bits_per_byte_above_line", excess);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteRow(Utf8JsonWriter json, EvaluationRow row)
    {
        WriteCosts(json, row.Costs);
        json.WriteNumber("bits_per_byte", row.BitsPerByte);
        json.WriteNumber("nats_per_token", row.NatsPerToken);
        if (row.Consistency is not { } consistency) return;
        json.WriteNumber("agreement", consistency.Agreement);
        if (consistency.GeneratedAgreement is { } generated) json.WriteNumber("generated_agreement", generated);
        json.WriteNumber("divergence", consistency.Divergence);
        json.WriteNumber("reverse_divergence", consistency.ReverseDivergence);
    }

    public static void Table(TextWriter writer, ImmutableArray<ProfileCosts> rows, string unit)
    {
        string[] cache = unit == "token" ? ["KV cache/token"] : [];
        var table = NewTable(["", "layers", "parameters", "non-embedding", "FLOPs/" + unit, .. cache]);
        foreach (var row in rows)
        {
            string[] cells =
            [
                row.Name, row.Pattern, Count(row.Parameters), Count(row.NonEmbeddingParameters), Millions(row.Flops),
                Invariant($"{row.KeyValueCacheBytesPerToken:n0} B"),
            ];
            table.AddRow(cells[..table.Columns.Count].Select(Cell));
        }

        Print(writer, table);
    }

    public static void Table(TextWriter writer, Evaluation evaluation, string whole)
    {
        // A slice has no whole model to agree with.
        string[] consistency = evaluation.Rows.All(r => r.Consistency is null) ? []
            : ["agrees with " + whole, $"on {whole}'s text", $"KL(.||{whole})", $"KL({whole}||.)"];
        var table = NewTable(["", "layers", "parameters", "FLOPs/token", "bits/byte", "nats/token", .. consistency]);
        foreach (var row in evaluation.Rows)
        {
            string[] cells =
            [
                row.Costs.Name, row.Costs.Pattern, Count(row.Costs.Parameters), Millions(row.Costs.Flops),
                Invariant($"{row.BitsPerByte:0.000}"), Invariant($"{row.NatsPerToken:0.000}"), Percent(row.Consistency?.Agreement),
                Percent(row.Consistency?.GeneratedAgreement), Nats(row.Consistency?.Divergence), Nats(row.Consistency?.ReverseDivergence),
            ];
            table.AddRow(cells[..table.Columns.Count].Select(Cell));
        }

        table.AddEmptyRow();
        table.AddRow([Cell("bigram"), Cell(""), Cell(""), Cell(""), Cell(Invariant($"{evaluation.BigramBitsPerByte:0.000}"))]);
        Print(writer, table);
    }

    /// <summary>The mixes of a sweep by their compute, and what is to be said of each shape.</summary>
    public static void Table(TextWriter writer, Evaluation evaluation, Evaluation sweep, string whole)
    {
        var table = NewTable("layers", "shape", "FLOPs/token", "bits/byte", "above the line", "agrees with " + whole);
        foreach (var row in ByFlops(sweep))
        {
            table.AddRow(
                Cell(row.Costs.Pattern), Cell(NameOf(row.Costs.Shape)), Cell(Millions(row.Costs.Flops)),
                Cell(Invariant($"{row.BitsPerByte:0.000}")), Cell(Signed(evaluation.ExcessOf(row))), Cell(Percent(row.Consistency?.Agreement)));
        }

        Print(writer, table);
        foreach (var (shape, count, mean, worst) in ByShape(evaluation, sweep))
        {
            writer.WriteLine(Invariant($"{NameOf(shape)}: {count} mixes, {Signed(mean)} bits per byte above the line through the "
                + $"granularities on average, {Signed(worst)} at worst"));
        }
    }

    /// <summary>The mixes of a sweep from the cheapest to the dearest.</summary>
    public static IEnumerable<EvaluationRow> ByFlops(Evaluation sweep) =>
        sweep.Rows.OrderBy(r => r.Costs.Flops).ThenBy(r => r.Costs.Shape).ThenBy(r => r.BitsPerByte);

    /// <summary>How far the mixes of each shape lie above the line through the granularities, in bits per byte.</summary>
    public static IEnumerable<(MixShape Shape, int Count, double Mean, double Worst)> ByShape(Evaluation evaluation, Evaluation sweep) =>
        from row in sweep.Rows
        let excess = evaluation.ExcessOf(row)
        where excess is not null
        group excess.Value by row.Costs.Shape into shape
        orderby shape.Key
        select (shape.Key, shape.Count(), shape.Average(), shape.Max());

    /// <summary>A shape in text.</summary>
    public static string NameOf(MixShape shape) => shape.ToString().ToLowerInvariant();

    /// <summary>12.3%; nothing if unknown.</summary>
    public static string Percent(double? share) => share is { } known ? Invariant($"{known:0.0%}") : string.Empty;

    /// <summary>0.1234; nothing if unknown.</summary>
    public static string Nats(double? nats) => nats is { } known ? Invariant($"{known:0.0000}") : string.Empty;

    /// <summary>+0.123; nothing if unknown.</summary>
    public static string Signed(double? difference) =>
        difference is { } known ? Invariant($"{known:+0.000;-0.000;0.000}") : string.Empty;

    /// <summary>12,345,678.</summary>
    public static string Count(long number) => Invariant($"{number:n0}");

    /// <summary>12.3 M.</summary>
    public static string Millions(long number) => Invariant($"{number / 1e6:0.0} M");

    /// <summary>Text with numbers as everywhere.</summary>
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

        // A file has no width; on a narrow terminal the lines wrap.
        console.Profile.Width = Math.Max(console.Profile.Width, 150);
        console.Write(table);
    }
}

/// <summary>An interpolated string whose numbers read alike in every culture.</summary>
[InterpolatedStringHandler]
internal ref struct InvariantText(int literalLength, int formattedCount)
{
    private DefaultInterpolatedStringHandler _text = new(literalLength, formattedCount, CultureInfo.InvariantCulture);

    public void AppendLiteral(string value) => _text.AppendLiteral(value);

    public void AppendFormatted<T>(T value, string? format = null) => _text.AppendFormatted(value, format);

    public override string ToString() => _text.ToStringAndClear();
}

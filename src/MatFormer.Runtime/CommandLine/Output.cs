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

    public static void WriteCosts(Utf8JsonWriter json, ProfileCosts costs)
    {
        json.WriteString("name", costs.Name);
        json.WriteString("kind", costs.IsGranularity ? "granularity" : "profile");
        json.WriteString("pattern", costs.Pattern);
        json.WriteNumber("parameters", costs.Parameters);
        json.WriteNumber("non_embedding_parameters", costs.NonEmbeddingParameters);
        json.WriteNumber("flops_per_token", costs.FlopsPerToken);
        json.WriteNumber("key_value_cache_bytes_per_token", costs.KeyValueCacheBytesPerToken);
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
            WriteCosts(json, row.Costs);
            json.WriteNumber("bits_per_byte", row.BitsPerByte);
            json.WriteNumber("nats_per_token", row.NatsPerToken);
            if (row.Agreement is { } agreement) json.WriteNumber("agreement", agreement);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    public static void Table(TextWriter writer, ImmutableArray<ProfileCosts> rows)
    {
        var table = NewTable("", "layers", "parameters", "non-embedding", "FLOPs/token", "KV cache/token");
        foreach (var row in rows)
        {
            table.AddRow(
                Cell(row.Name), Cell(row.Pattern), Cell(Count(row.Parameters)), Cell(Count(row.NonEmbeddingParameters)),
                    Cell(Millions(row.FlopsPerToken)),
                Cell(Invariant($"{row.KeyValueCacheBytesPerToken:n0} B")));
        }

        Print(writer, table);
    }

    public static void Table(TextWriter writer, Evaluation evaluation, string whole)
    {
        var table = NewTable("", "layers", "parameters", "FLOPs/token", "bits/byte", "nats/token", "agrees with " + whole);
        foreach (var row in evaluation.Rows)
        {
            table.AddRow(
                Cell(row.Costs.Name), Cell(row.Costs.Pattern), Cell(Count(row.Costs.Parameters)), Cell(Millions(row.Costs.FlopsPerToken)),
                Cell(Invariant($"{row.BitsPerByte:0.000}")), Cell(Invariant($"{row.NatsPerToken:0.000}")),
                    Cell(row.Agreement is { } agreement ? Invariant($"{agreement:0.0%}") : string.Empty));
        }

        table.AddEmptyRow();
        table.AddRow(Cell("bigram"), Cell(string.Empty), Cell(string.Empty), Cell(string.Empty),
            Cell(Invariant($"{evaluation.BigramBitsPerByte:0.000}")), Cell(string.Empty), Cell(string.Empty));
        Print(writer, table);
    }

    /// <summary>12,345,678.</summary>
    public static string Count(long number) => Invariant($"{number:n0}");

    /// <summary>12.3 M.</summary>
    public static string Millions(long number) => Invariant($"{number / 1e6:0.0} M");

    /// <summary>Text with numbers as everywhere.</summary>
    public static string Invariant(ref InvariantText text) => text.ToString();

    private static Table NewTable(params string[] headings)
    {
        var table = new Table { Border = TableBorder.Rounded };
        for (var i = 0; i < headings.Length; i++)
        {
            var column = new TableColumn(Markup.Escape(headings[i])) { NoWrap = true };
            table.AddColumn(i < 2 ? column : column.RightAligned());
        }

        return table;
    }

    private static Markup Cell(string text) => new(Markup.Escape(text));

    private static void Print(TextWriter writer, Table table)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer) });

        // A file has no width; on a narrow terminal the lines wrap.
        console.Profile.Width = Math.Max(console.Profile.Width, 110);
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

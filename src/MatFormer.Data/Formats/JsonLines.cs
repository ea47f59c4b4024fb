using System.IO.Compression;
using System.Text.Json;

namespace MatFormer;

/// <summary>Reads JSON lines. Each line is an object, and its strings are the columns. Source: jsonlines.org.</summary>
internal static class JsonLines
{
    private const int LongestLine = 1 << 30;

    /// <summary>Reads a file.</summary>
    /// <exception cref="InvalidDataException">A line is not an object with the columns, or has text that is not Unicode.</exception>
    public static IEnumerable<string[]> Read(Stream file, IReadOnlyList<string> columns)
    {
        var buffer = new byte[1 << 20];
        var kept = 0;
        var number = 0L;
        while (true)
        {
            var read = file.ReadAtLeast(buffer.AsSpan(kept), buffer.Length - kept, throwOnEndOfStream: false);
            var end = kept + read;
            var last = end < buffer.Length;
            var start = 0;
            if (number == 0 && buffer.AsSpan(0, end).StartsWith("\uFEFF"u8)) start = 3;
            while (start < end)
            {
                var length = buffer.AsSpan(start, end - start).IndexOf((byte)'\n');
                if (length < 0)
                {
                    if (!last) break;
                    length = end - start;
                }

                number++;
                if (Parse(buffer.AsSpan(start, length), number, columns) is { } record) yield return record;
                start += length + 1;
            }

            if (last) break;
            kept = end - start;
            if (kept >= LongestLine)
            {
                throw new InvalidDataException(
                    $"line {number + 1} is longer than {LongestLine} bytes; begin a new line for each document.");
            }

            var from = buffer;
            if (kept > buffer.Length / 2) buffer = new byte[buffer.Length * 2];
            from.AsSpan(start, kept).CopyTo(buffer);
        }
    }

    /// <summary>Reads a file that was compressed by gzip.</summary>
    /// <exception cref="InvalidDataException">The file is damaged, or as <see cref="Read"/> says.</exception>
    public static IEnumerable<string[]> ReadZipped(Stream file, IReadOnlyList<string> columns)
    {
        using var unzipped = new GZipStream(file, CompressionMode.Decompress);
        foreach (var record in Read(unzipped, columns)) yield return record;
    }

    // Returns null for an empty line.
    private static string[]? Parse(ReadOnlySpan<byte> line, long number, IReadOnlyList<string> columns)
    {
        if (line.Trim(" \t\r"u8).IsEmpty) return null;
        var record = new string[columns.Count];
        var json = new Utf8JsonReader(line);
        try
        {
            json.Read();
            var isObject = json.TokenType == JsonTokenType.StartObject;
            while (json.Read())
            {
                if (!isObject || json.CurrentDepth != 1 || json.TokenType != JsonTokenType.PropertyName) continue;
                var column = 0;
                while (column < record.Length && !json.ValueTextEquals(columns[column])) column++;
                json.Read();
                if (column == record.Length) json.Skip();
                else record[column] = json.TokenType == JsonTokenType.String ? json.GetString()! : throw Lacks(columns[column]);
            }
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"line {number} is not valid JSON ({JsonProblem.InLine(e)}); repair it, or remove it.", e);
        }
        catch (InvalidOperationException e)
        {
            throw new InvalidDataException(
                $"line {number} has a string that is not Unicode: an unpaired surrogate (an escape such as \\ud83d without its second "
                + "part), or bytes that are not UTF-8; repair it, or remove it.",
                e);
        }

        var missing = Array.IndexOf(record, null);
        return missing < 0 ? record : throw Lacks(columns[missing]);

        InvalidDataException Lacks(string column) => new(
            $"line {number} needs a string \"{column}\", as in {{{string.Join(", ", columns.Select(name => $"\"{name}\": \"...\""))}}}.");
    }
}

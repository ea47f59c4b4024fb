using Parquet;
using Parquet.Schema;

namespace MatFormer;

/// <summary>
/// Reads Parquet files as data. The column <c>text</c> holds the documents for a language model, and the columns <c>query</c> and
/// <c>document</c> hold the pairs for a text encoder. Other columns are not read.
/// </summary>
/// <remarks>
/// Memory holds the columns of one row group at a time, whatever the size of the file. A null counts as an empty text: it is no document,
/// and a pair with it is refused. Source: parquet.apache.org/docs/file-format.
/// </remarks>
/// <example>
/// A program whose commands take <c>--data FILE.parquet</c>:
/// <code>
/// ParquetData.Register();
/// return await ModelProgram.RunAsync&lt;TextLm&gt;(args);
/// </code>
/// </example>
public static class ParquetData
{
    private static readonly ParquetOptions s_options = new() { TreatByteArrayAsString = true }; // old writers do not mark texts as such

    /// <summary>
    /// Lets <see cref="TextCorpus"/>, <see cref="PairCorpus"/> and all commands read <c>.parquet</c> files. Call it once, before data is
    /// opened.
    /// </summary>
    public static void Register() => RecordFormats.Add(".parquet", Read);

    private static IEnumerable<string[]> Read(Stream file, IReadOnlyList<string> columns)
    {
        var reader = Wait(() => new ValueTask<ParquetReader>(ParquetReader.CreateAsync(file, s_options, leaveStreamOpen: true)));
        try
        {
            var schema = Wait(() => ValueTask.FromResult(reader.Schema)); // it is read from the file's description here
            DataField[] fields = [.. columns.Select(column => FieldOf(schema, column))];
            for (var group = 0; group < reader.RowGroupCount; group++)
            {
                foreach (var row in Rows(reader, group, fields)) yield return row;
            }
        }
        finally
        {
            Wait(async () =>
            {
                await reader.DisposeAsync().ConfigureAwait(false);
                return true;
            });
        }
    }

    // An iterator of its own, so that nothing holds the texts of a group while the next one is read.
    private static IEnumerable<string[]> Rows(ParquetReader reader, int group, DataField[] fields)
    {
        var columns = Wait(async () =>
        {
            using var rows = reader.OpenRowGroupReader(group);
            var columns = new string[fields.Length][];
            for (var i = 0; i < fields.Length; i++)
            {
                columns[i] = new string[rows.RowCount]; // a null stays null
                await rows.ReadAsync(fields[i], columns[i]).ConfigureAwait(false);
            }

            return columns;
        });
        for (var row = 0; row < columns[0].Length; row++) yield return Array.ConvertAll(columns, column => column[row] ?? string.Empty);
    }

    private static DataField FieldOf(ParquetSchema schema, string column)
    {
        var field = schema.Fields.FirstOrDefault(field => field.Name == column);
        if (field is null)
        {
            throw new InvalidDataException($"it has no column '{column}', but {Names(schema)}; rename the column that holds the texts to "
                + $"'{column}'.");
        }

        return field is DataField { MaxRepetitionLevel: 0 } data && data.ClrType == typeof(ReadOnlyMemory<char>) // the library's text
            ? data
            : throw new InvalidDataException($"its column '{column}' is not of texts, but of "
                + $"{(field as DataField)?.ClrType.Name ?? field.SchemaType.ToString()}; write it as strings.");
    }

    private static string Names(ParquetSchema schema) => string.Join(", ", schema.Fields.Select(field => $"'{field.Name}'"));

    // Reading from the given stream never waits, so this does not block a thread that another one needs. What the library throws for
    // damaged files is not documented.
    private static T Wait<T>(Func<ValueTask<T>> read)
    {
        try
        {
            return read().AsTask().GetAwaiter().GetResult();
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw new InvalidDataException($"it cannot be read as Parquet ({e.Message.TrimEnd('.')}); write it again.", e);
        }
    }
}

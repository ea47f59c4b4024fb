using System.Runtime.InteropServices;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace MatFormer;

/// <summary>
/// Embedded entries in a table of a SQLite database. A search is exact and reads all rows, or those that a condition selects. The table has
/// the columns <c>id</c>, <c>embedding</c> (float32, little-endian), <c>title</c> and <c>text</c>; you may add others. The table
/// <c>matformer_vectors</c> records which model computed the vectors.
/// </summary>
/// <remarks>
/// Each write succeeds completely or changes nothing. It runs in its own transaction, or as part of one that has begun. A search reads the
/// selected rows in blocks that fit into a buffer of fixed size. The connection belongs to the caller and must be open. Only one thread at
/// a time may use it.
/// </remarks>
/// <example>
/// <code>
/// using var connection = new SqliteConnection("Data Source=documents.db");
/// connection.Open();
/// var table = SqliteVectorTable.Create(connection, "documents", index);
/// var hits = table.Search(query, 5, "id &lt; $end", ("$end", 1000));
/// </code>
/// </example>
public sealed class SqliteVectorTable
{
    private const string Registry = "matformer_vectors";
    private const int RowsAtOnce = 256;

    private readonly SqliteConnection _connection;

    private SqliteVectorTable(SqliteConnection connection, string name, int width, VectorIndexIdentity identity)
    {
        (_connection, Name, Width, Identity) = (connection, name, width, identity);
    }

    /// <summary>The name of the table.</summary>
    public string Name { get; }

    /// <summary>The number of dimensions of each vector.</summary>
    public int Width { get; }

    /// <summary>The model, weights and tokenizer that the vectors come from.</summary>
    public VectorIndexIdentity Identity { get; }

    /// <summary>The current number of rows.</summary>
    public long Count => (long)Scalar(_connection, $"SELECT COUNT(*) FROM {Quoted(Name)}")!;

    private string Source => $"{_connection.DataSource}: {Name}";

    /// <summary>Creates an empty table.</summary>
    /// <param name="connection">The database.</param>
    /// <param name="name">The name of the new table.</param>
    /// <param name="width">The number of dimensions of each vector.</param>
    /// <param name="identity">The model, weights and tokenizer that the vectors will come from.</param>
    /// <exception cref="ArgumentException">A table or view with this name exists already.</exception>
    /// <exception cref="SqliteException">The database cannot be written; nothing has changed.</exception>
    public static SqliteVectorTable Create(SqliteConnection connection, string name, int width, VectorIndexIdentity identity)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(width);
        ArgumentNullException.ThrowIfNull(identity);
        Whole(connection, () =>
        {
            Execute(
                connection,
                $"CREATE TABLE IF NOT EXISTS {Registry} (table_name TEXT PRIMARY KEY COLLATE NOCASE, width INTEGER NOT NULL, "
                + "model TEXT NOT NULL, fingerprint TEXT NOT NULL, profile TEXT NOT NULL, weights TEXT NOT NULL, tokenizer TEXT)");
            if (Scalar(connection, "SELECT 1 FROM sqlite_master WHERE name = $name COLLATE NOCASE", ("$name", name)) is not null)
            {
                throw new ArgumentException(
                    $"'{connection.DataSource}' has a table '{name}' already; open it, drop it, or give another name.", nameof(name));
            }

            // Long texts come last, so that a search does not read them.
            Execute(
                connection,
                $"CREATE TABLE {Quoted(name)} (id INTEGER PRIMARY KEY, embedding BLOB NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL)");
            Execute(
                connection,
                $"INSERT OR REPLACE INTO {Registry} VALUES ($name, $width, $model, $fingerprint, $profile, $weights, $tokenizer)",
                ("$name", name), ("$width", width), ("$model", identity.Model), ("$fingerprint", identity.Fingerprint),
                ("$profile", identity.Profile), ("$weights", identity.Weights), ("$tokenizer", identity.Tokenizer));
        });
        return new(connection, name, width, identity);
    }

    /// <summary>Creates a table with all entries of an index. The row numbers stay the same.</summary>
    /// <param name="connection">The database.</param>
    /// <param name="name">The name of the new table.</param>
    /// <param name="index">The index to copy.</param>
    /// <inheritdoc cref="Create(SqliteConnection, string, int, VectorIndexIdentity)" path="/exception"/>
    /// <exception cref="CheckpointException">The index is damaged.</exception>
    public static SqliteVectorTable Create(SqliteConnection connection, string name, VectorIndex index)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentNullException.ThrowIfNull(index);
        SqliteVectorTable? table = null;
        Whole(connection, () =>
        {
            table = Create(connection, name, index.Width, index.Identity);
            var vectors = new float[RowsAtOnce * index.Width];
            foreach (var rows in Enumerable.Range(0, index.Count).Chunk(RowsAtOnce))
            {
                for (var i = 0; i < rows.Length; i++) index.CopyVector(rows[i], vectors.AsSpan(i * index.Width, index.Width));
                table.Add(vectors.AsSpan(0, rows.Length * index.Width), Array.ConvertAll(rows, index.EntryOf));
            }
        });
        return table!;
    }

    /// <summary>Opens an existing table.</summary>
    /// <param name="connection">The database.</param>
    /// <param name="name">The table's name.</param>
    /// <exception cref="CheckpointException">There is no such table, or this class did not create it.</exception>
    public static SqliteVectorTable Open(SqliteConnection connection, string name)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        if (Scalar(
            connection, "SELECT COUNT(*) FROM sqlite_master WHERE name COLLATE NOCASE IN ($name, $registry)", ("$name", name),
            ("$registry", Registry)) is 2L)
        {
            using var command = Command(connection, $"SELECT * FROM {Registry} WHERE table_name = $name", ("$name", name));
            using var reader = command.ExecuteReader();
            if (reader.Read())
            {
                return new(
                    connection, name, reader.GetInt32(1),
                    new(
                        reader.GetString(2), reader.GetString(3), reader.GetString(4), reader.GetString(5),
                        reader.IsDBNull(6) ? null : reader.GetString(6)));
            }
        }

        throw new CheckpointException(
            connection.DataSource,
            $"has no vectors in a table '{name}'; create it with {nameof(SqliteVectorTable)}.{nameof(Create)}, or give another name.");
    }

    /// <summary>Adds vectors, unchanged, in new rows after the last row.</summary>
    /// <param name="vectors">float32 (entries, width), row-major.</param>
    /// <param name="entries">The entry that each vector stands for.</param>
    /// <returns>The row of the first vector.</returns>
    /// <exception cref="ArgumentException">
    /// The number of vectors differs from the number of entries, a vector is not finite, or a text is not valid Unicode. None was added.
    /// </exception>
    /// <exception cref="SqliteException">The database cannot be written. None was added.</exception>
    public int Add(ReadOnlySpan<float> vectors, IReadOnlyList<IndexEntry> entries)
    {
        var copy = vectors.ToArray();
        var first = 0L;
        Whole(_connection, () =>
        {
            first = (long)Scalar(_connection, $"SELECT COALESCE(MAX(id), -1) + 1 FROM {Quoted(Name)}")!;
            IndexEntry.Check(copy, Width, entries, first);
            using var insert = _connection.CreateCommand();
            insert.CommandText = $"INSERT INTO {Quoted(Name)} (id, title, text, embedding) VALUES ($id, $title, $text, $embedding)";
            var id = insert.Parameters.Add("$id", SqliteType.Integer);
            var title = insert.Parameters.Add("$title", SqliteType.Text);
            var text = insert.Parameters.Add("$text", SqliteType.Text);
            var embedding = insert.Parameters.Add("$embedding", SqliteType.Blob);
            for (var i = 0; i < entries.Count; i++)
            {
                id.Value = checked((int)(first + i));
                (title.Value, text.Value) = (entries[i].Title ?? string.Empty, entries[i].Text ?? string.Empty);
                embedding.Value = MemoryMarshal.AsBytes(copy.AsSpan(i * Width, Width)).ToArray();
                insert.ExecuteNonQuery();
            }
        });
        return (int)first;
    }

    /// <summary>Returns the entry that a row's vector stands for.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such row.</exception>
    public IndexEntry EntryOf(int row)
    {
        using var command = Command(_connection, $"SELECT title, text FROM {Quoted(Name)} WHERE id = $id", ("$id", row));
        using var reader = command.ExecuteReader();
        return reader.Read() ? new IndexEntry(reader.GetString(0), reader.GetString(1))
            : throw new ArgumentOutOfRangeException(nameof(row), row, $"'{Source}' has no such row.");
    }

    /// <summary>Refuses queries whose embeddings are not comparable with these vectors. Queries of another profile are accepted.</summary>
    /// <param name="queries">The model, weights and tokenizer of the queries' embeddings (<see cref="TextEmbedder.Identity"/>).</param>
    /// <exception cref="CheckpointException">The queries come from another model, other weights or another tokenizer.</exception>
    public void CheckFits(VectorIndexIdentity queries) => Identity.CheckFits(Source, queries);

    /// <summary>
    /// Returns the vectors with the largest inner product with a query, the largest first; among equal scores, the lower row comes first.
    /// The scores are bit for bit those of a <see cref="VectorIndex"/>.
    /// </summary>
    /// <param name="query">float32 (width), finite. It need not be normalised: its length scales the scores.</param>
    /// <param name="count">The largest number of hits.</param>
    /// <param name="where">
    /// An SQL condition on the rows that are searched, such as <c>year >= $year AND id IN (SELECT entry FROM tags WHERE tag = $tag)</c>, or
    /// null for all rows. The condition is run as it is given, so pass what users enter as parameters.
    /// </param>
    /// <param name="parameters">The names of the condition's parameters, and their values.</param>
    /// <exception cref="ArgumentException">The query has another width or is not finite, or the count is not above 0.</exception>
    /// <exception cref="CheckpointException">A selected row has no vector of this width, or a vector that is not finite.</exception>
    /// <exception cref="SqliteException">The condition is wrong, or the database cannot be read.</exception>
    public SearchHit[] Search(
        ReadOnlySpan<float> query, int count = 10, string? where = null, params ReadOnlySpan<(string Name, object? Value)> parameters)
    {
        if (query.Length != Width)
        {
            throw new ArgumentException(
                $"The query has {query.Length} dimensions, but the vectors of '{Source}' have {Width}; embed it with the model of the "
                + "table, with all dimensions.", nameof(query));
        }

        var scan = new VectorScan(query, count);
        var (vectors, rows, held) = (new float[RowsAtOnce * Width], new int[RowsAtOnce], 0);

        // The closing bracket is on a separate line, so that a comment at the end of the condition cannot swallow it.
        var condition = where is null ? string.Empty : $" WHERE ({where}\n)";
        using var command = Command(_connection, $"SELECT id, embedding FROM {Quoted(Name)}{condition}", parameters);
        using var reader = command.ExecuteReader();
        while (reader.Read())
        {
            // The methods of the reader would allocate an array for each vector.
            var statement = reader.Handle!;
            var id = raw.sqlite3_column_int64(statement, 0);
            var vector = raw.sqlite3_column_blob(statement, 1);
            if (id is < 0 or > int.MaxValue)
                throw new CheckpointException(Source, $"has the row {id}, but rows must be from 0 to {int.MaxValue}; change its id.");
            if (vector.Length != Width * sizeof(float))
            {
                throw new CheckpointException(
                    Source, $"has {vector.Length} bytes as the vector of row {id}, but {Width} numbers of float32 are "
                        + $"{Width * sizeof(float)}; write it again.");
            }

            rows[held] = (int)id;
            vector.CopyTo(MemoryMarshal.AsBytes(vectors.AsSpan(held * Width, Width)));
            if (++held == RowsAtOnce) Scan();
        }

        Scan();
        try
        {
            return scan.Hits();
        }
        catch (InvalidOperationException e)
        {
            throw new CheckpointException(Source, $"cannot be searched. {e.Message}", e);
        }

        void Scan()
        {
            scan.Add(vectors.AsSpan(0, held * Width), rows.AsSpan(0, held));
            held = 0;
        }
    }

    // Outside a transaction, a savepoint starts one; inside a transaction, it is a part of it.
    private static void Whole(SqliteConnection connection, Action write)
    {
        Execute(connection, "SAVEPOINT matformer");
        try
        {
            write();
            Execute(connection, "RELEASE matformer");
        }
        catch
        {
            // After some errors, such as a full disk, SQLite itself has rolled back the transaction.
            if (raw.sqlite3_get_autocommit(connection.Handle) == 0)
            {
                Execute(connection, "ROLLBACK TO matformer");
                Execute(connection, "RELEASE matformer");
            }

            throw;
        }
    }

    private static string Quoted(string name) => $"\"{name.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";

    private static SqliteCommand Command(
        SqliteConnection connection, string text, params ReadOnlySpan<(string Name, object? Value)> parameters)
    {
        var command = connection.CreateCommand();
        command.CommandText = text;
        foreach (var (name, value) in parameters) command.Parameters.AddWithValue(name, value ?? DBNull.Value);
        return command;
    }

    private static void Execute(
        SqliteConnection connection, string text, params ReadOnlySpan<(string Name, object? Value)> parameters)
    {
        using var command = Command(connection, text, parameters);
        command.ExecuteNonQuery();
    }

    private static object? Scalar(
        SqliteConnection connection, string text, params ReadOnlySpan<(string Name, object? Value)> parameters)
    {
        using var command = Command(connection, text, parameters);
        return command.ExecuteScalar();
    }
}

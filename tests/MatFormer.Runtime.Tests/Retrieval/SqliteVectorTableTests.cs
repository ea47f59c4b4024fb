using Microsoft.Data.Sqlite;

namespace MatFormer.Runtime.Tests.Retrieval;

public sealed class SqliteVectorTableTests : IDisposable
{
    private const int Width = 20;
    private const int Rows = 700; // more rows than are scored at once
    private readonly TemporaryFolder _folder = new();
    private readonly SqliteConnection _connection;
    private readonly float[] _vectors = Vectors.Draw(new Random(1), Rows, Width);

    public SqliteVectorTableTests()
    {
        // Without pooling, the file is closed together with the connection.
        _connection = new SqliteConnection($"Data Source={_folder["a.db"]};Pooling=False");
        _connection.Open();
        _vectors.AsSpan(0, Width).CopyTo(_vectors.AsSpan(600 * Width)); // two rows with equal scores
        Vectors.Write(_folder["index"], _vectors, Width, [4]);
    }

    public void Dispose()
    {
        _connection.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void ATableFindsWhatItsIndexFinds()
    {
        using var index = VectorIndex.Open(_folder["index"]);
        var made = SqliteVectorTable.Create(_connection, "entries", index);
        using var other = new SqliteConnection($"Data Source={_folder["a.db"]};Pooling=False");
        other.Open();
        foreach (var table in (SqliteVectorTable[])[made, SqliteVectorTable.Open(other, "Entries")])
        {
            Assert.Equal((Rows, Width, index.Identity), (table.Count, table.Width, table.Identity));
            foreach (var count in (int[])[1, 10, Rows + 5])
            {
                for (var row = 0; row < 5; row++)
                    Assert.Equal(index.Search(Query(row), new() { Count = count }), table.Search(Query(row), count));
            }

            for (var row = 0; row < Rows; row += 13) Assert.Equal(index.EntryOf(row), table.EntryOf(row));
            table.CheckFits(Vectors.Identity with { Profile = "S" });
            Assert.Contains("with the weights 'weights-1'",
                Assert.Throws<CheckpointException>(() => table.CheckFits(Vectors.Identity with { Weights = "w" })).Message);
        }

        Assert.Equal(Vectors.Identity with { Tokenizer = null },
            Reopened(SqliteVectorTable.Create(_connection, "bytes", 3, Vectors.Identity with { Tokenizer = null })).Identity);
    }

    [Fact]
    public void AConditionSelectsTheRowsThatAreSearched()
    {
        using var index = VectorIndex.Open(_folder["index"]);
        var table = SqliteVectorTable.Create(_connection, "an \"odd\" name; --", index);
        Execute("ALTER TABLE \"an \"\"odd\"\" name; --\" ADD COLUMN year INTEGER");
        Execute("UPDATE \"an \"\"odd\"\" name; --\" SET year = 2000 + id % 7");
        Execute("CREATE TABLE tags (entry INTEGER, tag TEXT)");
        Execute("INSERT INTO tags VALUES (3, 'it''s'), (8, 'it''s'), (9, 'other')");
        var all = index.Search(Query(2), new() { Count = Rows });
        Assert.Equal(all.Where(hit => hit.Row % 7 >= 5).Take(6), table.Search(Query(2), 6, "year >= $year", ("$year", 2005)));
        Assert.Equal(
            all.Where(hit => hit.Row is 3 or 8),
            table.Search(
                Query(2), 6, "id IN (SELECT entry FROM tags WHERE tag = $tag) AND year > $year -- both", ("$tag", "it's"), ("$year", 0)));
        Assert.Equal(all.Where(hit => hit.Row < 2 || hit.Row > 690), table.Search(Query(2), Rows, "id < 2 OR id > 690"));
        Assert.Empty(table.Search(Query(2), 5, "year IS $none", ("$none", null)));
        Assert.Contains("no such column: colour", Assert.Throws<SqliteException>(() => table.Search(Query(2), 5, "colour = 1")).Message);
    }

    [Fact]
    public void RowsAreAppended()
    {
        var table = SqliteVectorTable.Create(_connection, "entries", Width, Vectors.Identity);
        Assert.Empty(table.Search(Query(0)));
        Assert.Equal(0, table.Add(_vectors.AsSpan(0, 2 * Width), [Vectors.Entry(0), Vectors.Entry(1)]));
        Assert.Equal(2, table.Add(_vectors.AsSpan(2 * Width, Width), [new IndexEntry("only a title")]));
        Assert.Equal(new IndexEntry("only a title"), table.EntryOf(2));
        Assert.Equal([2, 0, 1], table.Search(Query(2)).Select(hit => hit.Row).OrderBy(row => row != 2).ThenBy(row => row));
        using (var transaction = _connection.BeginTransaction())
        {
            Assert.Equal(3, table.Add(_vectors.AsSpan(0, Width), [Vectors.Entry(3)]));
            Assert.Equal(4, table.Count);
            transaction.Rollback();
        }

        Assert.Equal(3, table.Count);
    }

    [Fact]
    public void AFailedCreationChangesNothing()
    {
        // The last text is not valid UTF-8, which is noticed after all other rows were written.
        using (var file = File.OpenWrite(_folder["index"]))
        {
            file.Seek(-1, SeekOrigin.End);
            file.WriteByte(0xff);
        }

        using var index = VectorIndex.Open(_folder["index"]);
        Assert.Contains(
            "not UTF-8", Assert.Throws<CheckpointException>(() => SqliteVectorTable.Create(_connection, "entries", index)).Message);
        Assert.Equal(0L, Scalar("SELECT COUNT(*) FROM sqlite_master"));
        Execute("CREATE TABLE theirs (a)");
        Assert.Contains("has a table 'Theirs' already",
            Assert.Throws<ArgumentException>(() => SqliteVectorTable.Create(_connection, "Theirs", index)).Message);
        Assert.Equal(1L, Scalar("SELECT COUNT(*) FROM sqlite_master"));
    }

    [Fact]
    public void AFailedAdditionChangesNothing()
    {
        var table = SqliteVectorTable.Create(_connection, "entries", 2, Vectors.Identity);
        table.Add([1, 2], [new IndexEntry("kept")]);
        Refused("'b' (row 2) is NaN in dimension 1", [1, 2, 3, float.NaN], "a", "b");
        Refused("3 numbers for 1 entries", [1, 2, 3], "a");
        Refused("entry 1 (row 2) is not valid Unicode", [1, 2, 3, 4], "a", "half \ud83d");
        Assert.Equal(1, table.Count);

        void Refused(string says, float[] vectors, params string[] titles) => Assert.Contains(
            says, Assert.Throws<ArgumentException>(() => table.Add(vectors, [.. titles.Select(title => new IndexEntry(title))])).Message);
    }

    [Fact]
    public void InvalidSearchesAreRefused()
    {
        var table = TwoRows();
        Assert.Contains("3 dimensions, but the vectors of", Assert.Throws<ArgumentException>(() => table.Search([1, 2, 3])).Message);
        Assert.Contains("NaN in dimension 1", Assert.Throws<ArgumentException>(() => table.Search([1, float.NaN])).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => table.Search([1, 2], 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => table.EntryOf(2));
    }

    [Fact]
    public void DamagedRowsAreNamed()
    {
        var table = TwoRows();
        Execute("UPDATE entries SET embedding = x'0000c07f0000803f' WHERE id = 1"); // NaN, 1
        Assert.Contains(
            "the vector of row 1 is not a finite number", Assert.Throws<CheckpointException>(() => table.Search([1, 2])).Message);
        Assert.Equal([new SearchHit(0, 5)], table.Search([1, 2], 5, "id <> 1"));
        Execute("UPDATE entries SET embedding = x'00' WHERE id = 1");
        Assert.Contains(
            "1 bytes as the vector of row 1, but 2 numbers", Assert.Throws<CheckpointException>(() => table.Search([1, 2])).Message);
        Execute("UPDATE entries SET id = -1 WHERE id = 1");
        Assert.Contains("the row -1", Assert.Throws<CheckpointException>(() => table.Search([1, 2])).Message);
    }

    [Fact]
    public void AMissingTableIsRefused()
    {
        var error = Assert.Throws<CheckpointException>(() => SqliteVectorTable.Open(_connection, "entries"));
        Assert.Contains("no vectors in a table 'entries'", error.Message);
    }

    [Fact]
    public void ADroppedTableMayBeCreatedAgain()
    {
        TwoRows();
        Execute("DROP TABLE entries");
        var error = Assert.Throws<CheckpointException>(() => SqliteVectorTable.Open(_connection, "entries"));
        Assert.Contains("no vectors in a table 'entries'", error.Message);
        SqliteVectorTable.Create(_connection, "entries", 3, Vectors.Identity);
        Assert.Equal(3, SqliteVectorTable.Open(_connection, "entries").Width);
    }

    private SqliteVectorTable TwoRows()
    {
        var table = SqliteVectorTable.Create(_connection, "entries", 2, Vectors.Identity);
        table.Add([1, 2, 3, 4], [new IndexEntry("a"), new IndexEntry("b")]);
        return table;
    }

    private ReadOnlySpan<float> Query(int row) => _vectors.AsSpan(row * Width, Width);

    private SqliteVectorTable Reopened(SqliteVectorTable table) => SqliteVectorTable.Open(_connection, table.Name);

    private void Execute(string text) => Scalar(text);

    private object? Scalar(string text)
    {
        using var command = _connection.CreateCommand();
        command.CommandText = text;
        return command.ExecuteScalar();
    }
}

using System.Globalization;

namespace MatFormer;

/// <summary>Writes an index in the text format of PostgreSQL's COPY, for tables with a column of pgvector's type vector.</summary>
public static class PostgresCopy
{
    /// <summary>
    /// Writes a line for each entry, with columns separated by tabs: the row, the title, the text, and the vector as <c>[0.25,-1]</c>
    /// (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"; https://github.com/pgvector/pgvector).
    /// </summary>
    /// <param name="index">The index to write.</param>
    /// <param name="writer">The output. Its encoding must be that of the database client, UTF-8 by default.</param>
    /// <exception cref="CheckpointException">
    /// A text is damaged, or it contains the character U+0000, which PostgreSQL does not accept.
    /// </exception>
    public static void Write(VectorIndex index, TextWriter writer)
    {
        ArgumentNullException.ThrowIfNull(index);
        ArgumentNullException.ThrowIfNull(writer);
        var vector = new float[index.Width];
        for (var row = 0; row < index.Count; row++)
        {
            var entry = index.EntryOf(row);
            if (entry.Title.Contains('\0', StringComparison.Ordinal) || entry.Text.Contains('\0', StringComparison.Ordinal))
            {
                throw new CheckpointException(
                    index.Path, $"has a title or text in row {row} with the character U+0000, which PostgreSQL does not accept; write the "
                        + "index again without this character.");
            }

            writer.Write(row.ToString(CultureInfo.InvariantCulture));
            writer.Write('\t');
            Escape(writer, entry.Title);
            writer.Write('\t');
            Escape(writer, entry.Text);
            index.CopyVector(row, vector);
            for (var i = 0; i < vector.Length; i++)
            {
                writer.Write(i == 0 ? "\t[" : ",");
                writer.Write(vector[i].ToString("R", CultureInfo.InvariantCulture));
            }

            writer.Write("]\n");
        }
    }

    private static void Escape(TextWriter writer, string text)
    {
        foreach (var character in text)
        {
            switch (character)
            {
                case '\\': writer.Write("\\\\"); break;
                case '\t': writer.Write("\\t"); break;
                case '\n': writer.Write("\\n"); break;
                case '\r': writer.Write("\\r"); break;
                default: writer.Write(character); break;
            }
        }
    }
}

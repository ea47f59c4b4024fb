using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;

namespace MatFormer;

/// <summary>
/// The formats of files whose records are documents or pairs. <c>.jsonl</c> and <c>.jsonl.gz</c> are always there; a package or a program
/// adds others.
/// </summary>
/// <example>
/// Files whose lines are documents:
/// <code>
/// RecordFormats.Add(".lines", (file, columns) =&gt; ReadLines(file));
///
/// static IEnumerable&lt;string[]&gt; ReadLines(Stream file)
/// {
///     var reader = new StreamReader(file);
///     while (reader.ReadLine() is { } line) yield return [line];
/// }
/// </code>
/// </example>
public static class RecordFormats
{
    private static readonly ConcurrentDictionary<string, RecordReader> s_readers = new(
        [new(".jsonl", JsonLines.Read), new(".jsonl.gz", JsonLines.ReadZipped)], StringComparer.OrdinalIgnoreCase);

    // The formats that a package of ours adds.
    private static readonly (string Extension, string Package, string Line)[] s_packages =
        [(".parquet", "MatFormer.Extensions.Parquet", "ParquetData.Register();")];

    /// <summary>Adds a format, or replaces the reader of one. Call it before data is opened.</summary>
    /// <param name="extension">The end of the names of the format's files, such as <c>.csv</c>. Upper and lower case are the same.</param>
    /// <param name="read">Reads a file.</param>
    /// <exception cref="ArgumentException">The extension does not begin with a dot.</exception>
    public static void Add(string extension, RecordReader read)
    {
        ArgumentException.ThrowIfNullOrEmpty(extension);
        ArgumentNullException.ThrowIfNull(read);
        if (extension[0] != '.') throw new ArgumentException($"'{extension}' is not an extension; begin it with a dot.", nameof(extension));
        s_readers[extension] = read;
    }

    /// <summary>Takes a format out again, for tests.</summary>
    internal static void Remove(string extension) => s_readers.TryRemove(extension, out _);

    /// <summary>Finds the reader of a file by the file's name. Returns false if the file has no records.</summary>
    /// <exception cref="DataException">A package that is not registered reads such files.</exception>
    internal static bool TryFind(string path, [NotNullWhen(true)] out RecordReader? reader)
    {
        var name = Path.GetFileName(path);
        reader = null;
        for (var dot = name.IndexOf('.', StringComparison.Ordinal); dot >= 0; dot = name.IndexOf('.', dot + 1))
        {
            if (s_readers.TryGetValue(name[dot..], out reader)) return true;
        }

        foreach (var (extension, package, line) in s_packages)
        {
            if (name.EndsWith(extension, StringComparison.OrdinalIgnoreCase)) throw MissingPackage.For(path, package, line);
        }

        return false;
    }

    /// <summary>Reads the records of a file.</summary>
    /// <exception cref="DataException">The file is damaged or lacks a column.</exception>
    internal static IEnumerable<string[]> Read(RecordReader reader, string path, Stream file, params string[] columns)
    {
        using (file)
        {
            using var records = Try(() => reader(file, columns).GetEnumerator());
            while (Try(records.MoveNext)) yield return records.Current;
        }

        T Try<T>(Func<T> step)
        {
            try
            {
                return step();
            }
            catch (InvalidDataException e)
            {
                throw new DataException($"'{path}': {e.Message}", e);
            }
        }
    }
}

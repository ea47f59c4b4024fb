namespace MatFormer;

/// <summary>Writes files atomically: readers see either the old or the new content, even if the process is killed.</summary>
internal static class AtomicFile
{
    /// <summary>
    /// Lets <paramref name="write"/> fill a temporary file in the same folder, flushes it to disk and renames it to
    /// <paramref name="path"/>.
    /// </summary>
    /// <exception cref="IOException">The file cannot be written; nothing is left behind.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder or the file may not be written.</exception>
    public static void Write(string path, Action<FileStream> write)
    {
        var full = Path.GetFullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(full) ?? throw new IOException($"'{path}' is a folder; give the path of a file."));
        var temporary = $"{full}.{Guid.NewGuid():N}.tmp";
        try
        {
            using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 16))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, full, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>
    /// Deletes temporary files that killed writers of <paramref name="path"/> left behind. Call it only while nobody writes the file,
    /// because it would delete the temporary file of a running writer too.
    /// </summary>
    public static void DeleteLeftovers(string path)
    {
        var full = Path.GetFullPath(path);
        var pattern = $"{Path.GetFileName(full)}.{new string('?', 32)}.tmp";
        foreach (var leftover in Directory.EnumerateFiles(Path.GetDirectoryName(full)!, pattern)) File.Delete(leftover);
    }

    /// <summary>Writes text as UTF-8.</summary>
    public static void WriteText(string path, string text) => Write(path, stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(text)));
}

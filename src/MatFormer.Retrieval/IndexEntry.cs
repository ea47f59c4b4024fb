using System.Text;

namespace MatFormer;

/// <summary>The title and text that a vector of an index stands for.</summary>
/// <param name="Title">A line that names the entry.</param>
/// <param name="Text">The embedded text, or the part of it that a search should show. It may be empty.</param>
public readonly record struct IndexEntry(string Title, string Text = "")
{
    private static readonly UTF8Encoding s_strictUtf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>Checks vectors and their entries before they are stored in an index or elsewhere.</summary>
    /// <param name="vectors">The vectors, float32 (entries, width), row-major.</param>
    /// <param name="width">The number of dimensions of each vector.</param>
    /// <param name="entries">The entry of each vector.</param>
    /// <param name="firstRow">The row number that the first vector will have.</param>
    /// <exception cref="ArgumentException">
    /// The number of vectors is not the number of entries, a vector is not finite, or a text is not valid Unicode. The message names the
    /// row.
    /// </exception>
    public static void Check(ReadOnlySpan<float> vectors, int width, IReadOnlyList<IndexEntry> entries, long firstRow)
    {
        ArgumentNullException.ThrowIfNull(entries);
        if (vectors.Length != (long)entries.Count * width)
        {
            throw new ArgumentException(
                $"There are {vectors.Length} numbers for {entries.Count} entries, but {entries.Count} vectors of width {width} have "
                + $"{(long)entries.Count * width}.", nameof(vectors));
        }

        var bad = vectors.IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
        if (bad >= 0)
        {
            throw new ArgumentException(
                $"The vector of '{entries[bad / width].Title}' (row {firstRow + (bad / width)}) is {vectors[bad]} in dimension "
                + $"{bad % width}; vectors must be finite, so check the input of the encoder.", nameof(vectors));
        }

        for (var i = 0; i < entries.Count; i++)
        {
            try
            {
                s_strictUtf8.GetByteCount(entries[i].Title ?? string.Empty);
                s_strictUtf8.GetByteCount(entries[i].Text ?? string.Empty);
            }
            catch (EncoderFallbackException e)
            {
                throw new ArgumentException(
                    $"The title or text of entry {i} (row {firstRow + i}) is not valid Unicode, because it has half a surrogate pair.",
                    nameof(entries), e);
            }
        }
    }
}

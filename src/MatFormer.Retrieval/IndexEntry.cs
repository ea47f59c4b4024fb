using System.Text;

namespace MatFormer;

/// <summary>What a vector of an index stands for.</summary>
/// <param name="Title">A line that names it.</param>
/// <param name="Text">What was embedded, or as much of it as a search should show; may be empty.</param>
public readonly record struct IndexEntry(string Title, string Text = "")
{
    private static readonly UTF8Encoding s_strictUtf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>Checks vectors and what they stand for before they are kept, wherever that is.</summary>
    /// <param name="vectors">float32 (entries, width), row by row.</param>
    /// <param name="width">Dimensions of each vector.</param>
    /// <param name="entries">What each of them stands for.</param>
    /// <param name="firstRow">The row that the first of them will have.</param>
    /// <exception cref="ArgumentException">
    /// The vectors are not as many as the entries, one is not finite, or a text is not valid Unicode; the message names the row.
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
                + $"{bad % width}; vectors must be finite, so look at what the encoder was given.", nameof(vectors));
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
                    $"The title or text of entry {i} (row {firstRow + i}) is not valid Unicode: it has half a surrogate pair.",
                    nameof(entries), e);
            }
        }
    }
}

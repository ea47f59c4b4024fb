namespace MatFormer;

/// <summary>
/// The fixed positions of patches. The first half of a row holds sines and cosines of the patch's row, the second half those of its column
/// (MoCo v3, arXiv 2104.02057, section 4).
/// </summary>
internal static class SinusoidalPositions
{
    /// <summary>Returns (tokens, width), row by row. The position of a class token, if there is one, comes first and is zero.</summary>
    /// <exception cref="ArgumentException">The width is not a multiple of 4.</exception>
    public static float[] Of(int grid, int width, bool classToken)
    {
        if (width % 4 != 0)
        {
            throw new ArgumentException(
                $"Sinusoidal positions need a width that is a multiple of 4 (sines and cosines of row and column), but it is {width}.",
                nameof(width));
        }

        var (first, quarter) = (classToken ? 1 : 0, width / 4);
        var values = new float[(first + (grid * grid)) * width];
        for (var patch = 0; patch < grid * grid; patch++)
        {
            var row = values.AsSpan((first + patch) * width, width);
            for (var i = 0; i < quarter; i++)
            {
                var frequency = Math.Pow(10000, -(double)i / quarter);
                foreach (var (start, place) in (ReadOnlySpan<(int, int)>)[(0, patch / grid), (2 * quarter, patch % grid)])
                {
                    row[start + i] = (float)Math.Sin(place * frequency);
                    row[start + quarter + i] = (float)Math.Cos(place * frequency);
                }
            }
        }

        return values;
    }
}

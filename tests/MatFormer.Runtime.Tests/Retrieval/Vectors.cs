namespace MatFormer.Runtime.Tests.Retrieval;

/// <summary>Makes vectors and index files for the tests.</summary>
internal static class Vectors
{
    public static readonly VectorIndexIdentity Identity = new("Finder", "0123abcd", "XL", "weights-1", "tokens-1");

    /// <summary>Returns normally distributed numbers (rows, width).</summary>
    public static float[] Draw(Random random, int rows, int width)
    {
        var values = new float[rows * width];
        for (var i = 0; i < values.Length; i++) values[i] = Normal(random);
        return values;
    }

    public static float Normal(Random random) =>
        (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));

    /// <summary>Returns each row scaled to length 1.</summary>
    public static float[] Normalise(float[] vectors, int width)
    {
        var result = new float[vectors.Length];
        for (var row = 0; row < vectors.Length; row += width)
        {
            var norm = Math.Sqrt(Enumerable.Range(row, width).Sum(i => (double)vectors[i] * vectors[i]));
            for (var i = row; i < row + width; i++) result[i] = norm == 0 ? 0 : (float)(vectors[i] / norm);
        }

        return result;
    }

    /// <summary>Returns the first dimensions of each row, scaled to length 1.</summary>
    public static float[] Prefix(float[] vectors, int width, int prefix) =>
        Normalise([.. vectors.Where((_, i) => i % width < prefix)], prefix);

    public static void Write(string path, float[] vectors, int width, int[] prefixes, VectorIndexIdentity? identity = null)
    {
        using var writer = new VectorIndexWriter(path, width, prefixes, identity ?? Identity);
        for (var row = 0; row < vectors.Length / width; row += 7)
        {
            var rows = Math.Min(7, (vectors.Length / width) - row);
            writer.Add(vectors.AsSpan(row * width, rows * width), [.. Enumerable.Range(row, rows).Select(Entry)]);
        }

        writer.Complete();
    }

    public static IndexEntry Entry(int row) => new($"entry {row}", row % 3 == 0 ? string.Empty : $"text of {row}: äöü€😀");

    /// <summary>Ranks all rows by inner product in double precision, the best first. Of equal scores, the lower row comes first.</summary>
    public static (int Row, double Score)[] Rank(float[] vectors, int width, ReadOnlySpan<float> query)
    {
        var scores = new (int Row, double Score)[vectors.Length / width];
        for (var row = 0; row < scores.Length; row++)
        {
            double sum = 0;
            for (var i = 0; i < width; i++) sum += (double)vectors[(row * width) + i] * query[i];
            scores[row] = (row, sum);
        }

        return [.. scores.OrderByDescending(s => s.Score).ThenBy(s => s.Row)];
    }
}

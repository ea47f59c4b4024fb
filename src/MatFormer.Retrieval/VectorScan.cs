namespace MatFormer;

/// <summary>
/// Finds the vectors nearest to a query among those that are given batch by batch, wherever they are kept; it holds the best of them only.
/// </summary>
/// <remarks>Scores are those of a <see cref="VectorIndex"/>, to the bit. One thread at a time may use it.</remarks>
public sealed unsafe class VectorScan
{
    private const int RowsAtOnce = 256;
    private readonly float[] _query;
    private TopHits _best;

    /// <summary>Begins a search.</summary>
    /// <param name="query">float32 (width), finite; normalised or not, which scales the scores.</param>
    /// <param name="count">How many are found at most.</param>
    /// <exception cref="ArgumentException">The query is empty or not finite, or the count is not above 0.</exception>
    public VectorScan(ReadOnlySpan<float> query, int count = 10)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        if (query.IsEmpty) throw new ArgumentException("The query has no dimensions; embed one.", nameof(query));
        CheckFinite(query, query.Length);
        _query = query.ToArray();
        _best = new TopHits(new SearchHit[count], count);
    }

    /// <summary>Dimensions of the query and of all vectors.</summary>
    public int Width => _query.Length;

    /// <summary>Takes in vectors.</summary>
    /// <param name="vectors">float32 (rows, width), row by row.</param>
    /// <param name="rows">What each is called in the result, in any order.</param>
    /// <exception cref="ArgumentException">There are not as many vectors as rows.</exception>
    public void Add(ReadOnlySpan<float> vectors, ReadOnlySpan<int> rows)
    {
        if (vectors.Length != (long)rows.Length * Width)
        {
            throw new ArgumentException(
                $"There are {vectors.Length} numbers for {rows.Length} rows, but {rows.Length} vectors of width {Width} have "
                + $"{(long)rows.Length * Width}.", nameof(vectors));
        }

        var scores = stackalloc float[RowsAtOnce];
        fixed (float* vector = vectors, query = _query)
        {
            for (var first = 0; first < rows.Length; first += RowsAtOnce)
            {
                var some = rows[first..Math.Min(first + RowsAtOnce, rows.Length)];
                InnerProducts.Shared.Compute(vector + ((nint)first * Width), some.Length, Width, query, 1, scores, RowsAtOnce);
                for (var i = 0; i < some.Length; i++) _best.Offer(new SearchHit(some[i], scores[i]));
            }
        }
    }

    /// <summary>The nearest so far, the nearest first; of equal scores the lower row.</summary>
    /// <exception cref="InvalidOperationException">A product was not finite.</exception>
    public SearchHit[] Hits()
    {
        if (_best.BadRow >= 0)
        {
            throw new InvalidOperationException(
                $"The vector of row {_best.BadRow} has products that are not finite numbers: it has NaN, infinities or values too large; "
                + "write it again, normalised.");
        }

        var hits = _best.Hits.ToArray();
        SearchHit.Sort(hits);
        return hits;
    }

    /// <summary>Refuses queries that are not finite.</summary>
    internal static void CheckFinite(ReadOnlySpan<float> queries, int width)
    {
        for (var i = 0; i < queries.Length; i++)
        {
            if (!float.IsFinite(queries[i]))
            {
                throw new ArgumentException(
                    $"Query {i / width} is {queries[i]} in dimension {i % width}; queries must be finite, so look at what the encoder was "
                    + "given.", nameof(queries));
            }
        }
    }
}

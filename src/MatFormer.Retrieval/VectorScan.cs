namespace MatFormer;

/// <summary>
/// Finds the vectors nearest to a query among vectors that are added batch by batch, wherever they are stored. It keeps only the best hits.
/// </summary>
/// <remarks>
/// The scores are bit for bit those of a <see cref="VectorIndex"/>. Only one thread at a time may use an instance.
/// </remarks>
public sealed unsafe class VectorScan
{
    private const int RowsAtOnce = 256;
    private readonly float[] _query;
    private TopHits _best;

    /// <summary>Begins a search.</summary>
    /// <param name="query">
    /// The query, float32 (width). It must be finite. It need not be normalised: its length only scales the scores.
    /// </param>
    /// <param name="count">The largest number of hits.</param>
    /// <exception cref="ArgumentException">The query is empty or not finite, or the count is not above 0.</exception>
    public VectorScan(ReadOnlySpan<float> query, int count = 10)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        if (query.IsEmpty) throw new ArgumentException("The query is empty; give the embedding of a query.", nameof(query));
        CheckFinite(query, query.Length);
        _query = query.ToArray();
        _best = new TopHits(new SearchHit[count], count);
    }

    /// <summary>The number of dimensions of the query and of all vectors.</summary>
    public int Width => _query.Length;

    /// <summary>Adds vectors to the search.</summary>
    /// <param name="vectors">The vectors, float32 (rows, width), row-major.</param>
    /// <param name="rows">The row number of each vector, which identifies it in the result. Rows may come in any order.</param>
    /// <exception cref="ArgumentException">The number of vectors is not the number of rows.</exception>
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

    /// <summary>Returns the best hits so far, the best first. Of equal scores, the lower row comes first.</summary>
    /// <exception cref="InvalidOperationException">A score was not finite.</exception>
    public SearchHit[] Hits()
    {
        if (_best.BadRow >= 0)
        {
            throw new InvalidOperationException(
                $"The score of the vector of row {_best.BadRow} is not a finite number, because the vector has NaN, infinities or values "
                + "that are too large; store the vector again, normalised.");
        }

        var hits = _best.Hits.ToArray();
        SearchHit.Sort(hits);
        return hits;
    }

    /// <summary>Throws if a query is not finite.</summary>
    internal static void CheckFinite(ReadOnlySpan<float> queries, int width)
    {
        for (var i = 0; i < queries.Length; i++)
        {
            if (!float.IsFinite(queries[i]))
            {
                throw new ArgumentException(
                    $"Query {i / width} is {queries[i]} in dimension {i % width}; queries must be finite, so check the input of the "
                    + "encoder.", nameof(queries));
            }
        }
    }
}

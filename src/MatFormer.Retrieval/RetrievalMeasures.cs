namespace MatFormer;

/// <summary>The mean of a measure over queries.</summary>
/// <param name="Value">The mean, from 0 to 1.</param>
/// <param name="Low">The lower end of the mean's 95% confidence interval.</param>
/// <param name="High">The upper end of the mean's 95% confidence interval.</param>
/// <param name="Queries">The number of queries.</param>
public readonly record struct RetrievalMeasure(double Value, double Low, double High, int Queries)
{
    // The 97.5% quantile of the normal distribution.
    private const double Z = 1.959963984540054;

    /// <summary>
    /// Returns the mean of values from 0 to 1, with Wilson's score interval (Wilson 1927). The interval is made for proportions, which are
    /// means of zeros and ones. It is not too narrow for other values, because zeros and ones have the largest variance for a given mean.
    /// </summary>
    internal static RetrievalMeasure Of(IReadOnlyCollection<double> values)
    {
        var (mean, count) = (values.Average(), values.Count);
        var scale = 1 / (1 + (Z * Z / count));
        var centre = scale * (mean + (Z * Z / (2 * count)));
        var half = scale * Z * Math.Sqrt((mean * (1 - mean) / count) + (Z * Z / (4.0 * count * count)));
        return new RetrievalMeasure(mean, Math.Clamp(centre - half, 0, mean), Math.Clamp(centre + half, mean, 1), count);
    }
}

/// <summary>Measures how good searches are, given the rows that should have been found.</summary>
public static class RetrievalMeasures
{
    /// <summary>Computes recall at k: the share of a query's relevant rows that are among its first k hits.</summary>
    /// <param name="k">The number of hits that count, from 1.</param>
    /// <param name="found">The hits of each query, the best first, at least k of them.</param>
    /// <param name="relevant">The rows that each query should find, at least one.</param>
    /// <exception cref="ArgumentException">
    /// The numbers of queries differ, a query has no relevant rows, or a query has fewer than k hits.
    /// </exception>
    public static RetrievalMeasure RecallAt(
        int k, IReadOnlyList<SearchHit[]> found, IReadOnlyList<IReadOnlyCollection<int>> relevant)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(k);
        Check(found, relevant);
        return RetrievalMeasure.Of([.. found.Select((hits, query) => Recall(k, hits, relevant[query], query))]);
    }

    /// <summary>
    /// Computes the mean reciprocal rank: the mean of 1 / the rank, from 1, of the first relevant hit. A query without a relevant hit
    /// counts as 0. All given hits count.
    /// </summary>
    /// <param name="found">The hits of each query, the best first.</param>
    /// <param name="relevant">The rows that each query should find, at least one.</param>
    /// <exception cref="ArgumentException">The numbers of queries differ, or a query has no relevant rows.</exception>
    public static RetrievalMeasure MeanReciprocalRank(
        IReadOnlyList<SearchHit[]> found, IReadOnlyList<IReadOnlyCollection<int>> relevant)
    {
        Check(found, relevant);
        return RetrievalMeasure.Of(
        [
            .. found.Select((hits, query) =>
            {
                var rank = Array.FindIndex(hits, hit => relevant[query].Contains(hit.Row));
                return rank < 0 ? 0 : 1.0 / (rank + 1);
            }),
        ]);
    }

    /// <summary>Computes the accuracy of a classifier that gives each query the label of its nearest neighbour.</summary>
    /// <param name="found">The hits of each query, the best first, at least one. Only the first hit counts.</param>
    /// <param name="labels">The label of each query.</param>
    /// <param name="rowLabels">The label of each row of the index.</param>
    /// <exception cref="ArgumentException">
    /// The numbers of queries differ, a query has no hits, or a row that was found has no label.
    /// </exception>
    public static RetrievalMeasure NearestNeighbourAccuracy<TLabel>(
        IReadOnlyList<SearchHit[]> found, IReadOnlyList<TLabel> labels, IReadOnlyList<TLabel> rowLabels)
    {
        ArgumentNullException.ThrowIfNull(rowLabels);
        CheckCounts(found, labels, nameof(labels));
        return RetrievalMeasure.Of(
        [
            .. found.Select((hits, query) =>
            {
                if (hits.Length == 0) throw new ArgumentException($"Query {query} has no hits; give at least one.", nameof(found));
                if (hits[0].Row >= rowLabels.Count)
                {
                    throw new ArgumentException(
                        $"Query {query} found row {hits[0].Row}, but there are labels for {rowLabels.Count} rows only; give all labels.",
                        nameof(rowLabels));
                }

                return EqualityComparer<TLabel>.Default.Equals(labels[query], rowLabels[hits[0].Row]) ? 1.0 : 0;
            }),
        ]);
    }

    /// <summary>Computes recall at k of one query.</summary>
    internal static double Recall(int k, SearchHit[] hits, IReadOnlyCollection<int> relevant, int query)
    {
        if (hits.Length < k)
        {
            throw new ArgumentException(
                $"Query {query} has {hits.Length} hits, but recall at {k} needs {k}; search for more hits.", nameof(hits));
        }

        return hits.Take(k).Count(hit => relevant.Contains(hit.Row)) / (double)relevant.Count;
    }

    internal static void Check(IReadOnlyList<SearchHit[]> found, IReadOnlyList<IReadOnlyCollection<int>> relevant)
    {
        CheckCounts(found, relevant, nameof(relevant));
        CheckRelevant(relevant);
    }

    internal static void CheckRelevant(IReadOnlyList<IReadOnlyCollection<int>> relevant)
    {
        for (var query = 0; query < relevant.Count; query++)
        {
            if (relevant[query].Count == 0)
            {
                throw new ArgumentException(
                    $"Query {query} has no relevant rows, so its recall is undefined; leave the query out.", nameof(relevant));
            }
        }
    }

    private static void CheckCounts<T>(IReadOnlyList<SearchHit[]> found, IReadOnlyList<T> expected, string name)
    {
        ArgumentNullException.ThrowIfNull(found);
        ArgumentNullException.ThrowIfNull(expected, name);
        if (found.Count == 0) throw new ArgumentException("There are no queries to measure; give some.", nameof(found));
        if (found.Count != expected.Count)
        {
            throw new ArgumentException(
                $"There are hits of {found.Count} queries, but {name} of {expected.Count}; give one for each query.", name);
        }
    }
}

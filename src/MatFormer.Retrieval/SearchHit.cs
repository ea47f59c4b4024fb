namespace MatFormer;

/// <summary>A vector that a search found.</summary>
/// <param name="Row">The vector's row in the index, from 0.</param>
/// <param name="Score">
/// The inner product of the vector and the query. In a search by prefix without a shortlist, it is the cosine of the two prefixes.
/// </param>
public readonly record struct SearchHit(int Row, float Score)
{
    /// <summary>Whether this hit ranks before another: it has the higher score or, at equal scores, the lower row.</summary>
    internal bool Precedes(SearchHit other) => Score > other.Score || (Score == other.Score && Row < other.Row);

    /// <summary>Sorts hits, the best first.</summary>
    internal static void Sort(Span<SearchHit> hits) =>
        hits.Sort(static (a, b) => b.Score != a.Score ? b.Score.CompareTo(a.Score) : a.Row.CompareTo(b.Row));
}

namespace MatFormer;

/// <summary>A vector that a search found.</summary>
/// <param name="Row">Its number in the index, from 0.</param>
/// <param name="Score">
/// The inner product with the query; of a search by prefix that ranks nothing anew, the cosine of both prefixes.
/// </param>
public readonly record struct SearchHit(int Row, float Score)
{
    /// <summary>Whether it comes before another: the higher score, of equals the lower row.</summary>
    internal bool Precedes(SearchHit other) => Score > other.Score || (Score == other.Score && Row < other.Row);

    /// <summary>Sorts the best first.</summary>
    internal static void Sort(Span<SearchHit> hits) =>
        hits.Sort(static (a, b) => b.Score != a.Score ? b.Score.CompareTo(a.Score) : a.Row.CompareTo(b.Row));
}

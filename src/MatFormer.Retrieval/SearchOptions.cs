namespace MatFormer;

/// <summary>What is searched for, and how.</summary>
public sealed record SearchOptions
{
    /// <summary>How many are found at most; the index may have fewer.</summary>
    public int Count { get; init; } = 10;

    /// <summary>
    /// The dimensions of a first pass, one of the index's <see cref="VectorIndex.Prefixes"/>: all vectors are ranked by the cosine of
    /// their first dimensions with the query's. Null for none: all are ranked at full width.
    /// </summary>
    public int? Prefix { get; init; }

    /// <summary>
    /// How many of the first pass are ranked anew at full width (adaptive retrieval; Matryoshka representation learning, arXiv 2205.13147,
    /// section 4.3, which takes 200). 0 for none: the first pass's ranks and scores are the result. Without a prefix it has no effect.
    /// </summary>
    public int Shortlist { get; init; } = 200;

    /// <summary>Threads that share the first pass; the caller's is one of them. What is found does not depend on it.</summary>
    public int Threads { get; init; } = 1;
}

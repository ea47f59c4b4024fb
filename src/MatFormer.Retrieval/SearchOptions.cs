namespace MatFormer;

/// <summary>The options of a search.</summary>
public sealed record SearchOptions
{
    /// <summary>The largest number of hits. There are fewer if the index has fewer vectors.</summary>
    public int Count { get; init; } = 10;

    /// <summary>
    /// The number of dimensions of a first pass, one of the index's <see cref="VectorIndex.Prefixes"/>. The first pass ranks all vectors by
    /// the cosine of their first dimensions and those of the query. Null for no first pass: all vectors are ranked at full width.
    /// </summary>
    public int? Prefix { get; init; }

    /// <summary>
    /// The number of hits of the first pass that are ranked again at full width (adaptive retrieval; Matryoshka representation learning,
    /// arXiv 2205.13147, section 4.3, which uses 200). With 0, the ranks and scores of the first pass are the result. Without a prefix,
    /// this option has no effect.
    /// </summary>
    public int Shortlist { get; init; } = 200;

    /// <summary>
    /// The number of threads that share the pass over all vectors, including the caller's. The result does not depend on this number.
    /// </summary>
    public int Threads { get; init; } = 1;
}

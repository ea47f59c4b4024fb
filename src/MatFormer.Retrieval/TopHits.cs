namespace MatFormer;

/// <summary>The best hits of one query so far, in memory that the caller gives: a heap whose root is the last of them.</summary>
internal struct TopHits(SearchHit[] hits, int capacity)
{
    // What a score must exceed to be among them. Nothing compares with NaN, so that until they are full every score is looked at.
    private float _threshold = float.NaN;

    public int Count { get; private set; }

    /// <summary>The first row whose score was not finite, or -1.</summary>
    public int BadRow { get; private set; } = -1;

    /// <summary>The memory that it was given.</summary>
    public readonly SearchHit[] Memory => hits;

    /// <summary>Those held, in order once <see cref="Sort"/> has been called.</summary>
    public readonly Span<SearchHit> Hits => hits.AsSpan(0, Count);

    /// <summary>Takes in the scores of rows that come after all those before.</summary>
    public void Add(ReadOnlySpan<float> scores, int firstRow)
    {
        for (var i = 0; i < scores.Length; i++)
        {
            // The condition lets NaN pass, to be found. Of equals the earlier row stays.
            if (!(scores[i] <= _threshold)) Offer(new SearchHit(firstRow + i, scores[i]));
        }
    }

    /// <summary>Takes in any row.</summary>
    public void Offer(SearchHit hit)
    {
        if (!float.IsFinite(hit.Score))
        {
            if (BadRow < 0) BadRow = hit.Row;
        }
        else if (Count < capacity)
        {
            hits[Count++] = hit;
            Rise();
            if (Count == capacity) _threshold = hits[0].Score;
        }
        else if (hit.Precedes(hits[0]))
        {
            hits[0] = hit;
            Sink();
            _threshold = hits[0].Score;
        }
    }

    /// <summary>Takes in what another holds.</summary>
    public void Offer(in TopHits other)
    {
        if (BadRow < 0) BadRow = other.BadRow;
        foreach (var hit in other.Hits) Offer(hit);
    }

    /// <summary>An empty one of the same capacity, in memory of its own.</summary>
    public readonly TopHits Anew() => new(new SearchHit[capacity], capacity);

    /// <summary>Puts the best first; nothing can be added any more.</summary>
    public readonly void Sort() => SearchHit.Sort(Hits);

    private readonly void Rise()
    {
        for (var child = Count - 1; child > 0;)
        {
            var parent = (child - 1) / 2;
            if (!hits[parent].Precedes(hits[child])) return;
            (hits[parent], hits[child]) = (hits[child], hits[parent]);
            child = parent;
        }
    }

    private readonly void Sink()
    {
        for (var parent = 0; ;)
        {
            var child = (2 * parent) + 1;
            if (child >= Count) return;
            if (child + 1 < Count && hits[child].Precedes(hits[child + 1])) child++;
            if (!hits[parent].Precedes(hits[child])) return;
            (hits[parent], hits[child]) = (hits[child], hits[parent]);
            parent = child;
        }
    }
}

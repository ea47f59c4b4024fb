namespace MatFormer;

/// <summary>The best hits of one query so far, as a heap whose root is the worst of them. The caller provides the memory.</summary>
internal struct TopHits(SearchHit[] hits, int capacity)
{
    // The score that a new hit must exceed. It is NaN until the heap is full: comparisons with NaN are false, so every score is offered.
    private float _threshold = float.NaN;

    public int Count { get; private set; }

    /// <summary>The first row whose score was not finite, or -1.</summary>
    public int BadRow { get; private set; } = -1;

    /// <summary>The memory that the caller provided.</summary>
    public readonly SearchHit[] Memory => hits;

    /// <summary>The best hits so far. They are in order only after <see cref="Sort"/>.</summary>
    public readonly Span<SearchHit> Hits => hits.AsSpan(0, Count);

    /// <summary>Adds the scores of consecutive rows. These rows must come after all rows that were added before.</summary>
    public void Add(ReadOnlySpan<float> scores, int firstRow)
    {
        for (var i = 0; i < scores.Length; i++)
        {
            // The condition lets a NaN score pass, so that Offer can report it. Of equal scores, the earlier row stays.
            if (!(scores[i] <= _threshold)) Offer(new SearchHit(firstRow + i, scores[i]));
        }
    }

    /// <summary>Adds the score of a row. Rows may come in any order.</summary>
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

    /// <summary>Adds the hits of another instance.</summary>
    public void Offer(in TopHits other)
    {
        if (BadRow < 0) BadRow = other.BadRow;
        foreach (var hit in other.Hits) Offer(hit);
    }

    /// <summary>Creates an empty instance of the same capacity in new memory.</summary>
    public readonly TopHits Anew() => new(new SearchHit[capacity], capacity);

    /// <summary>Sorts the hits, the best first. Nothing may be added afterwards.</summary>
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

using System.Collections.Immutable;

namespace MatFormer;

/// <summary>An encoder of queries, such as one profile of a model.</summary>
/// <param name="Name">The encoder's name, such as that of the profile.</param>
/// <param name="FlopsPerQuery">The mean FLOPs to embed one query, above 0.</param>
/// <param name="Embed">
/// Computes the embeddings of queries, float32 (queries, width), row-major. They must be comparable with the vectors of the searched index
/// (<see cref="VectorIndex.CheckFits"/>).
/// </param>
public sealed record QueryEncoder<TQuery>(string Name, double FlopsPerQuery, Func<IReadOnlyList<TQuery>, float[]> Embed);

/// <summary>The result of an escalating search.</summary>
/// <param name="Hits">The hits of each query, the best first.</param>
/// <param name="Rungs">The index of the encoder that answered each query.</param>
/// <param name="Answered">The number of queries that each encoder answered.</param>
/// <param name="ComputeShare">
/// The FLOPs of all embeddings, including those of queries that were passed on, divided by the FLOPs of embedding every query with the last
/// encoder only. The search itself is not counted.
/// </param>
public sealed record EscalationResult(SearchHit[][] Hits, int[] Rungs, ImmutableArray<int> Answered, double ComputeShare);

/// <summary>
/// Searches with the cheapest encoder first. If the margin of a query is small, embeds the query again with the next encoder. In a search
/// for k hits, the margin is the score of the first hit minus the score of the (k + 1)-th.
/// </summary>
/// <remarks>
/// Several margins were tried on synthetic embeddings: the first score minus the second, the k-th or the 32nd, the first score alone, and
/// relative margins. This one needs the least compute, or nearly the least, to keep the last encoder's recall, both at 1 and at 10.
/// </remarks>
public sealed class EscalatingSearch<TQuery>
{
    // With more thresholds per encoder, calibration overfits. With a tolerance of half a point, three encoders lost 1.3 points of recall on
    // other queries if all possible thresholds were tried, and 0.8 points with 24 thresholds each, at nearly the same compute.
    private const int MaxThresholds = 24;

    // The largest number of combinations of thresholds, times the number of queries.
    private const double MaxCalibrationWork = 1 << 26;

    /// <summary>Creates a search with given thresholds.</summary>
    /// <param name="index">The index to search.</param>
    /// <param name="encoders">The encoders, the cheapest first, at least one.</param>
    /// <param name="thresholds">
    /// For each encoder but the last, the smallest margin at which it answers: 0 for always, <see cref="float.PositiveInfinity"/> for
    /// never.
    /// </param>
    /// <exception cref="ArgumentException">
    /// The encoders do not ascend in cost, the number of thresholds is wrong, or a threshold is negative or NaN.
    /// </exception>
    public EscalatingSearch(VectorIndex index, IReadOnlyList<QueryEncoder<TQuery>> encoders, IReadOnlyList<float> thresholds)
    {
        CheckLadder(index, encoders);
        ArgumentNullException.ThrowIfNull(thresholds);
        if (thresholds.Count != encoders.Count - 1)
        {
            throw new ArgumentException(
                $"There are {thresholds.Count} thresholds for {encoders.Count} encoders; give one for each but the last.",
                nameof(thresholds));
        }

        if (thresholds.Any(t => !(t >= 0)))
        {
            throw new ArgumentException(
                $"The thresholds {string.Join(", ", thresholds)} are not all 0 or more; margins are never negative.", nameof(thresholds));
        }

        Index = index;
        Encoders = [.. encoders];
        Thresholds = [.. thresholds];
    }

    /// <summary>The index that is searched.</summary>
    public VectorIndex Index { get; }

    /// <summary>The encoders, the cheapest first.</summary>
    public ImmutableArray<QueryEncoder<TQuery>> Encoders { get; }

    /// <summary>For each encoder but the last, the smallest margin at which it answers.</summary>
    public ImmutableArray<float> Thresholds { get; }

    /// <summary>
    /// Finds the thresholds that keep the last encoder's recall on held-out queries at the least compute. Encoders that save nothing are
    /// left out of the result. The recall on other queries will vary: calibrate with some hundreds of queries, and measure the result with
    /// different ones.
    /// </summary>
    /// <param name="index">The index to search.</param>
    /// <param name="encoders">The encoders, the cheapest first.</param>
    /// <param name="queries">Queries for calibration. They should resemble the queries to come.</param>
    /// <param name="relevant">The rows that each query should find, at least one.</param>
    /// <param name="options">The options of the later searches. Recall is measured at their <see cref="SearchOptions.Count"/>.</param>
    /// <param name="tolerance">The recall that may be lost, such as 0.01 for one percentage point.</param>
    /// <exception cref="ArgumentException">
    /// There are no queries, the numbers of queries and of relevant rows differ, or a search is not possible.
    /// </exception>
    public static EscalatingSearch<TQuery> Calibrate(
        VectorIndex index,
        IReadOnlyList<QueryEncoder<TQuery>> encoders,
        IReadOnlyList<TQuery> queries,
        IReadOnlyList<IReadOnlyCollection<int>> relevant,
        SearchOptions? options = null,
        double tolerance = 0)
    {
        CheckLadder(index, encoders);
        ArgumentNullException.ThrowIfNull(queries);
        ArgumentOutOfRangeException.ThrowIfNegative(tolerance);
        options ??= new SearchOptions();
        var count = Math.Min(options.Count, index.Count);
        var rungs = new List<(float[] Margins, double[] Recalls)>();
        foreach (var encoder in encoders)
        {
            var found = Search(index, encoder, queries, options);
            RetrievalMeasures.Check(found, relevant);
            rungs.Add(([.. found.Select(hits => Margin(hits, count))],
                [.. found.Select((hits, query) => RetrievalMeasures.Recall(count, hits, relevant[query], query))]));
        }

        var thresholds = new Calibration(rungs, [.. encoders.Select(e => e.FlopsPerQuery)], tolerance).Run();
        var kept = Enumerable.Range(0, encoders.Count).Where(rung => rung == encoders.Count - 1 || thresholds[rung] is not null).ToList();
        return new(index, [.. kept.Select(rung => encoders[rung])], [.. kept.SkipLast(1).Select(rung => thresholds[rung]!.Value)]);
    }

    /// <summary>Finds the vectors nearest to each query.</summary>
    /// <param name="queries">The queries.</param>
    /// <param name="options">
    /// The options of the search. If null, 10 hits are found at full width. A shortlist that is too short is made longer than the count.
    /// </param>
    /// <exception cref="ArgumentException">There are no queries, or an option is not possible for the index.</exception>
    /// <exception cref="InvalidOperationException">An encoder does not return one embedding for each query.</exception>
    public EscalationResult Search(IReadOnlyList<TQuery> queries, SearchOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(queries);
        if (queries.Count == 0) throw new ArgumentException("There are no queries; give some.", nameof(queries));
        options ??= new SearchOptions();
        var count = Math.Min(options.Count, Index.Count);
        var (hits, rungs) = (new SearchHit[queries.Count][], new int[queries.Count]);
        var answered = new int[Encoders.Length];
        double flops = 0;
        int[] open = [.. Enumerable.Range(0, queries.Count)];
        for (var rung = 0; rung < Encoders.Length && open.Length > 0; rung++)
        {
            var found = Search(Index, Encoders[rung], [.. open.Select(query => queries[query])], options);
            flops += open.Length * Encoders[rung].FlopsPerQuery;
            var left = new List<int>();
            for (var i = 0; i < open.Length; i++)
            {
                if (rung < Thresholds.Length && !(Margin(found[i], count) >= Thresholds[rung]))
                {
                    left.Add(open[i]);
                    continue;
                }

                (hits[open[i]], rungs[open[i]]) = (found[i][..count], rung);
                answered[rung]++;
            }

            open = [.. left];
        }

        return new EscalationResult(hits, rungs, [.. answered], flops / (queries.Count * Encoders[^1].FlopsPerQuery));
    }

    // Searches for one hit more than requested, if the index has it, because the margin needs this hit's score.
    private static SearchHit[][] Search(
        VectorIndex index, QueryEncoder<TQuery> encoder, IReadOnlyList<TQuery> queries, SearchOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.Count, nameof(options));
        var embeddings = encoder.Embed(queries);
        if (embeddings.Length != (long)queries.Count * index.Width)
        {
            throw new InvalidOperationException(
                $"The encoder '{encoder.Name}' gave {embeddings.Length} numbers for {queries.Count} queries, but embeddings for "
                + $"'{index.Path}' have {index.Width} dimensions each.");
        }

        var count = Math.Min(options.Count, index.Count - 1) + 1;
        return index.SearchBatch(
            embeddings,
            options with { Count = count, Shortlist = options.Shortlist == 0 ? 0 : Math.Max(options.Shortlist, count) });
    }

    private static float Margin(SearchHit[] hits, int count) =>
        hits.Length > count ? hits[0].Score - hits[count].Score : float.MaxValue;

    private static void CheckLadder(VectorIndex index, IReadOnlyList<QueryEncoder<TQuery>> encoders)
    {
        ArgumentNullException.ThrowIfNull(index);
        ArgumentNullException.ThrowIfNull(encoders);
        if (encoders.Count == 0) throw new ArgumentException("There are no encoders; give at least one.", nameof(encoders));
        for (var rung = 0; rung < encoders.Count; rung++)
        {
            var (name, flops) = (encoders[rung].Name, encoders[rung].FlopsPerQuery);
            if (!(flops > 0) || !double.IsFinite(flops))
            {
                throw new ArgumentException(
                    $"The encoder '{name}' takes {flops} FLOPs for a query; give a number above 0.", nameof(encoders));
            }

            if (rung > 0 && !(flops > encoders[rung - 1].FlopsPerQuery))
            {
                throw new ArgumentException(
                    $"The encoder '{name}' takes {flops} FLOPs for a query, no more than '{encoders[rung - 1].Name}' before it; give the "
                    + "encoders in ascending order of cost.", nameof(encoders));
            }
        }
    }

    /// <summary>
    /// Tries thresholds for every encoder but the last. The candidates are margins of the queries, spread evenly if there are many.
    /// </summary>
    private sealed class Calibration(List<(float[] Margins, double[] Recalls)> rungs, double[] flops, double tolerance)
    {
        private readonly float?[] _thresholds = new float?[rungs.Count - 1];
        private readonly double _required = rungs[^1].Recalls.Sum() - (tolerance * rungs[^1].Recalls.Length) - 1e-9;
        private float?[] _best = new float?[rungs.Count - 1];
        private double _cheapest = flops[^1] * rungs[^1].Recalls.Length;

        /// <summary>Returns the threshold of each encoder but the last, or null for an encoder that is left out.</summary>
        public float?[] Run()
        {
            int[] all = [.. Enumerable.Range(0, rungs[0].Recalls.Length)];
            var affordable = Math.Pow(MaxCalibrationWork / all.Length, 1.0 / Math.Max(1, rungs.Count - 1));
            Try(0, all, 0, 0, (int)Math.Clamp(affordable, 2, MaxThresholds));
            return _best;
        }

        // Tries the thresholds of an encoder for the queries that earlier encoders did not answer (left), given the FLOPs that the earlier
        // encoders spent and the sum of their answers' recalls.
        private void Try(int rung, int[] left, double spent, double recalled, int most)
        {
            if (rung == rungs.Count - 1)
            {
                spent += left.Length * flops[rung];
                recalled += left.Sum(query => rungs[rung].Recalls[query]);
                if (recalled < _required || spent >= _cheapest) return;
                _cheapest = spent;
                _best = [.. _thresholds];
                return;
            }

            _thresholds[rung] = null;
            Try(rung + 1, left, spent, recalled, most);
            spent += left.Length * flops[rung];
            if (spent >= _cheapest) return;
            var (margins, recalls) = rungs[rung];
            int[] ordered = [.. left.OrderByDescending(query => margins[query])];
            var answered = 0;
            for (var choice = 1; choice <= most && answered < ordered.Length; choice++)
            {
                // Queries with the same margin are either all answered or none of them is.
                var next = Math.Max(answered + 1, (int)((long)ordered.Length * choice / most));
                while (next < ordered.Length && margins[ordered[next]] == margins[ordered[next - 1]]) next++;
                for (; answered < next; answered++) recalled += recalls[ordered[answered]];
                _thresholds[rung] = margins[ordered[answered - 1]];
                Try(rung + 1, ordered[answered..], spent, recalled, most);
            }
        }
    }
}

using System.Collections.Immutable;

namespace MatFormer;

/// <summary>What embeds queries: one profile of a model.</summary>
/// <param name="Name">Its name, such as the profile's.</param>
/// <param name="FlopsPerQuery">What it takes for one query, on average; above 0.</param>
/// <param name="Embed">
/// The embeddings of some queries, float32 (queries, width) row by row, in the space of the index that is searched
/// (<see cref="VectorIndex.CheckFits"/>).
/// </param>
public sealed record QueryEncoder<TQuery>(string Name, double FlopsPerQuery, Func<IReadOnlyList<TQuery>, float[]> Embed);

/// <summary>What an escalating search found.</summary>
/// <param name="Hits">The hits of each query, the best first.</param>
/// <param name="Rungs">The number of the encoder that answered each query.</param>
/// <param name="Answered">How many queries each encoder answered.</param>
/// <param name="ComputeShare">
/// FLOPs of all embeddings that were made, those of queries that went on included, over those of the last encoder for every query. The
/// search itself is not counted.
/// </param>
public sealed record EscalationResult(SearchHit[][] Hits, int[] Rungs, ImmutableArray<int> Answered, double ComputeShare);

/// <summary>
/// Searches with the cheapest encoder first and embeds a query again with the next where its margin is small. The margin is by how much
/// the best hit's score exceeds that of the first hit that is left out: of searches for k hits, the score of the first less that of the
/// (k + 1)-th.
/// </summary>
/// <remarks>
/// Of the margins tried on synthetic embeddings (first less second, less k-th, less 32nd, the first score alone, relative ones) this one
/// needs the least compute, or near to it, to keep the last encoder's recall at 1 as at 10.
/// </remarks>
public sealed class EscalatingSearch<TQuery>
{
    // Of more thresholds for an encoder, calibration would choose by chance: of all possible ones, three encoders lost 1.3 points on other
    // queries where it was given half a point; of 24 each, 0.8, at nearly the same compute.
    private const int MaxThresholds = 24;

    // Combinations of thresholds, times queries.
    private const double MaxCalibrationWork = 1 << 26;

    private readonly VectorIndex _index;

    /// <summary>Makes one.</summary>
    /// <param name="index">What is searched.</param>
    /// <param name="encoders">The encoders, the cheapest first; at least one.</param>
    /// <param name="thresholds">
    /// The margin from which on each encoder but the last answers: 0 for always, <see cref="float.PositiveInfinity"/> for never.
    /// </param>
    /// <exception cref="ArgumentException">
    /// The encoders do not ascend in cost, or there is not one threshold for each but the last, or one is negative or no number.
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
                $"The thresholds {string.Join(", ", thresholds)} are not all 0 or more; margins are never below.", nameof(thresholds));
        }

        _index = index;
        Encoders = [.. encoders];
        Thresholds = [.. thresholds];
    }

    /// <summary>The encoders, the cheapest first.</summary>
    public ImmutableArray<QueryEncoder<TQuery>> Encoders { get; }

    /// <summary>The margin from which on each encoder but the last answers.</summary>
    public ImmutableArray<float> Thresholds { get; }

    /// <summary>
    /// Finds the thresholds that keep the recall of the last encoder for the least compute on held-out queries. Encoders that do not pay
    /// are left out of the result. On other queries recall varies as any mean does: give some hundreds, and measure on yet others.
    /// </summary>
    /// <param name="index">What is searched.</param>
    /// <param name="encoders">The encoders, the cheapest first.</param>
    /// <param name="queries">Queries that are like those to come, but none of them.</param>
    /// <param name="relevant">The rows that each should find, at least one.</param>
    /// <param name="options">How it will be searched; recall is at its <see cref="SearchOptions.Count"/>.</param>
    /// <param name="tolerance">What recall may be lost, such as 0.01 for a point.</param>
    /// <exception cref="ArgumentException">There are no queries, or not as many as relevant rows; or what a search refuses.</exception>
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
    /// <param name="options">How many, and how; 10 at full width if null. A shortlist is made longer than the count if need be.</param>
    /// <exception cref="ArgumentException">There are no queries; or an option is not possible for the index.</exception>
    /// <exception cref="InvalidOperationException">An encoder gives other numbers than one embedding for each query.</exception>
    public EscalationResult Search(IReadOnlyList<TQuery> queries, SearchOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(queries);
        if (queries.Count == 0) throw new ArgumentException("There are no queries; give some.", nameof(queries));
        options ??= new SearchOptions();
        var count = Math.Min(options.Count, _index.Count);
        var (hits, rungs) = (new SearchHit[queries.Count][], new int[queries.Count]);
        var answered = new int[Encoders.Length];
        double flops = 0;
        int[] open = [.. Enumerable.Range(0, queries.Count)];
        for (var rung = 0; rung < Encoders.Length && open.Length > 0; rung++)
        {
            var found = Search(_index, Encoders[rung], [.. open.Select(query => queries[query])], options);
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

    // One hit more than asked for, where the index has it: the margin is to that.
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
                    + "cheapest first.", nameof(encoders));
            }
        }
    }

    /// <summary>Tries thresholds of every encoder but the last: values that margins have, evenly spread where they are many.</summary>
    private sealed class Calibration(List<(float[] Margins, double[] Recalls)> rungs, double[] flops, double tolerance)
    {
        private readonly float?[] _thresholds = new float?[rungs.Count - 1];
        private readonly double _required = rungs[^1].Recalls.Sum() - (tolerance * rungs[^1].Recalls.Length) - 1e-9;
        private float?[] _best = new float?[rungs.Count - 1];
        private double _cheapest = flops[^1] * rungs[^1].Recalls.Length;

        /// <summary>The threshold of each encoder, null for one that is left out.</summary>
        public float?[] Run()
        {
            int[] all = [.. Enumerable.Range(0, rungs[0].Recalls.Length)];
            var affordable = Math.Pow(MaxCalibrationWork / all.Length, 1.0 / Math.Max(1, rungs.Count - 1));
            Try(0, all, 0, 0, (int)Math.Clamp(affordable, 2, MaxThresholds));
            return _best;
        }

        // The queries that are left over by the rungs below, and what those took and recalled.
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
                // All of the same margin answer or none.
                var next = Math.Max(answered + 1, (int)((long)ordered.Length * choice / most));
                while (next < ordered.Length && margins[ordered[next]] == margins[ordered[next - 1]]) next++;
                for (; answered < next; answered++) recalled += recalls[ordered[answered]];
                _thresholds[rung] = margins[ordered[answered - 1]];
                Try(rung + 1, ordered[answered..], spent, recalled, most);
            }
        }
    }
}

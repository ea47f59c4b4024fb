using System.Collections.Immutable;
using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>How well the queries of a profile find their documents in an index, at one dimension of the embeddings.</summary>
/// <param name="Costs">The profile and its costs.</param>
/// <param name="Dimension">The number of leading dimensions of the embeddings that are compared.</param>
/// <param name="RecallAt1">The share of queries whose document comes first.</param>
/// <param name="RecallAt10">The share of queries whose document is among the first 10.</param>
/// <param name="ReciprocalRank">The mean of 1 / the document's rank. A rank beyond 10 counts as 0.</param>
/// <param name="GroupAccuracy">
/// The share of queries whose first hit is in the query's group, such as a member's type; null without groups.
/// </param>
/// <param name="MicrosecondsPerQuery">
/// The time to embed a query, including tokenization, when queries run in batches: the median over the batches.
/// </param>
public sealed record RetrievalRow(
    ProfileCosts Costs, int Dimension, RetrievalMeasure RecallAt1, RetrievalMeasure RecallAt10, RetrievalMeasure ReciprocalRank,
    RetrievalMeasure? GroupAccuracy, double MicrosecondsPerQuery);

/// <summary>
/// The result of cheap first (<see cref="EscalatingSearch{TQuery}"/>), calibrated on one half of the queries and measured on the other.
/// </summary>
/// <param name="Tolerance">The recall that calibration was allowed to lose on the first half.</param>
/// <param name="Encoders">The profiles that calibration kept, the cheapest first.</param>
/// <param name="Thresholds">For each profile but the last, the smallest margin at which it answers.</param>
/// <param name="Answered">The number of queries that each profile answered.</param>
/// <param name="RecallAt10">Recall at 10 of the escalating search.</param>
/// <param name="LastRecallAt10">Recall at 10 of the last profile on the same queries.</param>
/// <param name="ComputeShare">The FLOPs of embedding the queries, divided by those of the last profile alone.</param>
public sealed record EscalationRow(
    double Tolerance, ImmutableArray<string> Encoders, ImmutableArray<float> Thresholds, ImmutableArray<int> Answered,
    RetrievalMeasure RecallAt10, RetrievalMeasure LastRecallAt10, double ComputeShare);

/// <summary>The retrieval quality of a text encoder.</summary>
/// <param name="Rows">
/// A row for each profile at each dimension: granularities, narrowest first, then profiles, then routing budgets.
/// </param>
/// <param name="Queries">The number of queries.</param>
/// <param name="Documents">The number of documents that were searched.</param>
/// <param name="Escalation">The result of cheap first, or null for a slice.</param>
public sealed record RetrievalEvaluation(ImmutableArray<RetrievalRow> Rows, int Queries, int Documents, EscalationRow? Escalation)
{
    /// <summary>The expected recall at 10 of random hits.</summary>
    public double ChanceAt10 => Math.Min(1, 10.0 / Documents);
}

/// <summary>Measures text encoders with the queries of validation pairs.</summary>
public static class RetrievalEvaluator
{
    /// <summary>
    /// The default recall that escalation may lose: half a percentage point. With a tolerance of 0, chance would decide between sizes that
    /// are equally good.
    /// </summary>
    public const double DefaultTolerance = 0.005;

    internal const int Hits = 10;
    private const int QueriesAtOnce = 256;

    /// <summary>
    /// Measures the queries of every granularity, declared profile and declared routing budget, at every dimension, on the model's own
    /// index.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="pairs">The validation pairs, whose queries are searched for, and the tokenizer.</param>
    /// <param name="index">
    /// The index to search, embedded by any profile of the model. It must hold the validation documents, and may hold others.
    /// </param>
    /// <param name="tolerance">The recall that escalation may lose on the queries for calibration.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <exception cref="CheckpointException">The index belongs to another model.</exception>
    /// <exception cref="DataException">The index lacks validation documents, or has fewer than 10 documents.</exception>
    public static RetrievalEvaluation Run<TModel>(
        TModel model, PairCorpus pairs, VectorIndex index, double tolerance = DefaultTolerance,
        CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(pairs);
        var task = new Task(pairs, index);
        var rows = ImmutableArray.CreateBuilder<RetrievalRow>();
        List<(TextEmbedder Embedder, ProfileCosts Costs)> profiles =
        [
            .. TModel.Granularities.Concat(TModel.Profiles).Select(profile => (
                TextEmbedder.Of(model, profile, pairs.Tokenizer), ProfileCosts.Of(profile, TModel.Granularities.Contains(profile)))),
        ];
        foreach (var (embedder, _) in profiles) embedder.CheckFits(index);
        var routed = Budgets<TModel>()
            .Select(budget => (TextEmbedder.Of(model, budget, pairs.Tokenizer), ProfileCosts.Of<TModel>(budget)));
        var embeddings = task.Measure([.. profiles, .. routed], rows, cancellationToken);

        // The encoders must ascend in cost without ties. The whole model is the last one.
        List<QueryEncoder<int>> ladder =
        [
            .. profiles.Select((its, i) => new QueryEncoder<int>(
                its.Costs.Name, its.Embedder.FlopsPerText, queries => task.Rows(embeddings[i], queries))),
        ];
        var whole = ladder[TModel.Granularities.Count - 1];
        List<QueryEncoder<int>> ascending =
            [.. ladder.Where(encoder => encoder.FlopsPerQuery < whole.FlopsPerQuery).OrderBy(encoder => encoder.FlopsPerQuery)
                .DistinctBy(encoder => encoder.FlopsPerQuery), whole];
        return new RetrievalEvaluation(rows.ToImmutable(), task.Queries.Length, index.Count, task.Escalate(ascending, tolerance));
    }

    /// <summary>
    /// Measures the queries of one embedder at every dimension. The index may belong to another model, which shows how little the
    /// embeddings of two models have in common.
    /// </summary>
    /// <param name="queries">The embedder of the queries.</param>
    /// <param name="costs">The embedder's profile and its costs.</param>
    /// <param name="pairs">The validation pairs, whose queries are searched for.</param>
    /// <param name="index">The index to search.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <exception cref="ArgumentException">The embeddings and the vectors of the index have different widths.</exception>
    /// <exception cref="DataException">The index lacks validation documents, or has fewer than 10 documents.</exception>
    public static RetrievalEvaluation Run(
        TextEmbedder queries, ProfileCosts costs, PairCorpus pairs, VectorIndex index, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(queries);
        ArgumentNullException.ThrowIfNull(pairs);
        var task = new Task(pairs, index);
        var rows = ImmutableArray.CreateBuilder<RetrievalRow>();
        task.Measure([(queries, costs)], rows, cancellationToken);
        return new RetrievalEvaluation(rows.ToImmutable(), task.Queries.Length, index.Count, null);
    }

    /// <summary>
    /// Returns the loss of each granularity and declared routing budget on validation pairs, in nats per choice among the batch. Losses are
    /// comparable only at the same batch size.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="pairs">The corpus whose validation pairs are evaluated.</param>
    /// <param name="batch">The number of pairs in a batch. Only whole batches are evaluated.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <returns>The losses of the granularities, narrowest first, and then those of the budgets, under their names.</returns>
    /// <exception cref="DataException">There are fewer validation pairs than a batch has, or the model takes no pairs.</exception>
    public static ImmutableArray<(string Granularity, double Loss)> Losses<TModel>(
        TModel model, PairCorpus pairs, int batch = 64, CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        [
            .. TModel.Granularities.Select(granularity => granularity.Name).Concat(Budgets<TModel>().Select(RoutingBudget.NameOf)).Zip(
                Losses(
                    model,
                    [.. TModel.Granularities.Select(Streams.Of), .. Budgets<TModel>().Select(budget => Streams.Routed<TModel>(budget))],
                    pairs, batch, cancellationToken)),
        ];

    /// <summary>
    /// Returns the losses of profiles, such as the mixes of <see cref="Mixes.Sweep{TModel}"/>, on validation pairs, in nats per choice
    /// among the batch.
    /// </summary>
    /// <inheritdoc cref="Losses{TModel}(TModel, PairCorpus, int, CancellationToken)"/>
    /// <param name="model">The model.</param>
    /// <param name="profiles">The profiles to measure.</param>
    /// <param name="pairs">The corpus whose validation pairs are evaluated.</param>
    /// <param name="batch">The number of pairs in a batch. Only whole batches are evaluated.</param>
    /// <param name="cancellationToken">Cancels the evaluation.</param>
    /// <returns>The losses, in the order of the profiles.</returns>
    public static ImmutableArray<double> Losses<TModel>(
        TModel model, ImmutableArray<Profile<TModel>> profiles, PairCorpus pairs, int batch = 64,
        CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        Losses(model, [.. profiles.Select(Streams.Of)], pairs, batch, cancellationToken);

    private static ImmutableArray<double> Losses<TModel>(
        TModel model, ImmutableArray<Streams> passes, PairCorpus pairs, int batch, CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(pairs);
        ArgumentOutOfRangeException.ThrowIfLessThan(batch, 2);
        Feed.Of(pairs).CheckFits(model);
        var batches = pairs.Validation.Count / batch;
        if (batches == 0)
        {
            throw new DataException(
                $"The data of {pairs.Source} has {Counted.Of(pairs.Validation.Count, "validation pair")}, fewer than a batch of {batch}; "
                + "give more data, or a smaller batch.");
        }

        using var unrecorded = no_grad();
        var sums = new double[passes.Length];
        foreach (var some in Feed.Of(pairs).HeldOut(TModel.Spec, batch, batches * batch))
        {
            using var scope = NewDisposeScope();
            var (input, targets) = some.ToTensors(model.Device);
            for (var i = 0; i < sums.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                sums[i] += model.Losses(passes[i], input, targets).item<float>();
            }
        }

        return [.. sums.Select(sum => sum / batches)];
    }

    private static ImmutableArray<double> Budgets<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel> => TModel.Spec.Routing?.Budgets ?? [];

    // The queries, and the rows of the index that answer them.
    private sealed class Task
    {
        private readonly VectorIndex _index;
        private readonly int[][] _relevant;
        private readonly string?[] _groups;
        private readonly string?[] _rowGroups;

        public Task(PairCorpus pairs, VectorIndex index)
        {
            ArgumentNullException.ThrowIfNull(index);
            if (index.Count < Hits)
            {
                throw new DataException(
                    $"The index '{index.Path}' has {Counted.Of(index.Count, "document")}; give one of at least {Hits}.");
            }

            _index = index;
            Queries = [.. pairs.Validation.Select(pair => pair.Query)];
            _groups = [.. pairs.Validation.Select(pair => pair.Group)];
            var groups = new Dictionary<string, string?>(StringComparer.Ordinal);
            foreach (var pair in pairs.Training.Concat(pairs.Validation)) groups[pair.Document] = pair.Group;
            var rows = new Dictionary<string, int>(StringComparer.Ordinal);
            _rowGroups = new string?[index.Count];
            for (var row = 0; row < index.Count; row++)
            {
                var text = index.EntryOf(row).Text;
                rows.TryAdd(text, row);
                _rowGroups[row] = groups.GetValueOrDefault(text);
            }

            _relevant = [.. pairs.Validation.Select(pair => rows.TryGetValue(pair.Document, out var row)
                ? new[] { row }
                : throw new DataException(
                    $"The index '{index.Path}' does not hold the document of the query '{pair.Query}'; index the same data."))];
        }

        public string[] Queries { get; }

        /// <summary>
        /// Adds a row for each embedder and dimension. Returns each embedder's embeddings of the queries. The embedders take turns, so that
        /// other load on the machine affects the times of all.
        /// </summary>
        public float[][] Measure(
            IReadOnlyList<(TextEmbedder Embedder, ProfileCosts Costs)> all, ImmutableArray<RetrievalRow>.Builder rows,
            CancellationToken cancellationToken)
        {
            float[][] embeddings = [.. all.Select(_ => new float[(long)Queries.Length * _index.Width])];
            var times = all.Select(_ => new List<double>()).ToList();
            foreach (var (embedder, _) in all)
            {
                if (embedder.Width != _index.Width)
                {
                    throw new ArgumentException(
                        $"The queries are embedded at {embedder.Width} dimensions, but the vectors of '{_index.Path}' have {_index.Width}; "
                        + "embed them at full width.", nameof(all));
                }

                embedder.Embed(Queries[..Math.Min(QueriesAtOnce, Queries.Length)], cancellationToken); // warm-up: first uses allocate
            }

            for (var first = 0; first < Queries.Length; first += QueriesAtOnce)
            {
                var some = Queries[first..Math.Min(first + QueriesAtOnce, Queries.Length)];
                for (var i = 0; i < all.Count; i++)
                {
                    var watch = Stopwatch.StartNew();
                    all[i].Embedder.Embed(some, cancellationToken).CopyTo(embeddings[i].AsSpan(first * _index.Width));
                    if (first == 0 || some.Length == QueriesAtOnce) times[i].Add(watch.Elapsed.TotalMicroseconds / some.Length);
                }
            }

            for (var i = 0; i < all.Count; i++)
            {
                var time = times[i].Order().ElementAt(times[i].Count / 2);
                foreach (var dimension in _index.Prefixes.Append(_index.Width))
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    var options = new SearchOptions
                    {
                        Count = Hits,
                        Prefix = dimension < _index.Width ? dimension : null,
                        Shortlist = 0,
                        Threads = Environment.ProcessorCount,
                    };
                    var found = _index.SearchBatch(embeddings[i], options);
                    rows.Add(new RetrievalRow(
                        all[i].Costs, dimension, RetrievalMeasures.RecallAt(1, found, _relevant),
                        RetrievalMeasures.RecallAt(Hits, found, _relevant), RetrievalMeasures.MeanReciprocalRank(found, _relevant),
                        _groups.All(group => group is null) ? null
                            : RetrievalMeasures.NearestNeighbourAccuracy(found, _groups, _rowGroups), time));
                }
            }

            return embeddings;
        }

        public float[] Rows(float[] embeddings, IReadOnlyList<int> queries)
        {
            var width = _index.Width;
            var result = new float[queries.Count * width];
            for (var i = 0; i < queries.Count; i++) embeddings.AsSpan(queries[i] * width, width).CopyTo(result.AsSpan(i * width));
            return result;
        }

        /// <summary>Calibrates on every other query and measures on the rest. Returns null if there are too few queries.</summary>
        public EscalationRow? Escalate(List<QueryEncoder<int>> encoders, double tolerance)
        {
            int[] all = [.. Enumerable.Range(0, Queries.Length)];
            int[] known = [.. all.Where(query => query % 2 == 0)], others = [.. all.Where(query => query % 2 == 1)];
            if (others.Length == 0) return null;
            var options = new SearchOptions { Count = Hits, Threads = Environment.ProcessorCount };
            var search = EscalatingSearch<int>.Calibrate(_index, encoders, known, RelevantOf(known), options, tolerance);
            var result = search.Search(others, options);
            var last = new EscalatingSearch<int>(_index, [encoders[^1]], []).Search(others, options);
            return new EscalationRow(
                tolerance, [.. search.Encoders.Select(encoder => encoder.Name)], search.Thresholds, result.Answered,
                RetrievalMeasures.RecallAt(Hits, result.Hits, RelevantOf(others)),
                RetrievalMeasures.RecallAt(Hits, last.Hits, RelevantOf(others)), result.ComputeShare);
        }

        private List<int[]> RelevantOf(int[] queries) => [.. queries.Select(query => _relevant[query])];
    }
}

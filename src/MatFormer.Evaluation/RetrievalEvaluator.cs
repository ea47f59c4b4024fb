using System.Collections.Immutable;
using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>How well queries of a profile, cut to a dimension, find their documents in an index.</summary>
/// <param name="Costs">What the profile is and costs.</param>
/// <param name="Dimension">How many numbers of query and documents are compared.</param>
/// <param name="RecallAt1">The share of queries whose document comes first.</param>
/// <param name="RecallAt10">The share of queries whose document is among the first 10.</param>
/// <param name="ReciprocalRank">The mean of 1 / the document's rank, 0 beyond 10.</param>
/// <param name="GroupAccuracy">
/// The share of queries whose first hit is of their group, such as a member's type; null without groups.
/// </param>
/// <param name="MicrosecondsPerQuery">Time to embed a query, tokenizing included, among others: the median over batches.</param>
public sealed record RetrievalRow(
    ProfileCosts Costs, int Dimension, RetrievalMeasure RecallAt1, RetrievalMeasure RecallAt10, RetrievalMeasure ReciprocalRank,
    RetrievalMeasure? GroupAccuracy, double MicrosecondsPerQuery);

/// <summary>
/// What cheap first gives (<see cref="EscalatingSearch{TQuery}"/>), calibrated on one half of the queries, measured on the other.
/// </summary>
/// <param name="Tolerance">What recall it was allowed to lose on the first half.</param>
/// <param name="Encoders">The profiles that are left, the cheapest first.</param>
/// <param name="Thresholds">The margin from which on each but the last answers.</param>
/// <param name="Answered">How many queries each answered.</param>
/// <param name="RecallAt10">Recall of the escalating search.</param>
/// <param name="LastRecallAt10">Recall of the last profile on the same queries.</param>
/// <param name="ComputeShare">FLOPs of embedding the queries over those of the last profile alone.</param>
public sealed record EscalationRow(
    double Tolerance, ImmutableArray<string> Encoders, ImmutableArray<float> Thresholds, ImmutableArray<int> Answered,
    RetrievalMeasure RecallAt10, RetrievalMeasure LastRecallAt10, double ComputeShare);

/// <summary>How well a text encoder retrieves.</summary>
/// <param name="Rows">Each profile at each dimension: granularities, narrowest first, then profiles.</param>
/// <param name="Queries">Queries that were asked.</param>
/// <param name="Documents">Documents that were searched.</param>
/// <param name="Escalation">Cheap first, or null for a slice.</param>
public sealed record RetrievalEvaluation(ImmutableArray<RetrievalRow> Rows, int Queries, int Documents, EscalationRow? Escalation)
{
    /// <summary>The recall at 10 of queries that find by chance.</summary>
    public double ChanceAt10 => Math.Min(1, 10.0 / Documents);
}

/// <summary>Measures text encoders with the queries of pairs that were not trained on.</summary>
public static class RetrievalEvaluator
{
    /// <summary>
    /// What of the recall escalation may lose unless it is told otherwise, half a point. Allowed nothing, it follows chance where sizes
    /// are as good as each other.
    /// </summary>
    public const double DefaultTolerance = 0.005;

    internal const int Hits = 10;
    private const int QueriesAtOnce = 256;

    /// <summary>Measures the queries of every granularity and declared profile, at every dimension, on the model's own index.</summary>
    /// <param name="model">The model.</param>
    /// <param name="pairs">The validation pairs, whose queries are asked, and the tokenizer.</param>
    /// <param name="index">What is searched: the validation documents among others perhaps, embedded by any profile of the model.</param>
    /// <param name="tolerance">What of the recall escalation may lose on the queries that it is calibrated on.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="CheckpointException">The index is of another model.</exception>
    /// <exception cref="DataException">The index lacks validation documents, or has fewer than 10 in all.</exception>
    public static RetrievalEvaluation Run<TModel>(
        TModel model, PairCorpus pairs, VectorIndex index, double tolerance = DefaultTolerance,
        CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(pairs);
        var task = new Task(pairs, index);
        var rows = ImmutableArray.CreateBuilder<RetrievalRow>();
        var ladder = new List<QueryEncoder<int>>();
        foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
        {
            var embedder = TextEmbedder.Of(model, profile, pairs.Tokenizer);
            embedder.CheckFits(index);
            var isGranularity = TModel.Granularities.Contains(profile);
            var embeddings = task.Measure(embedder, ProfileCosts.Of(profile, isGranularity), rows, cancellationToken);
            ladder.Add(new(profile.Name, embedder.FlopsPerText, queries => task.Rows(embeddings, queries)));
        }

        // The cheapest first, and none that costs as much as another; the whole model is the last.
        var whole = ladder[TModel.Granularities.Count - 1];
        List<QueryEncoder<int>> ascending =
            [.. ladder.Where(encoder => encoder.FlopsPerQuery < whole.FlopsPerQuery).OrderBy(encoder => encoder.FlopsPerQuery)
                .DistinctBy(encoder => encoder.FlopsPerQuery), whole];
        return new RetrievalEvaluation(rows.ToImmutable(), task.Queries.Length, index.Count, task.Escalate(ascending, tolerance));
    }

    /// <summary>
    /// Measures the queries of one embedder at every dimension. The index may be another model's: it shows how little the embeddings of
    /// two models have in common.
    /// </summary>
    /// <param name="queries">What embeds them.</param>
    /// <param name="costs">What it is and costs.</param>
    /// <param name="pairs">The validation pairs, whose queries are asked.</param>
    /// <param name="index">What is searched.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="ArgumentException">The embeddings and the index's vectors are of different widths.</exception>
    /// <exception cref="DataException">The index lacks validation documents, or has fewer than 10 in all.</exception>
    public static RetrievalEvaluation Run(
        TextEmbedder queries, ProfileCosts costs, PairCorpus pairs, VectorIndex index, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(queries);
        ArgumentNullException.ThrowIfNull(pairs);
        var task = new Task(pairs, index);
        var rows = ImmutableArray.CreateBuilder<RetrievalRow>();
        task.Measure(queries, costs, rows, cancellationToken);
        return new RetrievalEvaluation(rows.ToImmutable(), task.Queries.Length, index.Count, null);
    }

    /// <summary>
    /// The loss of each granularity on validation pairs, in nats per choice among the batch: comparable for one batch size only.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="pairs">Its validation pairs.</param>
    /// <param name="batch">Pairs in a batch; what is left over of the last whole batch is not looked at.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>The losses, narrowest first.</returns>
    /// <exception cref="DataException">There are fewer validation pairs than a batch has, or the model takes no pairs.</exception>
    public static ImmutableArray<(string Granularity, double Loss)> Losses<TModel>(
        TModel model, PairCorpus pairs, int batch = 64, CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        [
            .. TModel.Granularities.Zip(
                Losses(model, [.. TModel.Granularities], pairs, batch, cancellationToken), (granularity, loss) => (granularity.Name, loss)),
        ];

    /// <summary>The same of some profiles, such as the mixes of <see cref="Mixes.Sweep{TModel}"/>, in their order.</summary>
    /// <inheritdoc cref="Losses{TModel}(TModel, PairCorpus, int, CancellationToken)"/>
    /// <param name="model">The model.</param>
    /// <param name="profiles">What to measure.</param>
    /// <param name="pairs">Its validation pairs.</param>
    /// <param name="batch">Pairs in a batch; what is left over of the last whole batch is not looked at.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>The losses, in the order of the profiles.</returns>
    public static ImmutableArray<double> Losses<TModel>(
        TModel model, ImmutableArray<Profile<TModel>> profiles, PairCorpus pairs, int batch = 64,
        CancellationToken cancellationToken = default)
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
                $"The data {pairs.Source} has {pairs.Validation.Count} pairs to validate on, fewer than a batch of {batch}; give more, or "
                + "a smaller batch.");
        }

        using var unrecorded = no_grad();
        var sums = new double[profiles.Length];
        foreach (var some in Feed.Of(pairs).HeldOut(TModel.Spec, batch, batches * batch))
        {
            using var scope = NewDisposeScope();
            var (input, targets) = some.ToTensors(model.Device);
            for (var i = 0; i < sums.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                sums[i] += model.Losses(Streams.Of(profiles[i]), input, targets).item<float>();
            }
        }

        return [.. sums.Select(sum => sum / batches)];
    }

    // Which rows of the index answer which query.
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
                throw new DataException($"The index '{index.Path}' has {index.Count} documents; give one of at least {Hits}.");
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

        /// <summary>Adds a row for each dimension; gives the embeddings of the queries.</summary>
        public float[] Measure(
            TextEmbedder embedder, ProfileCosts costs, ImmutableArray<RetrievalRow>.Builder rows, CancellationToken cancellationToken)
        {
            if (embedder.Width != _index.Width)
            {
                throw new ArgumentException(
                    $"The queries are embedded as {embedder.Width} numbers, but '{_index.Path}' has vectors of {_index.Width}; embed them "
                    + "at full width.", nameof(embedder));
            }

            var embeddings = new float[(long)Queries.Length * _index.Width];
            var times = new List<double>();
            embedder.Embed(Queries[..Math.Min(QueriesAtOnce, Queries.Length)], cancellationToken); // first uses allocate
            for (var first = 0; first < Queries.Length; first += QueriesAtOnce)
            {
                var some = Queries[first..Math.Min(first + QueriesAtOnce, Queries.Length)];
                var watch = Stopwatch.StartNew();
                embedder.Embed(some, cancellationToken).CopyTo(embeddings.AsSpan(first * _index.Width));
                if (times.Count == 0 || some.Length == QueriesAtOnce) times.Add(watch.Elapsed.TotalMicroseconds / some.Length);
            }

            var time = times.Order().ElementAt(times.Count / 2);
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
                var found = _index.SearchBatch(embeddings, options);
                rows.Add(new RetrievalRow(
                    costs, dimension, RetrievalMeasures.RecallAt(1, found, _relevant), RetrievalMeasures.RecallAt(Hits, found, _relevant),
                    RetrievalMeasures.MeanReciprocalRank(found, _relevant),
                    _groups.All(group => group is null) ? null : RetrievalMeasures.NearestNeighbourAccuracy(found, _groups, _rowGroups),
                    time));
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

        /// <summary>Calibrates on every other query and measures on the rest; null if there are too few.</summary>
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

namespace MatFormer;

/// <summary>
/// The part of a step's batch that one rank computes: every size-th example, beginning with its rank. So each stream's rows are spread
/// over the ranks, and the part depends on nothing but the plan.
/// </summary>
/// <param name="Streams">The streams that have rows on this rank.</param>
/// <param name="Indices">The index of each of these streams in the plan.</param>
/// <param name="Shares">This rank's share of the rows of each of these streams.</param>
/// <param name="Rows">The rows of the whole batch's tensors that belong to this rank.</param>
internal sealed record BatchPart(Streams Streams, int[] Indices, double[] Shares, long[] Rows)
{
    /// <summary>Returns how many of the first examples of a batch belong to a rank.</summary>
    public static int Examples(int examples, int rank, int size) => (examples + size - 1 - rank) / size;

    /// <summary>Returns a rank's part of a batch. The rank must have at least one example.</summary>
    public static BatchPart Of<TModel>(StepPlan plan, int examples, int rank, int size)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var each = TModel.Spec.RowsPerExample;
        var mine = Enumerable.Range(0, examples).Where(example => example % size == rank).ToList();
        long[] rows = [.. mine.SelectMany(example => Enumerable.Range(example * each, each)).Select(row => (long)row)];
        if (plan.Streams.BatchRows is not { } wanted)
        {
            var share = (double)mine.Count / examples;
            return new(plan.Streams, [.. Enumerable.Range(0, plan.Streams.Count)], [.. Enumerable.Repeat(share, plan.Streams.Count)], rows);
        }

        var (profiles, indices, counts, shares) = (new List<Profile<TModel>>(), new List<int>(), new List<int>(), new List<double>());
        var first = 0;
        for (var stream = 0; stream < wanted.Length; stream++)
        {
            var count = rows.Count(row => row >= first && row < first + wanted[stream]);
            first += wanted[stream];
            if (count == 0) continue;
            profiles.Add(TModel.Granularities.First(granularity => granularity.Name == plan.Names[stream]));
            indices.Add(stream);
            counts.Add(count);
            shares.Add((double)count / wanted[stream]);
        }

        var streams = profiles is [var only] ? Streams.Of(only) : Streams.Split<TModel>([.. profiles], [.. counts]);
        return new(streams, [.. indices], [.. shares], rows);
    }
}

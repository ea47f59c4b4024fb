using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Completes batches of pairs in which example i of the whole batch belongs to the rank i % size.</summary>
/// <param name="communicator">The ranks.</param>
/// <param name="examples">The pairs of the whole batch.</param>
/// <param name="streams">The streams of the whole batch.</param>
/// <param name="targets">The targets of the whole batch, (2 examples) int64.</param>
internal sealed class PairRows(ICommunicator communicator, int examples, Streams streams, Tensor targets) : PairExchange
{
    private const int RowsPerExample = 2;

    /// <inheritdoc/>
    public override (Tensor X, Tensor Targets, int Streams, int[]? Rows) Whole(Tensor x, int count)
    {
        // Streams that divide the batch have its rows once, and a rank may lack some of them.
        var (stacked, whole) = streams.BatchRows is null ? (count, count) : (1, streams.Count);
        using var scope = NewDisposeScope();
        var counts = Enumerable.Range(0, communicator.Size).Select(rank => stacked * RowsBefore(rank, examples)).ToArray();
        var all = Gathered(x, counts, out var longest);

        // The own rows come from x itself, so that they have a gradient.
        var sources = new List<long>(stacked * examples * RowsPerExample);
        for (var stream = 0; stream < stacked; stream++)
        {
            for (var row = 0; row < examples * RowsPerExample; row++)
            {
                var (example, side) = Math.DivRem(row, RowsPerExample);
                var (place, rank) = Math.DivRem(example, communicator.Size);
                var local = (stream * RowsBefore(rank, examples)) + (place * RowsPerExample) + side;
                sources.Add(rank == communicator.Rank ? (communicator.Size * longest) + local : (rank * longest) + local);
            }
        }

        var order = tensor(sources.ToArray(), device: x.device);
        var vectors = cat([all, x]).index_select(0, order).MoveToOuterDisposeScope();
        return (vectors, targets, whole, streams.BatchRows);
    }

    /// <inheritdoc/>
    public override Tensor WholeTeacher(Tensor teacher, int student)
    {
        using var scope = NewDisposeScope();
        var first = streams.BatchRows is { } rows ? rows.Take(student).Sum() / RowsPerExample : 0; // the teacher has no earlier examples
        var counts = Enumerable.Range(0, communicator.Size).Select(rank => RowsBefore(rank, examples) - RowsBefore(rank, first)).ToArray();
        var all = Gathered(teacher, counts, out var longest);
        var sources = new List<long>();
        for (var example = first; example < examples; example++)
        {
            var (place, rank) = Math.DivRem(example, communicator.Size);
            var local = (place * RowsPerExample) - RowsBefore(rank, first);
            for (var side = 0; side < RowsPerExample; side++) sources.Add((rank * longest) + local + side);
        }

        return all.index_select(0, tensor(sources.ToArray(), device: teacher.device)).MoveToOuterDisposeScope();
    }

    // The rows of a rank among the first examples of the batch.
    private int RowsBefore(int rank, int example) => BatchPart.Examples(example, rank, communicator.Size) * RowsPerExample;

    // Returns the rows of all ranks, each rank's padded to the longest: (size * longest, D).
    private Tensor Gathered(Tensor mine, int[] counts, out int longest)
    {
        longest = Math.Max(1, counts.Max());
        if (mine.shape[0] != counts[communicator.Rank])
            throw new InvalidOperationException($"The rank has {mine.shape[0]} vectors instead of {counts[communicator.Rank]}.");
        using var unrecorded = no_grad();
        using var padded = zeros([longest, mine.shape[1]], mine.dtype, mine.device);
        using var filled = padded.narrow(0, 0, mine.shape[0]);
        filled.copy_(mine);
        var all = empty([communicator.Size * longest, mine.shape[1]], mine.dtype, mine.device);
        communicator.AllGather(padded, all);
        return all;
    }
}

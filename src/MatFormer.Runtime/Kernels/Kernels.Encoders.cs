using TorchSharp;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <content>
/// The operations around an encoder's blocks. They are cheap compared with the blocks, so they have only one form, in TorchSharp's API.
/// </content>
public static partial class Kernels
{
    /// <summary>
    /// Embeds images: projects their patches, puts a class token in front, and adds positions (ViT, arXiv 2010.11929, equation 1). Pixels
    /// (B, C, H, H) float32 -> (B, T, W) of <paramref name="dtype"/>.
    /// </summary>
    /// <param name="pixels">(B, C, H, H).</param>
    /// <param name="projection">(W, C, P, P), where P divides H: a convolution of stride P.</param>
    /// <param name="bias">(W).</param>
    /// <param name="classToken">(1, 1, W) or null.</param>
    /// <param name="positions">(T, W) or (1, T, W).</param>
    /// <param name="dtype">The dtype of activations.</param>
    /// <param name="width">The width of the result, if it has only the first channels of the weights.</param>
    public static Tensor EmbedPatches(
        Tensor pixels, Tensor projection, Tensor bias, Tensor? classToken, Tensor positions, ScalarType dtype, int? width = null)
    {
        using var scope = NewDisposeScope();
        long batch = pixels.shape[0], channels = pixels.shape[1], patch = projection.shape[2], kept = width ?? projection.shape[0];
        var grid = pixels.shape[2] / patch;
        var patches = pixels.view(batch, channels, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
            .reshape(batch, grid * grid, channels * patch * patch).to(dtype);
        var weight = projection.view(projection.shape[0], channels * patch * patch);
        if (kept < projection.shape[0]) (weight, bias) = (weight.narrow(0, 0, kept), bias.narrow(0, 0, kept));
        var x = Linear(patches, weight, bias);
        x = AddPositions(Prepend(classToken, x), positions.view(-1, positions.shape[^1]), 0, nested: true);
        return x.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Embeds texts: looks up their tokens, puts a class token in front, and adds positions. Tokens (B, T) int64, with -1 after the end of
    /// a text -> (B, T, W) of <paramref name="dtype"/>. With a class token, the result has one position more.
    /// </summary>
    /// <param name="tokens">(B, T) int64.</param>
    /// <param name="weight">(V, W).</param>
    /// <param name="classToken">(1, 1, W) or null.</param>
    /// <param name="positions">(T or more, W) or null.</param>
    /// <param name="dtype">The dtype of activations.</param>
    /// <param name="width">The width of the result, if it has only the first channels of the weights.</param>
    public static Tensor EmbedText(
        Tensor tokens, Tensor weight, Tensor? classToken, Tensor? positions, ScalarType dtype, int? width = null)
    {
        using var scope = NewDisposeScope();
        var x = Prepend(classToken, Embedding(weight, tokens.clamp_min(Number(0L)), dtype, width));
        if (positions is not null) x = AddPositions(x, positions, 0, nested: true);
        return x.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Counts the tokens of each text and adds <paramref name="more"/>: tokens (B, T) int64, with -1 after the end of a text -> (B) int64.
    /// An empty text counts as one token.
    /// </summary>
    public static Tensor Lengths(Tensor tokens, int more)
    {
        using var scope = NewDisposeScope();
        return tokens.ge(Number(0L)).sum([1]).clamp_min(One).add(Number(more), One).MoveToOuterDisposeScope();
    }

    /// <summary>Returns the first token's state: x (N, T, W) -> (N, W).</summary>
    public static Tensor FirstToken(Tensor x)
    {
        using var first = x.narrow(1, 0, 1);
        return first.reshape(x.shape[0], x.shape[2]);
    }

    /// <summary>
    /// Returns the mean of each sequence's states, computed in float32: x (N, T, W) -> (N, W) of x's dtype. The lengths are (B), where N is
    /// a multiple of B, or null.
    /// </summary>
    public static Tensor MeanToken(Tensor x, Tensor? lengths = null)
    {
        using var scope = NewDisposeScope();
        var wide = x.to(ScalarType.Float32);
        if (lengths is null) return wide.mean([1]).to(x.dtype).MoveToOuterDisposeScope();
        var counts = lengths.unsqueeze(1); // (B, 1)
        var seen = arange(Number(0L), Number(x.shape[1]), One, ScalarType.Int64, x.device).lt(counts).to(ScalarType.Float32); // (B, T)
        var shares = seen.div(counts).repeat(x.shape[0] / lengths.shape[0], 1).unsqueeze(1); // (N, 1, T)
        return shares.bmm(wide).squeeze(1).to(x.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Cuts each vector to its first numbers and scales it to length 1: x (N, D) -> (N, width) float32. Vectors that have no more numbers
    /// are not cut.
    /// </summary>
    public static Tensor UnitPrefix(Tensor x, long width)
    {
        using var scope = NewDisposeScope();
        var prefix = x.narrow(1, 0, Math.Min(width, x.shape[1])).to(ScalarType.Float32);
        return prefix.mul(Square(prefix).sum([1], keepdim: true).add(Number(1e-12), One).rsqrt()).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Returns the class logits of the vectors' first numbers: x (N, W), head (V, W or more), bias (V) -> (N, V) float32. Vectors that have
    /// no more numbers are not cut.
    /// </summary>
    public static Tensor ClassLogits(Tensor x, Tensor head, Tensor bias, long prefix)
    {
        using var scope = NewDisposeScope();
        prefix = Math.Min(prefix, x.shape[1]);
        return Linear(x.narrow(1, 0, prefix).contiguous(), head.narrow(1, 0, prefix).contiguous(), bias).to(ScalarType.Float32)
            .MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Returns the mean cross-entropy of each stream, in nats, over the trained prefixes of its vectors (Matryoshka representation
    /// learning, arXiv 2205.13147, equation 1, with one classifier of which each prefix uses the first columns): x (N, W) -> (R) float32.
    /// </summary>
    /// <param name="x">(N, W).</param>
    /// <param name="head">(V, W).</param>
    /// <param name="bias">(V).</param>
    /// <param name="targets">
    /// Classes int64 (B), or class probabilities float32 (B, V). There are N rows instead of B if rows is given.
    /// </param>
    /// <param name="streams">R.</param>
    /// <param name="rows">How many of the N rows each stream has; null if all streams have the same B rows.</param>
    /// <param name="prefixes">The widths of the prefixes.</param>
    /// <param name="shares">The weight of each prefix; the weights add up to 1.</param>
    public static Tensor ClassCrossEntropy(
        Tensor x, Tensor head, Tensor bias, Tensor targets, int streams, int[]? rows, ReadOnlySpan<int> prefixes,
        ReadOnlySpan<double> shares)
    {
        using var scope = NewDisposeScope();
        var all = rows is not null ? targets : targets.dim() == 1 ? targets.repeat(streams) : targets.repeat(streams, 1);
        return MeanOverPrefixes(prefixes, shares, prefix =>
        {
            var known = ClassLogits(x, head, bias, prefix).log_softmax(-1); // (N, V)
            var losses = all.dim() == 1 ? known.gather(1, all.unsqueeze(1)).neg() : known.mul(all).sum([-1]).neg();
            return StreamMeans(losses, streams, rows);
        }).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Returns the divergence of each stream's class distribution from a teacher's: temperature^2 KL(teacher || stream), where both are
    /// softmax(logits / temperature), averaged over the stream's rows and the prefixes (Hinton et al., arXiv 1503.02531, section 2) -> (R)
    /// float32. It is 0 for streams before the student. No gradient flows into the teacher.
    /// </summary>
    /// <inheritdoc cref="ClassCrossEntropy"/>
    public static Tensor ClassDivergence(
        Tensor x, Tensor teacher, Tensor head, Tensor bias, int streams, int[]? rows, int student, double temperature,
        ReadOnlySpan<int> prefixes, ReadOnlySpan<double> shares)
    {
        using var scope = NewDisposeScope();
        var first = FirstRow(x, streams, rows, student);
        var (students, taught) = (x.narrow(0, first, x.shape[0] - first), rows is null ? teacher.repeat(streams - student, 1) : teacher);
        var means = MeanOverPrefixes(prefixes, shares, prefix =>
        {
            var divergences = Divergences(
                ClassLogits(taught.detach(), head.detach(), bias.detach(), prefix), ClassLogits(students, head, bias, prefix),
                temperature); // (N)
            return StreamMeans(divergences, streams - student, rows?[student..]);
        });
        return cat([zeros(student, dtype: ScalarType.Float32, device: x.device), means]).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Returns the mean cross-entropy of each stream, in nats, of finding each row's partner. Rows are a query and its document in turn.
    /// The other documents (queries) among the stream's rows are the negatives of a query (document). Scores are cosines / temperature
    /// (InfoNCE, arXiv 1807.03748, in both directions as in arXiv 2103.00020). The result is the mean over prefixes as in
    /// <see cref="ClassCrossEntropy"/>: x (N, D) -> (R) float32.
    /// </summary>
    /// <param name="x">(N, D), N even.</param>
    /// <param name="targets">int64 (B), or (N) if rows is given. Rows with the same number are never each other's negatives.</param>
    /// <param name="streams">R.</param>
    /// <param name="rows">How many of the N rows each stream has, all even; null if all streams have the same B rows.</param>
    /// <param name="temperature">The temperature, above 0.</param>
    /// <param name="prefixes">The widths of the prefixes.</param>
    /// <param name="shares">The weight of each prefix; the weights add up to 1.</param>
    public static Tensor PairCrossEntropy(
        Tensor x, Tensor targets, int streams, int[]? rows, double temperature, ReadOnlySpan<int> prefixes, ReadOnlySpan<double> shares)
    {
        using var scope = NewDisposeScope();
        if (PairExchange.Current is { } exchange) (x, targets, streams, rows) = exchange.Whole(x, streams);
        var means = new Tensor[streams];
        for (var r = 0; r < streams; r++)
        {
            var (first, count) = RowsOf(x, streams, rows, r);
            var (mine, same) = (x.narrow(0, first, count), SamePairs(rows is null ? targets : targets.narrow(0, first, count)));
            means[r] = MeanOverPrefixes(prefixes, shares, prefix =>
            {
                var unit = UnitPrefix(mine, prefix);
                var scores = PairScores(unit, unit, temperature, same); // queries by documents
                var found = scores.log_softmax(1).diagonal().mean().add(scores.log_softmax(0).diagonal().mean(), One);
                return found.mul(Number(-0.5));
            });
        }

        return stack(means).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Returns the divergence of each stream's choices among the teacher's vectors from the teacher's choices: of queries among the
    /// teacher's documents, and of documents among its queries. It is softening^2 KL(teacher || stream), where both are softmax(cosines /
    /// temperature / softening), averaged over both directions, the stream's rows and the prefixes -> (R) float32. It is 0 for streams
    /// before the student. It makes a small model's queries fit an index of the teacher's. No gradient flows into the teacher.
    /// </summary>
    /// <inheritdoc cref="PairCrossEntropy"/>
    public static Tensor PairDivergence(
        Tensor x, Tensor teacher, Tensor targets, int streams, int[]? rows, int student, double temperature, double softening,
        ReadOnlySpan<int> prefixes, ReadOnlySpan<double> shares)
    {
        using var scope = NewDisposeScope();
        if (PairExchange.Current is { } exchange)
        {
            teacher = exchange.WholeTeacher(teacher, student);
            (x, targets, streams, rows) = exchange.Whole(x, streams);
        }

        var means = new Tensor[streams];
        var start = FirstRow(x, streams, rows, student);
        for (var r = 0; r < streams; r++)
        {
            if (r < student)
            {
                means[r] = zeros([], ScalarType.Float32, x.device);
                continue;
            }

            var (first, count) = RowsOf(x, streams, rows, r);
            var taught = rows is null ? teacher.detach() : teacher.narrow(0, first - start, count).detach();
            var (mine, same) = (x.narrow(0, first, count), SamePairs(rows is null ? targets : targets.narrow(0, first, count)));
            means[r] = MeanOverPrefixes(prefixes, shares, prefix =>
            {
                var (its, own) = (UnitPrefix(taught, prefix), UnitPrefix(mine, prefix));
                var known = PairScores(its, its, temperature, same);
                var ofQueries = Divergences(known, PairScores(own, its, temperature, same), softening).mean();
                var ofDocuments = Divergences(known.t(), PairScores(its, own, temperature, same).t(), softening).mean();
                return ofQueries.add(ofDocuments, One).mul(Number(0.5));
            });
        }

        return stack(means).MoveToOuterDisposeScope();
    }

    private static Tensor Prepend(Tensor? classToken, Tensor x) => classToken is null ? x
        : cat([Composite.First(classToken, x.shape[2]).to(x.dtype).expand(x.shape[0], 1, x.shape[2]), x], 1);

    // Cosines of queries (even rows) and documents (odd rows), divided by the temperature: (P, P). They are minus infinity for pairs that
    // must not be negatives.
    private static Tensor PairScores(Tensor queries, Tensor documents, double temperature, Tensor same)
    {
        var query = queries.view(-1, 2, queries.shape[1]).select(1, 0);
        var document = documents.view(-1, 2, documents.shape[1]).select(1, 1);
        return query.matmul(document.t()).div(Number(temperature)).masked_fill(same, Number(float.NegativeInfinity));
    }

    // (P, P): true for another pair with the same number.
    private static Tensor SamePairs(Tensor targets)
    {
        var numbers = targets.view(-1, 2).select(1, 1);
        var same = numbers.unsqueeze(0).eq(numbers.unsqueeze(1));
        return same.logical_and(eye(numbers.shape[0], dtype: ScalarType.Bool, device: targets.device).logical_not());
    }

    // temperature^2 KL of each row, (N, V) to (N). Where the teacher's probability is 0, the term is 0.
    private static Tensor Divergences(Tensor teacher, Tensor student, double temperature)
    {
        var (known, learnt) = (teacher.div(Number(temperature)).log_softmax(-1), student.div(Number(temperature)).log_softmax(-1));
        var impossible = known.le(Number(float.MinValue));
        var difference = known.masked_fill(impossible, Number(0L)).sub(learnt.masked_fill(impossible, Number(0L)));
        return known.exp().mul(difference).sum([-1]).mul(Number(temperature * temperature));
    }

    // The weighted mean of what is computed for each prefix.
    private static Tensor MeanOverPrefixes(ReadOnlySpan<int> prefixes, ReadOnlySpan<double> shares, Func<int, Tensor> compute)
    {
        Tensor? sum = null;
        for (var i = 0; i < prefixes.Length; i++)
        {
            var term = compute(prefixes[i]).mul(Number(shares[i]));
            sum = sum?.add(term, One) ?? term;
        }

        return sum!;
    }

    private static (long First, long Count) RowsOf(Tensor x, int streams, int[]? rows, int stream) =>
        (FirstRow(x, streams, rows, stream), rows is null ? x.shape[0] / streams : rows[stream]);

    private static long FirstRow(Tensor x, int streams, int[]? rows, int stream) =>
        rows is null ? x.shape[0] / streams * stream : rows.Take(stream).Sum(n => (long)n);

    // Returns the mean of each stream: (N, ...) to (R).
    private static Tensor StreamMeans(Tensor x, int streams, int[]? rows)
    {
        if (rows is null)
        {
            using var equal = x.view(streams, -1);
            return equal.mean([1]);
        }

        var means = new Tensor[streams];
        for (var r = 0; r < streams; r++)
        {
            var (first, count) = RowsOf(x, streams, rows, r);
            using var stream = x.narrow(0, first, count);
            means[r] = stream.mean();
        }

        var result = stack(means);
        foreach (var mean in means) mean.Dispose();
        return result;
    }
}

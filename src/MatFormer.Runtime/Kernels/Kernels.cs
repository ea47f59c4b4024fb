using System.ComponentModel;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The operations that generated code computes with. Each operation has two forms, chosen by the device of its operands. <c>Cpu</c>
/// consists of fused loops in a native library, and runs where the library does. <c>Composite</c> consists of TorchSharp's operations and
/// runs everywhere. All operations are differentiable.
/// </summary>
/// <remarks>
/// Activations are float32 or bfloat16. Weights are float32 masters: operations round them to the dtype of the activations, and their
/// gradients are float32. Operands that do not fit cause an <see cref="ArgumentException"/> that names them.
/// </remarks>
[EditorBrowsable(EditorBrowsableState.Never)]
public static partial class Kernels
{
    /// <summary>
    /// Looks up rows: weight (V, W), tokens (B, T) int64 -> (B, T, W) of <paramref name="dtype"/>. With a width, the result has only the
    /// first numbers of each row: (B, T, width).
    /// </summary>
    /// <exception cref="ArgumentException">
    /// An operand does not fit, or a token is outside the vocabulary. In <c>Composite</c>, libtorch reports such a token with its own
    /// error.
    /// </exception>
    public static Tensor Embedding(Tensor weight, Tensor tokens, ScalarType dtype, int? width = null)
    {
        const string name = "Embedding";
        Operand.Rank(name, "weight", weight, 2, "(V, W)");
        Operand.Weight(name, "weight", weight, tokens, weight.shape);
        Operand.Rank(name, "tokens", tokens, 2, "(B, T)");
        Operand.Integers(name, "tokens", tokens, weight);
        if (dtype is not (ScalarType.Float32 or ScalarType.BFloat16))
            throw new ArgumentException($"{name}: dtype is {dtype}, but must be Float32 or BFloat16.", nameof(dtype));
        var kept = width ?? weight.shape[1];
        if (kept < 1 || kept > weight.shape[1])
            throw new ArgumentException($"{name}: width is {kept}, but weight has {weight.shape[1]} columns.", nameof(width));
        return Cpu.Takes(weight) && Cpu.CanDifferentiate(weight)
            ? new EmbeddingCall(weight, tokens, dtype, kept).Run() : Composite.Embedding(weight, tokens, dtype, kept);
    }

    /// <summary>
    /// Adds learned positions: x (B, T, W) plus rows position..position+T of weight (Context, W) -> (B, T, W). If nested, the weight may
    /// have more columns, of which the first are added.
    /// </summary>
    public static Tensor AddPositions(Tensor x, Tensor weight, long position, bool nested = false)
    {
        const string name = "AddPositions";
        Operand.Activation(name, "x", x);
        Operand.Rank(name, "x", x, 3, "(B, T, W)");
        Operand.Rank(name, "weight", weight, 2, "(Context, W)");
        Operand.Weight(name, "weight", weight, x, weight.shape[0], Operand.Width(x.shape[2], weight.shape[1], nested));
        if (position < 0 || position + x.shape[1] > weight.shape[0])
        {
            throw new ArgumentException(
                $"{name}: positions {position} to {position + x.shape[1] - 1} are outside the context of {weight.shape[0]}.",
                nameof(position));
        }

        return Cpu.Takes(x) ? new PositionsCall(x, weight, position).Run() : Composite.AddPositions(x, weight, position);
    }

    /// <summary>
    /// x * rsqrt(mean(x^2) + epsilon) * weight over the last dimension, where weight is (W). Statistics are float32, the result is in x's
    /// dtype (Zhang and Sennrich, arXiv 1910.07467). If nested, the weight may be longer, of which the first numbers are used.
    /// </summary>
    public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon, bool nested = false)
    {
        CheckNorm("RmsNorm", x, new(weight, epsilon), nested);
        return Cpu.Takes(x) ? new NormedCall(x, new(weight, epsilon)).Run() : Composite.RmsNorm(x, weight, epsilon);
    }

    /// <summary>
    /// (x - mean) * rsqrt(variance + epsilon) * weight + bias over the last dimension, where weight and bias are (W). Statistics are
    /// float32, the result is in x's dtype (Ba, Kiros and Hinton, arXiv 1607.06450). If nested, weight and bias may be longer, of which the
    /// first numbers are used.
    /// </summary>
    public static Tensor LayerNorm(Tensor x, Tensor weight, Tensor bias, double epsilon, bool nested = false)
    {
        CheckNorm("LayerNorm", x, new(weight, bias, epsilon), nested);
        return Cpu.Takes(x) ? new NormedCall(x, new(weight, bias, epsilon)).Run() : Composite.LayerNorm(x, weight, bias, epsilon);
    }

    /// <summary>
    /// x (..., in) times the transpose of weight (out, in), plus bias (out) -> (..., out). If nested, the weight may have more columns, of
    /// which the first are used.
    /// </summary>
    public static Tensor Linear(Tensor x, Tensor weight, Tensor? bias = null, bool nested = false)
    {
        const string name = "Linear";
        Operand.Activation(name, "x", x);
        if (x.dim() == 0) throw new ArgumentException($"{name}: x is a scalar, but must have a last dimension.", nameof(x));
        Operand.Rank(name, "weight", weight, 2, "(out, in)");
        Operand.Weight(name, "weight", weight, x, weight.shape[0], Operand.Width(x.shape[^1], weight.shape[1], nested));
        Operand.Optional(name, "bias", bias, x, weight.shape[0]);
        ProductInputs.Add(x, weight);
        return Cpu.Takes(x) ? new LinearCall(x, weight, bias).Run() : Composite.Linear(x, weight, bias);
    }

    /// <summary>
    /// x + attention(norm(x)), the first half of a layer: x (B, T, W) -> (B, T, W). Queries, keys and values are projections of the normed
    /// x. Queries and keys are normed head by head if the weights say so, and rotated by their positions. The two halves of a head form the
    /// pairs (RoFormer, arXiv 2104.09864, in the order of Hugging Face's Llama). The scale is 1/sqrt(D); softmax is in float32.
    /// </summary>
    /// <param name="x">(B, T, W).</param>
    /// <param name="weights">The weights of attention.</param>
    /// <param name="cos">(T, D/2) float32, or null without rotary positions.</param>
    /// <param name="sin">(T, D/2) float32, or null without rotary positions.</param>
    /// <param name="lengths">
    /// How many keys each sequence sees, beginning with the first: (L) int64, each in 1..T. B is a multiple of L, and sequence b has
    /// lengths[b % L]. Null if all keys are seen. Causal attention does not allow lengths.
    /// </param>
    /// <param name="cache">
    /// A decoder's cache of the earlier tokens, or null. The tokens of x are added to it, and no gradient is recorded.
    /// </param>
    /// <param name="layer">The layer of the cache.</param>
    /// <param name="heads">
    /// How many heads each stream keeps. x holds the streams stacked along the batch. Null for one stream with all heads.
    /// </param>
    /// <param name="rows">How many rows of the batch each stream has; null if all have the same number.</param>
    public static Tensor Attend(
        Tensor x, AttentionWeights weights, Tensor? cos = null, Tensor? sin = null, Tensor? lengths = null, KeyValueCache? cache = null,
        int layer = 0, int[]? heads = null, int[]? rows = null)
    {
        ArgumentNullException.ThrowIfNull(weights);
        CheckAttention(x, weights, cos, sin, lengths, heads);
        var kept = heads ?? [weights.Heads];
        var counts = Operand.Rows("Attend", x, kept.Length, rows);
        if (cache is not null && kept.Length > 1)
            throw new ArgumentException($"Attend: a cache serves one stream, not {kept.Length}.", nameof(cache));
        using var unrecorded = cache is null ? null : no_grad();
        return Cpu.Takes(x) && (cache is not null || Cpu.CanDifferentiate(weights.All))
            ? new AttentionCall(x, weights, cos, sin, lengths, kept, counts, cache, layer).Run()
            : Composite.Attend(x, weights, cos, sin, lengths, kept, counts, cache, layer);
    }

    /// <summary>
    /// x + feed-forward(norm(x)), the second half of a layer (MatFormer, arXiv 2310.07707, section 3.1), for R = widths.Length streams
    /// stacked along the batch: x (N, T, W) -> (N, T, W). Stream r uses hidden units 0..widths[r]. In the layer where streams part, the
    /// input is still the same for all: x (B, T, W) -> (R*B, T, W).
    /// </summary>
    /// <param name="x">(N, T, W), the widest stream first; or (B, T, W) where the streams part.</param>
    /// <param name="weights">The weights of the feed-forward.</param>
    /// <param name="widths">
    /// One width per stream, from the widest to the narrowest, in 1..hidden; null for one stream with all units.
    /// </param>
    /// <param name="rows">How many of the N rows each stream has; null if all have the same number.</param>
    /// <param name="parting">Whether all streams share the same x; rows must be null then.</param>
    public static Tensor FeedForward(Tensor x, FeedForwardWeights weights, int[]? widths = null, int[]? rows = null, bool parting = false)
    {
        ArgumentNullException.ThrowIfNull(weights);
        widths ??= [(int)weights.Up.shape[0]];
        CheckFeedForward(x, weights, widths, rows, parting);
        var counts = parting ? null : Operand.Rows("FeedForward", x, widths.Length, rows);
        return Cpu.Takes(x) && Cpu.CanDifferentiate(weights.All)
            ? new FeedForwardCall(x, weights, widths, counts).Run()
            : Composite.FeedForward(x, weights, widths, counts);
    }

    /// <summary>
    /// Returns the importance of each hidden unit of a feed-forward: the mean magnitude of its activation times the norm of its column of
    /// <c>Down</c>. x (B, T, W), before the norm -> (hidden) float32. It is seldom computed, so it has only one form.
    /// </summary>
    public static Tensor HiddenImportance(Tensor x, FeedForwardWeights weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        CheckFeedForward(x, weights, [(int)weights.Up.shape[0]], null, false);
        return Composite.HiddenImportance(x, weights);
    }

    /// <summary>
    /// Returns the importance of each channel of the residual stream for a feed-forward: the mean magnitude of the normed x. x (B, T, W),
    /// before the norm -> (W) float32.
    /// </summary>
    public static Tensor ChannelImportance(Tensor x, FeedForwardWeights weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        CheckFeedForward(x, weights, [(int)weights.Up.shape[0]], null, false);
        using var scope = NewDisposeScope();
        return weights.Norm.Apply(x).to(ScalarType.Float32).abs().mean([0, 1]).MoveToOuterDisposeScope();
    }

    /// <summary>Returns the mean of tensors of the same shape, and disposes them.</summary>
    public static Tensor Mean(params ReadOnlySpan<Tensor> tensors)
    {
        using var all = stack([.. tensors]);
        foreach (var tensor in tensors) tensor.Dispose();
        return all.mean([0]);
    }

    /// <summary>
    /// Returns the mean cross-entropy of each stream, in nats: x (N, T, W), head (V, W) -> (R) float32. The head is rounded to x's dtype.
    /// The softmax is float32. Logits are float32 in <c>Cpu</c>, and rounded to x's dtype in <c>Composite</c>.
    /// </summary>
    /// <param name="x">(N, T, W).</param>
    /// <param name="head">(V, W).</param>
    /// <param name="targets">int64 (N, T); or, if rows is null, (B, T) shared by all streams.</param>
    /// <param name="streams">R.</param>
    /// <param name="rows">How many of the N rows each stream has; null if all streams have the same B rows.</param>
    /// <param name="nested">Whether the head may have more columns, of which the first are used.</param>
    /// <exception cref="ArgumentException">
    /// An operand does not fit, or a target is outside the vocabulary. In <c>Composite</c>, libtorch reports such a target with its own
    /// error.
    /// </exception>
    public static Tensor LinearCrossEntropy(
        Tensor x, Tensor head, Tensor targets, int streams, int[]? rows = null, bool nested = false)
    {
        const string name = "LinearCrossEntropy";
        Operand.Activation(name, "x", x);
        var counts = Operand.Rows(name, x, streams, rows);
        Operand.Rank(name, "head", head, 2, "(V, W)");
        Operand.Weight(name, "head", head, x, head.shape[0], Operand.Width(x.shape[2], head.shape[1], nested));
        Operand.Integers(name, "targets", targets, x);
        Operand.Shape(name, "targets", targets, rows is null ? counts[0] : x.shape[0], x.shape[1]);
        return Cpu.Takes(x) && Cpu.CanDifferentiate(head)
            ? new CrossEntropyCall(x, head, targets, counts, rows is null).Run()
            : Composite.LinearCrossEntropy(x, head, targets, counts, rows is null);
    }

    /// <summary>
    /// Returns the divergence of each stream's next-token distributions from a teacher's: temperature^2 KL(teacher || stream), where both
    /// are softmax(logits / temperature), in nats, averaged over the stream's tokens (Hinton et al., arXiv 1503.02531, section 2) -> (R)
    /// float32. No gradient flows into the teacher, nor through the teacher's logits into the head.
    /// </summary>
    /// <param name="x">(N, T, W).</param>
    /// <param name="teacher">
    /// (B, T, W) if rows is null; otherwise one row for each row of the streams from the student on. If nested, it may be wider than x.
    /// </param>
    /// <param name="head">(V, W).</param>
    /// <param name="streams">R.</param>
    /// <param name="rows">How many of the N rows each stream has; null if all streams have the same B rows.</param>
    /// <param name="student">The first stream that learns. The result of earlier streams is 0.</param>
    /// <param name="temperature">The temperature, above 0.</param>
    /// <param name="nested">Whether the head may have more columns, of which the first are used.</param>
    public static Tensor LinearDivergence(
        Tensor x, Tensor teacher, Tensor head, int streams, int[]? rows, int student, double temperature, bool nested = false)
    {
        const string name = "LinearDivergence";
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
        ArgumentOutOfRangeException.ThrowIfNegative(student);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(student, streams);
        Operand.Activation(name, "x", x);
        var counts = Operand.Rows(name, x, streams, rows);
        Operand.Rank(name, "head", head, 2, "(V, W)");
        var whole = Operand.Width(x.shape[2], head.shape[1], nested);
        Operand.Weight(name, "head", head, x, head.shape[0], whole);
        Operand.Activation(name, "teacher", teacher);
        var taught = rows is null ? counts[0] : x.shape[0] - counts[..student].Sum();
        var known = nested && teacher.dim() == 3 && teacher.shape[2] <= whole ? teacher.shape[2] : x.shape[2];
        Operand.Shape(name, "teacher", teacher, taught, x.shape[1], known);
        Operand.Device(name, "teacher", teacher, x);
        if (teacher.dtype != x.dtype)
            throw new ArgumentException($"{name}: teacher is {teacher.dtype}, but x is {x.dtype}.", nameof(teacher));
        return Cpu.Takes(x) && Cpu.CanDifferentiate(head)
            ? new DivergenceCall(x, teacher, head, counts, rows is null, student, temperature).Run()
            : Composite.LinearDivergence(x, teacher, head, counts, rows is null, student, temperature);
    }

    /// <summary>Repeats x n times along the batch, where streams part: x (B, T, W) -> (n*B, T, W).</summary>
    public static Tensor Fork(Tensor x, int n)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        Operand.Rank("Fork", "x", x, 3, "(B, T, W)");
        return x.repeat(n, 1, 1);
    }

    /// <summary>
    /// Runs one AdamW step in place over float32 numbers (Loshchilov and Hutter, arXiv 1711.05101, as in torch.optim.AdamW).
    /// </summary>
    /// <param name="parameters">(n), contiguous.</param>
    /// <param name="gradients">(n).</param>
    /// <param name="firstMoments">The running means of the gradients, (n).</param>
    /// <param name="secondMoments">The running means of the squared gradients, (n).</param>
    /// <param name="decay">The weight decay.</param>
    /// <param name="learningRate">The learning rate.</param>
    /// <param name="beta1">The decay of the first moment.</param>
    /// <param name="beta2">The decay of the second moment.</param>
    /// <param name="epsilon">The number added to the denominator.</param>
    /// <param name="step">The number of this step, starting at 1.</param>
    internal static void AdamW(
        Tensor parameters, Tensor gradients, Tensor firstMoments, Tensor secondMoments, double decay, double learningRate, double beta1,
        double beta2, double epsilon, long step)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(step, 1);
        if (Cpu.Takes(parameters))
            Cpu.AdamW(parameters, gradients, firstMoments, secondMoments, decay, learningRate, beta1, beta2, epsilon, step);
        else
            Composite.AdamW(parameters, gradients, firstMoments, secondMoments, decay, learningRate, beta1, beta2, epsilon, step);
    }

    /// <summary>
    /// Scales gradients (n) in place so that their L2 norm is at most <paramref name="max"/> (as in torch.nn.utils.clip_grad_norm_). If the
    /// norm is not finite, the gradients stay unchanged.
    /// </summary>
    /// <returns>The norm before scaling.</returns>
    internal static double ClipGradientNorm(Tensor gradients, double max)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(max);
        return Cpu.Takes(gradients) ? Cpu.ClipGradientNorm(gradients, max) : Composite.ClipGradientNorm(gradients, max);
    }

    private static void CheckNorm(string operation, Tensor x, NormWeights norm, bool nested)
    {
        Operand.Activation(operation, "x", x);
        if (x.dim() == 0) throw new ArgumentException($"{operation}: x is a scalar, but must have a last dimension.", nameof(x));
        var width = Operand.Width(x.shape[^1], norm.Weight.shape[^1], nested);
        Operand.Weight(operation, "weight", norm.Weight, x, width);
        Operand.Optional(operation, "bias", norm.Bias, x, width);
    }

    private static void CheckAttention(Tensor x, AttentionWeights weights, Tensor? cos, Tensor? sin, Tensor? lengths, int[]? heads)
    {
        const string name = "Attend";
        Operand.Activation(name, "x", x);
        Operand.Rank(name, "x", x, 3, "(B, T, W)");
        long[] shape = x.shape;
        long depth = weights.HeadWidth, all = weights.Query.shape[0], keys = weights.Key.shape[0];
        var width = Operand.Width(shape[2], weights.Query.shape[^1], weights.IsNested);
        Operand.Weight(name, "norm", weights.Norm.Weight, x, width);
        Operand.Optional(name, "normBias", weights.Norm.Bias, x, width);
        Operand.Weight(name, "query", weights.Query, x, all, width);
        Operand.Weight(name, "key", weights.Key, x, keys, width);
        if (depth < 1 || all % depth != 0 || keys % depth != 0 || keys == 0 || all % keys != 0)
        {
            throw new ArgumentException(
                $"{name}: query has {all} rows and key {keys}, but both must be multiples of the head width {depth}, and the rows of query "
                + "a multiple of the rows of key.", nameof(weights));
        }

        Operand.Weight(name, "value", weights.Value, x, keys, width);
        Operand.Weight(name, "output", weights.Output, x, width, all);
        Operand.Optional(name, "queryBias", weights.QueryBias, x, all);
        Operand.Optional(name, "keyBias", weights.KeyBias, x, keys);
        Operand.Optional(name, "valueBias", weights.ValueBias, x, keys);
        Operand.Optional(name, "outputBias", weights.OutputBias, x, width);
        foreach (var (operand, norm) in (ReadOnlySpan<(string, NormWeights?)>)
            [("queryNorm", weights.QueryNorm), ("keyNorm", weights.KeyNorm)])
        {
            if (norm is null) continue;
            Operand.Weight(name, operand, norm.Value.Weight, x, depth);
            Operand.Optional(name, operand, norm.Value.Bias, x, depth);
        }

        if (cos is null != sin is null) throw new ArgumentException($"{name}: cos and sin go together; pass both or neither.", nameof(sin));
        if (cos is not null && depth % 2 != 0)
            throw new ArgumentException($"{name}: heads of {depth} numbers cannot be rotated; the width must be even.", nameof(cos));
        Operand.Optional(name, "cos", cos, x, shape[1], depth / 2);
        Operand.Optional(name, "sin", sin, x, shape[1], depth / 2);
        ArgumentOutOfRangeException.ThrowIfNegative(weights.Window);
        if (lengths is not null)
        {
            Operand.Integers(name, "lengths", lengths, x);
            if (weights.IsCausal || lengths.dim() != 1 || lengths.shape[0] == 0 || shape[0] % lengths.shape[0] != 0)
            {
                throw new ArgumentException(
                    $"{name}: lengths is ({string.Join(", ", lengths.shape)}), but must be (L), where L divides the {shape[0]} sequences, "
                    + "and attention must not be causal.", nameof(lengths));
            }
        }

        foreach (var count in heads ?? [])
        {
            if (count < 1 || count * depth > all || count % weights.Group != 0)
            {
                throw new ArgumentException(
                    $"{name}: a stream keeps {count} heads, but it must be a multiple of {weights.Group} in 1..{all / depth}.",
                    nameof(heads));
            }
        }
    }

    private static void CheckFeedForward(Tensor x, FeedForwardWeights weights, int[] widths, int[]? rows, bool parting)
    {
        const string name = "FeedForward";
        if (parting && rows is not null)
            throw new ArgumentException($"{name}: streams that part all have the rows of x, so rows must be null.", nameof(rows));
        if (widths.Length == 0) throw new ArgumentException($"{name}: widths is empty, but needs one width per stream.", nameof(widths));
        Operand.Activation(name, "x", x);
        Operand.Rank(name, "x", x, 3, parting ? "(B, T, W)" : "(N, T, W)");
        long width = Operand.Width(x.shape[2], weights.Up.shape[^1], weights.IsNested), hidden = weights.Up.shape[0];
        Operand.Weight(name, "norm", weights.Norm.Weight, x, width);
        Operand.Optional(name, "normBias", weights.Norm.Bias, x, width);
        Operand.Weight(name, "up", weights.Up, x, hidden, width);
        Operand.Weight(name, "down", weights.Down, x, width, hidden);
        var gated = weights.Kind is FeedForwardKind.SwiGlu or FeedForwardKind.GeGlu;
        if (gated != weights.Gate is not null || (!gated && weights.GateBias is not null))
            throw new ArgumentException(
                $"{name}: {weights.Kind} {(gated ? "needs a gate" : "has no gate, but one was given")}.", nameof(weights));
        Operand.Optional(name, "gate", weights.Gate, x, hidden, width);
        Operand.Optional(name, "gateBias", weights.GateBias, x, hidden);
        Operand.Optional(name, "upBias", weights.UpBias, x, hidden);
        Operand.Optional(name, "downBias", weights.DownBias, x, width);
        for (var r = 0; r < widths.Length; r++)
        {
            if (widths[r] >= 1 && widths[r] <= hidden && (r == 0 || widths[r] <= widths[r - 1])) continue;
            throw new ArgumentException(
                $"{name}: widths are ({string.Join(", ", widths)}), but must run from the widest to the narrowest, each in 1..{hidden}.",
                nameof(widths));
        }
    }
}

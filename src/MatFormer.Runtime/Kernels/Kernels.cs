using System.ComponentModel;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// What generated code computes with. Each operation has two forms, chosen by the device of its operands: <c>Cpu</c>, fused loops in a native
/// library, where that runs; and <c>Composite</c>, TorchSharp's operations, everywhere. All are differentiable.
/// </summary>
/// <remarks>
/// Activations are float32 or bfloat16. Weights are float32 masters: an operation rounds them to the dtype of the activations itself, and
/// their gradients arrive in float32. Operands that do not fit are an <see cref="ArgumentException"/> that names them.
/// </remarks>
[EditorBrowsable(EditorBrowsableState.Never)]
public static partial class Kernels
{
    /// <summary>Looks up rows: weight (V, W), tokens (B, T) int64 -> (B, T, W) of <paramref name="dtype"/>.</summary>
    /// <exception cref="ArgumentException">
    /// An operand does not fit, or a token is outside the vocabulary; in <c>Composite</c> the latter is libtorch's own error.
    /// </exception>
    public static Tensor Embedding(Tensor weight, Tensor tokens, ScalarType dtype)
    {
        const string name = "Embedding";
        Operand.Rank(name, "weight", weight, 2, "(V, W)");
        Operand.Weight(name, "weight", weight, tokens, weight.shape);
        Operand.Rank(name, "tokens", tokens, 2, "(B, T)");
        Operand.Integers(name, "tokens", tokens, weight);
        if (dtype is not (ScalarType.Float32 or ScalarType.BFloat16))
            throw new ArgumentException($"{name}: dtype is {dtype}, but must be Float32 or BFloat16.", nameof(dtype));
        return Cpu.Takes(weight) && Cpu.CanDifferentiate(weight)
            ? Cpu.Embedding(weight, tokens, dtype) : Composite.Embedding(weight, tokens, dtype);
    }

    /// <summary>Learned positions: x (B, T, W) plus rows position..position+T of weight (Context, W) -> (B, T, W).</summary>
    public static Tensor AddPositions(Tensor x, Tensor weight, long position)
    {
        const string name = "AddPositions";
        Operand.Activation(name, "x", x);
        Operand.Rank(name, "x", x, 3, "(B, T, W)");
        Operand.Rank(name, "weight", weight, 2, "(Context, W)");
        Operand.Weight(name, "weight", weight, x, weight.shape[0], x.shape[2]);
        if (position < 0 || position + x.shape[1] > weight.shape[0])
        {
            throw new ArgumentException(
                $"{name}: positions {position} to {position + x.shape[1] - 1} are outside the context of {weight.shape[0]}.",
                nameof(position));
        }

        return Cpu.Takes(x) ? Cpu.AddPositions(x, weight, position) : Composite.AddPositions(x, weight, position);
    }

    /// <summary>
    /// x * rsqrt(mean(x^2) + epsilon) * weight over the last dimension, weight (W); statistics in float32, result in x's dtype
    /// (Zhang and Sennrich, arXiv 1910.07467).
    /// </summary>
    public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon)
    {
        CheckNorm("RmsNorm", x, new(weight, epsilon));
        return Cpu.Takes(x) ? Cpu.Norm(x, new(weight, epsilon)) : Composite.RmsNorm(x, weight, epsilon);
    }

    /// <summary>
    /// (x - mean) * rsqrt(variance + epsilon) * weight + bias over the last dimension, weight and bias (W); statistics in float32,
    /// result in x's dtype (Ba, Kiros and Hinton, arXiv 1607.06450).
    /// </summary>
    public static Tensor LayerNorm(Tensor x, Tensor weight, Tensor bias, double epsilon)
    {
        CheckNorm("LayerNorm", x, new(weight, bias, epsilon));
        return Cpu.Takes(x) ? Cpu.Norm(x, new(weight, bias, epsilon)) : Composite.LayerNorm(x, weight, bias, epsilon);
    }

    /// <summary>x (..., in) times the transpose of weight (out, in), plus bias (out) -> (..., out).</summary>
    public static Tensor Linear(Tensor x, Tensor weight, Tensor? bias = null)
    {
        const string name = "Linear";
        Operand.Activation(name, "x", x);
        if (x.dim() == 0) throw new ArgumentException($"{name}: x is a scalar, but must have a last dimension.", nameof(x));
        Operand.Rank(name, "weight", weight, 2, "(out, in)");
        Operand.Weight(name, "weight", weight, x, weight.shape[0], x.shape[^1]);
        Operand.Optional(name, "bias", bias, x, weight.shape[0]);
        return Cpu.Takes(x) ? Cpu.Linear(x, weight, bias) : Composite.Linear(x, weight, bias);
    }

    /// <summary>
    /// x + attention(norm(x)), the first half of a layer: x (B, T, W) -> (B, T, W). Queries, keys and values are projections of the normed x,
    /// queries and keys normed head by head where the weights say so, and turned by their positions, the two halves of a head being the pairs
    /// (RoFormer, arXiv 2104.09864, in the order of Hugging Face's Llama). The scale is 1/sqrt(D), softmax is in float32.
    /// </summary>
    /// <param name="x">(B, T, W).</param>
    /// <param name="weights">What it computes with.</param>
    /// <param name="cos">(T, D/2) float32, or null where there is no rotary position.</param>
    /// <param name="sin">As cos.</param>
    /// <param name="lengths">
    /// How many keys are seen, from the first on, each in 1..T: (L) int64, B a multiple of L, sequence b having lengths[b % L]; all if null.
    /// Not where attention is causal.
    /// </param>
    /// <param name="cache">Of a decoder: the tokens before these; those of x are added to it. No gradient is recorded then.</param>
    /// <param name="layer">Whose keys and values in the cache are meant.</param>
    /// <param name="heads">
    /// How many heads each stream keeps, x being that many streams stacked along the batch; one stream with all heads if null.
    /// </param>
    /// <param name="rows">How many of the batch each stream has; null if all have as many.</param>
    public static Tensor Attend(
        Tensor x, AttentionWeights weights, Tensor? cos = null, Tensor? sin = null, Tensor? lengths = null, KeyValueCache? cache = null,
        int layer = 0, int[]? heads = null, int[]? rows = null)
    {
        ArgumentNullException.ThrowIfNull(weights);
        CheckAttention(x, weights, cos, sin, lengths, heads);
        var kept = heads ?? [weights.Heads];
        var counts = Operand.Rows("Attend", x, kept.Length, rows);
        if (cache is not null)
        {
            if (kept.Length > 1) throw new ArgumentException("Attend: a cache is of one stream.", nameof(cache));
            using var unrecorded = no_grad();
            return Cpu.Takes(x)
                ? Cpu.Attend(x, weights, cos, sin, null, kept, counts, cache, layer)
                : Composite.Attend(x, weights, cos, sin, null, kept, counts, cache, layer);
        }

        return Cpu.Takes(x) && Cpu.CanDifferentiate(weights.All)
            ? Cpu.Attend(x, weights, cos, sin, lengths, kept, counts)
            : Composite.Attend(x, weights, cos, sin, lengths, kept, counts);
    }

    /// <summary>
    /// x + feed-forward(norm(x)), the second half of a layer (MatFormer, arXiv 2310.07707, section 3.1), of R = widths.Length streams stacked
    /// along the batch: x (N, T, W) -> (N, T, W). Stream r uses hidden units 0..widths[r]. Where streams part they still are one: x (B, T, W)
    /// -> (R*B, T, W).
    /// </summary>
    /// <param name="x">(N, T, W), the widest stream first; or (B, T, W) where they part.</param>
    /// <param name="weights">What it computes with.</param>
    /// <param name="widths">One per stream, from the widest to the narrowest, each in 1..hidden; one stream with all units if null.</param>
    /// <param name="rows">How many of N each stream has, N in all; null if all have as many.</param>
    /// <param name="parting">Whether x is the same for all streams; rows must be null then.</param>
    public static Tensor FeedForward(Tensor x, FeedForwardWeights weights, int[]? widths = null, int[]? rows = null, bool parting = false)
    {
        ArgumentNullException.ThrowIfNull(weights);
        widths ??= [(int)weights.Up.shape[0]];
        CheckFeedForward(x, weights, widths, rows, parting);
        var counts = parting ? null : Operand.Rows("FeedForward", x, widths.Length, rows);
        return Cpu.Takes(x) && Cpu.CanDifferentiate(weights.All)
            ? Cpu.FeedForward(x, weights, widths, counts)
            : Composite.FeedForward(x, weights, widths, counts);
    }

    /// <summary>
    /// How much each hidden unit of a feed-forward adds on average: the mean magnitude of its activation times the norm of its column of
    /// <c>Down</c>. x (B, T, W), not yet normed -> (hidden) float32. Seldom computed, so in one form only.
    /// </summary>
    public static Tensor HiddenImportance(Tensor x, FeedForwardWeights weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        CheckFeedForward(x, weights, [(int)weights.Up.shape[0]], null, false);
        return Composite.HiddenImportance(x, weights);
    }

    /// <summary>
    /// Mean cross entropy, in nats, of each stream: x (N, T, W), head (V, W) -> (R) float32.
    /// The head is rounded to x's dtype; the softmax is float32, and so are logits in <c>Cpu</c>. <c>Composite</c> rounds those to x's dtype.
    /// </summary>
    /// <param name="x">(N, T, W).</param>
    /// <param name="head">(V, W).</param>
    /// <param name="targets">int64: (N, T); or (B, T), shared by all streams, if rows is null.</param>
    /// <param name="streams">R.</param>
    /// <param name="rows">How many of N each stream has, N in all; null if each has the same B.</param>
    /// <exception cref="ArgumentException">
    /// An operand does not fit, or a target is outside the vocabulary; in <c>Composite</c> the latter is libtorch's own error.
    /// </exception>
    public static Tensor LinearCrossEntropy(Tensor x, Tensor head, Tensor targets, int streams, int[]? rows = null)
    {
        const string name = "LinearCrossEntropy";
        Operand.Activation(name, "x", x);
        var counts = Operand.Rows(name, x, streams, rows);
        Operand.Rank(name, "head", head, 2, "(V, W)");
        Operand.Weight(name, "head", head, x, head.shape[0], x.shape[2]);
        Operand.Integers(name, "targets", targets, x);
        Operand.Shape(name, "targets", targets, rows is null ? counts[0] : x.shape[0], x.shape[1]);
        return Cpu.Takes(x) && Cpu.CanDifferentiate(head)
            ? Cpu.LinearCrossEntropy(x, head, targets, counts, rows is null)
            : Composite.LinearCrossEntropy(x, head, targets, counts, rows is null);
    }

    /// <summary>
    /// How far each stream's next-token distributions are from a teacher's: temperature^2 KL(teacher || stream), both softmax(logits /
    /// temperature), in nats, the mean over its tokens (Hinton et al., arXiv 1503.02531, section 2) -> (R) float32. No gradient flows into
    /// the teacher, nor through it into the head.
    /// </summary>
    /// <param name="x">(N, T, W).</param>
    /// <param name="teacher">(B, T, W) if rows is null; else the rows of the streams from the student on.</param>
    /// <param name="head">(V, W).</param>
    /// <param name="streams">R.</param>
    /// <param name="rows">How many of N each stream has, N in all; null if each has the same B.</param>
    /// <param name="student">The first stream that learns; 0 is the result of those before it.</param>
    /// <param name="temperature">Above 0.</param>
    public static Tensor LinearDivergence(
        Tensor x, Tensor teacher, Tensor head, int streams, int[]? rows, int student, double temperature)
    {
        const string name = "LinearDivergence";
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
        ArgumentOutOfRangeException.ThrowIfNegative(student);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(student, streams);
        Operand.Activation(name, "x", x);
        var counts = Operand.Rows(name, x, streams, rows);
        Operand.Rank(name, "head", head, 2, "(V, W)");
        Operand.Weight(name, "head", head, x, head.shape[0], x.shape[2]);
        Operand.Activation(name, "teacher", teacher);
        var taught = rows is null ? counts[0] : x.shape[0] - counts[..student].Sum();
        Operand.Shape(name, "teacher", teacher, taught, x.shape[1], x.shape[2]);
        Operand.Device(name, "teacher", teacher, x);
        if (teacher.dtype != x.dtype)
            throw new ArgumentException($"{name}: teacher is {teacher.dtype}, but x is {x.dtype}.", nameof(teacher));
        return Cpu.Takes(x) && Cpu.CanDifferentiate(head)
            ? Cpu.LinearDivergence(x, teacher, head, counts, rows is null, student, temperature)
            : Composite.LinearDivergence(x, teacher, head, counts, rows is null, student, temperature);
    }

    /// <summary>n copies along the batch: x (B, T, W) -> (n*B, T, W). Streams part here.</summary>
    public static Tensor Fork(Tensor x, int n)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        Operand.Rank("Fork", "x", x, 3, "(B, T, W)");
        return x.repeat(n, 1, 1);
    }

    /// <summary>
    /// One AdamW step in place (Loshchilov and Hutter, arXiv 1711.05101, as in torch.optim.AdamW) over float32 numbers.
    /// </summary>
    /// <param name="parameters">(n), contiguous.</param>
    /// <param name="gradients">(n).</param>
    /// <param name="firstMoments">Running means of the gradients, (n).</param>
    /// <param name="secondMoments">Running means of the squared gradients, (n).</param>
    /// <param name="decay">The weight decay.</param>
    /// <param name="learningRate">The learning rate.</param>
    /// <param name="beta1">Decay of the first moment.</param>
    /// <param name="beta2">Decay of the second moment.</param>
    /// <param name="epsilon">Added to the denominator.</param>
    /// <param name="step">The number of this step, from 1.</param>
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
    /// Scales gradients (n) in place so that their L2 norm is at most <paramref name="max"/> (as torch.nn.utils.clip_grad_norm_). A norm
    /// that is not finite leaves them alone.
    /// </summary>
    /// <returns>The norm before scaling.</returns>
    internal static double ClipGradientNorm(Tensor gradients, double max)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(max);
        return Cpu.Takes(gradients) ? Cpu.ClipGradientNorm(gradients, max) : Composite.ClipGradientNorm(gradients, max);
    }

    private static void CheckNorm(string operation, Tensor x, NormWeights norm)
    {
        Operand.Activation(operation, "x", x);
        if (x.dim() == 0) throw new ArgumentException($"{operation}: x is a scalar, but must have a last dimension.", nameof(x));
        Operand.Weight(operation, "weight", norm.Weight, x, x.shape[^1]);
        Operand.Optional(operation, "bias", norm.Bias, x, x.shape[^1]);
    }

    private static void CheckAttention(Tensor x, AttentionWeights weights, Tensor? cos, Tensor? sin, Tensor? lengths, int[]? heads)
    {
        const string name = "Attend";
        Operand.Activation(name, "x", x);
        Operand.Rank(name, "x", x, 3, "(B, T, W)");
        long[] shape = x.shape;
        long width = shape[2], depth = weights.HeadWidth, all = weights.Query.shape[0], keys = weights.Key.shape[0];
        Operand.Weight(name, "norm", weights.Norm.Weight, x, width);
        Operand.Optional(name, "normBias", weights.Norm.Bias, x, width);
        Operand.Weight(name, "query", weights.Query, x, all, width);
        Operand.Weight(name, "key", weights.Key, x, keys, width);
        if (depth < 1 || all % depth != 0 || keys % depth != 0 || keys == 0 || all % keys != 0)
        {
            throw new ArgumentException(
                $"{name}: query has {all} rows and key {keys}, which are not heads of {depth} numbers, those of the queries a multiple of "
                + "those of the keys.", nameof(weights));
        }

        Operand.Weight(name, "value", weights.Value, x, keys, width);
        Operand.Weight(name, "output", weights.Output, x, width, all);
        Operand.Optional(name, "queryBias", weights.QueryBias, x, all);
        Operand.Optional(name, "keyBias", weights.KeyBias, x, keys);
        Operand.Optional(name, "valueBias", weights.ValueBias, x, keys);
        Operand.Optional(name, "outputBias", weights.OutputBias, x, width);
        foreach (var (operand, norm) in (ReadOnlySpan<(string, NormWeights?)>)[("queryNorm", weights.QueryNorm), ("keyNorm", weights.KeyNorm)])
        {
            if (norm is null) continue;
            Operand.Weight(name, operand, norm.Value.Weight, x, depth);
            Operand.Optional(name, operand, norm.Value.Bias, x, depth);
        }

        if (cos is null != sin is null) throw new ArgumentException($"{name}: cos and sin go together.", nameof(sin));
        if (cos is not null && depth % 2 != 0)
            throw new ArgumentException($"{name}: heads of {depth} numbers cannot be turned, since they are not pairs.", nameof(cos));
        Operand.Optional(name, "cos", cos, x, shape[1], depth / 2);
        Operand.Optional(name, "sin", sin, x, shape[1], depth / 2);
        ArgumentOutOfRangeException.ThrowIfNegative(weights.Window);
        if (lengths is not null)
        {
            Operand.Integers(name, "lengths", lengths, x);
            if (weights.IsCausal || lengths.dim() != 1 || lengths.shape[0] == 0 || shape[0] % lengths.shape[0] != 0)
            {
                throw new ArgumentException(
                    $"{name}: lengths is ({string.Join(", ", lengths.shape)}), but must be (L), the {shape[0]} sequences being a multiple of "
                    + "L, and attention not causal.", nameof(lengths));
            }
        }

        foreach (var count in heads ?? [])
        {
            if (count < 1 || count * depth > all || count % weights.Group != 0)
            {
                throw new ArgumentException(
                    $"{name}: a stream keeps {count} heads, but it must be a multiple of {weights.Group} in 1..{all / depth}.", nameof(heads));
            }
        }
    }

    private static void CheckFeedForward(Tensor x, FeedForwardWeights weights, int[] widths, int[]? rows, bool parting)
    {
        const string name = "FeedForward";
        if (parting && rows is not null)
            throw new ArgumentException($"{name}: streams that part all have the rows of x, but rows are given; pass null.", nameof(rows));
        if (widths.Length == 0) throw new ArgumentException($"{name}: widths is empty, but must hold one per stream.", nameof(widths));
        Operand.Activation(name, "x", x);
        Operand.Rank(name, "x", x, 3, parting ? "(B, T, W)" : "(N, T, W)");
        long width = x.shape[2], hidden = weights.Up.shape[0];
        Operand.Weight(name, "norm", weights.Norm.Weight, x, width);
        Operand.Optional(name, "normBias", weights.Norm.Bias, x, width);
        Operand.Weight(name, "up", weights.Up, x, hidden, width);
        Operand.Weight(name, "down", weights.Down, x, width, hidden);
        var gated = weights.Kind is FeedForwardKind.SwiGlu or FeedForwardKind.GeGlu;
        if (gated != weights.Gate is not null || (!gated && weights.GateBias is not null))
            throw new ArgumentException($"{name}: {weights.Kind} {(gated ? "needs a gate" : "has no gate, but one was given")}.", nameof(weights));
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

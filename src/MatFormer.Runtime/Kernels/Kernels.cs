using System.ComponentModel;
using TorchSharp;
using static TorchSharp.torch;
#if MATFORMER_LIBTORCH
using Provider = MatFormer.Torch.NativeKernels;
#else
using Provider = MatFormer.Kernels.Composite;
#endif

namespace MatFormer;

/// <summary>
/// The fused operations that generated code is made of. <see cref="Composite"/> defines each in TorchSharp's API; over libtorch a
/// native form of the same mathematics runs instead. All are differentiable and deterministic on the CPU.
/// </summary>
/// <remarks>
/// Activations are float32 or bfloat16. Weights are float32 masters: an operation casts them to the dtype of the activations itself, and
/// their gradients arrive in float32. Errors in shapes or dtypes are raised as exceptions that name the operand.
/// </remarks>
[EditorBrowsable(EditorBrowsableState.Never)]
public static partial class Kernels
{
    /// <summary>Looks up rows: weight (V, W), tokens (B, T) int64 -> (B, T, W) of <paramref name="dtype"/>.</summary>
    public static Tensor Embedding(Tensor weight, Tensor tokens, ScalarType dtype) => Provider.Embedding(weight, tokens, dtype);

    /// <summary>Learned positions: x (B, T, W) plus rows position..position+T of weight (Context, W) -> (B, T, W).</summary>
    public static Tensor AddPositions(Tensor x, Tensor weight, long position) => Provider.AddPositions(x, weight, position);

    /// <summary>
    /// x * rsqrt(mean(x^2) + epsilon) * weight over the last dimension, weight (W); statistics in float32, result in x's dtype
    /// (Zhang and Sennrich, arXiv 1910.07467).
    /// </summary>
    public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon) => Provider.RmsNorm(x, weight, epsilon);

    /// <summary>
    /// (x - mean) * rsqrt(variance + epsilon) * weight + bias over the last dimension, weight and bias (W); statistics in float32,
    /// result in x's dtype (Ba, Kiros and Hinton, arXiv 1607.06450).
    /// </summary>
    public static Tensor LayerNorm(Tensor x, Tensor weight, Tensor bias, double epsilon) => Provider.LayerNorm(x, weight, bias, epsilon);

    /// <summary>x (..., in) times the transpose of weight (out, in), plus bias (out) -> (..., out).</summary>
    public static Tensor Linear(Tensor x, Tensor weight, Tensor? bias = null) => Provider.Linear(x, weight, bias);

    /// <summary>
    /// <see cref="Linear"/> of one x by three weights: x (..., in), <paramref name="query"/>, <paramref name="key"/> and
    /// <paramref name="value"/> (out, in) each, and biases (out) for all three or none -> (..., out) of each.
    /// </summary>
    public static (Tensor Query, Tensor Key, Tensor Value) Projections(
        Tensor x, Tensor query, Tensor key, Tensor value, Tensor? queryBias = null, Tensor? keyBias = null, Tensor? valueBias = null) =>
        Provider.Projections(x, query, key, value, queryBias, keyBias, valueBias);

    /// <summary>x (..., in) times the transpose of the first rows of weight (out, in) -> (..., rows).</summary>
    /// <remarks>Bit for bit <see cref="Linear"/> with a copy of these rows; the other rows' gradient is zero.</remarks>
    public static Tensor LinearRows(Tensor x, Tensor weight, long rows) => Provider.LinearRows(x, weight, rows);

    /// <summary>x (..., columns) times the transpose of the first columns of weight (out, in) -> (..., out).</summary>
    /// <remarks>Bit for bit <see cref="Linear"/> with a copy of these columns; the other columns' gradient is zero.</remarks>
    public static Tensor LinearColumns(Tensor x, Tensor weight, long columns) => Provider.LinearColumns(x, weight, columns);

    /// <summary>
    /// Rotary positions, the two halves of a head being the pairs (RoFormer, arXiv 2104.09864, in the order of Hugging Face's Llama):
    /// x (B, T, H, D), cos and sin (T, D/2) float32 -> (B, T, H, D).
    /// </summary>
    public static Tensor Rotary(Tensor x, Tensor cos, Tensor sin) => Provider.Rotary(x, cos, sin);

    /// <summary>
    /// Causal attention aligned at the end: query (B, T, H, D), key and value (B, S, Hkv, D), S >= T, H a multiple of Hkv -> (B, T, H*D).
    /// Query t sees keys 0..S-T+t, or the last <paramref name="window"/> of them (Mistral 7B, arXiv 2310.06825, section 2); query head h
    /// uses key head h / (H / Hkv); the scale is 1/sqrt(D), softmax is in float32.
    /// </summary>
    /// <param name="query">(B, T, H, D).</param>
    /// <param name="key">(B, S, Hkv, D).</param>
    /// <param name="value">(B, S, Hkv, D).</param>
    /// <param name="window">How many keys a query sees, its own being the last; 0 for all.</param>
    public static Tensor CausalAttention(Tensor query, Tensor key, Tensor value, int window = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        return Provider.CausalAttention(query, key, value, window);
    }

    /// <summary>
    /// Attention of all to all, of an encoder: query (N, T, H, D), key and value (N, S, Hkv, D), H a multiple of Hkv -> (N, T, H*D). Query
    /// head h uses key head h / (H / Hkv); the scale is 1/sqrt(D), softmax is in float32.
    /// </summary>
    /// <param name="query">(N, T, H, D).</param>
    /// <param name="key">(N, S, Hkv, D).</param>
    /// <param name="value">(N, S, Hkv, D).</param>
    /// <param name="lengths">
    /// How many keys are seen, from the first on, each in 1..S: (B) int64, N a multiple of B, sequence n having lengths[n % B]; all if
    /// null.
    /// </param>
    public static Tensor Attention(Tensor query, Tensor key, Tensor value, Tensor? lengths = null) =>
        Provider.Attention(query, key, value, lengths);

    /// <summary>
    /// The nested feed-forward (MatFormer, arXiv 2310.07707, section 3.1) of R = widths.Length streams stacked along the batch:
    /// x (N, T, W) -> (N, T, W), without the residual. Stream r uses hidden units 0..widths[r]. Where streams part they still are one:
    /// x (B, T, W) -> (R*B, T, W), each hidden unit being computed once for all streams that have it, and multiplied once.
    /// </summary>
    /// <param name="x">(N, T, W), the widest stream first; or (B, T, W) where they part.</param>
    /// <param name="gate">(hidden, W) for the gated kinds, else null.</param>
    /// <param name="gateBias">(hidden) or null.</param>
    /// <param name="up">(hidden, W).</param>
    /// <param name="upBias">(hidden) or null.</param>
    /// <param name="down">(W, hidden).</param>
    /// <param name="downBias">(W) or null; whole for every width.</param>
    /// <param name="kind">The activation.</param>
    /// <param name="widths">One per stream, from the widest to the narrowest, each in 1..hidden.</param>
    /// <param name="rows">How many of N each stream has, N in all; null if all have as many.</param>
    /// <param name="parting">Whether x is the same for all streams; rows must be null then.</param>
    public static Tensor FeedForward(
        Tensor x,
        Tensor? gate,
        Tensor? gateBias,
        Tensor up,
        Tensor? upBias,
        Tensor down,
        Tensor? downBias,
        FeedForwardKind kind,
        int[] widths,
        int[]? rows = null,
        bool parting = false)
    {
        if (parting && rows is not null)
            throw new ArgumentException("FeedForward: streams that part all have the rows of x, but rows are given; pass null.", nameof(rows));
#if MATFORMER_LIBTORCH
        return Provider.FeedForward(x, gate, gateBias, up, upBias, down, downBias, (int)kind, widths, rows, parting);
#else
        return Provider.FeedForward(x, gate, gateBias, up, upBias, down, downBias, kind, widths, rows, parting);
#endif
    }

    /// <summary>
    /// How much each hidden unit of a feed-forward adds on average: the mean magnitude of its activation times the norm of its column of
    /// <paramref name="down"/>. x (B, T, W), normed -> (hidden) float32. Seldom computed, so in one form only.
    /// </summary>
    public static Tensor HiddenImportance(
        Tensor x, Tensor? gate, Tensor? gateBias, Tensor up, Tensor? upBias, Tensor down, FeedForwardKind kind)
        => Composite.HiddenImportance(x, gate, gateBias, up, upBias, down, kind);

    /// <summary>
    /// Mean cross entropy, in nats, of each stream: x (N, T, W), head (V, W) -> (R) float32.
    /// The head is rounded to x's dtype; logits and softmax are float32.
    /// </summary>
    /// <param name="x">(N, T, W).</param>
    /// <param name="head">(V, W).</param>
    /// <param name="targets">int64: (N, T); or (B, T), shared by all streams, if rows is null.</param>
    /// <param name="streams">R.</param>
    /// <param name="rows">How many of N each stream has, N in all; null if each has the same B.</param>
    public static Tensor LinearCrossEntropy(Tensor x, Tensor head, Tensor targets, int streams, int[]? rows = null)
        => Provider.LinearCrossEntropy(x, head, targets, streams, rows);

    /// <summary>
    /// How far each stream's next-token distributions are from a teacher's: temperature^2 KL(teacher || stream), both softmax(logits /
    /// temperature), in nats, the mean over its tokens (Hinton et al., arXiv 1503.02531, section 2) -> (R) float32. No gradient flows into
    /// the teacher, nor through it into the head. The native form keeps logits for a block of tokens at a time, and computes them anew for
    /// the gradients.
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
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(temperature);
        ArgumentOutOfRangeException.ThrowIfNegative(student);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(student, streams);
        return Provider.LinearDivergence(x, teacher, head, streams, rows, student, temperature);
    }

    /// <summary>
    /// One AdamW step in place (Loshchilov and Hutter, arXiv 1711.05101, as in torch.optim.AdamW) over float32 parameters.
    /// A parameter without a gradient is left alone.
    /// </summary>
    /// <param name="parameters">The parameters; their <c>grad</c> is read.</param>
    /// <param name="firstMoments">Running means of the gradients, shaped as the parameters.</param>
    /// <param name="secondMoments">Running means of the squared gradients, shaped as the parameters.</param>
    /// <param name="decay">The weight decay of each parameter.</param>
    /// <param name="learningRate">The learning rate.</param>
    /// <param name="beta1">Decay of the first moment.</param>
    /// <param name="beta2">Decay of the second moment.</param>
    /// <param name="epsilon">Added to the denominator.</param>
    /// <param name="step">The number of this step, from 1.</param>
    public static void AdamW(
        IReadOnlyList<Tensor> parameters,
        IReadOnlyList<Tensor> firstMoments,
        IReadOnlyList<Tensor> secondMoments,
        IReadOnlyList<double> decay,
        double learningRate,
        double beta1,
        double beta2,
        double epsilon,
        long step)
    {
        if (firstMoments.Count != parameters.Count || secondMoments.Count != parameters.Count || decay.Count != parameters.Count)
        {
            throw new ArgumentException(
                $"AdamW: {parameters.Count} parameters, but {firstMoments.Count} first moments, {secondMoments.Count} second moments and "
                + $"{decay.Count} decays; give one of each per parameter.");
        }

        ArgumentOutOfRangeException.ThrowIfLessThan(step, 1);
        Provider.AdamW(parameters, firstMoments, secondMoments, decay, learningRate, beta1, beta2, epsilon, step);
    }

    /// <summary>
    /// Scales all gradients in place so that their common L2 norm is at most <paramref name="max"/> (as torch.nn.utils.clip_grad_norm_).
    /// A norm that is not finite leaves the gradients alone.
    /// </summary>
    /// <returns>The norm before scaling.</returns>
    public static double ClipGradientNorm(IReadOnlyList<Tensor> parameters, double max)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(max);
        return Provider.ClipGradientNorm(parameters, max);
    }

    /// <summary>n copies along the batch: x (B, T, W) -> (n*B, T, W). Streams part here.</summary>
    public static Tensor Fork(Tensor x, int n)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        return Provider.Fork(x, n);
    }
}

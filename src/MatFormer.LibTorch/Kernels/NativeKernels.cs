using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Torch;

/// <summary>
/// The fused operations of <c>MatFormer.Kernels</c> over libtorch (native/kernels*.cpp): differentiable, deterministic for one number of
/// threads, and safe from every thread.
/// </summary>
/// <remarks>
/// Activations are float32 or bfloat16, weights float32. Operands that do not fit are an <see cref="ExternalException"/> that names them.
/// </remarks>
public static unsafe partial class NativeKernels
{
    /// <summary>The instruction sets that this machine can run the CPU's loops with, best first.</summary>
    public static IReadOnlyList<string> InstructionSets { get; } = Marshal.PtrToStringUTF8(mf_kernel_instruction_sets())!.Split(',');

    /// <summary>
    /// For <see cref="UseInstructionSet"/>: no loops of ours, but ATen's operations, which other devices compute with.
    /// </summary>
    public const string Aten = "aten";

    /// <summary>
    /// For <see cref="UseInstructionSet"/>: the loops of "amx_bf16", but with the CPU's tile matrix unit done by software, slowly. Where
    /// "avx512_bf16" is among <see cref="InstructionSets"/>.
    /// </summary>
    public const string EmulatedTiles = "amx_emulated";

    /// <summary>weight (V, W), tokens (B, T) int64 -> (B, T, W).</summary>
    public static Tensor Embedding(Tensor weight, Tensor tokens, ScalarType dtype)
        => Tensor.Take(mf_kernel_embedding(Tensor.H(weight), Tensor.H(tokens), (int)dtype), weight, tokens);

    /// <summary>x (B, T, W), weight (Context, W) -> (B, T, W).</summary>
    public static Tensor AddPositions(Tensor x, Tensor weight, long position)
        => Tensor.Take(mf_kernel_add_positions(Tensor.H(x), Tensor.H(weight), position), x, weight);

    /// <summary>x (..., W), weight (W) -> (..., W).</summary>
    public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon)
        => Tensor.Take(mf_kernel_rms_norm(Tensor.H(x), Tensor.H(weight), epsilon), x, weight);

    /// <summary>x (..., W), weight and bias (W) -> (..., W).</summary>
    public static Tensor LayerNorm(Tensor x, Tensor weight, Tensor bias, double epsilon)
        => Tensor.Take(mf_kernel_layer_norm(Tensor.H(x), Tensor.H(weight), Tensor.H(bias), epsilon), x, weight, bias);

    /// <summary>x (..., in), weight (out, in), bias (out) -> (..., out).</summary>
    public static Tensor Linear(Tensor x, Tensor weight, Tensor? bias = null)
        => Tensor.Take(mf_kernel_linear(Tensor.H(x), Tensor.H(weight), Tensor.OptionalHandle(bias)), x, weight, bias);

    /// <summary>x (..., in), weights (out, in), biases (out), all or none -> (..., out) of each.</summary>
    public static (Tensor Query, Tensor Key, Tensor Value) Projections(
        Tensor x, Tensor query, Tensor key, Tensor value, Tensor? queryBias = null, Tensor? keyBias = null, Tensor? valueBias = null)
    {
        var made = stackalloc nint[3];
        var failed = mf_kernel_projections(
            Tensor.H(x), Tensor.H(query), Tensor.H(key), Tensor.H(value), Tensor.OptionalHandle(queryBias), Tensor.OptionalHandle(keyBias),
            Tensor.OptionalHandle(valueBias), made);
        GC.KeepAlive(queryBias);
        GC.KeepAlive(keyBias);
        GC.KeepAlive(valueBias);
        Native.Check(failed);
        return (Tensor.Take(made[0], x, query), Tensor.Take(made[1], x, key), Tensor.Take(made[2], x, value));
    }

    /// <summary>x (..., in), weight (out, in) -> (..., rows).</summary>
    public static Tensor LinearRows(Tensor x, Tensor weight, long rows)
        => Tensor.Take(mf_kernel_linear_rows(Tensor.H(x), Tensor.H(weight), rows), x, weight);

    /// <summary>x (..., columns), weight (out, in) -> (..., out).</summary>
    public static Tensor LinearColumns(Tensor x, Tensor weight, long columns)
        => Tensor.Take(mf_kernel_linear_columns(Tensor.H(x), Tensor.H(weight), columns), x, weight);

    /// <summary>x (B, T, H, D), cos and sin (T, D/2) -> (B, T, H, D).</summary>
    public static Tensor Rotary(Tensor x, Tensor cos, Tensor sin)
        => Tensor.Take(mf_kernel_rotary(Tensor.H(x), Tensor.H(cos), Tensor.H(sin)), x, cos, sin);

    /// <summary>query (N, T, H, D), key and value (N, S, Hkv, D), lengths int64 (B), N a multiple of B -> (N, T, H*D).</summary>
    public static Tensor Attention(Tensor query, Tensor key, Tensor value, Tensor? lengths = null)
    {
        var made = mf_kernel_attention(Tensor.H(query), Tensor.H(key), Tensor.H(value), Tensor.OptionalHandle(lengths));
        GC.KeepAlive(lengths);
        return Tensor.Take(made, query, key, value);
    }

    /// <summary>query (B, T, H, D), key and value (B, S, Hkv, D) -> (B, T, H*D); window is 0 for all keys.</summary>
    public static Tensor CausalAttention(Tensor query, Tensor key, Tensor value, int window = 0)
        => Tensor.Take(mf_kernel_causal_attention(Tensor.H(query), Tensor.H(key), Tensor.H(value), window), query, key, value);

    /// <summary>
    /// The nested feed-forward: x (N, T, W) -> (N, T, W), or where streams part (B, T, W) -> (R*B, T, W); kind is the value of a
    /// FeedForwardKind; rows is empty if all streams have as many.
    /// </summary>
    public static Tensor FeedForward(
        Tensor x,
        Tensor? gate,
        Tensor? gateBias,
        Tensor up,
        Tensor? upBias,
        Tensor down,
        Tensor? downBias,
        int kind,
        ReadOnlySpan<int> widths,
        ReadOnlySpan<int> rows = default,
        bool parting = false)
    {
        CheckRows("FeedForward", rows, widths.Length);
        fixed (int* wide = widths)
        fixed (int* tall = rows)
        {
            var made = mf_kernel_feed_forward(
                Tensor.H(x), Tensor.OptionalHandle(gate), Tensor.OptionalHandle(gateBias), Tensor.H(up), Tensor.OptionalHandle(upBias),
                Tensor.H(down), Tensor.OptionalHandle(downBias), kind, wide, tall, widths.Length, parting ? 1 : 0);
            GC.KeepAlive(gate);
            GC.KeepAlive(gateBias);
            GC.KeepAlive(upBias);
            GC.KeepAlive(downBias);
            return Tensor.Take(made, x, up, down);
        }
    }

    /// <summary>
    /// x (N, T, W), head (V, W), targets int64 (B, T), or (N, T) with rows -> (R) float32; rows is empty if all streams share the batch.
    /// </summary>
    public static Tensor LinearCrossEntropy(Tensor x, Tensor head, Tensor targets, int streams, ReadOnlySpan<int> rows = default)
    {
        CheckRows("LinearCrossEntropy", rows, streams);
        fixed (int* tall = rows)
        {
            return Tensor.Take(
                mf_kernel_linear_cross_entropy(Tensor.H(x), Tensor.H(head), Tensor.H(targets), tall, streams), x, head, targets);
        }
    }

    /// <summary>
    /// x (N, T, W), teacher (B, T, W), or the rows of the streams from the student on, head (V, W) -> (R) float32, 0 before the student.
    /// </summary>
    public static Tensor LinearDivergence(
        Tensor x, Tensor teacher, Tensor head, int streams, ReadOnlySpan<int> rows, int student, double temperature)
    {
        CheckRows("LinearDivergence", rows, streams);
        fixed (int* tall = rows)
        {
            return Tensor.Take(
                mf_kernel_linear_divergence(Tensor.H(x), Tensor.H(teacher), Tensor.H(head), tall, streams, student, temperature),
                x, teacher, head);
        }
    }

    /// <summary>x (B, T, W) -> (n*B, T, W).</summary>
    public static Tensor Fork(Tensor x, int n) => Tensor.Take(mf_kernel_fork(Tensor.H(x), n), x);

    /// <summary>One AdamW step in place; step counts from 1.</summary>
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
        int count = parameters.Count;
        if (firstMoments.Count != count || secondMoments.Count != count || decay.Count != count)
        {
            throw new ArgumentException($"AdamW: one first moment, second moment and decay is needed for each of the {count} parameters.");
        }

        var handles = ArrayPool<nint>.Shared.Rent(3 * count);
        var decays = ArrayPool<double>.Shared.Rent(count);
        for (int i = 0; i < count; i++)
        {
            handles[i] = Tensor.H(parameters[i]);
            handles[count + i] = Tensor.H(firstMoments[i]);
            handles[(2 * count) + i] = Tensor.H(secondMoments[i]);
            decays[i] = decay[i];
        }

        fixed (nint* all = handles)
        {
            fixed (double* each = decays)
            {
                Native.Check(mf_kernel_adamw(
                    all, all + count, all + (2 * count), each, count, learningRate, beta1, beta2, epsilon, step));
            }
        }

        GC.KeepAlive(parameters);
        GC.KeepAlive(firstMoments);
        GC.KeepAlive(secondMoments);
        ArrayPool<nint>.Shared.Return(handles);
        ArrayPool<double>.Shared.Return(decays);
    }

    /// <summary>Scales all gradients so that their common norm is at most max; returns the norm before.</summary>
    public static double ClipGradientNorm(IReadOnlyList<Tensor> parameters, double max)
    {
        var handles = ArrayPool<nint>.Shared.Rent(parameters.Count);
        for (int i = 0; i < parameters.Count; i++)
        {
            handles[i] = Tensor.H(parameters[i]);
        }

        double norm;
        fixed (nint* all = handles)
        {
            Native.Check(mf_kernel_clip_gradient_norm(all, parameters.Count, max, &norm));
        }

        GC.KeepAlive(parameters);
        ArrayPool<nint>.Shared.Return(handles);
        return norm;
    }

    /// <summary>
    /// Runs the CPU's loops with one of <see cref="InstructionSets"/> from now on, or <see cref="EmulatedTiles"/>, or none of them
    /// (<see cref="Aten"/>), in the whole process. For tests.
    /// </summary>
    /// <exception cref="ExternalException">The name is unknown, or this machine lacks what it stands for.</exception>
    public static void UseInstructionSet(string name)
    {
        var text = Marshal.StringToCoTaskMemUTF8(name);
        try
        {
            Native.Check(mf_kernel_use_instruction_set(text));
        }
        finally
        {
            Marshal.FreeCoTaskMem(text);
        }
    }

    /// <summary>Measures how long each operation takes, in the whole process, until <see cref="StopProfile"/>.</summary>
    public static void StartProfile() => mf_profile(1);

    /// <summary>The seconds that each operation took since <see cref="StartProfile"/>, by names such as feed_forward.backward.</summary>
    public static IReadOnlyDictionary<string, double> StopProfile()
    {
        mf_profile(0);
        var lines = Marshal.PtrToStringUTF8(mf_profile_read())!.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        return lines.Select(line => line.Split(' '))
            .ToDictionary(part => part[0], part => double.Parse(part[1], CultureInfo.InvariantCulture), StringComparer.Ordinal);
    }

    // The pointer tells native code no length.
    private static void CheckRows(string operation, ReadOnlySpan<int> rows, int streams)
    {
        if (rows.IsEmpty || rows.Length == streams) return;
        throw new ArgumentException(
            $"{operation}: rows has {rows.Length} numbers, but must have one for each of {streams} streams, or none.", nameof(rows));
    }

    private const string Library = "matformer_torch";

    [LibraryImport(Library)]
    private static partial nint mf_kernel_embedding(nint weight, nint tokens, int dtype);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_add_positions(nint x, nint weight, long position);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_rms_norm(nint x, nint weight, double epsilon);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_layer_norm(nint x, nint weight, nint bias, double epsilon);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_linear(nint x, nint weight, nint bias);

    [LibraryImport(Library)]
    private static partial int mf_kernel_projections(
        nint x, nint query, nint key, nint value, nint query_bias, nint key_bias, nint value_bias, nint* into);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_linear_rows(nint x, nint weight, long rows);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_linear_columns(nint x, nint weight, long columns);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_rotary(nint x, nint cos, nint sin);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_attention(nint query, nint key, nint value, nint lengths);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_causal_attention(nint query, nint key, nint value, long window);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_feed_forward(
        nint x, nint gate, nint gate_bias, nint up, nint up_bias, nint down, nint down_bias, int kind, int* widths, int* rows,
        long streams, int parting);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_linear_cross_entropy(nint x, nint head, nint targets, int* rows, long streams);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_linear_divergence(
        nint x, nint teacher, nint head, int* rows, long streams, long student, double temperature);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_fork(nint x, long n);

    [LibraryImport(Library)]
    private static partial int mf_kernel_adamw(
        nint* parameters, nint* first, nint* second, double* decay, long count, double learning_rate, double beta1, double beta2,
        double epsilon, long step);

    [LibraryImport(Library)]
    private static partial int mf_kernel_clip_gradient_norm(nint* parameters, long count, double max, double* norm);

    [LibraryImport(Library)]
    private static partial nint mf_kernel_instruction_sets();

    [LibraryImport(Library)]
    private static partial int mf_kernel_use_instruction_set(nint name);

    [LibraryImport(Library)]
    private static partial void mf_profile(int on);

    [LibraryImport(Library)]
    private static partial nint mf_profile_read();
}

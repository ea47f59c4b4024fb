using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Rounds a model's matrices to some bits for a while and then puts the float32 weights back. A pass in between computes with the rounded
/// weights, and its gradients at the rounded weights are those of straight-through rounding (arXiv 1308.3432). No forward pass has to know
/// of it.
/// </summary>
/// <remarks>
/// The matrices are those that a decoder rounds: of attention, feed-forward, embedding and head. Norms, biases, tables of positions
/// and routers stay as they are.
/// </remarks>
internal sealed class RoundedWeights : IDisposable
{
    private readonly List<(Parameter Weight, Tensor Kept)> _matrices = [];
    private bool _isRounded;

    /// <summary>Prepares copies of the matrices of a model, which keeps its device as long as this lives.</summary>
    public RoundedWeights(MatFormerModel model)
    {
        using var unrecorded = no_grad();
        foreach (var (name, parameter) in model.named_parameters())
        {
            if (ModelDecoding.IsRounded(name, parameter)) _matrices.Add((parameter, empty_like(parameter).DetachFromDisposeScope()));
        }
    }

    /// <summary>
    /// Returns the bytes of a model's weights at some bits, without a file's header: the bits of the matrices, a half for each group of 32
    /// columns, and everything else in float32. At 32 bits, everything is float32. The model may be on the meta device.
    /// </summary>
    public static long BytesOf(MatFormerModel model, int bits)
    {
        var bytes = 0L;
        foreach (var (name, weight) in model.named_parameters())
        {
            if (bits == 32 || !ModelDecoding.IsRounded(name, weight))
            {
                bytes += weight.numel() * sizeof(float);
                continue;
            }

            var groups = (weight.shape[1] + NestedRounding.Group - 1) / NestedRounding.Group;
            bytes += (((weight.numel() * bits) + 7) / 8) + (weight.shape[0] * groups * 2);
        }

        return bytes;
    }

    /// <summary>Rounds the float32 weights. It may follow another rounding directly.</summary>
    /// <param name="bits">8, 4 or 2; 32 leaves the weights as they are.</param>
    public void Round(int bits)
    {
        using var unrecorded = no_grad();
        if (_isRounded) Restore();
        if (bits == 32) return;
        _isRounded = true;
        foreach (var (weight, kept) in _matrices)
        {
            kept.copy_(weight);
            RoundTo(weight, kept, bits);
        }
    }

    /// <summary>Puts the float32 weights back.</summary>
    public void Restore()
    {
        if (!_isRounded) return;
        using var unrecorded = no_grad();
        foreach (var (weight, kept) in _matrices) weight.copy_(kept);
        _isRounded = false;
    }

    /// <summary>Puts the float32 weights back and releases the copies.</summary>
    public void Dispose()
    {
        Restore();
        foreach (var (_, kept) in _matrices) kept.Dispose();
        _matrices.Clear();
    }

    /// <summary>Writes the rounded values of a matrix (R, C) float32 into a matrix of its shape.</summary>
    internal static unsafe void RoundTo(Tensor target, Tensor matrix, int bits)
    {
        if (target.device_type != DeviceType.CPU || !target.is_contiguous() || !matrix.is_contiguous())
        {
            using var rounded = Rounded(matrix, bits);
            target.copy_(rounded);
            return;
        }

        var (rows, columns) = ((int)matrix.shape[0], (int)matrix.shape[1]);
        var (from, to) = (TensorMemory.Of(matrix), TensorMemory.Of(target));
        Parallel.For(0, rows, new ParallelOptions { MaxDegreeOfParallelism = get_num_threads() }, row =>
        {
            var offset = row * (long)columns;
            NestedRounding.Round(new((float*)from + offset, columns), bits, new((float*)to + offset, columns));
        });
        GC.KeepAlive(matrix);
        GC.KeepAlive(target);
    }

    /// <summary>
    /// Returns the rounded values of a matrix on any device. They are those of <see cref="NestedRounding"/>, bit for bit.
    /// </summary>
    internal static Tensor Rounded(Tensor matrix, int bits)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = (matrix.shape[0], matrix.shape[1]);
        var groups = (columns + NestedRounding.Group - 1) / NestedRounding.Group;

        // Zeros fill the last group. They change neither the largest nor the smallest number, which count only beyond zero.
        var padded = nn.functional.pad(matrix, [0, (groups * NestedRounding.Group) - columns]).view(rows, groups, NestedRounding.Group);
        var positive = padded.amax([-1], keepdim: true).clamp(min: Numbers.Number(0));
        var negative = padded.neg().amax([-1], keepdim: true).clamp(min: Numbers.Number(0));
        var scale = maximum(positive.div(Numbers.Number(119)), negative.div(Numbers.Number(128)))
            .clamp(max: Numbers.Number((double)Half.MaxValue)).to(ScalarType.Float16).to(ScalarType.Float32);
        var isZero = scale.eq(Numbers.Number(0));
        var q = padded.div(scale.masked_fill(isZero, Numbers.Number(1))).round().clamp(Numbers.Number(-128), Numbers.Number(119));
        if (bits < 8) q = q.add(Numbers.Number(8), Numbers.One).mul(Numbers.Number(1 / 16.0)).floor();
        if (bits == 2) q = q.mul(Numbers.Number(1 / 4.0)).floor().mul(Numbers.Number(4)).add(Numbers.Number(1.5), Numbers.One);
        if (bits < 8) q = q.mul(Numbers.Number(16));

        // The sum turns -0 into 0.
        var values = q.mul(scale).add(Numbers.Number(0), Numbers.One);
        return values.view(rows, -1).narrow(1, 0, columns).contiguous().MoveToOuterDisposeScope();
    }
}

using System.Collections.Concurrent;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>What queries must not see and streams do not have, as tensors that are made once and kept.</summary>
internal static class Masks
{
    // A run uses a few. Where lengths differ from call to call, as in serving, they would add up.
    private const int Most = 256;

    private static readonly ConcurrentDictionary<object, Tensor> s_masks = [];

    /// <summary>
    /// Minus infinity where a query does not see a key, else 0: (T, S). Query t sees the keys up to offset + t, the last
    /// <paramref name="window"/> of them if that is not 0.
    /// </summary>
    public static Tensor Causal(long time, long length, long offset, long window, ScalarType dtype, Device device) =>
        Kept((time, length, offset, window, dtype, device.type, device.index), () =>
        {
            var all = ones(time, length, dtype: ScalarType.Bool, device: device);
            var unseen = all.triu(offset + 1);
            if (window > 0) unseen = unseen.logical_or(all.tril(offset - window));
            return Hidden(unseen, dtype);
        });

    /// <summary>
    /// Minus infinity at the keys behind the end of a sequence, else 0: lengths (L) int64, sequence n of N having lengths[n % L] ->
    /// (N, 1, 1, S). Not kept, and for the caller to dispose.
    /// </summary>
    public static Tensor OfLengths(Tensor lengths, long sequences, long length, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var unseen = arange(Number(0L), Number(length), One, ScalarType.Int64, lengths.device).ge(lengths.unsqueeze(1)); // (L, S)
        return Hidden(unseen, dtype).repeat(sequences / lengths.shape[0], 1).view(sequences, 1, 1, length).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// 1 at the hidden units that each stream has, else 0: (N, 1, widths[0]), rows[r] of N being those of stream r; or, if rows is null,
    /// (R, 1, 1, widths[0]).
    /// </summary>
    public static Tensor Widths(int[] widths, int[]? rows, ScalarType dtype, Device device) =>
        Kept((string.Join(',', widths), rows is null ? null : string.Join(',', rows), dtype, device.type, device.index), () =>
        {
            var counts = rows is null ? [.. widths.Select(width => (long)width)]
                : widths.Zip(rows).SelectMany(stream => Enumerable.Repeat((long)stream.First, stream.Second)).ToArray();
            var kept = arange(Number(0L), Number((long)widths[0]), One, ScalarType.Int64, device).lt(tensor(counts, device: device).unsqueeze(1)).to(dtype);
            return rows is null ? kept.view(counts.Length, 1, 1, widths[0]) : kept.unsqueeze(1);
        });

    private static Tensor Hidden(Tensor unseen, ScalarType dtype) =>
        zeros(unseen.shape, dtype, unseen.device).masked_fill_(unseen, Number(float.NegativeInfinity));

    private static Tensor Kept(object key, Func<Tensor> make)
    {
        if (s_masks.TryGetValue(key, out var known)) return known;
        if (s_masks.Count >= Most) s_masks.Clear(); // whoever uses one still holds it
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        return s_masks.GetOrAdd(key, make().DetachFromDisposeScope());
    }
}

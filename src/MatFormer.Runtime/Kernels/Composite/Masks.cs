using System.Collections.Concurrent;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>Masks of the keys that queries must not see and of the hidden units that streams have. They are made once and kept.</summary>
internal static class Masks
{
    // The largest number of kept masks. A run uses a few, but where lengths differ from call to call, as in serving, masks would
    // accumulate.
    private const int Most = 256;

    private static readonly ConcurrentDictionary<object, Tensor> s_masks = [];

    /// <summary>
    /// Returns a mask (T, S): minus infinity where a query does not see a key, else 0. Query t sees the keys up to offset + t. If
    /// <paramref name="window"/> is not 0, it sees only the last ones of them, as many as the window has.
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
    /// Returns a mask (N, 1, 1, S): minus infinity at the keys after the end of a sequence, else 0. The lengths are (L) int64, and sequence
    /// n of N has lengths[n % L]. The mask is not kept; the caller disposes it.
    /// </summary>
    public static Tensor OfLengths(Tensor lengths, long sequences, long length, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var unseen = arange(Number(0L), Number(length), One, ScalarType.Int64, lengths.device).ge(lengths.unsqueeze(1)); // (L, S)
        return Hidden(unseen, dtype).repeat(sequences / lengths.shape[0], 1).view(sequences, 1, 1, length).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Returns a mask: 1 at the hidden units that each stream has, else 0. It is (N, 1, widths[0]), where rows[r] of the N rows belong to
    /// stream r; or (R, 1, 1, widths[0]) if rows is null.
    /// </summary>
    public static Tensor Widths(int[] widths, int[]? rows, ScalarType dtype, Device device) =>
        Kept((string.Join(',', widths), rows is null ? null : string.Join(',', rows), dtype, device.type, device.index), () =>
        {
            var counts = rows is null ? [.. widths.Select(width => (long)width)]
                : widths.Zip(rows).SelectMany(stream => Enumerable.Repeat((long)stream.First, stream.Second)).ToArray();
            var kept = arange(Number(0L), Number((long)widths[0]), One, ScalarType.Int64, device)
                .lt(tensor(counts, device: device).unsqueeze(1)).to(dtype);
            return rows is null ? kept.view(counts.Length, 1, 1, widths[0]) : kept.unsqueeze(1);
        });

    private static Tensor Hidden(Tensor unseen, ScalarType dtype) =>
        zeros(unseen.shape, dtype, unseen.device).masked_fill_(unseen, Number(float.NegativeInfinity));

    private static Tensor Kept(object key, Func<Tensor> make)
    {
        if (s_masks.TryGetValue(key, out var known)) return known;
        if (s_masks.Count >= Most) s_masks.Clear(); // masks in use are still referenced by their users
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        return s_masks.GetOrAdd(key, make().DetachFromDisposeScope());
    }
}

using TorchSharp;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <content>The halves of a layer for all streams at once, in few calls whose gradients libtorch knows.</content>
public static partial class Kernels
{
    internal static partial class Composite
    {
        // How many multiplications may be wasted on the narrower streams of a feed-forward before the streams are computed separately. On a
        // GPU so many take some ten microseconds, as two calls do.
        private const long IdleProducts = 1L << 32;

        // The largest number of logits that may be in memory at once.
        private const long SmallMatrix = 1L << 24;

        private static Tensor AttendAtOnce(
            Tensor x, AttentionWeights w, Tensor? cos, Tensor? sin, Tensor? lengths, int[] heads, int[] rows, KeyValueCache? cache,
            int layer)
        {
            using var scope = NewDisposeScope();
            var mask = lengths is null ? null : Masks.OfLengths(lengths, x.shape[0], x.shape[1], x.dtype); // (N, 1, 1, T)
            var parts = new List<Tensor>();
            var first = 0L;
            for (var r = 0; r < heads.Length;)
            {
                // Streams with the same number of heads are one batch.
                var (count, of) = (0L, heads[r]);
                for (; r < heads.Length && heads[r] == of; r++) count += rows[r];
                var (its, seen) = count == x.shape[0] ? (x, mask) : (x.narrow(0, first, count), mask?.narrow(0, first, count));
                parts.Add(AttendAlike(its, w, cos, sin, seen, of, cache, layer));
                first += count;
            }

            return (parts.Count == 1 ? parts[0] : cat(parts, 0)).MoveToOuterDisposeScope();
        }

        private static Tensor AttendAlike(
            Tensor x, AttentionWeights w, Tensor? cos, Tensor? sin, Tensor? mask, long heads, KeyValueCache? cache, int layer)
        {
            long batch = x.shape[0], time = x.shape[1], depth = w.HeadWidth, keyHeads = heads / w.Group;
            var weight = cat([Rows(w.Query, heads * depth), Rows(w.Key, keyHeads * depth), Rows(w.Value, keyHeads * depth)], 0);
            var bias = w.QueryBias is null ? null
                : cat([Rows(w.QueryBias, heads * depth), Rows(w.KeyBias!, keyHeads * depth), Rows(w.ValueBias!, keyHeads * depth)], 0);
            var normed = Norm(x, w.Norm);
            ProductInputs.Add(normed, w.Query, w.Key, w.Value);
            var all = Linear(normed, weight, bias).view(batch, time, heads + (2 * keyHeads), depth);
            Tensor query, key, value;
            if (w.QueryNorm is null && w.KeyNorm is null)
            {
                // Queries and keys are rotated together.
                var parts = all.split([heads + keyHeads, keyHeads], 2);
                var turned = cos is null ? parts[0] : Rotation.Of(cos, sin!).Turn(parts[0]);
                var halves = turned.split([heads, keyHeads], 2);
                (query, key, value) = (halves[0], halves[1], parts[1]); // (B, T, H, D), (B, T, Hkv, D) twice
            }
            else
            {
                var parts = all.split([heads, keyHeads, keyHeads], 2);
                (query, key, value) = (parts[0], parts[1], parts[2]);
                if (w.QueryNorm is { } queryNorm) query = Norm(query, queryNorm);
                if (w.KeyNorm is { } keyNorm) key = Norm(key, keyNorm);
                if (cos is not null) (query, key) = (Rotation.Of(cos, sin!).Turn(query), Rotation.Of(cos, sin!).Turn(key));
            }

            if (cache is not null) (key, value) = cache.Append(layer, key, value); // (B, S, Hkv, D)
            var isPlain = w.IsCausal && w.Window == 0 && key.shape[1] == time;
            if (w.IsCausal && !isPlain) mask = Masks.Causal(time, key.shape[1], key.shape[1] - time, w.Window, x.dtype, x.device);
            var mixed = TorchScript.Attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask, isPlain);
            var attended = mixed.transpose(1, 2).reshape(batch, time, heads * depth);
            return Back(attended, w.Output, w.OutputBias, x.shape[2]).add_(x, One);
        }

        private static Tensor FeedForwardAtOnce(Tensor x, FeedForwardWeights w, int[] widths, int[]? rows)
        {
            using var scope = NewDisposeScope();
            var normed = Norm(x, w.Norm);
            int streams = widths.Length, widest = widths[0];
            if (widths[^1] == widest && (rows is not null || streams == 1))
                return Down(Hidden(normed, w, widest), w, x.shape[2]).add_(x, One).MoveToOuterDisposeScope();
            var idle = 0L;
            for (var r = 0; r < streams; r++) idle += (rows?[r] ?? x.shape[0]) * (long)(widest - widths[r]);
            if (idle * x.shape[1] * x.shape[2] * 3 <= IdleProducts)
            {
                // All streams compute the widest stream's hidden units. Units that a stream does not have are masked to zero.
                var hidden = Hidden(normed, w, widest);
                var kept = Masks.Widths(widths, rows, x.dtype, x.device); // (N, 1, m) or (R, 1, 1, m)
                if (rows is not null) return Down(hidden.mul(kept), w, x.shape[2]).add_(x, One).MoveToOuterDisposeScope();
                var summed = Down(hidden.mul(kept), w, x.shape[2]).add_(x, One); // (R, B, T, W)
                return summed.flatten(0, 1).MoveToOuterDisposeScope(); // (R*B, T, W)
            }

            var outputs = new Tensor[streams];
            var first = 0L;
            for (var r = 0; r < streams; r++)
            {
                var (its, input) = rows is null ? (normed, x) : (normed.narrow(0, first, rows[r]), x.narrow(0, first, rows[r]));
                outputs[r] = Down(Hidden(its, w, widths[r]), w, x.shape[2]).add_(input, One);
                first += rows?[r] ?? 0;
            }

            return (streams == 1 ? outputs[0] : cat(outputs, 0)).MoveToOuterDisposeScope();
        }

        private static Tensor CrossEntropyAtOnce(Tensor x, Tensor head, Tensor targets, int[] rows, bool isShared)
        {
            using var scope = NewDisposeScope();
            var known = Linear(x, head).to(ScalarType.Float32).log_softmax(-1); // (N, T, V)
            var all = isShared && rows.Length > 1 ? targets.repeat(rows.Length, 1) : targets; // (N, T)
            return StreamMeans(known.gather(2, all.unsqueeze(2)), rows.Length, isShared ? null : rows).neg().MoveToOuterDisposeScope();
        }

        // Returns the first m hidden units: (..., W) to (..., m).
        private static Tensor Hidden(Tensor x, FeedForwardWeights w, int m)
        {
            ProductInputs.Add(x, w.Up, w.Gate);
            if (w.Gate is null)
                return Activate(Linear(x, Rows(w.Up, m), w.UpBias is null ? null : Rows(w.UpBias, m)), w.Kind);
            var weight = cat([Rows(w.Gate, m), Rows(w.Up, m)], 0);
            var bias = w.GateBias is null && w.UpBias is null ? null
                : cat([BiasRows(w.GateBias, w.Gate, m), BiasRows(w.UpBias, w.Up, m)], 0);
            var both = Linear(x, weight, bias).chunk(2, -1);
            return Activate(both[0], w.Kind).mul(both[1]);
        }

        // (..., m) to (..., W).
        private static Tensor Down(Tensor hidden, FeedForwardWeights w, long width) => Back(hidden, w.Down, w.DownBias, width);

        // Multiplies by the first columns of a weight that writes to the first channels: (..., in) to (..., W).
        private static Tensor Back(Tensor x, Tensor weight, Tensor? bias, long width)
        {
            ProductInputs.Add(x, weight);
            return Linear(x, Rows(weight, width), bias is null ? null : Rows(bias, width));
        }

        private static Tensor Activate(Tensor x, FeedForwardKind kind) => kind switch
        {
            FeedForwardKind.SquaredRelu => Square(x.relu()),
            FeedForwardKind.SwiGlu => nn.functional.silu(x),
            FeedForwardKind.Gelu or FeedForwardKind.GeGlu => nn.functional.gelu(x),
            _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "FeedForward: unknown kind."),
        };

        private static Tensor BiasRows(Tensor? bias, Tensor weight, long count) =>
            bias is null ? zeros(count, ScalarType.Float32, weight.device) : Rows(bias, count);

        private static Tensor Rows(Tensor weight, long count) => count == weight.shape[0] ? weight : weight.narrow(0, 0, count);
    }
}

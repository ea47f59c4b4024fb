using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

public static partial class Kernels
{
    /// <summary>Operations made of TorchSharp's, for any device.</summary>
    internal static class Composite
    {
        public static Tensor Embedding(Tensor weight, Tensor tokens, ScalarType dtype)
        {
            using var flat = tokens.flatten();
            using var rows = weight.index_select(0, flat); // (B*T, W)
            using var shaped = rows.view(tokens.shape[0], tokens.shape[1], weight.shape[1]); // (B, T, W)
            return shaped.to(dtype);
        }

        public static Tensor AddPositions(Tensor x, Tensor weight, long position)
        {
            using var rows = weight.narrow(0, position, x.shape[1]); // (T, W)
            using var wide = x.to(ScalarType.Float32);
            using var sum = wide.add(rows);
            return sum.to(x.dtype);
        }

        public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon)
        {
            using var scope = NewDisposeScope();
            var wide = x.to(ScalarType.Float32);
            var scale = wide.square().mean([-1], keepdim: true).add(epsilon).rsqrt();
            return wide.mul(scale).mul(weight).to(x.dtype).MoveToOuterDisposeScope();
        }

        public static Tensor LayerNorm(Tensor x, Tensor weight, Tensor bias, double epsilon)
        {
            using var scope = NewDisposeScope();
            var wide = x.to(ScalarType.Float32);
            var normal = nn.functional.layer_norm(wide, [x.shape[^1]], weight, bias, epsilon);
            return normal.to(x.dtype).MoveToOuterDisposeScope();
        }

        public static Tensor Linear(Tensor x, Tensor weight, Tensor? bias = null)
        {
            using var cast = weight.to(x.dtype);
            using var castBias = bias?.to(x.dtype);
            return nn.functional.linear(x, cast, castBias);
        }

        public static Tensor Attend(
            Tensor x, AttentionWeights w, Tensor? cos, Tensor? sin, Tensor? lengths, int[] heads, int[] rows, KeyValueCache? cache = null,
            int layer = 0)
        {
            using var scope = NewDisposeScope();
            if (heads.Length == 1) return AttendOne(x, w, cos, sin, lengths, heads[0], cache, layer).MoveToOuterDisposeScope();
            var streams = new Tensor[heads.Length];
            var first = 0L;
            for (var r = 0; r < heads.Length; first += rows[r++])
            {
                var seen = lengths is null || lengths.shape[0] <= rows[r] ? lengths : lengths.narrow(0, first, rows[r]);
                streams[r] = AttendOne(x.narrow(0, first, rows[r]), w, cos, sin, seen, heads[r], null, 0);
            }

            return cat(streams, 0).MoveToOuterDisposeScope();
        }

        public static Tensor FeedForward(Tensor x, FeedForwardWeights w, int[] widths, int[]? rows)
        {
            using var scope = NewDisposeScope();
            var normed = w.Norm.Apply(x);
            var streams = new Tensor[widths.Length];
            var first = 0L;
            for (var r = 0; r < widths.Length; r++)
            {
                var (its, input) = rows is null ? (normed, x) : (normed.narrow(0, first, rows[r]), x.narrow(0, first, rows[r]));
                var hidden = Hidden(its, w, widths[r]); // (B, T, m)
                streams[r] = Linear(hidden, w.Down.narrow(1, 0, widths[r]), w.DownBias).add_(input); // (B, T, W)
                first += rows?[r] ?? 0;
            }

            return (streams.Length == 1 ? streams[0] : cat(streams, 0)).MoveToOuterDisposeScope();
        }

        public static Tensor HiddenImportance(Tensor x, FeedForwardWeights w)
        {
            using var scope = NewDisposeScope();
            var hidden = Hidden(w.Norm.Apply(x), w, w.Up.shape[0]); // (B, T, hidden)
            var mean = hidden.to(ScalarType.Float32).abs().mean([0, 1]); // (hidden)
            return mean.mul(w.Down.square().sum([0]).sqrt()).MoveToOuterDisposeScope();
        }

        public static Tensor LinearCrossEntropy(Tensor x, Tensor head, Tensor targets, int[] rows, bool isShared)
        {
            using var scope = NewDisposeScope();
            var logits = Logits(x, head); // (N, T, V)
            var all = isShared ? targets.repeat(rows.Length, 1) : targets; // (N, T)
            var losses = logits.log_softmax(-1).gather(2, all.unsqueeze(2)).neg(); // (N, T, 1)
            return StreamMeans(losses, rows.Length, isShared ? null : rows).MoveToOuterDisposeScope();
        }

        public static Tensor LinearDivergence(
            Tensor x, Tensor teacher, Tensor head, int[] rows, bool isShared, int student, double temperature)
        {
            using var scope = NewDisposeScope();
            var first = rows.Take(student).Sum(n => (long)n);
            var learnt = Logits(x.narrow(0, first, x.shape[0] - first), head).div(temperature).log_softmax(-1); // (N, T, V)
            var one = Logits(teacher.detach(), head.detach()).div(temperature).log_softmax(-1);
            var known = isShared ? one.repeat(rows.Length - student, 1, 1) : one;
            var divergences = known.exp().mul(known.sub(learnt)).sum([-1]); // (N, T)
            var means = StreamMeans(divergences, rows.Length - student, isShared ? null : rows[student..]);
            var none = zeros(student, dtype: ScalarType.Float32, device: x.device);
            return cat([none, means.mul(temperature * temperature)]).MoveToOuterDisposeScope();
        }

        public static void AdamW(
            Tensor parameters, Tensor gradients, Tensor firstMoments, Tensor secondMoments, double decay, double learningRate, double beta1,
            double beta2, double epsilon, long step)
        {
            using var unrecorded = no_grad();
            using var scope = NewDisposeScope();
            double correction1 = 1 - Math.Pow(beta1, step), correction2 = Math.Sqrt(1 - Math.Pow(beta2, step));
            parameters.mul_(1 - (learningRate * decay));
            firstMoments.mul_(beta1).add_(gradients, 1 - beta1);
            secondMoments.mul_(beta2).addcmul_(gradients, gradients, 1 - beta2);
            var denominator = secondMoments.sqrt().div_(correction2).add_(epsilon);
            parameters.addcdiv_(firstMoments, denominator, -learningRate / correction1);
        }

        public static double ClipGradientNorm(Tensor gradients, double max)
        {
            using var unrecorded = no_grad();
            using var length = gradients.norm();
            double norm = length.item<float>(), coefficient = max / (norm + 1e-6);
            if (double.IsFinite(norm) && coefficient < 1) gradients.mul_(coefficient);
            return norm;
        }

        private static Tensor AttendOne(
            Tensor x, AttentionWeights w, Tensor? cos, Tensor? sin, Tensor? lengths, long heads, KeyValueCache? cache, int layer)
        {
            long batch = x.shape[0], time = x.shape[1], depth = w.HeadWidth, keyHeads = heads / w.Group;
            var normed = w.Norm.Apply(x);
            Tensor Project(Tensor weight, Tensor? bias, long count) =>
                Linear(normed, weight.narrow(0, 0, count * depth), bias?.narrow(0, 0, count * depth)).view(batch, time, count, depth);
            var query = Project(w.Query, w.QueryBias, heads); // (B, T, H, D)
            var key = Project(w.Key, w.KeyBias, keyHeads); // (B, T, Hkv, D)
            var value = Project(w.Value, w.ValueBias, keyHeads);
            if (w.QueryNorm is { } queryNorm) query = queryNorm.Apply(query);
            if (w.KeyNorm is { } keyNorm) key = keyNorm.Apply(key);
            if (cos is not null) (query, key) = (Rotary(query, cos, sin!), Rotary(key, cos, sin!));
            if (cache is not null) (key, value) = cache.Append(layer, key, value); // (B, S, Hkv, D)
            var scores = query.transpose(1, 2).matmul(Repeat(key, w.Group).permute(0, 2, 3, 1)); // (B, H, T, S)
            scores = scores.to(ScalarType.Float32).mul(1.0 / Math.Sqrt(depth));
            if (Unseen(w, batch, time, key.shape[1], lengths, x.device) is { } unseen)
                scores = scores.masked_fill(unseen, float.NegativeInfinity);
            var mixed = scores.softmax(-1).to(x.dtype).matmul(Repeat(value, w.Group).transpose(1, 2)); // (B, H, T, D)
            var attended = mixed.transpose(1, 2).reshape(batch, time, heads * depth);
            return Linear(attended, w.Output.narrow(1, 0, heads * depth), w.OutputBias).add_(x);
        }

        // True where a query must not see a key, broadcast to (B, H, T, S); null if all see all.
        private static Tensor? Unseen(AttentionWeights w, long batch, long time, long length, Tensor? lengths, Device device)
        {
            if (w.IsCausal)
            {
                var all = ones(time, length, dtype: ScalarType.Bool, device: device);
                var future = all.triu(length - time + 1); // (T, S): true where the key is later than the query
                return w.Window == 0 ? future : future.logical_or(all.tril(length - time - w.Window));
            }

            if (lengths is null) return null;
            var places = arange(length, ScalarType.Int64, device);
            return places.ge(lengths.unsqueeze(1)).repeat(batch / lengths.shape[0], 1).view(batch, 1, 1, length);
        }

        private static Tensor Rotary(Tensor x, Tensor cos, Tensor sin)
        {
            var half = x.shape[3] / 2;
            var (c, s) = (cos.unsqueeze(1), sin.unsqueeze(1)); // (T, 1, D/2)
            var wide = x.to(ScalarType.Float32);
            var (a, b) = (wide.narrow(3, 0, half), wide.narrow(3, half, half)); // (B, T, H, D/2)
            return cat([a.mul(c).sub(b.mul(s)), b.mul(c).add(a.mul(s))], -1).to(x.dtype);
        }

        // Each head `groups` times in a row: (B, S, Hkv, D) -> (B, S, Hkv*groups, D).
        private static Tensor Repeat(Tensor x, long groups)
        {
            if (groups == 1) return x;
            long batch = x.shape[0], length = x.shape[1], heads = x.shape[2], depth = x.shape[3];
            return x.unsqueeze(3).expand(batch, length, heads, groups, depth).reshape(batch, length, heads * groups, depth);
        }

        // The first m hidden units: (B, T, W) -> (B, T, m).
        private static Tensor Hidden(Tensor x, FeedForwardWeights w, long m)
        {
            var up = Linear(x, w.Up.narrow(0, 0, m), w.UpBias?.narrow(0, 0, m));
            if (w.Gate is null) return Activate(up.to(ScalarType.Float32), w.Kind).to(x.dtype);
            var gate = Linear(x, w.Gate.narrow(0, 0, m), w.GateBias?.narrow(0, 0, m));
            return Activate(gate.to(ScalarType.Float32), w.Kind).mul(up).to(x.dtype);
        }

        private static Tensor Activate(Tensor x, FeedForwardKind kind) => kind switch
        {
            FeedForwardKind.SquaredRelu => x.relu().square(),
            FeedForwardKind.SwiGlu => nn.functional.silu(x),
            FeedForwardKind.Gelu or FeedForwardKind.GeGlu => nn.functional.gelu(x),
            _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "FeedForward: unknown kind."),
        };

        // x head^T in float32; the head is rounded to x's dtype.
        private static Tensor Logits(Tensor x, Tensor head) =>
            nn.functional.linear(x.to(ScalarType.Float32), head.to(x.dtype).to(ScalarType.Float32));
    }
}

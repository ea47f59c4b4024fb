using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer;

public static partial class Kernels
{
    /// <summary>What each operation means, in TorchSharp's API alone. The native forms are held equal to these.</summary>
    public static class Composite
    {
        /// <inheritdoc cref="Kernels.Embedding"/>
        public static Tensor Embedding(Tensor weight, Tensor tokens, ScalarType dtype)
        {
            Check(weight.dim() == 2, "Embedding", "weight", weight, "(V, W)");
            Check(tokens.dim() == 2, "Embedding", "tokens", tokens, "(B, T)");
            using var flat = tokens.flatten();
            using var rows = weight.index_select(0, flat); // (B*T, W)
            using var shaped = rows.view(tokens.shape[0], tokens.shape[1], weight.shape[1]); // (B, T, W)
            return shaped.to(dtype);
        }

        /// <inheritdoc cref="Kernels.AddPositions"/>
        public static Tensor AddPositions(Tensor x, Tensor weight, long position)
        {
            Check(x.dim() == 3, "AddPositions", "x", x, "(B, T, W)");
            Check(
                weight.dim() == 2 && weight.shape[1] == x.shape[2] && position >= 0 && position + x.shape[1] <= weight.shape[0],
                "AddPositions", "weight", weight, $"({position + x.shape[1]} or more, {x.shape[2]}), position being {position}");
            using var rows = weight.narrow(0, position, x.shape[1]); // (T, W)
            using var wide = x.to(ScalarType.Float32);
            using var sum = wide.add(rows);
            return sum.to(x.dtype);
        }

        /// <inheritdoc cref="Kernels.RmsNorm"/>
        public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon)
        {
            CheckLast(x, weight, "RmsNorm", "weight");
            using var wide = x.to(ScalarType.Float32);
            using var square = wide.square();
            using var mean = square.mean([-1], keepdim: true);
            using var shifted = mean.add(epsilon);
            using var scale = shifted.rsqrt();
            using var normal = wide.mul(scale);
            using var result = normal.mul(weight);
            return result.to(x.dtype);
        }

        /// <inheritdoc cref="Kernels.LayerNorm"/>
        public static Tensor LayerNorm(Tensor x, Tensor weight, Tensor bias, double epsilon)
        {
            CheckLast(x, weight, "LayerNorm", "weight");
            CheckLast(x, bias, "LayerNorm", "bias");
            using var wide = x.to(ScalarType.Float32);
            using var mean = wide.mean([-1], keepdim: true);
            using var centred = wide.sub(mean);
            using var square = centred.square();
            using var variance = square.mean([-1], keepdim: true);
            using var shifted = variance.add(epsilon);
            using var scale = shifted.rsqrt();
            using var normal = centred.mul(scale);
            using var scaled = normal.mul(weight);
            using var result = scaled.add(bias);
            return result.to(x.dtype);
        }

        /// <inheritdoc cref="Kernels.Linear"/>
        public static Tensor Linear(Tensor x, Tensor weight, Tensor? bias = null)
        {
            Check(weight.dim() == 2 && weight.shape[1] == x.shape[^1], "Linear", "weight", weight, $"(out, {x.shape[^1]})");
            Check(bias is null || (bias.dim() == 1 && bias.shape[0] == weight.shape[0]), "Linear", "bias", bias, $"({weight.shape[0]})");
            using var cast = weight.to(x.dtype);
            using var castBias = bias?.to(x.dtype);
            return nn.functional.linear(x, cast, castBias);
        }

        /// <inheritdoc cref="Kernels.Projections"/>
        public static (Tensor Query, Tensor Key, Tensor Value) Projections(
            Tensor x, Tensor query, Tensor key, Tensor value, Tensor? queryBias = null, Tensor? keyBias = null, Tensor? valueBias = null) =>
            (Linear(x, query, queryBias), Linear(x, key, keyBias), Linear(x, value, valueBias));

        /// <inheritdoc cref="Kernels.LinearRows"/>
        public static Tensor LinearRows(Tensor x, Tensor weight, long rows)
        {
            CheckPrefix(weight, 0, rows, "LinearRows");
            using var prefix = weight.narrow(0, 0, rows); // (rows, in)
            return Linear(x, prefix);
        }

        /// <inheritdoc cref="Kernels.LinearColumns"/>
        public static Tensor LinearColumns(Tensor x, Tensor weight, long columns)
        {
            CheckPrefix(weight, 1, columns, "LinearColumns");
            using var prefix = weight.narrow(1, 0, columns); // (out, columns)
            using var copy = prefix.contiguous(); // as the extracted weight lies: other strides may give other bits
            return Linear(x, copy);
        }

        /// <inheritdoc cref="Kernels.Rotary"/>
        public static Tensor Rotary(Tensor x, Tensor cos, Tensor sin)
        {
            Check(x.dim() == 4 && x.shape[3] % 2 == 0, "Rotary", "x", x, "(B, T, H, D), D even");
            long time = x.shape[1], half = x.shape[3] / 2;
            Check(cos.dim() == 2 && cos.shape[0] == time && cos.shape[1] == half, "Rotary", "cos", cos, $"({time}, {half})");
            Check(sin.dim() == 2 && sin.shape[0] == time && sin.shape[1] == half, "Rotary", "sin", sin, $"({time}, {half})");
            using var c = cos.unsqueeze(1); // (T, 1, D/2)
            using var s = sin.unsqueeze(1);
            using var wide = x.to(ScalarType.Float32);
            using var a = wide.narrow(3, 0, half); // (B, T, H, D/2)
            using var b = wide.narrow(3, half, half);
            using var ac = a.mul(c);
            using var bs = b.mul(s);
            using var bc = b.mul(c);
            using var @as = a.mul(s);
            using var first = ac.sub(bs);
            using var second = bc.add(@as);
            using var result = cat([first, second], -1);
            return result.to(x.dtype);
        }

        /// <inheritdoc cref="Kernels.CausalAttention"/>
        public static Tensor CausalAttention(Tensor query, Tensor key, Tensor value, int window = 0)
        {
            Check(query.dim() == 4, "CausalAttention", "query", query, "(B, T, H, D)");
            long batch = query.shape[0], time = query.shape[1], heads = query.shape[2], depth = query.shape[3];
            Check(
                key.dim() == 4 && key.shape[0] == batch && key.shape[1] >= time && key.shape[3] == depth
                && key.shape[2] > 0 && heads % key.shape[2] == 0,
                "CausalAttention", "key", key, $"({batch}, {time} or more, a divisor of {heads}, {depth})");
            Check(
                value.dim() == 4 && value.shape.AsSpan().SequenceEqual(key.shape),
                "CausalAttention", "value", value, $"({string.Join(", ", key.shape)})");
            long length = key.shape[1], groups = heads / key.shape[2];

            using var repeatedKey = Repeat(key, groups); // (B, S, H, D)
            using var repeatedValue = Repeat(value, groups);
            using var q = query.transpose(1, 2); // (B, H, T, D)
            using var k = repeatedKey.permute(0, 2, 3, 1); // (B, H, D, S)
            using var v = repeatedValue.transpose(1, 2); // (B, H, S, D)
            using var products = q.matmul(k); // (B, H, T, S)
            using var wide = products.to(ScalarType.Float32);
            using var scores = wide.mul(1.0 / Math.Sqrt(depth));
            using var all = ones(time, length, dtype: ScalarType.Bool, device: query.device);
            using var future = all.triu(length - time + 1); // (T, S): true where the key is later than the query
            using var masked = scores.masked_fill(future, float.NegativeInfinity);
            using var past = window == 0 ? null : all.tril(length - time - window); // (T, S): true before the window
            using var seen = past is null ? masked.alias() : masked.masked_fill(past, float.NegativeInfinity);
            using var probabilities = seen.softmax(-1);
            using var narrow = probabilities.to(query.dtype);
            using var mixed = narrow.matmul(v); // (B, H, T, D)
            using var ordered = mixed.transpose(1, 2); // (B, T, H, D)
            return ordered.reshape(batch, time, heads * depth);
        }

        /// <inheritdoc cref="Kernels.Attention"/>
        public static Tensor Attention(Tensor query, Tensor key, Tensor value, Tensor? lengths = null)
        {
            Check(query.dim() == 4, "Attention", "query", query, "(N, T, H, D)");
            long batch = query.shape[0], time = query.shape[1], heads = query.shape[2], depth = query.shape[3];
            Check(
                key.dim() == 4 && key.shape[0] == batch && key.shape[3] == depth && key.shape[2] > 0 && heads % key.shape[2] == 0,
                "Attention", "key", key, $"({batch}, S, a divisor of {heads}, {depth})");
            Check(
                value.dim() == 4 && value.shape.AsSpan().SequenceEqual(key.shape),
                "Attention", "value", value, $"({string.Join(", ", key.shape)})");
            Check(
                lengths is null || (lengths.dim() == 1 && lengths.shape[0] > 0 && batch % lengths.shape[0] == 0),
                "Attention", "lengths", lengths, $"(a divisor of {batch})");
            using var scope = NewDisposeScope();
            var groups = heads / key.shape[2];
            var (q, k, v) = (query.transpose(1, 2), Repeat(key, groups).permute(0, 2, 3, 1), Repeat(value, groups).transpose(1, 2));
            var scores = q.matmul(k).to(ScalarType.Float32).mul(1.0 / Math.Sqrt(depth)); // (N, H, T, S)
            if (lengths is not null)
            {
                var places = arange(key.shape[1], ScalarType.Int64, query.device);
                var unseen = places.ge(lengths.unsqueeze(1)).repeat(batch / lengths.shape[0], 1); // (N, S)
                scores = scores.masked_fill(unseen.unsqueeze(1).unsqueeze(1), float.NegativeInfinity);
            }

            var mixed = scores.softmax(-1).to(query.dtype).matmul(v); // (N, H, T, D)
            return mixed.transpose(1, 2).reshape(batch, time, heads * depth).MoveToOuterDisposeScope();
        }

        /// <inheritdoc cref="Kernels.FeedForward"/>
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
            if (parting)
            {
                using var all = Fork(x, widths.Length); // (R*B, T, W)
                return FeedForward(all, gate, gateBias, up, upBias, down, downBias, kind, widths);
            }

            var counts = Rows("FeedForward", x, widths.Length, rows);
            long width = x.shape[2];
            Check(up.dim() == 2 && up.shape[1] == width, "FeedForward", "up", up, $"(hidden, {width})");
            long hidden = up.shape[0];
            Check(IsMatrix(down, width, hidden), "FeedForward", "down", down, $"({width}, {hidden})");
            bool gated = kind is FeedForwardKind.SwiGlu or FeedForwardKind.GeGlu;
            if (gated != gate is not null)
            {
                throw new ArgumentException(
                    $"FeedForward: {kind} {(gated ? "needs a gate" : "has no gate, but one was given")}.", nameof(gate));
            }

            Check(gate is null || IsMatrix(gate, hidden, width), "FeedForward", "gate", gate, $"({hidden}, {width})");
            CheckBias(gateBias, hidden, "gateBias");
            CheckBias(upBias, hidden, "upBias");
            CheckBias(downBias, width, "downBias");
            for (int r = 0; r < widths.Length; r++)
            {
                if (widths[r] < 1 || widths[r] > hidden || (r > 0 && widths[r] > widths[r - 1]))
                {
                    string given = string.Join(", ", widths);
                    throw new ArgumentException(
                        $"FeedForward: widths are ({given}), but must run from the widest to the narrowest, each in 1..{hidden}.",
                        nameof(widths));
                }
            }

            long first = 0;
            var streams = new Tensor[widths.Length];
            for (int r = 0; r < widths.Length; first += counts[r++])
            {
                using var stream = x.narrow(0, first, counts[r]); // (B, T, W)
                streams[r] = One(stream, gate, gateBias, up, upBias, down, downBias, kind, widths[r]);
            }

            var result = cat(streams, 0);
            foreach (var stream in streams)
            {
                stream.Dispose();
            }

            return result;
        }

        /// <inheritdoc cref="Kernels.HiddenImportance"/>
        public static Tensor HiddenImportance(
            Tensor x, Tensor? gate, Tensor? gateBias, Tensor up, Tensor? upBias, Tensor down, FeedForwardKind kind)
        {
            using var h = Hidden(x, gate, gateBias, up, upBias, kind, up.shape[0]); // (B, T, hidden)
            using var wide = h.to(ScalarType.Float32);
            using var magnitudes = wide.abs();
            using var mean = magnitudes.mean([0, 1]); // (hidden)
            using var squares = down.square(); // (W, hidden)
            using var sums = squares.sum([0]);
            using var norms = sums.sqrt(); // (hidden)
            return mean.mul(norms);
        }

        /// <inheritdoc cref="Kernels.LinearCrossEntropy"/>
        public static Tensor LinearCrossEntropy(Tensor x, Tensor head, Tensor targets, int streams, int[]? rows = null)
        {
            var counts = Rows("LinearCrossEntropy", x, streams, rows);
            long batch = rows is null ? counts[0] : x.shape[0];
            Check(head.dim() == 2 && head.shape[1] == x.shape[2], "LinearCrossEntropy", "head", head, $"(V, {x.shape[2]})");
            Check(
                targets.dim() == 2 && targets.shape[0] == batch && targets.shape[1] == x.shape[1],
                "LinearCrossEntropy", "targets", targets, $"({batch}, {x.shape[1]})");
            using var cast = head.to(x.dtype);
            using var wideHead = cast.to(ScalarType.Float32);
            using var wide = x.to(ScalarType.Float32);
            using var logits = nn.functional.linear(wide, wideHead); // (R*B, T, V)
            using var logProbabilities = logits.log_softmax(-1);
            using var all = rows is null ? targets.repeat(streams, 1) : targets.alias(); // (N, T)
            using var index = all.unsqueeze(2);
            using var picked = logProbabilities.gather(2, index); // (N, T, 1)
            using var losses = picked.neg();
            return StreamMeans(losses, streams, rows);
        }

        /// <inheritdoc cref="Kernels.LinearDivergence"/>
        public static Tensor LinearDivergence(
            Tensor x, Tensor teacher, Tensor head, int streams, int[]? rows, int student, double temperature)
        {
            var counts = Rows("LinearDivergence", x, streams, rows);
            long first = counts.Take(student).Sum(n => (long)n), batch = rows is null ? counts[0] : x.shape[0] - first;
            Check(head.dim() == 2 && head.shape[1] == x.shape[2], "LinearDivergence", "head", head, $"(V, {x.shape[2]})");
            Check(
                teacher.dim() == 3 && teacher.shape[0] == batch && teacher.shape[1] == x.shape[1] && teacher.shape[2] == x.shape[2],
                "LinearDivergence", "teacher", teacher, $"({batch}, {x.shape[1]}, {x.shape[2]})");
            using var students = x.narrow(0, first, x.shape[0] - first);
            using var learnt = LogProbabilities(students, head, temperature); // (N, T, V)
            using var detached = teacher.detach();
            using var detachedHead = head.detach();
            using var one = LogProbabilities(detached, detachedHead, temperature);
            using var known = rows is null ? one.repeat(streams - student, 1, 1) : one.alias();
            using var weights = known.exp();
            using var difference = known.sub(learnt);
            using var terms = weights.mul(difference);
            using var divergences = terms.sum([-1]); // (N, T)
            using var means = StreamMeans(divergences, streams - student, rows?[student..]);
            using var scaled = means.mul(temperature * temperature);
            using var none = zeros(student, dtype: ScalarType.Float32, device: x.device);
            return cat([none, scaled]);
        }

        /// <inheritdoc cref="Kernels.AdamW"/>
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
            using var _ = no_grad();
            double correction1 = 1 - Math.Pow(beta1, step);
            double correction2 = Math.Sqrt(1 - Math.Pow(beta2, step));
            for (int i = 0; i < parameters.Count; i++)
            {
                using var gradient = parameters[i].grad;
                if (gradient is null)
                {
                    continue;
                }

                parameters[i].mul_(1 - (learningRate * decay[i]));
                firstMoments[i].mul_(beta1).add_(gradient, 1 - beta1);
                secondMoments[i].mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
                using var denominator = secondMoments[i].sqrt();
                denominator.div_(correction2).add_(epsilon);
                parameters[i].addcdiv_(firstMoments[i], denominator, -learningRate / correction1);
            }
        }

        /// <inheritdoc cref="Kernels.ClipGradientNorm"/>
        public static double ClipGradientNorm(IReadOnlyList<Tensor> parameters, double max)
        {
            using var _ = no_grad();
            double squares = 0;
            foreach (var parameter in parameters)
            {
                using var gradient = parameter.grad;
                if (gradient is not null)
                {
                    using var square = gradient.square();
                    using var sum = square.sum();
                    squares += sum.item<float>();
                }
            }

            double norm = Math.Sqrt(squares);
            double coefficient = max / (norm + 1e-6);
            if (!double.IsFinite(norm) || coefficient >= 1)
            {
                return norm;
            }

            foreach (var parameter in parameters)
            {
                using var gradient = parameter.grad;
                gradient?.mul_(coefficient);
            }

            return norm;
        }

        /// <inheritdoc cref="Kernels.Fork"/>
        public static Tensor Fork(Tensor x, int n)
        {
            Check(x.dim() == 3, "Fork", "x", x, "(B, T, W)");
            return x.repeat(n, 1, 1);
        }

        // log softmax(x head^T / temperature) in float32; the head is rounded to x's dtype.
        private static Tensor LogProbabilities(Tensor x, Tensor head, double temperature)
        {
            using var cast = head.to(x.dtype);
            using var wideHead = cast.to(ScalarType.Float32);
            using var wide = x.to(ScalarType.Float32);
            using var logits = nn.functional.linear(wide, wideHead);
            using var scaled = logits.div(temperature);
            return scaled.log_softmax(-1);
        }

        // How many rows of the batch each stream has.
        private static int[] Rows(string operation, Tensor x, int streams, int[]? rows)
        {
            Check(
                x.dim() == 3 && streams > 0 && (rows is not null || x.shape[0] % streams == 0), operation, "x", x, $"({streams}*B, T, W)");
            if (rows is null) return [.. Enumerable.Repeat((int)x.shape[0] / streams, streams)];
            if (rows.Length == streams && rows.All(n => n > 0) && rows.Sum() == x.shape[0]) return rows;
            throw new ArgumentException(
                $"{operation}: rows are ({string.Join(", ", rows)}), but must be {streams} numbers above 0 that add up to the rows of x, "
                + $"{x.shape[0]}.",
                nameof(rows));
        }

        // Each head `groups` times in a row: (B, S, Hkv, D) -> (B, S, Hkv*groups, D).
        private static Tensor Repeat(Tensor x, long groups)
        {
            long batch = x.shape[0], length = x.shape[1], heads = x.shape[2], depth = x.shape[3];
            using var split = x.unsqueeze(3);
            using var copies = split.expand(batch, length, heads, groups, depth);
            return copies.reshape(batch, length, heads * groups, depth);
        }

        private static Tensor One(
            Tensor x,
            Tensor? gate,
            Tensor? gateBias,
            Tensor up,
            Tensor? upBias,
            Tensor down,
            Tensor? downBias,
            FeedForwardKind kind,
            long m)
        {
            using var h = Hidden(x, gate, gateBias, up, upBias, kind, m); // (B, T, m)
            using var downColumns = down.narrow(1, 0, m);
            return Linear(h, downColumns, downBias); // (B, T, W)
        }

        // The first m hidden units: (B, T, W) -> (B, T, m).
        private static Tensor Hidden(
            Tensor x, Tensor? gate, Tensor? gateBias, Tensor up, Tensor? upBias, FeedForwardKind kind, long m)
        {
            using var upRows = up.narrow(0, 0, m);
            using var upBiasRows = upBias?.narrow(0, 0, m);
            using var u = Linear(x, upRows, upBiasRows); // (B, T, m)
            using var gateRows = gate?.narrow(0, 0, m);
            using var gateBiasRows = gateBias?.narrow(0, 0, m);
            using var g = gateRows is null ? null : Linear(x, gateRows, gateBiasRows); // (B, T, m)

            // The activation is float32 inside: one rounding on the way out, as in the native form.
            using var wideUp = u.to(ScalarType.Float32);
            using var wideGate = g?.to(ScalarType.Float32);
            using var activated = Activate(wideGate ?? wideUp, kind);
            using var product = wideGate is null ? activated.alias() : activated.mul(wideUp);
            return product.to(x.dtype);
        }

        private static Tensor Activate(Tensor x, FeedForwardKind kind)
        {
            switch (kind)
            {
                case FeedForwardKind.SquaredRelu:
                    using (var positive = x.relu())
                    {
                        return positive.square();
                    }

                case FeedForwardKind.SwiGlu:
                    return x.silu();
                case FeedForwardKind.Gelu or FeedForwardKind.GeGlu:
                    return x.gelu();
                default:
                    throw new ArgumentOutOfRangeException(nameof(kind), kind, "FeedForward: unknown kind.");
            }
        }

        private static bool IsMatrix(Tensor x, long rows, long columns) => x.dim() == 2 && x.shape[0] == rows && x.shape[1] == columns;

        private static void CheckLast(Tensor x, Tensor weight, string operation, string name)
        {
            Check(x.dim() > 0, operation, "x", x, "(..., W)");
            Check(weight.dim() == 1 && weight.shape[0] == x.shape[^1], operation, name, weight, $"({x.shape[^1]})");
        }

        private static void CheckPrefix(Tensor weight, int dimension, long length, string operation)
        {
            Check(weight.dim() == 2, operation, "weight", weight, "(out, in)");
            if (length < 1 || length > weight.shape[dimension])
            {
                string name = dimension == 0 ? "rows" : "columns";
                throw new ArgumentOutOfRangeException(
                    name, length, $"{operation}: {name} must be in 1..{weight.shape[dimension]}, the size of the weight.");
            }
        }

        private static void CheckBias(Tensor? bias, long length, string name)
            => Check(bias is null || (bias.dim() == 1 && bias.shape[0] == length), "FeedForward", name, bias, $"({length})");

        // TorchSharp's matmul ends the process when shapes disagree, so nothing may reach it unchecked.
        private static void Check(bool valid, string operation, string name, Tensor? tensor, string expected)
        {
            if (!valid)
            {
                string shape = string.Join(", ", tensor?.shape ?? []);
                throw new ArgumentException($"{operation}: {name} is ({shape}), but must be {expected}.", name);
            }
        }
    }
}

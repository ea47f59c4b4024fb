using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>
/// Defines each operation of <see cref="Kernels"/> in the plainest code. The tests compare every form of an operation with its definition.
/// Arithmetic and results are float32, whatever the dtype of x, and nothing is rounded in between.
/// </summary>
internal static class Definitions
{
    public static Tensor Embedding(Tensor weight, Tensor tokens) =>
        weight.index_select(0, tokens.flatten()).view(tokens.shape[0], tokens.shape[1], weight.shape[1]);

    public static Tensor AddPositions(Tensor x, Tensor weight, long position) => Wide(x) + weight.narrow(0, position, x.shape[1]);

    public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon)
    {
        x = Wide(x);
        return x * x.square().mean([-1], keepdim: true).add(epsilon).rsqrt() * weight;
    }

    public static Tensor LayerNorm(Tensor x, Tensor weight, Tensor bias, double epsilon)
    {
        x = Wide(x);
        var centred = x - x.mean([-1], keepdim: true);
        return (centred * centred.square().mean([-1], keepdim: true).add(epsilon).rsqrt() * weight) + bias;
    }

    public static Tensor Linear(Tensor x, Tensor weight, Tensor? bias = null)
    {
        var y = Wide(x).matmul(weight.t());
        return bias is null ? y : y + bias;
    }

    /// <summary>Stream r has the next rows[r] sequences and the first heads[r] heads.</summary>
    public static Tensor Attend(Tensor x, AttentionWeights w, Tensor? cos, Tensor? sin, Tensor? lengths, int[] heads, int[] rows)
    {
        var counts = lengths?.repeat(x.shape[0] / lengths.shape[0]); // (N)
        return cat([.. heads.Select((count, r) => AttendOne(Stream(x, rows, r), w, cos, sin, Stream(counts, rows, r), count))], 0);
    }

    /// <summary>Stream r has the next rows[r] sequences, or all of them if rows is null, and the first widths[r] hidden units.</summary>
    public static Tensor FeedForward(Tensor x, FeedForwardWeights w, int[] widths, int[]? rows)
    {
        return cat([.. widths.Select((width, r) => One(rows is null ? x : Stream(x, rows, r), width))], 0);

        Tensor One(Tensor stream, long width) =>
            Wide(stream) + Linear(Hidden(Norm(stream, w.Norm), w, width), w.Down.narrow(1, 0, width), w.DownBias);
    }

    /// <summary>Routes one sequence after the other, and computes one token after the other.</summary>
    public static Tensor FeedForward(Tensor x, FeedForwardWeights w, Route route)
    {
        var tokens = new Tensor[x.shape[0], x.shape[1]];
        for (var b = 0; b < x.shape[0]; b++)
        {
            var scores = Linear(x[b], route.Weight).softmax(-1); // (T, G)
            for (var g = route.Layer.Widths.Length - 1; g >= 0; g--)
            {
                var free = Enumerable.Range(0, (int)x.shape[1]).Where(t => tokens[b, t] is null);
                foreach (var t in free.OrderByDescending(t => scores[t, g].item<float>()).Take(route.Layer.Tokens[g]).ToList())
                {
                    var token = x.narrow(0, b, 1).narrow(1, t, 1); // (1, 1, W)
                    var added = FeedForward(token, w, [route.Layer.Widths[g]], [1]) - Wide(token);
                    tokens[b, t] = Wide(token) + (((route.Scale * scores[t, g]) + 1) * added);
                }
            }
        }

        return cat([.. Enumerable.Range(0, (int)x.shape[0]).Select(b =>
            cat([.. Enumerable.Range(0, (int)x.shape[1]).Select(t => tokens[b, t])], 1))], 0);
    }

    /// <summary>Computes one head after the other.</summary>
    public static GatheredTokens Gather(Tensor x, GatherWeights w)
    {
        var compressed = Wide(x.narrow(1, 0, x.shape[1] - w.LookupTokens));
        var lookup = Wide(x.narrow(1, x.shape[1] - w.LookupTokens, w.LookupTokens));
        var query = Linear(Norm(compressed, w.Norm), w.Query, w.QueryBias);
        var key = Linear(Norm(lookup, w.LookupNorm), w.Key, w.KeyBias);
        var value = Linear(Norm(lookup, w.LookupNorm), w.Value, w.ValueBias);
        var attention = Enumerable.Range(0, (int)(x.shape[2] / w.HeadWidth))
            .Select(h => (Head(query, h).matmul(Head(key, h).transpose(1, 2)) / Math.Sqrt(w.HeadWidth)).softmax(-1)).ToList();
        var seen = cat([.. attention.Select((a, h) => a.matmul(Head(value, h)))], -1);
        return new GatheredTokens(compressed + Linear(seen, w.Output, w.OutputBias), lookup, stack([.. attention], 1));

        Tensor Head(Tensor all, int head) => all.narrow(2, head * w.HeadWidth, w.HeadWidth);
    }

    /// <summary>Computes one stream after the other, and one head after the other.</summary>
    public static Tensor Spread(GatheredTokens gathered, Tensor compressed, SpreadWeights w)
    {
        var (heads, width) = (gathered.Attention.shape[1], compressed.shape[2]);
        return cat([.. compressed.split(gathered.Lookup.shape[0], 0).Select(One)], 0);

        Tensor One(Tensor stream)
        {
            var value = Linear(Norm(stream, w.Norm), w.Value, w.ValueBias);
            var given = cat([.. Enumerable.Range(0, (int)heads).Select(h =>
                gathered.Attention.select(1, h).transpose(1, 2).matmul(value.narrow(2, h * (width / heads), width / heads)))], -1);
            var lookup = gathered.Lookup + given;
            return cat([Wide(stream), FeedForward(lookup, w.Light, [(int)w.Light.Up.shape[0]], [(int)lookup.shape[0]])], 1);
        }
    }

    /// <summary>Routes the tokens of the whole batch, or lets each choose by the thresholds, and computes one after the other.</summary>
    public static Tensor FeedForwardOfText(Tensor x, FeedForwardWeights w, Route route)
    {
        var one = x.view(1, -1, x.shape[^1]);
        if (!route.IsCausal) return FeedForward(one, w, route).view(x.shape);
        var scores = Linear(one[0], route.Weight).softmax(-1); // (B*T, G)
        return cat([.. Enumerable.Range(0, (int)one.shape[1]).Select(t =>
        {
            var g = route.Layer.Widths.Length - 1;
            while (g > 0 && scores[t, g].logit().item<float>() < route.Thresholds![route.Budget, g - 1].item<float>()) g--;
            var token = one.narrow(1, t, 1);
            var added = FeedForward(token, w, [route.Layer.Widths[g]], [1]) - Wide(token);
            return Wide(token) + (((route.Scale * scores[t, g]) + 1) * added);
        })], 1).view(x.shape);
    }

    public static Tensor HiddenImportance(Tensor x, FeedForwardWeights w) =>
        Hidden(Norm(x, w.Norm), w, w.Up.shape[0]).abs().mean([0, 1]) * w.Down.square().sum([0]).sqrt();

    /// <summary>The targets are (B, T), the same for each stream, or (N, T).</summary>
    public static Tensor LinearCrossEntropy(Tensor x, Tensor head, Tensor targets, int[] rows)
    {
        var all = targets.repeat(x.shape[0] / targets.shape[0], 1).unsqueeze(2); // (N, T, 1)
        return StreamMeans(-Linear(x, head).log_softmax(-1).gather(2, all), rows);
    }

    /// <summary>The teacher is (B, T, W), the same for each stream from the student on, or it has the rows of all these streams.</summary>
    public static Tensor LinearDivergence(Tensor x, Tensor teacher, Tensor head, int[] rows, int student, double temperature)
    {
        var first = rows[..student].Sum();
        var learnt = (Linear(x.narrow(0, first, x.shape[0] - first), head) / temperature).log_softmax(-1); // (n, T, V)
        var known = (Linear(teacher, head) / temperature).log_softmax(-1).detach().repeat(learnt.shape[0] / teacher.shape[0], 1, 1);
        var means = StreamMeans((known.exp() * (known - learnt)).sum([-1]), rows[student..]);
        return cat([zeros(student), temperature * temperature * means]);
    }

    public static Tensor Fork(Tensor x, int n) => cat([.. Enumerable.Repeat(Wide(x), n)], 0);

    public static void AdamW(
        Tensor parameters, Tensor gradients, Tensor firstMoments, Tensor secondMoments, double decay, double learningRate, double beta1,
        double beta2, double epsilon, long step)
    {
        firstMoments.copy_((beta1 * firstMoments) + ((1 - beta1) * gradients));
        secondMoments.copy_((beta2 * secondMoments) + ((1 - beta2) * gradients.square()));
        var first = firstMoments / (1 - Math.Pow(beta1, step));
        var second = secondMoments / (1 - Math.Pow(beta2, step));
        parameters.copy_((parameters * (1 - (learningRate * decay))) - (learningRate * first / (second.sqrt() + epsilon)));
    }

    public static double ClipGradientNorm(Tensor gradients, double max)
    {
        var norm = Math.Sqrt(gradients.to(ScalarType.Float64).square().sum().item<double>());
        if (double.IsFinite(norm) && norm > max) gradients.mul_(max / norm);
        return norm;
    }

    private static Tensor AttendOne(Tensor x, AttentionWeights w, Tensor? cos, Tensor? sin, Tensor? lengths, long heads)
    {
        long batch = x.shape[0], time = x.shape[1], depth = w.HeadWidth;
        var normed = Norm(x, w.Norm);
        Tensor Heads(Tensor weight, Tensor? bias, long count, NormWeights? norm)
        {
            var all = Linear(normed, weight.narrow(0, 0, count * depth), bias?.narrow(0, 0, count * depth)).view(batch, time, count, depth);
            return norm is null ? all : Norm(all, norm.Value);
        }

        var query = Rotary(Heads(w.Query, w.QueryBias, heads, w.QueryNorm), cos, sin); // (B, T, H, D)
        var key = Rotary(Heads(w.Key, w.KeyBias, heads / w.Group, w.KeyNorm), cos, sin).repeat_interleave(w.Group, 2);
        var value = Heads(w.Value, w.ValueBias, heads / w.Group, null).repeat_interleave(w.Group, 2);
        var scores = query.transpose(1, 2).matmul(key.permute(0, 2, 3, 1)) / Math.Sqrt(depth); // (B, H, T, T)
        scores = scores.masked_fill(Unseen(w, time, lengths), float.NegativeInfinity);
        var attended = scores.softmax(-1).matmul(value.transpose(1, 2)); // (B, H, T, D)
        var joined = attended.transpose(1, 2).reshape(batch, time, heads * depth);
        return Wide(x) + Linear(joined, w.Output.narrow(1, 0, heads * depth), w.OutputBias);
    }

    // Returns true where a query must not see a key. The result is broadcast to (B, H, T, T).
    private static Tensor Unseen(AttentionWeights w, long time, Tensor? lengths)
    {
        var key = arange(time, ScalarType.Int64); // (T)
        var query = key.unsqueeze(1); // (T, 1)
        if (lengths is not null) return key.ge(lengths.view(-1, 1, 1, 1));
        if (!w.IsCausal) return zeros(1, dtype: ScalarType.Bool);
        var later = key.gt(query);
        return w.Window == 0 ? later : later.logical_or(key.le(query - w.Window));
    }

    private static Tensor Rotary(Tensor x, Tensor? cos, Tensor? sin)
    {
        if (cos is null) return x;
        var half = x.shape[3] / 2;
        var (c, s) = (cos.unsqueeze(1), sin!.unsqueeze(1)); // (T, 1, D/2)
        var (a, b) = (x.narrow(3, 0, half), x.narrow(3, half, half)); // (B, T, H, D/2)
        return cat([(a * c) - (b * s), (b * c) + (a * s)], -1);
    }

    private static Tensor Norm(Tensor x, NormWeights norm) =>
        norm.Bias is null ? RmsNorm(x, norm.Weight, norm.Epsilon) : LayerNorm(x, norm.Weight, norm.Bias, norm.Epsilon);

    // Computes the first m hidden units: (B, T, W) -> (B, T, m).
    private static Tensor Hidden(Tensor x, FeedForwardWeights w, long m)
    {
        var up = Linear(x, w.Up.narrow(0, 0, m), w.UpBias?.narrow(0, 0, m));
        var gate = w.Gate is null ? up : Linear(x, w.Gate.narrow(0, 0, m), w.GateBias?.narrow(0, 0, m));
        return w.Kind switch
        {
            FeedForwardKind.Gelu => Gelu(up),
            FeedForwardKind.SquaredRelu => up.relu().square(),
            FeedForwardKind.SwiGlu => gate * gate.sigmoid() * up,
            FeedForwardKind.GeGlu => Gelu(gate) * up,
            _ => throw new ArgumentOutOfRangeException(nameof(w)),
        };
    }

    private static Tensor Gelu(Tensor x) => 0.5 * x * (1 + special.erf(x / Math.Sqrt(2)));

    private static Tensor StreamMeans(Tensor x, int[] rows) => stack([.. rows.Select((_, r) => Stream(x, rows, r).mean())]);

    [return: System.Diagnostics.CodeAnalysis.NotNullIfNotNull(nameof(x))]
    private static Tensor? Stream(Tensor? x, int[] rows, int r) => x?.narrow(0, rows[..r].Sum(), rows[r]);

    private static Tensor Wide(Tensor x) => x.to(ScalarType.Float32);
}

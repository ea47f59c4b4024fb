using TorchSharp;
using static MatFormer.Numbers;
using static TorchSharp.torch;

namespace MatFormer;

/// <content>
/// The routed feed-forward. The nested feed-forward itself is the one that stacked streams use: the tokens of a granularity lie together,
/// as the rows of a stream do. Only the choice and the order of tokens are new, and have one form, in TorchSharp's API.
/// </content>
public static partial class Kernels
{
    /// <summary>
    /// x + (alpha * r + 1) * feed-forward(norm(x)), the second half of a routed layer: x (B, T, W) -> (B, T, W). A token uses the hidden
    /// units of the granularity that takes it, and r is its score there: the softmax over the granularities of the router's product with x.
    /// In each sequence the widest granularity takes the tokens that it scores highest, then the next one of the rest, and so on (Mixture
    /// of Nested Experts, arXiv 2407.19985, algorithm 1). Scores are float32.
    /// </summary>
    /// <param name="x">(B, T, W).</param>
    /// <param name="weights">The weights of the feed-forward.</param>
    /// <param name="route">The router, and how many of the T tokens each granularity takes.</param>
    public static Tensor FeedForward(Tensor x, FeedForwardWeights weights, Route route)
    {
        const string name = "FeedForward";
        ArgumentNullException.ThrowIfNull(weights);
        ArgumentNullException.ThrowIfNull(route);
        Operand.Activation(name, "x", x);
        Operand.Rank(name, "x", x, 3, "(B, T, W)");
        var (widths, tokens) = (route.Layer.Widths, route.Layer.Tokens);
        Operand.Weight(name, "router", route.Weight, x, widths.Length, x.shape[2]);
        Operand.Weight(name, "alpha", route.Scale, x, 1);
        if (tokens.Sum() != x.shape[1])
        {
            throw new ArgumentException(
                $"{name}: the route is for {tokens.Sum()} tokens ({string.Join(", ", tokens)}), but x has {x.shape[1]}.", nameof(route));
        }

        using var scope = NewDisposeScope();
        long batch = x.shape[0], width = x.shape[2];
        var scores = Linear(x.to(ScalarType.Float32), route.Weight).softmax(-1); // (B, T, G)
        var (order, cells) = Chosen(scores.detach(), tokens.AsSpan());

        // A granularity without tokens is no stream.
        int[] used = [.. Enumerable.Range(0, widths.Length).Reverse().Where(g => tokens[g] > 0)];
        int[] kept = [.. used.Select(g => widths[g])], rows = [.. used.Select(g => checked((int)(tokens[g] * batch)))];
        var sorted = x.view(-1, width).index_select(0, order); // (B*T, W), the tokens of the widest granularity first
        var fed = FeedForward(sorted.unsqueeze(1), weights, kept, rows).squeeze(1); // (B*T, W)
        var scale = scores.view(-1).index_select(0, cells).mul(route.Scale).unsqueeze(1).to(x.dtype); // (B*T, 1)
        var scaled = fed.addcmul(fed.sub(sorted), scale, One);
        return empty_like(scaled).index_copy(0, order, scaled).view(x.shape).MoveToOuterDisposeScope();
    }

    // Returns the tokens (B*T) int64 of all sequences in the order of their granularities, widest first, and the place of each token's
    // score among all (B, T, G) scores.
    private static (Tensor Tokens, Tensor Scores) Chosen(Tensor scores, ReadOnlySpan<int> tokens)
    {
        using var unrecorded = no_grad();
        long batch = scores.shape[0], time = scores.shape[1];
        var first = arange(Number(0L), Number(batch), One, ScalarType.Int64, scores.device).mul(Number(time)).unsqueeze(1); // (B, 1)
        var isTaken = zeros([batch, time], ScalarType.Bool, scores.device);
        var yes = ones([1, 1], ScalarType.Bool, scores.device).expand(batch, time);
        List<Tensor> parts = [], places = [];
        for (var g = tokens.Length - 1; g >= 0; g--)
        {
            if (tokens[g] == 0) continue;
            var free = scores.select(2, g).masked_fill(isTaken, Number(-1L)); // (B, T)
            var its = free.topk(tokens[g], 1, sorted: false).indexes; // (B, k)
            isTaken = isTaken.scatter(1, its, yes);
            var all = its.add(first, One).view(-1);
            parts.Add(all);
            places.Add(all.mul(Number(tokens.Length)).add(Number(g), One));
        }

        return (cat(parts, 0), cat(places, 0));
    }
}

using System.Collections.Immutable;
using System.Runtime.InteropServices;
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
    /// of Nested Experts, arXiv 2407.19985, algorithm 1). Scores are float32. Texts of different lengths have numbers of their own.
    /// </summary>
    /// <remarks>
    /// With thresholds, granularities choose among all tokens of the batch instead. Or the route is causal: then the widest
    /// granularity whose threshold a token's score reaches takes the token, which no other token decides. Scores are compared as log-odds,
    /// which have the same order. They still tell tokens apart whose scores are so near to 0 or 1 that float32 rounds them to it.
    /// </remarks>
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
        long width = x.shape[2], sequences = route.Thresholds is null ? x.shape[0] : 1, time = x.shape[0] * x.shape[1] / sequences;
        if (route.Texts is null && tokens.Sum() != time)
        {
            throw new ArgumentException(
                $"{name}: the route is for {tokens.Sum()} tokens ({string.Join(", ", tokens)}), but x has {time}.", nameof(route));
        }

        if (route.Thresholds is { } all) Operand.Weight(name, "thresholds", all, x, all.shape[0], widths.Length - 1);
        using var scope = NewDisposeScope();
        var logits = Linear(x.to(ScalarType.Float32), route.Weight).view(sequences, time, -1); // (B, T, G)
        var scores = logits.softmax(-1);
        var odds = Odds(logits.detach());
        var (order, cells) = route.IsCausal ? Reached(odds, route, out tokens)
            : route.Texts is { } texts ? ChosenOf(odds, texts, out tokens)
            : Chosen(odds, tokens.AsSpan());
        if (route.Texts is not null) sequences = 1;

        // A granularity without tokens is no stream.
        int[] used = [.. Enumerable.Range(0, widths.Length).Reverse().Where(g => tokens[g] > 0)];
        int[] kept = [.. used.Select(g => widths[g])], rows = [.. used.Select(g => checked((int)(tokens[g] * sequences)))];
        route.Scores?.Invoke(odds);
        var sorted = x.view(-1, width).index_select(0, order); // (B*T, W), the tokens of the widest granularity first
        var fed = FeedForward(sorted.unsqueeze(1), weights, kept, rows).squeeze(1); // (B*T, W)
        var scale = scores.view(-1).index_select(0, cells).mul(route.Scale).unsqueeze(1).to(x.dtype); // (B*T, 1)
        var scaled = fed.addcmul(fed.sub(sorted), scale, One);
        return empty_like(scaled).index_copy(0, order, scaled).view(x.shape).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Returns the thresholds (granularities - 1) by which tokens choose as if each granularity took a number of them: the lowest log-odds
    /// that it takes. It is infinite for a granularity that takes none, and any token reaches that of one that takes all that are left.
    /// </summary>
    /// <param name="odds">The log-odds of the tokens: (1, T, granularities).</param>
    /// <param name="tokens">How many of the T tokens each granularity takes, narrowest first.</param>
    internal static Tensor Thresholds(Tensor odds, ImmutableArray<int> tokens)
    {
        using var scope = NewDisposeScope();
        var (_, cells) = Chosen(odds, tokens.AsSpan());
        var taken = odds.view(-1).index_select(0, cells); // (T), the widest granularity first
        var (first, left) = (0L, taken.shape[0]);
        var cuts = new Tensor[tokens.Length - 1];
        for (var g = cuts.Length; g > 0; g--)
        {
            long count = tokens[g];
            cuts[g - 1] = count == 0 ? Cut(double.PositiveInfinity) : count == left ? Cut(double.NegativeInfinity)
                : taken.narrow(0, first, count).neg().amax([0], keepdim: true).neg();
            (first, left) = (first + count, left - count);
        }

        return cat(cuts, 0).MoveToOuterDisposeScope();

        Tensor Cut(double value) => zeros([1], ScalarType.Float32, odds.device).fill_(Number(value));
    }

    // Returns the log-odds of each softmax: a logit minus the log-sum-exp of the others.
    private static Tensor Odds(Tensor logits)
    {
        using var unrecorded = no_grad();
        var own = eye(logits.shape[^1], dtype: ScalarType.Bool, device: logits.device);
        return logits.sub(logits.unsqueeze(-2).masked_fill(own, Number(double.NegativeInfinity)).logsumexp(-1)); // (B, T, G)
    }

    // Returns the tokens (B*T) int64 of all sequences in the order of their granularities, widest first, and the place of each token's
    // score among all (B, T, G) scores.
    private static (Tensor Tokens, Tensor Scores) Chosen(Tensor odds, ReadOnlySpan<int> tokens)
    {
        using var unrecorded = no_grad();
        long batch = odds.shape[0], time = odds.shape[1];
        var first = arange(Number(0L), Number(batch), One, ScalarType.Int64, odds.device).mul(Number(time)).unsqueeze(1); // (B, 1)
        var isTaken = zeros([batch, time], ScalarType.Bool, odds.device);
        var yes = ones([1, 1], ScalarType.Bool, odds.device).expand(batch, time);
        List<Tensor> parts = [], places = [];
        for (var g = tokens.Length - 1; g >= 0; g--)
        {
            if (tokens[g] == 0) continue;
            var free = odds.select(2, g).masked_fill(isTaken, Number(double.NegativeInfinity)); // (B, T)
            var its = free.topk(tokens[g], 1, sorted: false).indexes; // (B, k)
            isTaken = isTaken.scatter(1, its, yes);
            var all = its.add(first, One).view(-1);
            parts.Add(all);
            places.Add(all.mul(Number(tokens.Length)).add(Number(g), One));
        }

        return (cat(parts, 0), cat(places, 0));
    }

    // Returns the same for texts of different lengths, and how many tokens of all texts take each granularity. The padding after a text
    // takes the narrowest one. A token is taken if its rank among the free tokens of its text is below the granularity's number.
    private static (Tensor Tokens, Tensor Scores) ChosenOf(Tensor odds, RoutedLayer[] texts, out ImmutableArray<int> tokens)
    {
        using var unrecorded = no_grad();
        var (time, granularities) = (odds.shape[1], texts[0].Widths.Length);
        long[] shape = [texts.Length, granularities];
        var counts = tensor([.. texts.SelectMany(text => text.Tokens).Select(count => (long)count)], shape, device: odds.device);
        var places = arange(Number(0L), Number(time), One, ScalarType.Int64, odds.device).unsqueeze(0); // (1, T)
        var isTaken = places.ge(counts.sum(1, keepdim: true)); // (B, T)
        var chosen = zeros_like(isTaken, ScalarType.Int64);
        var all = new int[granularities];
        for (var g = granularities - 1; g > 0; g--)
        {
            all[g] = texts.Sum(text => text.Tokens[g]);
            var free = odds.select(2, g).masked_fill(isTaken, Number(double.NegativeInfinity));
            var its = free.argsort(1, descending: true).argsort(1).lt(counts.narrow(1, g, 1));
            chosen = chosen.masked_fill(its, Number((long)g));
            isTaken = isTaken.logical_or(its);
        }

        all[0] = checked((int)chosen.numel()) - all.Sum();
        tokens = ImmutableCollectionsMarshal.AsImmutableArray(all);
        return Sorted(chosen.view(-1), granularities);
    }

    // Returns the tokens in the order of their granularities (B*T) int64, widest first, and the places of their scores.
    private static (Tensor Tokens, Tensor Scores) Sorted(Tensor granularities, int count)
    {
        var order = granularities.argsort(0, descending: true);
        return (order, order.mul(Number(count)).add(granularities.index_select(0, order), One));
    }

    // Returns the same for tokens that choose by thresholds, and how many take each granularity. The host must know that, so it waits.
    private static (Tensor Tokens, Tensor Scores) Reached(Tensor odds, Route route, out ImmutableArray<int> tokens)
    {
        using var unrecorded = no_grad();
        var thresholds = route.Thresholds!.select(0, route.Budget); // (G - 1)
        var flat = odds.view(-1, odds.shape[^1]); // (B*T, G)
        var reached = flat.narrow(1, 1, thresholds.shape[0]).ge(thresholds); // (B*T, G - 1)
        var numbers = arange(One, Number(flat.shape[1]), One, ScalarType.Int64, odds.device); // 1 to G - 1
        var granularities = reached.to(ScalarType.Int64).mul(numbers).amax([1]); // (B*T), 0 if none is reached
        using var host = granularities.cpu();
        var counts = new int[flat.shape[1]];
        foreach (var granularity in host.data<long>()) counts[granularity]++;
        tokens = ImmutableCollectionsMarshal.AsImmutableArray(counts);
        route.Use?.Add(route.Layer with { Tokens = tokens });
        return Sorted(granularities, counts.Length);
    }
}

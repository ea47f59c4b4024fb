using System.Collections.Immutable;

namespace MatFormer;

/// <summary>How tokens are routed to granularities (Mixture of Nested Experts, arXiv 2407.19985).</summary>
/// <param name="Budgets">The budgets that training draws from and that evaluations measure, in increasing order.</param>
/// <param name="Layers">The layers whose feed-forwards are routed, in increasing order.</param>
public sealed record RoutingSpec(ImmutableArray<double> Budgets, ImmutableArray<int> Layers);

/// <summary>How many tokens of an image, or of a text that fills the context, take each granularity of a routed layer.</summary>
/// <param name="Widths">The hidden width of each granularity, narrowest first.</param>
/// <param name="Tokens">The number of tokens that take it.</param>
public sealed record RoutedLayer(ImmutableArray<int> Widths, ImmutableArray<int> Tokens)
{
    /// <summary>The mean share of the hidden units that a token uses.</summary>
    public double Share => (double)HiddenUnits / ((long)Widths[^1] * Tokens.Sum());

    /// <summary>The number of hidden units that all tokens use together.</summary>
    internal long HiddenUnits => Widths.Zip(Tokens, (width, tokens) => (long)width * tokens).Sum();
}

/// <summary>Counts the hidden units that tokens use and those that they could use.</summary>
internal sealed class RoutedUse
{
    private long _used;
    private long _all;

    /// <summary>The share of the hidden units that a token has used on average; null before the first token.</summary>
    public double? Share => _all == 0 ? null : (double)_used / _all;

    /// <summary>Counts the tokens of a layer.</summary>
    public void Add(RoutedLayer layer)
    {
        _used += layer.HiddenUnits;
        _all += (long)layer.Widths[^1] * layer.Tokens.Sum();
    }
}

/// <summary>
/// A compute budget of a routed model, and what follows from it. Of all distributions of the tokens whose mean share of the hidden units is
/// the budget, the one of greatest entropy is taken (arXiv 2407.19985, section 3.3, without a preference for wide granularities): the share
/// of tokens that a granularity takes is proportional to exp(lambda * width). The numbers of tokens are rounded such that no layer takes
/// more than the budget. They depend on the model and the budget alone, not on an input. A token of a language model chooses by itself, so
/// there the numbers hold on average.
/// </summary>
public sealed class RoutingBudget
{
    // A budget may be written as 0.1 where the narrowest share is 0.1 too, but not in binary.
    private const double Rounding = 1e-9;

    // The shares of tokens that granularities take in each routed layer, before they are rounded to whole tokens.
    private readonly double[]?[] _capacities;

    private RoutingBudget(ModelSpec spec, double share)
    {
        Share = share;
        _capacities = new double[]?[spec.Layers];
        var layers = new RoutedLayer?[spec.Layers];
        var tokens = spec.Context + (spec.Kind == ModelKind.TextEncoder && spec.Pooling == Pooling.ClassToken ? 1 : 0);
        foreach (var layer in spec.Routing!.Layers)
        {
            ImmutableArray<int> widths = [.. spec.Granularities.Select(g => g.Layers[layer].HiddenWidth)];
            _capacities[layer] = Capacities(SharesOf(widths), share);
            layers[layer] = Distribute(widths, _capacities[layer]!, tokens, share);
        }

        Layers = [.. layers];
        Flops = spec.SharedFlops;
        for (var layer = 0; layer < spec.Layers; layer++)
        {
            var (block, whole) = (spec.Blocks[layer], spec.WholeLayers[layer]);
            Flops += block.CostOf(block.Flops, whole);
            if (layers[layer] is not { } its) continue;

            // FLOPs per hidden unit are those of all tokens of an input together, or of one token, of which this is the mean.
            var unused = ((long)whole.HiddenWidth * tokens) - its.HiddenUnits;
            Flops -= block.Flops.PerHiddenUnit * unused / tokens;
            Flops += 2L * (spec.Kind == ModelKind.LanguageModel ? 1 : tokens) * spec.Width * its.Widths.Length;
        }
    }

    /// <summary>The budget: the most that the mean share of the hidden units that a token of a routed layer uses may be.</summary>
    public double Share { get; }

    /// <summary>
    /// The tokens of each layer, first layer first; null for a layer that is not routed, in which all tokens use all units.
    /// </summary>
    public ImmutableArray<RoutedLayer?> Layers { get; }

    /// <summary>
    /// The FLOPs (a multiply-add is two) of the forward pass over one image, over one text of an encoder that fills the context, or on
    /// average over one token of a language model, with those of the routers.
    /// </summary>
    public long Flops { get; }

    /// <summary>Returns what follows from a budget.</summary>
    /// <param name="spec">A model that declares <c>[Routing]</c>.</param>
    /// <param name="share">The budget, from the share of the narrowest granularity to 1.</param>
    /// <exception cref="ArgumentException">The model declares no routing, or the budget is out of range.</exception>
    public static RoutingBudget Of(ModelSpec spec, double share)
    {
        ArgumentNullException.ThrowIfNull(spec);
        if (spec.Routing is null)
            throw new ArgumentException($"{spec.Name} has no routers; declare [Routing] to compute at a budget.", nameof(spec));
        var least = spec.Routing.Layers.Max(l => (double)spec.Granularities[0].Layers[l].HiddenWidth / spec.Blocks[l].HiddenWidth);
        if (share >= least - Rounding && share <= 1) return new RoutingBudget(spec, Math.Max(share, least));
        throw new ArgumentException(
            FormattableString.Invariant($"The budget {share} of {spec.Name} is out of range: it is from {least:0.####}, the share of ")
            + $"'{spec.Granularities[0].Name}', to 1.", nameof(share));
    }

    /// <summary>Returns the name of the routed pass at a budget, such as <c>routed-0.5</c>.</summary>
    internal static string NameOf(double share) => FormattableString.Invariant($"routed-{share}");

    /// <summary>
    /// Returns the place of a language model's budget among the declared ones. Tokens choose by thresholds, which only these have.
    /// </summary>
    /// <exception cref="ArgumentException">The model declares no routing, or not this budget.</exception>
    internal static int IndexOf(ModelSpec spec, double share)
    {
        var index = spec.Routing?.Budgets.IndexOf(share) ?? -1;
        if (index >= 0) return index;
        _ = Of(spec, share);
        throw new ArgumentException(
            FormattableString.Invariant($"{spec.Name} has no thresholds for the budget {share}, only for those that it declares: ")
            + $"{string.Join(", ", spec.Routing!.Budgets.Select(b => FormattableString.Invariant($"{b}")))}; use one of them, or declare "
            + "it in [Routing] and train.", nameof(share));
    }

    /// <summary>Returns how many of a number of tokens take each granularity of a routed layer.</summary>
    internal RoutedLayer Over(int layer, int tokens) => Distribute(Layers[layer]!.Widths, _capacities[layer]!, tokens, Share);

    /// <summary>Returns how many tokens of each text take each granularity. Texts of equal length share an object.</summary>
    internal RoutedLayer[] Over(int layer, int[] lengths)
    {
        var known = lengths.Distinct().ToDictionary(length => length, length => Over(layer, length));
        return Array.ConvertAll(lengths, length => known[length]);
    }

    // Widths are counted as shares of the widest.
    private static double[] SharesOf(ImmutableArray<int> widths) => [.. widths.Select(width => (double)width / widths[^1])];

    private static RoutedLayer Distribute(ImmutableArray<int> widths, double[] capacities, int tokens, double budget)
    {
        var shares = SharesOf(widths);
        int[] counts = [.. capacities.Select(capacity => (int)Math.Floor((capacity * tokens) + Rounding))];
        counts[0] += tokens - counts.Sum();

        // What rounding down left over lifts tokens from the narrowest granularity, to the widest ones that it is enough for.
        var left = (budget * tokens) - counts.Zip(shares, (count, share) => count * share).Sum() + Rounding;
        for (var g = counts.Length - 1; g > 0; g--)
        {
            var more = Math.Min(counts[0], (int)(left / (shares[g] - shares[0])));
            (counts[0], counts[g]) = (counts[0] - more, counts[g] + more);
            left -= more * (shares[g] - shares[0]);
        }

        return new RoutedLayer(widths, [.. counts]);
    }

    // Returns c with c_i proportional to exp(lambda * share_i) and the sum of c_i * share_i equal to the budget. The mean increases with
    // lambda, so lambda is found by bisection, over x = lambda / (1 + |lambda|).
    private static double[] Capacities(double[] shares, double budget)
    {
        var (low, high) = (-1.0, 1.0);
        while (true)
        {
            var x = (low + high) / 2;
            var lambda = x / (1 - Math.Abs(x));

            // Exponents are taken from the largest, so that none overflows.
            var most = shares.Max(share => lambda * share);
            double[] weights = [.. shares.Select(share => Math.Exp((lambda * share) - most))];
            var sum = weights.Sum();
            double[] capacities = [.. weights.Select(weight => weight / sum)];
            if (x <= low || x >= high || high - low < 1e-15) return capacities;
            if (capacities.Zip(shares, (capacity, share) => capacity * share).Sum() < budget) low = x;
            else high = x;
        }
    }
}

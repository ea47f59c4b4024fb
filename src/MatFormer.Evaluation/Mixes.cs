using System.Collections.Immutable;

namespace MatFormer;

/// <summary>How the layers of a Mix'n'Match profile change from the first to the last (MatFormer, arXiv 2310.07707, section 3.3).</summary>
public enum MixShape
{
    /// <summary>All layers are of one granularity.</summary>
    Uniform,

    /// <summary>No layer is narrower than the one before it. The paper recommends this shape.</summary>
    Increasing,

    /// <summary>No layer is wider than the one before it.</summary>
    Decreasing,

    /// <summary>Any other shape.</summary>
    Other,

    /// <summary>No mix: each token uses a granularity of its own, under a budget (<see cref="RoutingBudget"/>).</summary>
    Routed,
}

/// <summary>Classifies and creates Mix'n'Match profiles.</summary>
public static class Mixes
{
    private const int Draws = 64;

    /// <summary>Returns the shape of a profile. A layer that is left out counts as the narrowest.</summary>
    public static MixShape ShapeOf<TModel>(Profile<TModel> profile)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(profile);
        var granularities = TModel.Spec.Granularities;
        if (granularities.Any(g => g.Layers.AsSpan().SequenceEqual(profile.Layers.AsSpan()))) return MixShape.Uniform;
        return IsIncreasing(Enumerable.Range(0, TModel.Spec.Layers)) ? MixShape.Increasing
            : IsIncreasing(Enumerable.Range(0, TModel.Spec.Layers).Reverse()) ? MixShape.Decreasing
            : MixShape.Other;

        // Several granularities may keep the same of a layer. The layer then counts as any of them.
        bool IsIncreasing(IEnumerable<int> layers)
        {
            var least = -1;
            foreach (var layer in layers)
            {
                var slice = profile.Layers[layer];
                var alike = Enumerable.Range(0, granularities.Length).Where(g => granularities[g].Layers[layer] == slice).ToList();
                if (alike is []) alike = [-1];
                if (alike[^1] < least) return false;
                least = Math.Max(least, alike[0]);
            }

            return true;
        }
    }

    /// <summary>
    /// Returns how far a loss lies above the straight line between the two granularities around its FLOPs. Returns null if these
    /// granularities are not among the rows.
    /// </summary>
    internal static double? Excess(IEnumerable<(ProfileCosts Costs, double Loss)> rows, ProfileCosts costs, double loss)
    {
        var uniform = rows.Where(r => r.Costs.IsGranularity).OrderBy(r => r.Costs.Flops).ToList();
        var below = uniform.FindLastIndex(r => r.Costs.Flops <= costs.Flops);
        var above = uniform.FindIndex(r => r.Costs.Flops >= costs.Flops);
        if (below < 0 || above < 0) return null;
        var (lower, upper) = (uniform[below], uniform[above]);
        var span = upper.Costs.Flops - lower.Costs.Flops;
        var share = span == 0 ? 0 : (double)(costs.Flops - lower.Costs.Flops) / span;
        return loss - lower.Loss - (share * (upper.Loss - lower.Loss));
    }

    /// <summary>
    /// Returns mixes near points that are spread evenly over the FLOPs between the smallest and the largest granularity. Each point gets
    /// the nearest mix of two adjacent granularities with the narrower layers first (the paper's choice), the same layers reversed, and the
    /// same layers shuffled. It also gets the nearest mix of the smallest and the largest granularity, in both orders, and the nearest of
    /// some mixes whose layers are drawn from all granularities. No mix occurs twice. Granularities are mixed only with those of the same
    /// width.
    /// </summary>
    /// <param name="points">The number of points.</param>
    /// <param name="seed">The seed of shuffling and drawing.</param>
    /// <exception cref="ArgumentOutOfRangeException">The number of points is not positive.</exception>
    public static ImmutableArray<Profile<TModel>> Sweep<TModel>(int points, long seed = 1)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(points, 1);
        var (layers, last) = (TModel.Spec.Layers, TModel.Granularities.Count - 1);
        var widths = Enumerable.Range(0, last + 1).GroupBy(g => TModel.Granularities[g].Width).Select(g => g.ToList()).ToList();
        var adjacent = Enumerable.Range(0, last)
            .Where(lower => TModel.Granularities[lower].Width == TModel.Granularities[lower + 1].Width)
            .SelectMany(lower => Steps(lower, lower + 1))
            .ToList();
        var steep = widths.Where(width => width.Count > 1).SelectMany(width => Steps(width[0], width[^1])).ToList();
        var found = new List<Profile<TModel>>();
        for (var point = 0; point < points; point++)
        {
            var share = (point + 1.0) / (points + 1);
            var (least, most) = (TModel.Granularities[0].Flops, TModel.Granularities[^1].Flops);
            var flops = least + (share * (most - least));
            var random = new CounterRandom(seed, RandomPurpose.Mix, point);
            if (adjacent.MinBy(Distance) is { } paper)
            {
                Add(paper);
                Add([.. paper.Reverse()]);
                int[] shuffled = [.. paper];
                random.Shuffle(shuffled);
                Add(shuffled);
            }

            if (steep.MinBy(Distance) is { } widest)
            {
                Add(widest);
                Add([.. widest.Reverse()]);
            }

            var drawn = widths.SelectMany(width => Enumerable.Range(1, Draws).Select(draw =>
                Enumerable.Range(0, layers).Select(l => width[(int)random.Below(width.Count, (draw * layers) + l)]).ToArray()));
            Add(drawn.MinBy(Distance)!);

            double Distance(int[] mix) => Math.Abs(TModel.Spec.Flops(Slices(mix).AsSpan()) - flops);
        }

        return [.. found];

        IEnumerable<int[]> Steps(int lower, int upper) =>
            Enumerable.Range(1, layers - 1).Select(k => Enumerable.Range(0, layers).Select(l => l < k ? lower : upper).ToArray());

        static ImmutableArray<LayerSlice> Slices(int[] mix) => [.. mix.Select((g, layer) => TModel.Granularities[g].Layers[layer])];

        void Add(int[] mix)
        {
            var slices = Slices(mix);
            var known = TModel.Granularities.Concat(found).Any(p => p.Layers.AsSpan().SequenceEqual(slices.AsSpan()));
            if (!known) found.Add(new Profile<TModel>(TModel.Spec.FormatPattern(slices.AsSpan()), slices));
        }
    }
}

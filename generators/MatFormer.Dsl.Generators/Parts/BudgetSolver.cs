using MatFormer.Generators.Model;

namespace MatFormer.Generators.Parts;

/// <summary>
/// The mixes of MatFormer's Mix'n'Match (arXiv 2310.07707, section 3.3): the first layers have one granularity, and the other layers have
/// the next wider one. In their order, no mix costs less than the mix before it, so budgets are solved by bisection. Granularities whose
/// residual streams have different widths are not mixed: each width has its own mixes.
/// </summary>
internal sealed class BudgetSolver(ModelSpec spec)
{
    // The runs of granularities of the same width, narrowest first.
    private readonly IReadOnlyList<(int First, int Count)> _widths = [.. Runs(spec)];

    /// <summary>The number of mixes, from the narrowest model to the whole model.</summary>
    public int Count => _widths.Sum(MixesOf);

    /// <summary>Returns the index of each layer's granularity in one mix.</summary>
    public EquatableArray<int> this[int index]
    {
        get
        {
            var run = 0;
            for (; index >= MixesOf(_widths[run]); run++) index -= MixesOf(_widths[run]);
            var (narrow, wideLayers) = (_widths[run].First + (index / spec.Layers), index % spec.Layers);
            var choices = new int[spec.Layers];
            for (var layer = 0; layer < choices.Length; layer++) choices[layer] = layer < choices.Length - wideLayers ? narrow : narrow + 1;
            return new(choices);
        }
    }

    /// <summary>
    /// Returns the largest mix within all budgets, or null if even the narrowest model exceeds a budget. If granularities have different
    /// widths, the largest mix of each width is found. Of these, the one with the largest cost in the unit of the first budget is taken,
    /// and of equal ones the widest.
    /// </summary>
    public EquatableArray<int>? Solve(IReadOnlyList<(Func<LayerSlice[], long> Cost, long Most)> budgets)
    {
        EquatableArray<int>? best = null;
        var first = 0;
        foreach (var run in _widths)
        {
            var above = FirstWhere(first, first + MixesOf(run), index =>
            {
                var layers = spec.LayersOf(this[index]);
                return budgets.Any(budget => budget.Cost(layers) > budget.Most);
            });
            if (above > first && (best is null || CostOf(this[above - 1]) >= CostOf(best.Value))) best = this[above - 1];
            first += MixesOf(run);
        }

        return best;

        long CostOf(EquatableArray<int> mix) => budgets[0].Cost(spec.LayersOf(mix));
    }

    /// <summary>
    /// Returns a number of mixes between the narrowest and the widest, narrowest first. Their FLOPs are as evenly spaced as possible. If
    /// there are not enough mixes, the result is shorter.
    /// </summary>
    public IReadOnlyList<EquatableArray<int>> Grid(Costs costs, int count)
    {
        // Within a width, no mix costs less than the one before it. Mixes of different widths are put in order.
        var unordered = Flops(costs);
        int[] order = [.. Enumerable.Range(0, Count).OrderBy(index => unordered[index])];
        long[] flops = [.. order.Select(index => unordered[index])];
        double least = flops[0], range = flops[Count - 1] - least;
        var grid = new List<EquatableArray<int>>();
        var next = 1;
        for (var place = 1; place <= count && next < Count - 1; place++)
        {
            // Enough mixes must remain for the later places.
            var target = least + (range * place / (count + 1));
            var last = Math.Max(next, Count - 2 - (count - place));
            var index = FirstWhere(next, last, i => flops[i] >= target);
            if (index > next && target - flops[index - 1] < flops[index] - target) index--;
            grid.Add(this[order[index]]);
            next = FirstWhere(index + 1, Count - 1, i => flops[i] > flops[index]);
        }

        return grid;
    }

    // Computes the FLOPs of every mix. From each mix of a width to the next, only one layer becomes wider.
    private long[] Flops(Costs costs)
    {
        var flops = new long[Count];
        var first = 0;
        foreach (var run in _widths)
        {
            var of = costs.OfWidth(spec.WidthOf(spec.Granularities[run.First].Layers));
            flops[first] = costs.Flops(spec.LayersOf(this[first]));
            for (var step = 1; step < MixesOf(run); step++)
            {
                var (narrow, layer) = (run.First + ((step - 1) / spec.Layers), spec.Layers - 1 - ((step - 1) % spec.Layers));
                flops[first + step] = flops[first + step - 1] + Of(of, narrow + 1, layer) - Of(of, narrow, layer);
            }

            first += MixesOf(run);
        }

        return flops;

        long Of(Costs of, int granularity, int layer) =>
            of[layer].Flops.Of(spec.Blocks[layer], spec.Granularities[granularity].Layers[layer]);
    }

    private int MixesOf((int First, int Count) run) => ((run.Count - 1) * spec.Layers) + 1;

    private static IEnumerable<(int First, int Count)> Runs(ModelSpec spec)
    {
        for (var first = 0; first < spec.Granularities.Count;)
        {
            var width = spec.Granularities[first].Layers[0].Width;
            var count = spec.Granularities.Skip(first).TakeWhile(g => g.Layers[0].Width == width).Count();
            yield return (first, count);
            first += count;
        }
    }

    // Returns the first index from start on that fulfills the condition, or end. All later indices must fulfill the condition too.
    private static int FirstWhere(int start, int end, Func<int, bool> condition)
    {
        while (start < end)
        {
            var middle = start + ((end - start) / 2);
            if (condition(middle)) end = middle;
            else start = middle + 1;
        }

        return start;
    }
}

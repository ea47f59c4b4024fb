using MatFormer.Generators.Model;

namespace MatFormer.Generators.Parts;

/// <summary>
/// The mixes of MatFormer's Mix'n'Match (arXiv 2310.07707, section 3.3): the first layers have one granularity, and the other layers have
/// the next wider one. In their order, no mix costs less than the mix before it, so budgets are solved by bisection.
/// </summary>
internal sealed class BudgetSolver(ModelSpec spec)
{
    /// <summary>The number of mixes, from the narrowest model to the whole model.</summary>
    public int Count { get; } = ((spec.Granularities.Count - 1) * spec.Layers) + 1;

    /// <summary>Returns the index of each layer's granularity in one mix.</summary>
    public EquatableArray<int> this[int index]
    {
        get
        {
            var (narrow, wideLayers) = (index / spec.Layers, index % spec.Layers);
            var choices = new int[spec.Layers];
            for (var layer = 0; layer < choices.Length; layer++) choices[layer] = layer < choices.Length - wideLayers ? narrow : narrow + 1;
            return new(choices);
        }
    }

    /// <summary>Returns the largest mix within all budgets, or null if even the narrowest model exceeds a budget.</summary>
    public EquatableArray<int>? Solve(IReadOnlyList<(Func<LayerSlice[], long> Cost, long Most)> budgets)
    {
        var above = FirstWhere(0, Count, index =>
        {
            var layers = spec.LayersOf(this[index]);
            return budgets.Any(budget => budget.Cost(layers) > budget.Most);
        });
        return above == 0 ? null : this[above - 1];
    }

    /// <summary>
    /// Returns a number of mixes between the narrowest and the widest, narrowest first. Their FLOPs are as evenly spaced as possible. If
    /// there are not enough mixes, the result is shorter.
    /// </summary>
    public IReadOnlyList<EquatableArray<int>> Grid(Costs costs, int count)
    {
        var flops = Flops(costs);
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
            grid.Add(this[index]);
            next = FirstWhere(index + 1, Count - 1, i => flops[i] > flops[index]);
        }

        return grid;
    }

    // Computes the FLOPs of every mix. From each mix to the next, only one layer becomes wider.
    private long[] Flops(Costs costs)
    {
        var flops = new long[Count];
        flops[0] = costs.Flops(spec.LayersOf(this[0]));
        for (var index = 1; index < Count; index++)
        {
            var (narrow, layer) = ((index - 1) / spec.Layers, spec.Layers - 1 - ((index - 1) % spec.Layers));
            flops[index] = flops[index - 1] + Of(narrow + 1, layer) - Of(narrow, layer);
        }

        return flops;

        long Of(int granularity, int layer) =>
            costs[layer].Flops.Of(spec.Blocks[layer], spec.Granularities[granularity].Layers[layer]);
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

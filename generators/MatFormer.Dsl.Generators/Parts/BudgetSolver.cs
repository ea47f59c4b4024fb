using MatFormer.Generators.Model;

namespace MatFormer.Generators.Parts;

/// <summary>
/// Mixes as MatFormer's Mix'n'Match makes them (arXiv 2310.07707, section 3.3): of two adjacent granularities, the narrower in the first
/// k layers. They stand in a row, each costing no less than the one before it, so that budgets are met by bisection.
/// </summary>
internal sealed class BudgetSolver(ModelSpec spec)
{
    /// <summary>How many mixes there are, from the narrowest model to the whole.</summary>
    public int Count { get; } = ((spec.Granularities.Count - 1) * spec.Layers) + 1;

    /// <summary>The granularities of one mix.</summary>
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

    /// <summary>The largest mix within all budgets, or null if even the narrowest model is above one.</summary>
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
    /// So many mixes between the narrowest and the widest, each the nearest to its place on an even spread of FLOPs; narrowest first.
    /// Fewer, if there are not so many.
    /// </summary>
    public IReadOnlyList<EquatableArray<int>> Grid(Costs costs, int count)
    {
        var flops = Flops(costs);
        double least = flops[0], range = flops[Count - 1] - least;
        var grid = new List<EquatableArray<int>>();
        var next = 1;
        for (var place = 1; place <= count && next < Count - 1; place++)
        {
            // Enough are left behind it for the others.
            var target = least + (range * place / (count + 1));
            var last = Math.Max(next, Count - 2 - (count - place));
            var index = FirstWhere(next, last, i => flops[i] >= target);
            if (index > next && target - flops[index - 1] < flops[index] - target) index--;
            grid.Add(this[index]);
            next = FirstWhere(index + 1, Count - 1, i => flops[i] > flops[index]);
        }

        return grid;
    }

    // Of every mix: from one to the next, a single layer widens.
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

    // The first from start on of which the condition holds, as it does of all behind it; end if of none before that.
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

namespace MatFormer.Generators.Model;

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
            return Enumerable.Repeat(narrow, spec.Layers - wideLayers)
                .Concat(Enumerable.Repeat(narrow + 1, wideLayers))
                .ToEquatableArray();
        }
    }

    /// <summary>The largest mix within all budgets, or null if even the narrowest model is above one.</summary>
    public EquatableArray<int>? Solve(IReadOnlyList<(Func<LayerSlice[], long> Cost, long Most)> budgets)
    {
        var above = FirstWhere(0, Count, layers => budgets.Any(budget => budget.Cost(layers) > budget.Most));
        return above == 0 ? null : this[above - 1];
    }

    /// <summary>
    /// So many mixes between the narrowest and the widest, each the nearest to its place on an even spread of FLOPs; narrowest first.
    /// Fewer, if there are not so many.
    /// </summary>
    public IReadOnlyList<EquatableArray<int>> Grid(Costs costs, int count)
    {
        double least = Flops(0), range = Flops(Count - 1) - least;
        var grid = new List<EquatableArray<int>>();
        var next = 1;
        for (var place = 1; place <= count && next < Count - 1; place++)
        {
            // Enough are left behind it for the others.
            var target = least + (range * place / (count + 1));
            var last = Math.Max(next, Count - 2 - (count - place));
            var index = FirstWhere(next, last, layers => costs.FlopsPerToken(layers) >= target);
            if (index > next && target - Flops(index - 1) < Flops(index) - target) index--;
            grid.Add(this[index]);
            next = FirstWhere(index + 1, Count - 1, layers => costs.FlopsPerToken(layers) > Flops(index));
        }

        return grid;

        long Flops(int index) => costs.FlopsPerToken(spec.LayersOf(this[index]));
    }

    // The first from start on of which the condition holds, as it does of all behind it; end if of none before that.
    private int FirstWhere(int start, int end, Func<LayerSlice[], bool> condition)
    {
        while (start < end)
        {
            var middle = start + ((end - start) / 2);
            if (condition(spec.LayersOf(this[middle]))) end = middle;
            else start = middle + 1;
        }

        return start;
    }
}

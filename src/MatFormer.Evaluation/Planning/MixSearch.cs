namespace MatFormer;

/// <summary>Which mixes are searched.</summary>
public enum PlanSearch
{
    /// <summary>
    /// All increasing mixes, in which no layer is narrower than the one before it. This is the paper's choice (arXiv 2310.07707,
    /// section 3.3).
    /// </summary>
    Increasing,

    /// <summary>All increasing mixes, and then any other mixes, by mutation and crossover.</summary>
    Evolutionary,
}

/// <summary>Finds the frontier of predicted time and loss among mixes.</summary>
internal static class MixSearch
{
    /// <summary>The largest number of mixes that are enumerated. It takes a few seconds.</summary>
    internal const double MostMixes = 1e8;

    private const int Children = 100_000;

    /// <summary>Returns the frontier of the increasing mixes that meet all of the budget except the time.</summary>
    public static MixFrontier Increasing(MixSpace space, MixTable table, PlanBudget budget)
    {
        var frontier = new MixFrontier();
        space.Increasing(table, (mix, cost) =>
        {
            if (budget.AdmitsSize(cost)) frontier.Offer(mix, cost);
        });
        return frontier;
    }

    /// <summary>
    /// Searches for better mixes among all mixes. Each child crosses two mixes of the frontier, at one layer or layer by layer. Then layers
    /// may change their choice, and two layers may swap theirs. The child joins the frontier if no mix there is both as fast and as good. A
    /// mix leaves the frontier only for one that is both as fast and as good.
    /// </summary>
    public static void Evolve(MixSpace space, MixTable table, PlanBudget budget, long seed, MixFrontier frontier)
    {
        if (frontier.Count == 0) return;
        var child = new int[space.Layers];
        for (var i = 0; i < Children; i++)
        {
            var random = new CounterRandom(seed, RandomPurpose.Planning, i);
            var mother = frontier[(int)random.Below(frontier.Count, 0)].Mix;
            var father = frontier[(int)random.Below(frontier.Count, 1)].Mix;
            var cut = random.Below(2, 2) == 0 ? random.Below(space.Layers + 1, 3) : -1;
            for (var layer = 0; layer < child.Length; layer++)
            {
                var counter = 8 + (3 * layer);
                var isMothers = cut >= 0 ? layer < cut : random.Below(2, counter) == 0;
                child[layer] = (isMothers ? mother : father)[layer];
                if (random.Below(child.Length, counter + 1) == 0)
                    child[layer] = (int)random.Below(space.Choices[layer].Length, counter + 2);
            }

            if (random.Below(2, 4) == 0)
            {
                var (one, other) = ((int)random.Below(child.Length, 5), (int)random.Below(child.Length, 6));
                if (space.Kinds[one] == space.Kinds[other]) (child[one], child[other]) = (child[other], child[one]);
            }

            if (!space.KeepsAny(child)) continue;
            var cost = table.Of(child);
            if (budget.AdmitsSize(cost)) frontier.Offer(child, cost);
        }
    }
}

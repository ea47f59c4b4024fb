namespace MatFormer;

/// <summary>Which mixes are searched.</summary>
public enum PlanSearch
{
    /// <summary>All in which no layer is narrower than the one before it: the paper's choice (arXiv 2310.07707, section 3.3).</summary>
    Increasing,

    /// <summary>Beyond these any others, by mutation and crossover.</summary>
    Evolutionary,
}

/// <summary>Finds the frontier of time and loss among mixes, as they are predicted.</summary>
internal static class MixSearch
{
    /// <summary>The most mixes that are looked at one by one: a few seconds.</summary>
    internal const double MostMixes = 1e8;

    private const int Children = 100_000;

    /// <summary>The frontier of the increasing mixes that meet the budget in all but the time.</summary>
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
    /// Looks for better ones among all mixes: two of the frontier are crossed at a layer, or layer by layer, layers change their choice or
    /// two layers swap theirs, and what is on the frontier then stays. What is there already goes only for something as fast and as good.
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

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

    /// <summary>
    /// All increasing mixes, and the mix of any shape that gradients find for the budget: what each choice of a layer adds to the loss is
    /// learned on training data, near the budget, and the best mix by these numbers is solved exactly. It needs a budget.
    /// </summary>
    Learned,
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

    /// <summary>
    /// Returns the mix with the lowest loss in the table that meets all of the budget, or null if no mix does. The result is exact. Layer
    /// by layer, the search keeps the beginnings of mixes that no other beginning beats in the loss and in every limited cost.
    /// </summary>
    public static int[]? Best(MixSpace space, MixTable table, PlanBudget budget)
    {
        // For each layer, the least that it and the layers after it can add to each cost.
        var least = new MixCost[space.Layers + 1];
        for (var layer = space.Layers - 1; layer >= 0; layer--)
        {
            var choices = table.Differences[layer];
            least[layer] = least[layer + 1] + new MixCost(
                choices.Min(c => c.Milliseconds), 0, choices.Min(c => c.MemoryBytes), choices.Min(c => c.Parameters),
                choices.Min(c => c.Flops));
        }

        List<Beginning> kept = [new(null, 0, table.Whole, KeepsAny: !space.Spec.CanSkip)];
        for (var layer = 0; layer < space.Layers; layer++)
        {
            var longer = kept.SelectMany(b => table.Differences[layer].Select(
                    (cost, choice) => new Beginning(b, choice, b.Cost + cost, b.KeepsAny || choice > 0)))
                .Where(b => budget.Admits(b.Cost + least[layer + 1]) && (b.KeepsAny || layer < space.Layers - 1))
                .OrderBy(b => b.Cost.Loss).ToList();
            kept = [];
            foreach (var beginning in longer)
                if (!kept.Any(better => Beats(better, beginning))) kept.Add(beginning);
        }

        if (kept.Count == 0) return null;
        var mix = new int[space.Layers];
        var last = kept[0];
        for (var layer = mix.Length - 1; layer >= 0; layer--) (mix[layer], last) = (last.Choice, last.Before!);
        return mix;

        // Whatever follows the other beginning may follow this one too. Its loss is not higher, because beginnings are sorted by it.
        bool Beats(Beginning better, Beginning other) => (better.KeepsAny || !other.KeepsAny)
            && (budget.MaxMilliseconds is null || better.Cost.Milliseconds <= other.Cost.Milliseconds)
            && (budget.MaxMemoryBytes is null || better.Cost.MemoryBytes <= other.Cost.MemoryBytes)
            && (budget.MaxParameters is null || better.Cost.Parameters <= other.Cost.Parameters)
            && (budget.MaxFlops is null || better.Cost.Flops <= other.Cost.Flops);
    }

    /// <summary>
    /// Returns the mixes that differ from a mix in one or two layers and meet the budget: those with the lowest losses in the table.
    /// </summary>
    public static IEnumerable<int[]> Neighbours(MixSpace space, MixTable table, PlanBudget budget, int[] mix, int count)
    {
        var near = new List<(int[] Mix, double Loss)>();
        for (var one = 0; one < mix.Length; one++)
        {
            foreach (var its in Others(one))
            {
                Add([(one, its)]);
                for (var two = one + 1; two < mix.Length; two++)
                    foreach (var other in Others(two)) Add([(one, its), (two, other)]);
            }
        }

        return near.OrderBy(n => n.Loss).Take(count).Select(n => n.Mix);

        IEnumerable<int> Others(int layer) => Enumerable.Range(0, space.Choices[layer].Length).Where(choice => choice != mix[layer]);

        void Add(ReadOnlySpan<(int Layer, int Choice)> changes)
        {
            int[] changed = [.. mix];
            foreach (var (layer, choice) in changes) changed[layer] = choice;
            var cost = table.Of(changed);
            if (space.KeepsAny(changed) && budget.Admits(cost)) near.Add((changed, cost.Loss));
        }
    }

    // The choices of the first layers, last one first, and their cost, with all other layers whole.
    private sealed record Beginning(Beginning? Before, int Choice, MixCost Cost, bool KeepsAny);
}

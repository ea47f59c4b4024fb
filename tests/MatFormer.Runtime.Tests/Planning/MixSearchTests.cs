using FsCheck;
using FsCheck.Fluent;

namespace MatFormer.Runtime.Tests.Planning;

/// <summary>Compares the search of mixes with an exhaustive search.</summary>
public sealed class MixSearchTests
{
    [Fact]
    public void EveryIncreasingMixIsVisitedOnce() => Property((space, _) =>
    {
        var visited = new List<string>();
        space.Increasing(PlanningSpecs.Sizes(space), (mix, cost) =>
        {
            visited.Add(string.Join(' ', mix));
            Assert.Equal(PlanningSpecs.Sizes(space).Of(mix), cost);
        });
        Assert.Equal(
            PlanningSpecs.All(space).Where(mix => IsIncreasing(space, mix)).Select(mix => string.Join(' ', mix)).Order(), visited.Order());
        Assert.Equal(visited.Count, space.IncreasingCount);
    });

    [Fact]
    public void SumsOverLayersEqualTheCostsOfTheModel() => Property((space, _) =>
    {
        var sizes = PlanningSpecs.Sizes(space);
        foreach (var mix in PlanningSpecs.All(space))
        {
            var layers = space.LayersOf(mix);
            var parameters = space.Spec.ParameterCount(layers.AsSpan());
            Assert.Equal(new MixCost(0, 0, 2 * parameters, parameters, space.Spec.Flops(layers.AsSpan())), sizes.Of(mix));
            Assert.Equal(mix, space.MixOf(layers));
        }
    });

    [Fact]
    public void TheFrontierHasTheMixesThatNoOtherBeats() => Property((space, random) =>
    {
        var table = PlanningSpecs.Draw(space, random);
        var budget = DrawBudget(table, random);
        var fitting = PlanningSpecs.All(space).Where(mix => IsIncreasing(space, mix))
            .Select(mix => table.Of(mix)).Where(cost => budget.AdmitsSize(cost)).ToList();
        var frontier = MixSearch.Increasing(space, table, budget);
        Assert.Equal(Unbeaten(fitting), Costs(frontier));
        if (frontier.Count == 0) return;

        // The frontier's best mix within a time limit is the best of all mixes within that limit.
        var limit = table.Whole.Milliseconds * random.NextDouble();
        var within = fitting.Where(c => c.Milliseconds <= limit).Select(c => c.Loss).DefaultIfEmpty(double.NaN).Min();
        var best = frontier.BestWithin(limit);
        Assert.Equal(within, best < 0 ? double.NaN : frontier[best].Cost.Loss);
        var points = random.Next(1, 9);
        var some = frontier.Spread(points, limit);
        Assert.Equal(Math.Min(points, frontier.Count), some.Count);
        Assert.Equal(some.Distinct().Order(), some);
        if (best >= 0) Assert.Contains(best, some);
    });

    [Fact]
    public void EvolutionFindsTheFrontierOfAllMixesOfASmallModel() => Property(
        (space, random) =>
        {
            var table = PlanningSpecs.Draw(space, random);
            var budget = DrawBudget(table, random);
            var frontier = MixSearch.Increasing(space, table, budget);
            var isEmpty = frontier.Count == 0;
            MixSearch.Evolve(space, table, budget, 3, frontier);
            if (isEmpty) Assert.Equal(0, frontier.Count);
            else Assert.Equal(
                Unbeaten(PlanningSpecs.All(space).Select(mix => table.Of(mix)).Where(cost => budget.AdmitsSize(cost))), Costs(frontier));
        },
        cases: 15, mostLayers: 3);

    [Fact]
    public void EvolutionRepeatsAndNeverWorsensTheFrontier() => Property(
        (space, random) =>
        {
            var table = PlanningSpecs.Draw(space, random);
            var budget = DrawBudget(table, random);
            var increasing = MixSearch.Increasing(space, table, budget);
            MixFrontier[] evolved = [.. new long[] { 1, 1 }.Select(seed =>
            {
                var frontier = MixSearch.Increasing(space, table, budget);
                MixSearch.Evolve(space, table, budget, seed, frontier);
                return frontier;
            })];
            Assert.Equal(Mixes(evolved[0]), Mixes(evolved[1]));
            foreach (var cost in Costs(increasing))
            {
                var best = evolved[0].BestWithin(cost.Milliseconds);
                Assert.True(evolved[0][best].Cost.Loss <= cost.Loss);
            }
        },
        cases: 4, mostLayers: 12);

    [Fact]
    public void TheSolvedMixIsTheBestOfAllMixes() => Property((space, random) =>
    {
        var table = PlanningSpecs.Draw(space, random);
        var budget = DrawLimits(table, random);
        var fitting = PlanningSpecs.All(space).Where(mix => budget.Admits(table.Of(mix))).Select(mix => table.Of(mix).Loss).ToList();
        var best = MixSearch.Best(space, table, budget);
        Assert.Equal(fitting.Count == 0, best is null);
        if (best is null) return;
        Assert.True(budget.Admits(table.Of(best)));
        Assert.True(space.KeepsAny(best));
        Assert.Equal(fitting.Min(), table.Of(best).Loss, 1e-12);
    });

    [Fact]
    public void NeighboursAreTheBestMixesWithOneOrTwoOtherLayers() => Property((space, random) =>
    {
        var table = PlanningSpecs.Draw(space, random);
        var budget = DrawLimits(table, random);
        if (MixSearch.Best(space, table, budget) is not { } mix) return;
        var near = PlanningSpecs.All(space)
            .Where(other => budget.Admits(table.Of(other)) && other.Zip(mix, (a, b) => a == b ? 0 : 1).Sum() is 1 or 2)
            .Select(other => table.Of(other).Loss).Order().Take(3);
        Assert.Equal(near, MixSearch.Neighbours(space, table, budget, mix, 3).Select(other => table.Of(other).Loss));
    });

    [Fact]
    public void TheCompilersMixIsTheLargestOfAdjacentGranularities() => Property((space, random) =>
    {
        var sizes = PlanningSpecs.Sizes(space);
        var budget = new PlanBudget { MaxParameters = sizes.Whole.Parameters - random.Next(60) };
        var levels = space.Granularities.ToList();
        var adjacent = levels.Zip(levels.Skip(1).DefaultIfEmpty(levels[0])).SelectMany(pair => Enumerable.Range(0, space.Layers + 1)
            .Select(narrow => (int[])[.. pair.First[..narrow], .. pair.Second[narrow..]]));
        var fitting = adjacent.Select(mix => sizes.Of(mix)).Where(cost => budget.Admits(cost)).Select(cost => cost.Parameters);
        var solved = space.Solve(sizes, budget);
        Assert.Equal(fitting.DefaultIfEmpty(-1).Max(), solved is null ? -1 : sizes.Of(solved).Parameters);
    });

    private static PlanBudget DrawLimits(MixTable table, Random random) => DrawBudget(table, random) with
    {
        MaxMilliseconds = random.Next(2) == 0 ? null : table.Whole.Milliseconds * random.NextDouble(),
    };

    private static IEnumerable<string> Mixes(MixFrontier frontier) =>
        Enumerable.Range(0, frontier.Count).Select(i => string.Join(' ', frontier[i].Mix));

    private static IEnumerable<MixCost> Costs(MixFrontier frontier) => Enumerable.Range(0, frontier.Count).Select(i => frontier[i].Cost);

    private static PlanBudget DrawBudget(MixTable table, Random random) => random.Next(3) switch
    {
        0 => new PlanBudget(),
        1 => new PlanBudget { MaxMemoryBytes = (long)(table.Whole.MemoryBytes * (0.9 + (random.NextDouble() / 10))) },
        _ => new PlanBudget { MaxFlops = table.Whole.Flops - random.Next(20), MaxParameters = table.Whole.Parameters - random.Next(10) },
    };

    // Returns the costs that no other cost beats, by their definition.
    private static IEnumerable<MixCost> Unbeaten(IEnumerable<MixCost> costs)
    {
        var best = double.PositiveInfinity;
        foreach (var cost in costs.OrderBy(c => c.Milliseconds).ThenBy(c => c.Loss))
        {
            if (cost.Loss >= best) continue;
            best = cost.Loss;
            yield return cost;
        }
    }

    // Whether skipped layers come first, and each other layer can be given a granularity that is not lower than the one before it.
    private static bool IsIncreasing(MixSpace space, int[] mix)
    {
        var layers = space.LayersOf(mix);
        var least = -1;
        for (var layer = 0; layer < mix.Length; layer++)
        {
            if (layers[layer].IsSkipped)
            {
                if (least > -1) return false;
                continue;
            }

            var named = Enumerable.Range(0, space.Spec.Granularities.Length)
                .Where(g => g >= least && space.Spec.Granularities[g].Layers[layer] == layers[layer]).ToList();
            if (named.Count == 0) return false;
            least = named[0];
        }

        return true;
    }

    private static void Property(Action<MixSpace, Random> property, int cases = 100, int mostLayers = 5) => Check.One(
        Config.QuickThrowOnFailure.WithMaxTest(cases), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            property(new MixSpace(PlanningSpecs.Draw(random, mostLayers)), random);
        }));
}

namespace MatFormer.Runtime.Tests.Planning;

/// <summary>Tests plans for made-up machines.</summary>
public sealed class ProfilePlannerTests
{
    private static readonly MixSpace s_space = new(TinyModel.Spec with
    {
        Granularities = [.. TinyModel.Spec.Granularities.Select(g => new Granularity(g.Name, (6, g.Layers[0])))],
        Blocks = [.. Enumerable.Repeat(TinyModel.Spec.Blocks[0], 6)],
    });

    private static readonly IReadOnlyList<(string, int[])> s_known =
        [("S", new int[6]), ("M", [1, 1, 1, 1, 1, 1]), ("XL", [2, 2, 2, 2, 2, 2])];

    private static MixTable Table(params double[] layers)
    {
        var table = PlanningSpecs.Sizes(s_space);
        double[] milliseconds = [-0.3, -0.2, 0];
        double[] bits = [0.1, 0.04, 0];
        return new MixTable(
            table.Whole with { Milliseconds = 3, Loss = 1 },
            [.. table.Differences.Select((choices, layer) => choices.Select((cost, choice) => cost with
            {
                Milliseconds = milliseconds[choice],
                Loss = bits[choice] * layers[layer],
            }).ToArray())]);
    }

    private static Plan Run(MixTable table, PlanBudget budget, PlanSearch search = default, int points = 12, double noise = 0) =>
        ProfilePlanner.Run(
            s_space, PlanningSpecs.Sizes(s_space), s_known, new TableMeter(s_space, table, noise),
            new PlanOptions { Budget = budget, Search = search, Points = points });

    [Fact]
    public void TheBestMixWithinTheBudgetIsFound()
    {
        // Each layer matters more than the one before it, as in the paper.
        var table = Table(1, 2, 3, 4, 5, 6);
        foreach (var budget in (PlanBudget[])[
            new() { MaxMilliseconds = 2.15 }, new() { MaxParameters = table.Of([1, 1, 1, 2, 2, 2]).Parameters },
            new() { MaxMemoryBytes = table.Of([0, 0, 1, 1, 1, 1]).MemoryBytes, MaxMilliseconds = 2.3 },
            new() { MaxFlops = table.Of([0, 1, 1, 2, 2, 2]).Flops + 1 }])
        {
            var plan = Run(table, budget);
            var wanted = PlanningSpecs.All(s_space).Select(mix => table.Of(mix)).Where(c => budget.Admits(c)).Min(c => c.Loss);
            Assert.Equal(wanted, plan.Best!.Measured.Loss, 1e-9);
            Assert.True(budget.Admits(plan.Best.Measured));
            Assert.Equal(28, plan.Searched);
            Assert.InRange(plan.LatencyError, 0, 1e-4);
            Assert.InRange(plan.LossError, 0, 1e-9);

            // The printed pattern is parsed to the same mix, and the plan lists the known mixes for comparison.
            Assert.Equal<LayerSlice>(plan.Best.Layers.AsSpan(), s_space.Spec.ParsePattern(plan.Best.Pattern).AsSpan());
            Assert.Equal(["S", "M", "XL"], plan.Mixes.Where(m => m.Name != m.Pattern).Select(m => m.Name));
        }
    }

    [Fact]
    public void EvolutionFindsABetterMixThanTheIncreasingOnes()
    {
        var table = Table(6, 5, 1, 1, 1, 1);
        var budget = new PlanBudget { MaxMilliseconds = 1.85 };
        var (increasing, evolved) = (Run(table, budget), Run(table, budget, PlanSearch.Evolutionary));
        Assert.True(evolved.Best!.Measured.Loss < increasing.Best!.Measured.Loss);
        Assert.Equal("2*XL 4*S", evolved.Best.Pattern);

        // Measurements may differ from predictions, so the best increasing mix is measured too.
        Assert.Contains(evolved.Mixes, m => m.Pattern == increasing.Best.Pattern);
    }

    [Fact]
    public void TheLearnedMixAndTheCompilersAreMeasuredToo()
    {
        var table = Table(6, 5, 1, 1, 1, 1);
        var budget = new PlanBudget { MaxParameters = table.Of([2, 2, 0, 0, 0, 0]).Parameters };
        var options = new PlanOptions { Budget = budget, Search = PlanSearch.Learned };
        var plan = ProfilePlanner.Run(
            s_space, PlanningSpecs.Sizes(s_space), s_known, new TableMeter(s_space, table), options,
            learn: predicted => MixSearch.Best(s_space, predicted, budget));
        Assert.Equal("2*XL 4*S", plan.Mixes.Single(m => m.IsLearned).Pattern);
        Assert.Equal("2*XL 4*S", plan.Best!.Pattern);
        Assert.True(budget.Admits(plan.Mixes.Single(m => m.IsSolved).Measured));
        Assert.DoesNotContain(Run(table, budget).Mixes, m => m.IsLearned || m.IsSolved);
    }

    [Fact]
    public void TheBestMixFitsTheBudgetAsMeasured()
    {
        var budget = new PlanBudget { MaxMilliseconds = 2.2 };
        foreach (var noise in new[] { 0.02, 0.2 })
            Assert.True(Run(Table(1, 2, 3, 4, 5, 6), budget, noise: noise).Best!.Measured.Milliseconds <= 2.2);
    }

    [Fact]
    public void WithoutABudgetThereIsAFrontierButNoBestMix()
    {
        var plan = Run(Table(1, 2, 3, 4, 5, 6), new PlanBudget(), points: 5);
        Assert.Null(plan.Best);
        Assert.Equal(5, plan.Mixes.Count(m => m.IsOnFrontier));
        Assert.Contains(plan.Mixes, m => m is { Name: "S", IsOnFrontier: true });
        Assert.Contains(plan.Mixes, m => m is { Name: "XL", IsOnFrontier: true });
        Assert.Equal(plan.Mixes.OrderBy(m => m.Measured.Milliseconds), plan.Mixes);
    }

    [Fact]
    public void ABudgetThatNoMixFitsIsRefused()
    {
        var table = Table(1, 2, 3, 4, 5, 6);
        var smallest = table.Of(new int[6]);
        foreach (var (budget, says) in ((PlanBudget, string)[])[
            (new() { MaxParameters = smallest.Parameters - 1 },
                $"at most {smallest.Parameters - 1:n0} parameters: the smallest one, 6*S, takes {smallest.Parameters:n0}"),
            (new() { MaxFlops = 5 }, "at most 5 FLOPs per token: the smallest one, 6*S"),
            (new() { MaxMemoryBytes = 2000, MaxParameters = 1_000_000 }, "at most 2 kB of memory: the smallest one, 6*S, takes 13.31 kB")])
        {
            var meter = new TableMeter(s_space, table);
            var error = Assert.Throws<PlanException>(() => ProfilePlanner.Run(
                s_space, PlanningSpecs.Sizes(s_space), s_known, meter, new PlanOptions { Budget = budget }));
            Assert.Contains(says, error.Message, StringComparison.Ordinal);
            Assert.Equal(0, meter.Timed);
        }

        var slow = Assert.Throws<PlanException>(() => Run(table, new PlanBudget { MaxMilliseconds = 1 }));
        Assert.Contains("the fastest of them, 6*S, takes 1.200 ms", slow.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void MoreMixesThanCanBeSearchedAreRefused()
    {
        var slices = Enumerable.Range(1, 12).Select(width => new LayerSlice(width, 1)).ToList();
        var spec = TinyModel.Spec with
        {
            Granularities = [.. slices.Select((slice, g) => new Granularity($"G{g}", (48, slice)))],
            Blocks = [.. Enumerable.Repeat(TinyModel.Spec.Blocks[0] with { HiddenWidth = 12 }, 48)],
        };
        var space = new MixSpace(spec);
        var error = Assert.Throws<PlanException>(() => ProfilePlanner.Run(
            space, PlanningSpecs.Sizes(space), [], new TableMeter(space, PlanningSpecs.Sizes(space)), new PlanOptions()));
        Assert.Contains("declare fewer granularities", error.Message, StringComparison.Ordinal);
    }
}

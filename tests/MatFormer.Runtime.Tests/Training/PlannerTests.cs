namespace MatFormer.Runtime.Tests.Training;

/// <summary>Tests what is drawn over many steps. No test here computes a tensor.</summary>
public sealed class PlannerTests
{
    private const int Steps = 6000;

    [Fact]
    public void SampledDrawsFollowTheProbabilities()
    {
        var counts = Plans(new() { Probabilities = [1, 2, 5] }).CountBy(p => Assert.Single(p.Names)).ToDictionary();
        foreach (var (name, share) in (ReadOnlySpan<(string, double)>)[("S", 0.125), ("M", 0.25), ("XL", 0.625)])
            Assert.InRange(counts[name] / (double)Steps, share - 0.03, share + 0.03);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(8)]
    [InlineData(30)]
    public void SplitGivesEachGranularityItsShareOfTheRows(int batch)
    {
        double[] shares = [0.2, 0.5, 0.3];
        var rows = new Dictionary<string, long>();
        foreach (var plan in Plans(new() { Objective = Objective.Split, Batch = batch, Probabilities = [.. shares] }))
        {
            var its = plan.Streams.BatchRows ?? [batch];
            Assert.Equal(batch, its.Sum());
            Assert.Equal(its.Length, plan.Streams.Count);
            Assert.Equal(plan.Names.Order(new Widest()), plan.Names);
            for (var i = 0; i < its.Length; i++)
            {
                var share = shares[Index(plan.Names[i])] * batch;
                Assert.InRange(its[i], Math.Floor(share), Math.Floor(share) + 1 + 1e-9);
                Assert.Equal(its[i] / (float)batch, plan.Weights[i], 6);
                rows[plan.Names[i]] = rows.GetValueOrDefault(plan.Names[i]) + its[i];
            }
        }

        foreach (var (name, count) in rows)
            Assert.InRange(count / (double)(Steps * batch), shares[Index(name)] - 0.02, shares[Index(name)] + 0.02);
        Assert.Equal(3, rows.Count);
    }

    [Fact]
    public void SplitLeavesOutGranularitiesWithoutAShare()
    {
        foreach (var plan in Plans(new() { Objective = Objective.Split, Batch = 7, Probabilities = [0, 1, 1] }))
            Assert.DoesNotContain("S", plan.Names);
        Assert.All(Plans(new() { Objective = Objective.Split, Batch = 7, Probabilities = [1, 0, 0] }),
            p => Assert.Equal("S", Assert.Single(p.Names)));
    }

    [Theory]
    [InlineData(Objective.SampledPerLayer)]
    [InlineData(Objective.Sandwich)]
    public void DrawnMixesAreEquallyLikelyAndNeverAGranularity(Objective objective)
    {
        var counts = new Dictionary<string, int>();
        foreach (var plan in Plans(new() { Objective = objective }))
        {
            Assert.Equal(objective == Objective.Sandwich ? "XL mix S" : "mix", string.Join(' ', plan.Names));
            var mix = plan.Names.IndexOf("mix");
            Assert.Equal(objective == Objective.Sandwich ? 1f / 3 : 1, plan.Weights[mix]);
            var widths = string.Join(' ', Enumerable.Range(0, 2).Select(l => plan.Streams.HiddenWidths(l)[mix]));
            counts[widths] = counts.GetValueOrDefault(widths) + 1;
        }

        Assert.Equal(["16 32", "16 8", "32 16", "32 8", "8 16", "8 32"], counts.Keys.Order(StringComparer.Ordinal));
        Assert.All(counts.Values, c => Assert.InRange(c / (double)Steps, 1 / 6.0 - 0.025, 1 / 6.0 + 0.025));
    }

    [Fact]
    public void BranchesAreNoNarrowerThanTheLayersTheyShare()
    {
        var counts = new Dictionary<string, int>();
        foreach (var plan in Plans(new() { Objective = Objective.Branching, Probabilities = [2, 1, 1] }))
        {
            var names = string.Join(' ', plan.Names);
            counts[names] = counts.GetValueOrDefault(names) + 1;
            Assert.Equal(plan.Names.Length, plan.Streams.Count);
            Assert.Null(plan.Streams.BatchRows);
            Assert.All(plan.Weights, w => Assert.Equal(1f / plan.Names.Length, w));
        }

        // Half of the steps share S, and half of all steps part before the second of the two layers.
        foreach (var (names, share) in (ReadOnlySpan<(string, double)>)[
            ("XL M S", 0.25), ("mix-XL mix-M S", 0.25), ("XL M", 0.125), ("mix-XL M", 0.125), ("XL", 0.25)])
        {
            Assert.InRange(counts[names] / (double)Steps, share - 0.025, share + 0.025);
        }
    }

    [Fact]
    public void LossesAreWeightedAndReduced()
    {
        var joint = new Planner<TinyModel>(new() { Objective = Objective.Joint, LossWeights = [1, 2, 6] }).At(1);
        Assert.Equal(["XL", "M", "S"], joint.Names.ToArray());
        Assert.Equal([2f, 2f / 3, 1f / 3], joint.Weights.ToArray());
        Assert.Equal([2f, 1f / 3, 1f / 6, 0, 1f / 3, 1f / 6], joint.Factors(0.5, 1));
        Assert.Equal([6f, 2, 1], new Planner<TinyModel>(
            new() { Objective = Objective.Joint, LossWeights = [1, 2, 6], Reduction = Reduction.Sum }).At(1).Weights.ToArray());
    }

    [Fact]
    public void APlanDependsOnTheSeedAndTheStepAlone()
    {
        foreach (var objective in Enum.GetValues<Objective>())
        {
            var options = new TrainerOptions { Objective = objective, Batch = 5, Seed = 4 };
            var forwards = Enumerable.Range(1, 50).Select(s => Text(new Planner<TinyModel>(options).At(s))).ToList();
            var planner = new Planner<TinyModel>(options);
            Assert.Equal(forwards, Enumerable.Range(1, 50).Reverse().Select(s => Text(planner.At(s))).Reverse());
            if (objective == Objective.Joint) continue;
            Assert.NotEqual(forwards, Enumerable.Range(1, 50).Select(s => Text(new Planner<TinyModel>(options with { Seed = 5 }).At(s))));
        }
    }

    [Fact]
    public void TypicalPlansHaveSharesThatAddUpToOne()
    {
        foreach (var objective in Enum.GetValues<Objective>())
            Assert.Equal(1, new Planner<TinyModel>(new() { Objective = objective }).Typical().Sum(p => p.Share), 9);

        // A prefix is as likely as it is drawn, and the streams part before either of the two layers equally often.
        var branches = new Planner<TinyModel>(new() { Objective = Objective.Branching, Probabilities = [2, 1, 1] }).Typical().ToList();
        Assert.Equal(
            [("XL M S", 0.25), ("mix-XL mix-M S", 0.25), ("XL M", 0.125), ("mix-XL M", 0.125), ("XL", 0.125), ("XL", 0.125)],
            branches.Select(b => (string.Join(' ', b.Plan.Names), b.Share)));
    }

    private static IEnumerable<StepPlan> Plans(TrainerOptions options)
    {
        var planner = new Planner<TinyModel>(options);
        return Enumerable.Range(1, Steps).Select(step => planner.At(step));
    }

    private static int Index(string name) => TinyModel.Spec.Granularities.Select(g => g.Name).ToList().IndexOf(name);

    private static string Text(StepPlan plan) => string.Join(
        ' ', plan.Names.Select((n, i) => $"{n}:{plan.Streams.BatchRows?[i]}:" + string.Join(
            ',', Enumerable.Range(0, 2).Select(l => plan.Streams.HiddenWidths(l) is [var one] ? one : plan.Streams.HiddenWidths(l)[i]))));

    private sealed class Widest : IComparer<string>
    {
        public int Compare(string? x, string? y) => Index(y!).CompareTo(Index(x!));
    }
}

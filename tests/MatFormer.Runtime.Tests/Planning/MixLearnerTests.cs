namespace MatFormer.Runtime.Tests.Planning;

/// <summary>Tests what is learned from the derivatives of made-up losses.</summary>
public sealed class MixLearnerTests
{
    private static readonly MixSpace s_space = new(TinyModel.Spec with
    {
        Granularities = [.. TinyModel.Spec.Granularities.Select(g => new Granularity(g.Name, (6, g.Layers[0])))],
        Blocks = [.. Enumerable.Repeat(TinyModel.Spec.Blocks[0], 6)],
    });

    private static readonly MixTable s_sizes = PlanningSpecs.Sizes(s_space);

    private static PlanBudget Budget(double share)
    {
        var (least, most) = (s_sizes.Of(new int[6]).Parameters, s_sizes.Whole.Parameters);
        return new PlanBudget { MaxParameters = least + (long)(share * (most - least)) };
    }

    // What the slab of a choice takes off the loss.
    private static double Worth(int layer, int choice) => choice == 0 ? 0 : (layer + 1.0) / (choice * choice);

    private static double[][] Learn(PlanBudget budget, int steps, long seed, Func<int, int, double, double> derivative) =>
        MixLearner.Learn(s_space, s_sizes, budget, steps, seed, (_, masks) =>
            [.. masks.Select((layer, at) => layer.Select((mask, choice) => derivative(at, choice, mask)).ToArray())]);

    [Fact]
    public void AdditiveLossesAreLearnedAndTheBestMixIsFound()
    {
        foreach (var share in new[] { 0.1, 0.3, 0.6, 0.9 })
        {
            var scores = Learn(Budget(share), 400, 1, (layer, choice, _) => -Worth(layer, choice));
            var (learned, truth) = (s_sizes.WithLosses(scores), s_sizes.WithLosses(
                [.. Enumerable.Range(0, 6).Select(layer => (double[])[Worth(layer, 1) + Worth(layer, 2), Worth(layer, 2), 0])]));
            var best = PlanningSpecs.All(s_space).Where(mix => Budget(share).Admits(truth.Of(mix))).Min(mix => truth.Of(mix).Loss);
            Assert.Equal(best, truth.Of(MixSearch.Best(s_space, learned, Budget(share))!).Loss, 1e-9);
        }
    }

    [Fact]
    public void TheWorthOfACurvedSlabIsTheDifferenceOfItsEnds()
    {
        // The loss falls by the worth times the fourth power of the mask: its slope is 0 at one end and four times the worth at the other.
        var scores = Learn(Budget(0.5), 3000, 1, (layer, choice, mask) => -4 * Worth(layer, choice) * Math.Pow(mask, 3));
        for (var layer = 0; layer < 6; layer++)
            Assert.InRange(scores[layer][0] - scores[layer][1], 0.75 * Worth(layer, 1), 1.25 * Worth(layer, 1));
    }

    [Fact]
    public void MasksAreAMixWithOneSlabOfEachLayerBetween() => MixLearner.Learn(s_space, s_sizes, Budget(0.4), 50, 7, (_, masks) =>
    {
        foreach (var layer in masks)
        {
            Assert.Equal(1, layer[0]);
            Assert.Equal(layer.OrderDescending(), layer);
            Assert.True(layer.Count(mask => mask is > 0 and < 1) <= 1);
        }

        return masks;
    });

    [Fact]
    public void ASeedRepeats()
    {
        static double Derivative(int layer, int choice, double mask) => -Worth(layer, choice) * (1 + mask);
        Assert.Equal(Learn(Budget(0.4), 60, 3, Derivative), Learn(Budget(0.4), 60, 3, Derivative));
        Assert.NotEqual(Learn(Budget(0.4), 60, 3, Derivative), Learn(Budget(0.4), 60, 4, Derivative));
    }

    [Fact]
    public void TheExpectedCostMeetsTheLimits()
    {
        double[][] scores = [.. Enumerable.Range(0, 6).Select(layer => (double[])[layer, 0.5 * layer, 0])];
        foreach (var share in new[] { 0.01, 0.3, 0.8, 1 })
        {
            var budget = Budget(share) with { MaxFlops = s_sizes.Whole.Flops * 9 / 10 };
            var chances = MixLearner.Chances(scores, MixLearner.LimitsOf(s_sizes, budget), heat: 1);
            Assert.All(chances, layer => Assert.Equal(1, layer.Sum(), 1e-12));
            Assert.True(Expected(chances, cost => cost.Parameters) <= budget.MaxParameters * (1 + 1e-12));
            Assert.True(Expected(chances, cost => cost.Flops) <= budget.MaxFlops * (1 + 1e-12));
        }

        double Expected(double[][] chances, Func<MixCost, double> of) => of(s_sizes.Whole)
            + chances.Select((layer, at) => layer.Select((chance, choice) => chance * of(s_sizes.Differences[at][choice])).Sum()).Sum();
    }
}

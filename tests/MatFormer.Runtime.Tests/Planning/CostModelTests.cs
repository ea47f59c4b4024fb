using FsCheck;
using FsCheck.Fluent;

namespace MatFormer.Runtime.Tests.Planning;

/// <summary>Tests the prediction of the times and losses of all mixes from those of a few.</summary>
public sealed class CostModelTests
{
    [Fact]
    public void NonNegativeLeastSquaresAreMinimal()
    {
        Assert.Equal([1.0, 2.0], LatencyModel.NonNegativeLeastSquares([[1, 0], [1, 1], [1, 3]], [1, 3, 7]), Near);

        // Without the bound, the solution would be 3 - x. With the bound it is the mean.
        Assert.Equal([2.0, 0.0], LatencyModel.NonNegativeLeastSquares([[1, 0], [1, 1], [1, 2]], [3, 2, 1]), Near);
        Property((_, random) =>
        {
            var rows = Enumerable.Range(0, 6).Select(_ => Enumerable.Range(0, 3).Select(_ => random.NextDouble()).ToArray()).ToArray();
            var targets = Enumerable.Range(0, 6).Select(_ => random.NextDouble() - 0.2).ToArray();
            var x = LatencyModel.NonNegativeLeastSquares(rows, targets);
            Assert.All(x, each => Assert.True(each >= 0));
            var least = Squares(x);
            for (var i = 0; i < 50; i++)
                Assert.True(Squares([.. x.Select(each => Math.Max(0, each + (0.1 * (random.NextDouble() - 0.5))))]) >= least - 1e-9);

            double Squares(double[] at) =>
                rows.Zip(targets, (row, target) => Math.Pow(row.Zip(at, (a, b) => a * b).Sum() - target, 2)).Sum();
        });
    }

    [Fact]
    public void TimesThatAreSumsOverLayersArePredicted() => Property((space, random) =>
    {
        var truth = PlanningSpecs.Draw(space, random);
        var probes = LatencyModel.Probes(space);
        var latency = LatencyModel.Fit(space, probes, [.. probes.Select(mix => truth.Of(mix).Milliseconds)]);
        foreach (var mix in PlanningSpecs.All(space))
            Assert.Equal(1, TimeOf(latency, mix) / truth.Of(mix).Milliseconds, 1e-4);
    });

    [Fact]
    public void AWiderLayerIsNeverPredictedToBeFaster() => Property((space, random) =>
    {
        var probes = LatencyModel.Probes(space);
        var latency = LatencyModel.Fit(space, probes, [.. probes.Select(_ => 1 + random.NextDouble())]);
        for (var layer = 0; layer < space.Layers; layer++)
        {
            var differences = Enumerable.Range(0, space.Choices[layer].Length).Select(choice => latency.Difference(layer, choice)).ToList();
            Assert.Equal(differences.Order(), differences);
            Assert.Equal(0, differences[^1]);
        }

        Assert.All(PlanningSpecs.All(space), mix => Assert.True(TimeOf(latency, mix) >= 0));
    });

    [Fact]
    public void LossesThatAreSumsOverLayersArePredicted() => Property((space, random) =>
    {
        // If the only layer may be skipped, there is no mix without this layer that could be measured.
        if (space.Layers == 1 && space.Spec.CanSkip) return;
        var truth = PlanningSpecs.Draw(space, random);
        var probes = LossModel.Probes(space);
        var loss = LossModel.Fit(space, probes, [.. probes.Select(mix => truth.Of(mix).Loss)]);
        foreach (var mix in PlanningSpecs.All(space)) Assert.Equal(truth.Of(mix).Loss, LossOf(loss, mix), 1e-9);
    });

    [Fact]
    public void GranularitiesArePredictedAsTheyWereMeasured() => Property((space, random) =>
    {
        var probes = LossModel.Probes(space);
        double[] losses = [.. probes.Select(_ => 1 + random.NextDouble())];
        var loss = LossModel.Fit(space, probes, losses);
        foreach (var granularity in space.Granularities)
        {
            var measured = losses[probes.ToList().FindIndex(p => p.AsSpan().SequenceEqual(granularity))];
            Assert.Equal(measured, LossOf(loss, granularity), 1e-6);
        }
    });

    private static double TimeOf(LatencyModel latency, int[] mix) =>
        latency.Whole + mix.Select((choice, layer) => latency.Difference(layer, choice)).Sum();

    private static double LossOf(LossModel loss, int[] mix) =>
        loss.Whole + mix.Select((choice, layer) => loss.Difference(layer, choice)).Sum();

    private static bool Near(double one, double other) => Math.Abs(one - other) < 1e-6;

    private static void Property(Action<MixSpace, Random> property) => Check.One(
        Config.QuickThrowOnFailure.WithMaxTest(100), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            property(new MixSpace(PlanningSpecs.Draw(random)), random);
        }));
}

using System.Collections.Immutable;
using Paper;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Tests what examples/Paper computes besides training.</summary>
public sealed class PaperTests
{
    [Fact]
    public void AFitFindsThePowerLawOfItsPoints()
    {
        var law = new PowerLaw(620, -0.25, 1.2);
        var points = Enumerable.Range(0, 12).Select(i => Math.Pow(10, 10 + (0.3 * i))).Select(x => (x, law.At(x))).ToList();
        var fitted = PowerLaw.Fit(points);
        Assert.Equal(law.B, fitted.B, 6);
        Assert.Equal(law.C, fitted.C, 6);
        Assert.Equal(1, fitted.A / law.A, 6);
        Assert.Equal(0, fitted.Error(points), 9);

        // The floor is not negative: for these points, the best law has a floor of zero.
        var steep = PowerLaw.Fit([.. points.Select((p, i) => (p.x, 5 - i * 0.4))]);
        Assert.Equal(0, steep.C);
    }

    [Fact]
    public void AConfidenceIntervalUsesStudentsDistribution()
    {
        // For three values, t is 4.303. Their standard deviation is 0.1.
        var estimate = Estimate.Of([1.0, 1.1, 1.2]);
        Assert.Equal(1.1, estimate.Mean, 12);
        Assert.Equal(4.303 * 0.1 / Math.Sqrt(3), estimate.HalfWidth, 12);
        Assert.True(estimate.IsPositive && !estimate.IsNegative && !estimate.IsAlone);
        Assert.Equal("1.100 \u00b1 0.248", estimate.Format());
        Assert.Equal("-0.50 \u00b1 0.25", new Estimate(-0.5, 0.25).Format("+0.00;-0.00;0.00"));
        Assert.True(Estimate.Of([2]) is { IsAlone: true, IsPositive: false, IsNegative: false });
        Assert.Equal("+2.000", Estimate.Of([2]).Signed());
    }

    [Theory]
    [InlineData(Objective.Sampled)]
    [InlineData(Objective.Split)]
    [InlineData(Objective.Joint)]
    [InlineData(Objective.SampledPerLayer)]
    [InlineData(Objective.Sandwich)]
    [InlineData(Objective.Branching)]
    public void TheCostOfAStepIsTheMeanOfItsPlans(Objective objective)
    {
        // Attention and feed-forward run once for each stream that differs from the others in the layers before.
        var planner = new Planner<Small>(new TrainerOptions { Objective = objective, Batch = 16 });
        var plans = objective is Objective.SampledPerLayer or Objective.Sandwich
            ? Enumerable.Range(1, 400).Select(step => (Plan: planner.At(step), Share: 1 / 400.0)) : planner.Typical();
        Assert.Equal(plans.Sum(p => p.Share * Flops(p.Plan.Streams)), Compute<Small>.OfStep(objective, [], false),
            tolerance: 0.02 * Compute<Small>.OfStep(Objective.Sampled, [], false));
    }

    [Fact]
    public void LikelierLargeGranularitiesAndDistillationCostMore()
    {
        var alike = Compute<Small>.OfStep(Objective.Sampled, [], false);
        Assert.Equal(Small.Granularities.Average(g => g.Flops), alike, 6);
        Assert.True(Compute<Small>.OfStep(Objective.Sampled, [.17, .20, .22, .41], false) > alike);
        Assert.Equal(alike + (0.25 * Small.Granularities[^1].Flops), Compute<Small>.OfStep(Objective.Sampled, [], true), 6);
    }

    [Fact]
    public void ASavedOutcomeIsReusedOnlyForTheSameTraining()
    {
        var folder = Directory.CreateTempSubdirectory("matformer-");
        using var corpus = TestCorpus.Open(folder.FullName);
        var bench = new Bench(corpus, ScalarType.Float32, folder.FullName, 2, TextWriter.Null);
        var size = new Size<Tiny>();
        var training = new Training(Training.NameOfBaseline("XL"), Objective.Sampled, 2, 1, 1e-3, [], "XL");
        var first = size.Run(string.Empty, training, bench, default);
        Assert.Equal(first.Seconds, size.Run(string.Empty, training, bench, default).Seconds);
        Assert.Equal(1, first["XL"].Agreement);
        var other = size.Run(string.Empty, training with { Steps = 3 }, bench, default);
        Assert.NotEqual(first["XL"].Nats, other["XL"].Nats);

        // A smaller baseline is compared with the largest baseline of the same seed.
        var small = size.Run(
            string.Empty, new Training(Training.NameOfBaseline("S"), Objective.Sampled, 2, 1, 1e-3, [], "S"), bench, default);
        Assert.InRange(small["S"].Divergence, 1e-9, 1);
        var universal = size.Run(string.Empty, new Training("split", Objective.Split, 2, 1, 1e-3, [], Points: 2), bench, default);
        Assert.Contains(universal.Rows, r => r.Shape == MixShape.Increasing && r.AboveLine is not null);
        corpus.Dispose();
        folder.Delete(recursive: true);
    }

    private static double Flops(Streams streams)
    {
        double sum = 0;
        var tokens = streams.BatchRows?.Sum() ?? 1; // rows of the batch
        for (var layer = 0; layer < Small.Spec.Layers; layer++)
        {
            var rows = streams.Rows(layer);
            var widths = streams.HiddenWidths(layer);
            var attentions = streams.Fork >= 0 && layer <= streams.Fork ? 1 : widths.Length;
            for (var i = 0; i < (layer == streams.Fork ? 1 : widths.Length); i++)
                sum += (rows is null ? 1 : (double)rows[i] / tokens) * FeedForward(widths[i]);
            sum += (rows is null ? attentions : 1) * Attention;
        }

        return sum + ((streams.BatchRows is null ? streams.Count : 1) * Small.Spec.SharedFlops);
    }

    private static double FeedForward(int hidden) => 2.0 * 3 * Small.Spec.Width * hidden;

    private static double Attention =>
        ((double)(Small.Granularities[0].Flops - Small.Spec.SharedFlops) / Small.Spec.Layers)
            - FeedForward(Small.Granularities[0].Layers[0].HiddenWidth);
}

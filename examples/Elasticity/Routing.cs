using System.Diagnostics;
using System.Globalization;
using System.Text;
using MatFormer;
using Paper;
using TorchSharp;
using static TorchSharp.torch;

namespace Elasticity;

/// <summary>A small vision transformer whose tokens may be routed. Its narrowest size has hardly any hidden units.</summary>
[MatViT(Image = DigitGrids.Side, Patch = DigitGrids.Cell, Channels = 1, Classes = 10, Layers = 3, Width = 48, Heads = 1)]
[FeedForward(256, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Routing(0.1, 0.25, 0.45, 0.7)]
[Granularity("S", 4), Granularity("M", 24), Granularity("L", 80), Granularity("XL", 256)]
internal sealed partial class RoutedDigits;

/// <summary>Four layers of a ViT-S/16, whose times are measured.</summary>
[MatViT(Image = 224, Patch = 16, Classes = 1000, Layers = 4, Width = 384, Heads = 6)]
[FeedForward(1536, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Routing(0.2, 0.35, 0.5, 0.7)]
[Granularity("S", 192), Granularity("M", 384), Granularity("L", 768), Granularity("XL", 1536)]
internal sealed partial class RoutedSmall;

/// <summary>Routing of tokens in a vision transformer, against uniform mixes of equal FLOPs.</summary>
internal sealed class Routing : Experiment
{
    private const int Steps = 4000;
    private const int Batch = 64;
    private const int Images = 5000;
    private const int Rounds = 9;

    public override string Name => "routing";

    public override string Question => "Does a ViT that routes tokens beat uniform sizes of equal FLOPs? (needs --images)";

    private static IReadOnlyList<double> Budgets => RoutedDigits.Spec.Routing!.Budgets;

    // For each budget, the mix of two neighbouring sizes whose FLOPs are nearest: the narrower one in the first layers, as in the paper.
    private static IReadOnlyList<Profile<RoutedDigits>> Mixes { get; } = [.. Budgets.Select(budget =>
    {
        var flops = RoutingBudget.Of(RoutedDigits.Spec, budget).Flops;
        var mixes =
            from narrow in Enumerable.Range(0, 3)
            from count in Enumerable.Range(0, 4)
            let names = Enumerable.Range(0, 3).Select(layer => RoutedDigits.Granularities[layer < count ? narrow : narrow + 1].Name)
            let pattern = string.Join(' ', names)
            select new Profile<RoutedDigits>(pattern, pattern);
        return mixes.MinBy(mix => Math.Abs(mix.Flops - flops))!;
    })];

    public override string Run(Bench bench, CancellationToken cancellationToken)
    {
        var mnist = bench.Images ?? throw new DataException(
            "The experiment 'routing' needs MNIST; fetch it with examples/DigitsViT/get-mnist.sh, and give its folder as --images.");
        using var corpus = DigitGrids.Open(mnist, bench.Folder, cancellationToken);
        var steps = Math.Max(1, (int)(Steps * bench.Scale));
        List<(double[] Routed, double[] Mixed, double[] Sizes)> both = [];
        List<double[]> alone = [];
        for (var seed = 1; seed <= bench.Seeds; seed++)
        {
            using (var model = Train(corpus, steps, seed, share: null, bench, cancellationToken))
            {
                both.Add((
                    [.. Budgets.Select(budget => Accuracy(pixels => model.Forward(budget, pixels)))],
                    [.. Mixes.Select(mix => Accuracy(pixels => model.Forward(mix, pixels)))],
                    [.. RoutedDigits.Granularities.Select(g => Accuracy(pixels => model.Forward(g, pixels)))]));
            }

            using var uniform = Train(corpus, steps, seed, share: 0, bench, cancellationToken);
            alone.Add([.. Mixes.Select(mix => Accuracy(pixels => uniform.Forward(mix, pixels)))]);
        }

        var times = Times(cancellationToken);
        return Section(bench, steps, both, alone, times);

        double Accuracy(Func<Tensor, Tensor> forward) => DigitAccuracy.Of(corpus, Images, forward, cancellationToken);
    }

    private static RoutedDigits Train(
        ImageCorpus corpus, int steps, int seed, double? share, Bench bench, CancellationToken cancellationToken)
    {
        manual_seed(seed);
        var model = new RoutedDigits();
        using var trainer = new Trainer<RoutedDigits>(model, new()
        {
            Steps = steps,
            Batch = Batch,
            LearningRate = 2e-3,
            WeightDecay = 0.05,
            Objective = Objective.SampledPerLayer,
            RoutedShare = share,
            Seed = seed,
        });
        var watch = Stopwatch.StartNew();
        var result = trainer.Fit(corpus, cancellationToken: cancellationToken);
        cancellationToken.ThrowIfCancellationRequested();
        var loss = result.Last!.Losses[0].Loss;
        bench.Log.WriteLine(Invariant($"seed {seed}, routed share {share ?? 0.5}: loss {loss:0.000}, {watch.Elapsed.TotalSeconds:0} s"));
        return model;
    }

    // The time of each budget and size, as a share of XL's time in the same round. The median of the rounds counts.
    private static List<(string Name, double Flops, double Time)> Times(CancellationToken cancellationToken)
    {
        manual_seed(1);
        using var model = new RoutedSmall();
        using var unrecorded = no_grad();
        using var pixels = rand(2, 3, 224, 224).mul(2).sub(1);
        var whole = (double)RoutedSmall.FlopsPerImage;
        List<(string Name, double Flops, Func<Tensor> Run)> passes =
        [
            .. RoutedSmall.Granularities.Select(g => (g.Name, g.Flops / whole, (Func<Tensor>)(() => model.Forward(g, pixels)))),
            .. RoutedSmall.Spec.Routing!.Budgets.Append(1).Select(b => (
                Invariant($"routed, budget {b}"), RoutingBudget.Of(RoutedSmall.Spec, b).Flops / whole,
                (Func<Tensor>)(() => model.Forward(b, pixels)))),
        ];
        var times = Turns.Of(
            [.. passes.Select(pass => (Action)(() => pass.Run().Dispose()))], RoutedSmall.Granularities.Count - 1, Rounds,
            cancellationToken);
        return [.. passes.Zip(times, (pass, time) => (pass.Name, pass.Flops, time.Share))];
    }

    private static string Section(
        Bench bench, int steps, List<(double[] Routed, double[] Mixed, double[] Sizes)> both, List<double[]> alone,
        List<(string Name, double Flops, double Time)> times)
    {
        var text = new StringBuilder();
        text.Append("# Tokens that choose their size\n\n");
        text.Append(Invariant($"""
            `{bench.Command("routing")}`
            wrote the tables of this page, with {bench.Seeds} seeds and {steps} steps of {Batch} images for each training, in float32,
            on this machine: {Machine.Describe()}.
            The machine may have run other programs too, so times are only compared within a round.

            The task is made such that some tokens need more than others. An image has 16 cells of {DigitGrids.Cell} x {DigitGrids.Cell}
            pixels. Digits of MNIST lie in {DigitGrids.Digits} of them, each upright or turned by a quarter. The others are empty, and the
            class is the largest digit. A cell is a token.

            A vision transformer has {RoutedDigits.Spec.Layers} layers of width {RoutedDigits.Spec.Width} and one head. Its sizes keep
            {EstimateFormat.Join(RoutedDigits.Granularities.Select(g => $"{g.Layers[0].HiddenWidth}"), "or")} hidden units.

            It is trained twice from the same beginning: half of the steps routed, at one of {Budgets.Count} budgets, and half of them a
            random mix (*both*); or all steps a random mix (*mixes only*). The accuracies are those on {Images} test images, in percent,
            with 95% intervals over the seeds. *Routed* is a routed pass of the first model. A mix is the uniform one of the nearest FLOPs:
            every token takes the same hidden units in a layer. The last column is the difference from the better of the two models' mixes,
            seed by seed.

            | budget | MFLOPs | routed | mix | MFLOPs | mix, both | mix, mixes only | routed minus mix |
            |---:|---:|---:|---|---:|---:|---:|---:|

            """));
        var better = 0;
        var worse = 0;
        for (var i = 0; i < Budgets.Count; i++)
        {
            var difference = Estimate.Of(both.Select((b, seed) => b.Routed[i] - Math.Max(b.Mixed[i], alone[seed][i])));
            if (difference.IsPositive) better++;
            if (difference.IsNegative) worse++;
            text.Append(Invariant($"| {Budgets[i]} | {RoutingBudget.Of(RoutedDigits.Spec, Budgets[i]).Flops / 1e6:0.00} "))
                .Append(Invariant($"| {Estimate.Of(both.Select(b => b.Routed[i])).Format("0.00")} "))
                .Append(Invariant($"| {Mixes[i].Pattern.Replace("*", "\\*", StringComparison.Ordinal)} "))
                .Append(Invariant($"| {Mixes[i].Flops / 1e6:0.00} | {Estimate.Of(both.Select(b => b.Mixed[i])).Format("0.00")} "))
                .Append(Invariant($"| {Estimate.Of(alone.Select(a => a[i])).Format("0.00")} "))
                .Append(Invariant($"| {difference.Format("+0.00;-0.00;0.00")} |\n"));
        }

        var sizes = RoutedDigits.Granularities.Select((g, i) =>
            Invariant($"{g.Name} ({g.Flops / 1e6:0.00} MFLOPs) {Estimate.Of(both.Select(b => b.Sizes[i])).Format("0.00")}"));
        text.Append(Invariant($"\nThe sizes of the first model:\n{string.Join(", ", sizes)}.\n\n"));
        text.Append(Invariant($"Of {Budgets.Count} budgets, routing is better beyond the interval at {better}, and worse at {worse}.\n"))
            .Append("Routed passes differ from the same model's XL by this much:\n\n")
            .Append(string.Join('\n', Budgets.Select((budget, i) => Invariant(
                $"- {RoutingBudget.Of(RoutedDigits.Spec, budget).Flops / (double)RoutedDigits.FlopsPerImage:0%} of the FLOPs: ")
                + $"{Estimate.Of(both.Select(b => b.Routed[i] - b.Sizes[^1])).Format("+0.00;-0.00;0.00")} points")))
            .Append("\n\n");
        text.Append(Verdict(Estimate.Of(both.Select(b => b.Sizes[^1] - b.Sizes[0])), better, worse)).Append("\n\n");
        text.Append("""
            ## Time

            The time of a forward pass over two images by four layers of a ViT-S/16 (width 384, 197 tokens, 1536 hidden units), as a share
            of XL's in the same round; the median of nine rounds.

            | | FLOPs | time |
            |---|---:|---:|

            """);
        foreach (var (name, flops, time) in times) text.Append(Invariant($"| {name} | {flops:0.00} | {time:0.00} |\n"));
        var sizesOf = times.Take(RoutedSmall.Granularities.Count).ToList();
        var slower = times.Skip(sizesOf.Count)
            .Where(r => sizesOf.Any(size => size.Flops >= r.Flops && size.Time < r.Time)).Select(r => r.Name);
        text.Append('\n').Append(slower.Any()
            ? $"Slower than a uniform size of no fewer FLOPs: {EstimateFormat.Join(slower, "and")}.\n"
                + "Choosing, gathering and scattering tokens cost time, and the groups of tokens are smaller than the whole batch.\n"
            : "No routed pass is slower than a uniform size of no fewer FLOPs.\n");
        return text.ToString();
    }

    // What the accuracies say. Without a difference between the sizes there is nothing that routing could gain.
    private static string Verdict(Estimate gain, int better, int worse)
    {
        var sizes = $"XL minus S is {gain.Format("+0.00;-0.00;0.00")} points";
        if (!gain.IsPositive)
        {
            return $"So this run decides nothing about routing: {sizes}. The hidden units hardly matter here, and there is nothing for\n"
                + "routing to gain.";
        }

        return $"The sizes differ: {sizes}. " + (better, worse) switch
        {
            (0, 0) => "Still, at no budget does routing differ from a uniform mix beyond the interval.",
            (_, 0) => "So here, where most tokens need little, routing pays.",
            (0, _) => "So even here, where most tokens need little, routing gains nothing: a uniform mix is level or better.",
            _ => "So whether routing pays depends on the budget.",
        };
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}

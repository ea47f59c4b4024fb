using System.Globalization;
using System.Text;
using MatFormer;
using Paper;
using static TorchSharp.torch;

namespace Elasticity;

/// <summary>A vision transformer of 144 patches, of which 9, 25 or 49 compressed tokens do the heavy work.</summary>
[MatViT(
    Image = LookupExperiment.Side, Patch = 2, Channels = 1, Classes = 10, Layers = 3, Width = 64, Heads = 4, Pooling = Pooling.Mean)]
[FeedForward(256, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Lookup(3, 5, 7, Hidden = 64)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class LookupDigits;

/// <summary>A plain vision transformer of the same patches, layers and sizes.</summary>
[MatViT(
    Image = LookupExperiment.Side, Patch = 2, Channels = 1, Classes = 10, Layers = 3, Width = 64, Heads = 4, Pooling = Pooling.Mean)]
[FeedForward(256, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class FineDigits;

/// <summary>A plain vision transformer of 64 larger patches. It has a layer more, and so about the parameters of the one above.</summary>
[MatViT(
    Image = LookupExperiment.Side, Patch = 3, Channels = 1, Classes = 10, Layers = 4, Width = 64, Heads = 4, Pooling = Pooling.Mean)]
[FeedForward(256, Activation.Gelu, Bias = true), Attention(Bias = true)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class CoarseDigits;

/// <summary>Compressed tokens in a vision transformer, against plain vision transformers of equal FLOPs.</summary>
internal sealed class LookupExperiment : Experiment
{
    /// <summary>The side of the images.</summary>
    public const int Side = 24;

    private const int FullSteps = 3000;
    private const int Batch = 16;
    private const int FullImages = 2500;
    private const int LeastImages = 500;
    private const int TimedImages = 16;
    private const int Rounds = 9;

    public override string Name => "lookup";

    public override string Question => "Are few compressed tokens better than a plain ViT of equal FLOPs? (needs --images)";

    // All sizes at all grids, the smallest grid first.
    private static IReadOnlyList<Profile<LookupDigits>> Compressed { get; } =
        [.. LookupDigits.Spec.Lookup!.Grids.SelectMany(grid => LookupDigits.Granularities.Select(size => size.At(grid)))];

    public override string Run(Bench bench, CancellationToken cancellationToken)
    {
        var mnist = bench.Images ?? throw new DataException(
            "The experiment 'lookup' needs MNIST; fetch it with examples/DigitsViT/get-mnist.sh, and give its folder as --images.");
        using var corpus = ImageCorpus.Open(mnist, (Side, Side), cancellationToken);
        var found = new List<Contender[]>();
        for (var seed = 1; seed <= bench.Seeds; seed++)
        {
            var options = new TrainerOptions
            {
                Steps = bench.Steps(FullSteps),
                Batch = Batch,
                LearningRate = 2e-3,
                WeightDecay = 0.05,
                Objective = Objective.Sampled,
                Seed = seed,
            };
            using var lookup = bench.Trained<LookupDigits>("lookup", options, corpus, cancellationToken);
            using var fine = bench.Trained<FineDigits>("lookup", options, corpus, cancellationToken);
            using var coarse = bench.Trained<CoarseDigits>("lookup", options, corpus, cancellationToken);
            found.Add(Measure(
                [.. Passes("coarse", coarse, CoarseDigits.Granularities), .. Passes("fine", fine, FineDigits.Granularities),
                    .. Passes("lookup", lookup, Compressed)],
                corpus, ImagesOf(bench), cancellationToken));
        }

        return new Page(bench, found).Write();
    }

    private static int ImagesOf(Bench bench) => Math.Max(LeastImages, (int)(FullImages * Math.Min(1, bench.Scale)));

    private static IEnumerable<Pass> Passes<TModel>(string model, TModel its, IEnumerable<Profile<TModel>> profiles)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        profiles.Select(p => new Pass(model, p.Name, p.Grid, p.ParameterCount, p.Flops, pixels => its.Forward(p, pixels)));

    private static Contender[] Measure(List<Pass> passes, ImageCorpus corpus, int images, CancellationToken cancellationToken)
    {
        using var unrecorded = no_grad();
        using var pixels = DigitAccuracy.Pixels(corpus.Validation, [.. Enumerable.Range(0, TimedImages)]);
        var times = Turns.Of(
            [.. passes.Select(pass => (Action)(() => pass.Forward(pixels).Dispose()))],
            passes.FindLastIndex(pass => pass.Model == "fine"), Rounds, cancellationToken);
        return
        [
            .. passes.Zip(times, (pass, time) => new Contender(
                pass, DigitAccuracy.Of(corpus, images, pass.Forward, cancellationToken), time.Share, time.Seconds / TimedImages)),
        ];
    }

    /// <summary>A size of a model, at a grid of compressed tokens if it has them.</summary>
    private sealed record Pass(
        string Model, string Size, int? Grid, long Parameters, long Flops, Func<Tensor, Tensor> Forward)
    {
        public bool IsPlain => Grid is null;
    }

    /// <summary>What was measured of a pass with one seed. The time is in proportion to that of the largest plain model.</summary>
    private sealed record Contender(Pass Pass, double Accuracy, double Time, double Seconds);

    private sealed class Page(Bench bench, List<Contender[]> found)
    {
        private readonly StringBuilder _text = new();

        // All seeds have the same passes in the same order.
        private readonly List<Pass> _passes = [.. found[0].Select(c => c.Pass)];

        public string Write()
        {
            Method();
            Plain();
            WithLookup();
            Conclusions();
            return _text.ToString();
        }

        private void Method()
        {
            var widths = string.Join(", ", LookupDigits.Granularities.Select(size => $"{size.Layers[0].HiddenWidth}"));
            var counts = string.Join(", ", LookupDigits.Spec.Lookup!.Grids.Select(grid => $"{grid * grid}"));
            var whole = Of(IndexOf("fine", "XL"), c => c.Seconds * 1e6).Format("0");
            Write($"""
                # Few compressed tokens

                Does a vision transformer in which [a few compressed tokens](../compressed-tokens.md) do the heavy work classify better than
                plain ones, at equal FLOPs and at equal time? This page was written by

                ```sh
                {bench.Command("lookup")}
                ```

                on {Machine.Describe()}. Other programs may have run beside it. A full run has
                the scale 1, which is {FullSteps} steps, and measures {FullImages} images.

                The images are MNIST's digits, scaled to {Side} x {Side} pixels. Three models of width {LookupDigits.Spec.Width} are trained
                with {bench.Seeds} seeds, each for {bench.Steps(FullSteps)} steps of {Batch} images in float32 with the objective `sampled`:
                each step trains one size, and in the first model at one grid. The sizes keep {widths} hidden units.

                - *Lookup* has {LookupDigits.Spec.Layers} layers and patches of 2 x 2 pixels: 144 lookup tokens, and {counts} compressed
                  tokens. The light feed-forward has {LookupDigits.Spec.Lookup!.Hidden} hidden units.
                - *Fine* is a plain one with the same patches and layers.
                - *Coarse* is a plain one of 64 patches of 3 x 3 pixels, and of {CoarseDigits.Spec.Layers} layers. It shows what fewer
                  tokens give without compression.

                Accuracy is that on {ImagesOf(bench)} test images, in percent, with 95% intervals over the seeds. Time is that of a forward
                pass over {TimedImages} images, in proportion to fine XL's. All passes take turns, and the median of {Rounds}
                rounds counts, after one that warms up. Fine XL takes {whole} µs for an image.

                ## Plain models

                | model | size | parameters | MFLOPs | accuracy | time |
                |---|---|---:|---:|---:|---:|

                """);
        }

        private void Plain()
        {
            for (var i = 0; i < _passes.Count; i++)
            {
                var pass = _passes[i];
                if (!pass.IsPlain) continue;
                Write($"| {pass.Model} | {pass.Size} | {pass.Parameters:n0} | {pass.Flops / 1e6:0.0} ")
                    .Write($"| {Of(i, c => c.Accuracy).Format("0.00")} | {Of(i, c => c.Time).Format("0.00")} |\n");
            }
        }

        private void WithLookup()
        {
            Write($"""

                ## Compressed tokens

                *At equal FLOPs* and *at equal time* are differences of the accuracy from plain models within a seed, in points: from the
                best plain size of no more cost, or the best straight line between two of them. Above zero, compressed tokens are better.
                All plain sizes count, which favours them a little over one size at one grid. A cell is empty if no plain model is as cheap.

                | compressed tokens | size | parameters | MFLOPs | accuracy | time | at equal FLOPs | at equal time |
                |---:|---|---:|---:|---:|---:|---:|---:|

                """);
            for (var i = 0; i < _passes.Count; i++)
            {
                var pass = _passes[i];
                if (pass.Grid is not { } grid) continue;
                Write($"| {grid * grid} | {pass.Size} | {pass.Parameters:n0} | {pass.Flops / 1e6:0.0} ")
                    .Write($"| {Of(i, c => c.Accuracy).Format("0.00")} | {Of(i, c => c.Time).Format("0.00")} ")
                    .Write($"| {Points(AtFlops(i))} | {Points(AtTime(i))} |\n");
            }
        }

        private void Conclusions()
        {
            var grids = LookupDigits.Spec.Lookup!.Grids;
            Write($"\n## What it shows\n\nBy the intervals of the differences:\n\n");
            foreach (var grid in grids)
            {
                var its = Enumerable.Range(0, _passes.Count).Where(i => _passes[i].Grid == grid).ToList();
                Write($"- {grid * grid} compressed tokens, against plain models: at equal FLOPs {Verdict(its, AtFlops)};\n")
                    .Write($"  at equal time {Verdict(its, AtTime)}.\n");
            }

            var (most, least) = (IndexOf("lookup", "XL", grids[^1]), IndexOf("lookup", "XL", grids[0]));
            var (fine, small) = (IndexOf("fine", "XL"), IndexOf("fine", "S"));
            var (many, few) = (grids[^1] * grids[^1], grids[0] * grids[0]);
            Write($"- XL with {many} instead of {few} compressed tokens gains {Points(Between(most, least))} points, ")
                .Write($"and takes {(double)_passes[most].Flops / _passes[least].Flops:0.0} times the FLOPs and ")
                .Write($"{Estimate.Of(found.Select(f => f[most].Time / f[least].Time)).Format("0.0")} times the time.\n")
                .Write($"- The accuracy of fine XL minus that of XL with {many} compressed tokens is ")
                .Write($"{Points(Between(fine, most))} points.\n")
                .Write($"- Fine XL minus fine S is {Points(Between(fine, small))} points. ")
                .Write(Between(fine, small).IsPositive
                    ? (FormattableString)$"So hidden units matter here.\n"
                    : $"So hidden units hardly matter here, and sizes differ in cost rather than in accuracy.\n");
        }

        // More accuracy is less loss.
        private static string Verdict(List<int> passes, Func<int, Estimate?> difference)
        {
            var known = passes.Select(i => (Name: Name(i), Its: difference(i))).Where(p => p.Its is not null).ToList();
            return known.Count == 0
                ? "no plain model is as cheap"
                : EstimateFormat.Verdict(known.Select(p => (p.Name, new Estimate(-p.Its!.Value.Mean, p.Its.Value.HalfWidth))));
        }

        private static string Name(int pass) => LookupDigits.Granularities[pass % LookupDigits.Granularities.Count].Name;

        private Estimate? AtFlops(int pass) => Over(pass, c => c.Pass.Flops);

        private Estimate? AtTime(int pass) => Over(pass, c => c.Time);

        // The accuracy above that of the best plain model of equal cost; null if for some seed none is as cheap.
        private Estimate? Over(int pass, Func<Contender, double> cost)
        {
            var differences = found.ConvertAll(all =>
            {
                var plain = all.Where(c => c.Pass.IsPlain).Select(c => (cost(c), -c.Accuracy)).ToList();
                return all[pass].Accuracy + Frontier.Best(plain, cost(all[pass]));
            });
            return differences.TrueForAll(d => d is not null) ? Estimate.Of(differences.Select(d => d!.Value)) : null;
        }

        private Estimate Between(int one, int other) => Estimate.Of(found.Select(f => f[one].Accuracy - f[other].Accuracy));

        private Estimate Of(int pass, Func<Contender, double> value) => Estimate.Of(found.Select(all => value(all[pass])));

        private int IndexOf(string model, string size, int? grid = null) =>
            _passes.FindIndex(p => p.Model == model && p.Size == size && p.Grid == grid);

        private static string Points(Estimate? estimate) => estimate?.Format("+0.00;-0.00;0.00") ?? string.Empty;

        private Page Write(FormattableString text)
        {
            _text.Append(text.ToString(CultureInfo.InvariantCulture));
            return this;
        }
    }
}

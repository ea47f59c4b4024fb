using System.Collections.Immutable;
using System.Globalization;
using MatFormer;
using static TorchSharp.torch;

namespace Paper;

/// <summary>A claim of the paper and its verdict here.</summary>
internal sealed record Finding(string Claim, string Verdict);

/// <summary>Writes the report, which has the paper's tables at this scale beside the published ones.</summary>
internal static class Findings
{
    private static readonly ImmutableArray<string> s_names = ["S", "M", "L", "XL"];
    private static readonly Size s_compared = Reproduction.Compared;
    private static readonly Size s_largest = Reproduction.Largest;

    private static IEnumerable<Size> Sizes => Reproduction.Sizes.Select(s => s.Size);

    /// <summary>Returns the paper's claims, each with a verdict.</summary>
    public static ImmutableArray<Finding> Claims(Reproduction found)
    {
        var increasing = AboveLine(found, s_largest, Reproduction.Universal, MixShape.Increasing);
        var order = Estimate.Of(found[s_largest, Reproduction.Universal].Select(
            o => MeanAboveLine(o, MixShape.Increasing) - MeanAboveLine(o, MixShape.Decreasing)));
        var joint = MeanDifference(found, s_compared, "joint", Reproduction.Universal);
        var wide = Reproduction.Sampling[2];
        var wideXl = found.Difference(s_compared, wide, o => o["XL"].Nats, Reproduction.Universal, o => o["XL"].Nats);
        var wideS = found.Difference(s_compared, wide, o => o["S"].Nats, Reproduction.Universal, o => o["S"].Nats);
        var cost = JointCost(found);
        var laws = Laws(found);
        return
        [
            new("Every granularity is as accurate as a model of its size trained alone (tables 9 to 13), "
                + "at the compute of the four trainings.",
                Count(found, Reproduction.Universal)),
            new("The same holds with a quarter of that compute, which is the tokens of one baseline "
                + "(our question, not a claim of the paper).",
                Count(found, Reproduction.Quarter)),
            new("Submodels agree with XL more often than models trained alone do (section 4.1.2: up to 11.5% more tokens).",
                Agreement(found)),
            new("Mix'n'Match interpolates between the granularities without further training (section 3.3).",
                $"{s_largest.Name}: increasing mixes lie {increasing.Signed()} nats from the line through the granularities "
                + "at equal FLOPs; "
                + Word(increasing, "they lie below it, which is better than the claim.",
                    "they lie above it, which is worse than the claim.", "the seeds show no difference from the line.")),
            new("Layers that widen with depth beat other orders (appendix; the paper's choice).",
                $"{s_largest.Name}: increasing minus decreasing mixes {order.Signed()} nats; "
                + Word(order, "the claim holds.", "the claim does not hold here: decreasing mixes are better.",
                    "the seeds show no difference.")),
            new("Sampling one granularity per step beats training all of them jointly, at equal compute (section 3.2).",
                $"{s_compared.Name}: joint minus sampled {joint.Signed()} nats on average over the granularities; "
                + Word(joint, "the claim does not hold here.", "the claim holds.", "the seeds show no difference.")),
            new("Drawing XL more often makes XL better and S worse (table of sampling probabilities).",
                $"{s_compared.Name} with .17/.20/.22/.41: XL {wideXl.Signed()}, S {wideS.Signed()} nats; "
                + (wideXl.IsNegative && wideS.IsPositive ? "the claim holds." : "the seeds do not settle it.")),
            new("Training all sizes jointly costs less than training them separately (\"up to 20%\").",
                Invariant($"{s_compared.Name}: a joint step takes {cost:0.00} of the time of four separate steps; ")
                + (cost < 0.99 ? "the claim holds." : "the claim does not hold here.")),
            new("One law, loss = c + a (N D)^b, fits both baselines and submodels (section 4.1.3).",
                $"Errors of the fits {Number(laws.Alone.Error)} and {Number(laws.Universal.Error)} nats; predicting each size from "
                + $"the other two errs by {Number(laws.Alone.LeftOut)} and {Number(laws.Universal.LeftOut)}. Three sizes within a "
                + "factor of twenty decide no exponent (and the paper's own constants do not reproduce its losses)."),
        ];
    }

    public static ReportPage Write(Reproduction found, Bench bench, string command)
    {
        var page = new ReportPage("MatFormer's claims at the scale of two cores and an hour");
        page.Text(
            $"Byte-level MatLMs of three sizes on {bench.Corpus.Describe()}. Losses are in nats per byte of text that was not trained on; "
            + $"± is half of the 95% confidence interval over {found.Seeds} {(found.Seeds == 1 ? "seed (so none)" : "seeds")}; "
            + "differences are taken seed by seed.");
        if (found.Scale < 1)
            page.Text(Invariant($"This run did {found.Scale:0.###%} of the steps: its numbers test the program, not the claims."));
        page.Heading("In short")
            .Table(["Claim of the paper", "Here"], Claims(found).Select(c => (ImmutableArray<string>)[c.Claim, c.Verdict]), names: 2);
        Losses(page, found);
        Consistency(page, found);
        MixNMatch(page, found);
        Sampling(page, found);
        Objectives(page, found);
        Cost(page, found);
        Scaling(page, found);
        var total = found.All.Sum(o => o.Seconds);
        page.Heading("How it was made").Facts(
        [
            ("Command", command),
            ("Machine", $"{Machine.Describe()}, {get_num_threads()} threads"),
            ("Precision", bench.Type == ScalarType.BFloat16 ? "bfloat16, weights float32" : "float32"),
            ("Training time", Invariant($"{total / 60:0.0} minutes in {found.All.Count()} trainings, evaluation not counted")),
            ("Step", Invariant($"{Size.Batch} sequences of 128 bytes; AdamW, warm-up and cosine to a tenth; ")
                + "the same learning rate for all trainings of a size"),
            ("Steps of a baseline",
                string.Join(", ", Sizes.Select(s => Invariant($"{s.Name} {found[s, Training.NameOfBaseline("XL")][0].Training.Steps}")))),
            ("Highest learning rate", string.Join(", ", Reproduction.Sizes.Select(s => Invariant($"{s.Size.Name} {s.LearningRate}")))),
            ("Text", $"fingerprint {bench.Corpus.Fingerprint}; {bench.Windows} windows of validation text"),
        ]);
        return page;
    }

    private static void Losses(ReportPage page, Reproduction found)
    {
        page.Heading("Loss per granularity, against the same size trained alone");
        page.Table(
            ["Size (blocks)", "", .. s_names],
            Sizes.SelectMany(size => (ImmutableArray<string>[])
            [
                [SizeName(size), "trained alone", .. s_names.Select(g => found.Loss(size, Training.NameOfBaseline(g), g).Format())],
                ["", "universal", .. s_names.Select(g => found.Loss(size, Reproduction.Universal, g).Format())],
                ["", "difference", .. s_names.Select(g => found.AboveBaseline(size, Reproduction.Universal, g).Signed())],
                ["", "universal, a quarter of the compute", .. s_names.Select(g => found.Loss(size, Reproduction.Quarter, g).Format())],
                ["", "difference", .. s_names.Select(g => found.AboveBaseline(size, Reproduction.Quarter, g).Signed())],
            ]),
            names: 2);
        page.Note("Universal: one set of weights. Each step draws one granularity. There are as many steps as for the four baselines "
            + "together, so each granularity is trained on as many tokens as its baseline, at the same total compute. A quarter: as many "
            + "steps as for one baseline.");
        page.Text("Mind the scale. At scale 1 the larger baselines see a megabyte of text, far less than they could learn from, and the "
            + "universal model's shared weights get the updates of all four. The lead shows what these updates are worth while updates "
            + "are scarce. The paper's models, on ten thousand times as much text, lead by hundredths. The smallest size is trained "
            + "longest (four megabytes, twenty bytes per parameter), and is closest to the paper's case.");
        page.Text("The paper's losses (trained alone / MatLM):");
        page.Table(
            ["Size", .. s_names],
            Published.Losses.Select(row => (ImmutableArray<string>)[row.Size,
                .. row.Losses.Select(l => Invariant($"{l.Alone:0.000} / {l.MatLm:0.000} ({l.MatLm - l.Alone:+0.000;-0.000})"))]));
    }

    private static void Consistency(ReportPage page, Reproduction found)
    {
        page.Heading("Consistency with XL");
        page.Table(
            [
                "Size", "Granularity", "Agrees, alone", "universal", "On XL's text, alone", "universal",
                "KL(·‖XL), alone", "universal", "KL(XL‖·), alone", "universal",
            ],
            from size in Sizes
            from g in s_names[..^1]
            select (ImmutableArray<string>)
            [
                size.Name, g, .. Pair(size, g, r => r.Agreement, Percent), .. Pair(size, g, r => r.GeneratedAgreement, Percent),
                .. Pair(size, g, r => r.Divergence, Number), .. Pair(size, g, r => r.ReverseDivergence, Number),
            ],
            names: 2);
        page.Note("The share of positions at which both models have the same most likely next byte, in validation text and in text that "
            + "XL generates greedily; then the divergence of the next byte's distributions. Alone: the separately trained model against "
            + "the separately trained XL of the same seed. Means over seeds. The paper reports up to 11.5% more matching tokens.");

        string[] Pair(Size size, string g, Func<Measured, double> value, Func<double, string> format) =>
        [
            format(found.Over(size, Training.NameOfBaseline(g), o => value(o[g])).Mean),
            format(found.Over(size, Reproduction.Universal, o => value(o[g])).Mean),
        ];
    }

    private static void MixNMatch(ReportPage page, Reproduction found)
    {
        page.Heading("Mix'n'Match");
        var mixes = found[s_largest, Reproduction.Universal]
            .SelectMany(o => o.Rows.Where(r => !r.IsGranularity)).GroupBy(r => r.Pattern).ToList();
        page.Chart("mixes.svg", new ScatterChart
        {
            Title = $"Loss of {s_largest.Name} over its compute: granularities, mixes and models trained alone",
            XTitle = "MFLOPs per byte",
            YTitle = "nats per byte of validation text (lower is better)",
            Series =
            [
                new("universal", Line(s_largest, g => found.Loss(s_largest, Reproduction.Universal, g).Mean), IsLine: true),
                new("trained alone", Line(s_largest, g => found.Loss(s_largest, Training.NameOfBaseline(g), g).Mean), IsLine: true),
                .. mixes.GroupBy(m => m.First().Shape).OrderBy(s => s.Key).Select(shape => new ChartSeries(
                    shape.Key.ToString().ToLowerInvariant(),
                    [.. shape.Select(m => new ChartPoint(
                        m.First().FlopsPerToken / 1e6, m.Average(r => r.Nats), $"{m.Key}: {Number(m.Average(r => r.Nats))}"))])),
            ],
        });
        page.Note($"{s_largest.Name}, means over seeds. No training step used these mixes.");
        MixShape[] shapes = [MixShape.Increasing, MixShape.Decreasing, MixShape.Other];
        page.Table(
            ["Size", "Training", .. shapes.Select(s => s.ToString().ToLowerInvariant())],
            Sizes.Select(s => (s, Reproduction.Universal)).Concat(Reproduction.Objectives.Skip(1).Select(name => (s_compared, name)))
                .Select(t => (ImmutableArray<string>)[t.Item1.Name, t.Item2,
                    .. shapes.Select(shape => AboveLine(found, t.Item1, t.Item2, shape).Signed())]),
            names: 2);
        page.Note("Nats above (worse) or below the line through the granularities at equal FLOPs, on average over the mixes of a shape. "
            + "Increasing and decreasing mixes are of adjacent granularities, and of S and XL. The others are shuffled or drawn.");

        ImmutableArray<ChartPoint> Line(Size size, Func<string, double> loss) =>
            [.. s_names.Select(g => new ChartPoint(size.CostsOf(g).Flops / 1e6, loss(g), $"{g}: {Number(loss(g))}", g))];
    }

    private static void Sampling(ReportPage page, Reproduction found)
    {
        page.Heading("Sampling probabilities");
        page.Table(
            ["Probabilities of S/M/L/XL", "", .. s_names],
            Reproduction.Sampling.Zip(Published.Sampling).SelectMany(pair => (ImmutableArray<string>[])
            [
                [string.Join('/', pair.Second.Probabilities.Select(p => p.ToString(".00", CultureInfo.InvariantCulture))), s_compared.Name,
                    .. s_names.Select(g => found.Loss(s_compared, pair.First, g).Format())],
                ["", "the paper, 850M", .. pair.Second.Losses.Select(Number)],
            ]),
            names: 2);
        page.Note($"{s_compared.Name}; all trainings use the same compute, so there are fewer steps where XL is drawn more often.");
    }

    private static void Objectives(ReportPage page, Reproduction found)
    {
        page.Heading("Objectives at equal compute");
        page.Table(
            ["Objective", "Steps", .. s_names, "Mixes", "Agreement of S", "Seconds"],
            Reproduction.Objectives.Select(name => (ImmutableArray<string>)
            [
                name, Invariant($"{found[s_compared, name][0].Training.Steps:n0}"),
                .. s_names.Select(g => found.Loss(s_compared, name, g).Format()),
                found.Over(s_compared, name, o => o.Rows.Where(r => !r.IsGranularity).Average(r => r.Nats)).Format(),
                Percent(found.Over(s_compared, name, o => o["S"].Agreement).Mean), Invariant($"{Seconds(found, s_compared, name):0}"),
            ]));
        var baseline = found[s_compared, Training.NameOfBaseline("XL")][0].Training.Steps;
        page.Note($"{s_compared.Name}; each training uses the compute of {baseline} steps of all four baselines, whose losses are listed "
            + "above. Mixes: the mean over the sweep.");
    }

    private static void Cost(ReportPage page, Reproduction found)
    {
        page.Heading("Cost of training");
        page.Table(
            ["Size", "Four trainings, s", "Universal, the same tokens for each, s", "Ratio", "A quarter, s", "Ratio"],
            Sizes.Select(size =>
            {
                var four = s_names.Sum(g => Seconds(found, size, Training.NameOfBaseline(g)));
                return (ImmutableArray<string>)
                    [size.Name, Invariant($"{four:0.0}"), .. Against(Reproduction.Universal), .. Against(Reproduction.Quarter)];

                string[] Against(string name)
                {
                    var seconds = Seconds(found, size, name);
                    return [Invariant($"{seconds:0.0}"), Invariant($"{seconds / four:0.00}")];
                }
            }));
        page.Note("Seconds of training of the fastest seed, because other load on the machine can only slow training down. "
            + Invariant($"A joint step of {s_compared.Name} takes ")
            + Invariant($"{JointCost(found):0.00} of the time of four separate steps on the same batch."));
    }

    private static void Scaling(ReportPage page, Reproduction found)
    {
        page.Heading("Scaling");
        var laws = Laws(found);
        page.Chart("scaling.svg", new ScatterChart
        {
            Title = "Loss over parameters times tokens, for every size and granularity",
            XTitle = "parameters of the blocks × tokens, in 10^12, log scale",
            YTitle = "nats per byte of validation text",
            LogX = true,
            Series = [new("universal", [.. Points(laws.Universal)]), new("trained alone", [.. Points(laws.Alone)])],
        });
        page.Table(
            ["loss = c + a (N D)^b", "a", "b", "c", "Error", "Error on a size left out"],
            new[] { ("trained alone", laws.Alone), ("universal", laws.Universal) }.Select(l => (ImmutableArray<string>)
            [
                l.Item1, Invariant($"{l.Item2.Law.A:0.##}"), Number(l.Item2.Law.B),
                Number(l.Item2.Law.C), Number(l.Item2.Error), Number(l.Item2.LeftOut),
            ]));
        page.Note("N: parameters without the embeddings; D: tokens that the granularity was trained on. Errors are root mean squares, in "
            + "nats. Left out: each size is predicted by the law of the other two. The paper fits the same form (section 4.1.3, table 3); "
            + "its constants do not reproduce its own losses, so they are not compared.");

        static IEnumerable<ChartPoint> Points(Fitted fitted) =>
            fitted.Points.Select(p => new ChartPoint(p.X / 1e12, p.Loss, $"{p.Name}: {Number(p.Loss)}"));
    }

    private static (Fitted Alone, Fitted Universal) Laws(Reproduction found)
    {
        return (Of(Training.NameOfBaseline), Of(_ => Reproduction.Universal));

        Fitted Of(Func<string, string> name)
        {
            var points = (from size in Sizes
                          from g in s_names
                          let outcome = found[size, name(g)][0]

                          // The tokens of a universal model are divided among its granularities.
                          let tokens = (double)outcome.Tokens / (outcome.Training.Alone is null ? s_names.Length : 1)
                          select (Name: $"{size.Name} {g}", Size: size, X: outcome[g].NonEmbeddingParameters * tokens,
                              found.Loss(size, name(g), g).Mean)).ToList();
            var all = points.ConvertAll(p => (p.X, p.Mean));
            var law = PowerLaw.Fit(all);
            var left = Sizes.SelectMany(size =>
            {
                var others = PowerLaw.Fit([.. points.Where(p => p.Size != size).Select(p => (p.X, p.Mean))]);
                return points.Where(p => p.Size == size).Select(p => others.At(p.X) - p.Mean);
            });
            return new Fitted(law, law.Error(all), Math.Sqrt(left.Average(e => e * e)), [.. points.Select(p => (p.Name, p.X, p.Mean))]);
        }
    }

    private static double JointCost(Reproduction found) =>
        SecondsPerStep(found, "joint") / s_names.Sum(g => SecondsPerStep(found, Training.NameOfBaseline(g)));

    private static double SecondsPerStep(Reproduction found, string name) =>
        Seconds(found, s_compared, name) / found[s_compared, name][0].Training.Steps;

    private static double Seconds(Reproduction found, Size size, string name) => found[size, name].Min(o => o.Seconds);

    private static double MeanAboveLine(Outcome outcome, MixShape shape) =>
        outcome.Rows.Where(r => r.Shape == shape && r.AboveLine is not null).Average(r => r.AboveLine!.Value) * Math.Log(2);

    private static Estimate AboveLine(Reproduction found, Size size, string name, MixShape shape) =>
        found.Over(size, name, o => MeanAboveLine(o, shape));

    private static Estimate MeanDifference(Reproduction found, Size size, string name, string other) =>
        found.Difference(size, name, o => s_names.Average(g => o[g].Nats), other, o => s_names.Average(g => o[g].Nats));

    private static string Count(Reproduction found, string name)
    {
        var differences = Sizes.SelectMany(
            size => s_names.Select(g => (Name: $"{size.Name} {g}", Value: found.AboveBaseline(size, name, g)))).ToList();
        if (differences[0].Value.IsAlone)
            return $"{differences.Count(d => d.Value.Mean <= 0)} of {differences.Count} are no worse than their baselines; "
                + "one seed cannot show more.";
        var worse = differences.Where(d => d.Value.IsPositive).Select(d => $"{d.Name} {d.Value.Signed()}").ToList();
        var better = differences.Count(d => d.Value.IsNegative);
        var text = $"{better} of {differences.Count} are better than their baselines, {differences.Count - better - worse.Count} level "
            + $"within the seeds' interval, {worse.Count} worse";
        return worse.Count == 0 ? $"{text}: the claim holds." : $"{text} ({string.Join(", ", worse)}): the claim does not hold for these.";
    }

    private static string Agreement(Reproduction found)
    {
        var differences = Sizes.SelectMany(size => s_names[..^1].Select(g => (Name: $"{size.Name} {g}",
            Value: found.Difference(size, Reproduction.Universal, o => o[g].Agreement, Training.NameOfBaseline(g), o => o[g].Agreement))))
            .ToList();
        var isAlone = differences[0].Value.IsAlone;
        var more = differences.Count(d => isAlone ? d.Value.Mean > 0 : d.Value.IsPositive);
        var (least, most) = (differences.MinBy(d => d.Value.Mean), differences.MaxBy(d => d.Value.Mean));
        return $"{more} of {differences.Count} agree more, by {Points(least.Value)} ({least.Name}) "
            + $"to {Points(most.Value)} ({most.Name}) points: "
            + (isAlone ? "one seed cannot show more."
                : more == differences.Count ? "the claim holds." : "the claim does not hold for all.");

        static string Points(Estimate estimate) => new Estimate(estimate.Mean * 100, estimate.HalfWidth * 100).Format("+0.0;-0.0;0.0");
    }

    private static string Word(Estimate estimate, string negative, string positive, string neither) =>
        estimate.IsNegative ? negative : estimate.IsPositive ? positive : estimate.IsAlone ? "one seed cannot show this." : neither;

    private static string SizeName(Size size) => Invariant($"{size.Name} ({size.CostsOf("XL").NonEmbeddingParameters / 1e6:0.0} M)");

    private static string Number(double value) => value.ToString("0.000", CultureInfo.InvariantCulture);

    private static string Percent(double value) => value.ToString("0.0%", CultureInfo.InvariantCulture);

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);

    private sealed record Fitted(PowerLaw Law, double Error, double LeftOut, ImmutableArray<(string Name, double X, double Loss)> Points);
}

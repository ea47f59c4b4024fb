using System.Globalization;
using System.Text;
using MatFormer;
using Paper;
using static TorchSharp.torch;

namespace Elasticity;

/// <summary>A model of bytes whose tokens may be routed. Most of its FLOPs are in its feed-forwards.</summary>
[MatLM(Layers = 3, Width = 64, Heads = 4, Context = 64, Vocabulary = 256)]
[FeedForward(512, Activation.SwiGlu)]
[Routing(0.15, 0.3, 0.5, 0.75)]
[Granularity("S", 32), Granularity("M", 128), Granularity("L", 256), Granularity("XL", 512)]
public sealed partial class RoutedLm;

/// <summary>Routing of tokens in a language model, against sizes and mixes of equal FLOPs.</summary>
internal sealed class CausalExperiment : Experiment
{
    private const int FullSteps = 6000;
    private const int Batch = 8;
    private const int Windows = 128;
    private const int Rounds = 15;
    private const int Texts = 2;

    private static readonly EvaluationOptions s_evaluation = new() { Windows = Windows, Continuations = 0 };

    public override string Name => "causal";

    public override string Question => "Does a language model that routes tokens beat sizes and mixes of equal FLOPs?";

    private static IReadOnlyList<double> Budgets => RoutedLm.Spec.Routing!.Budgets;

    private static IReadOnlyList<Profile<RoutedLm>> Sizes => RoutedLm.Granularities;

    private static double Whole { get; } = Sizes[^1].Flops;

    // The sizes, narrowest first, and then the mixes of two neighbouring ones.
    private static IReadOnlyList<Profile<RoutedLm>> Uniform { get; } =
    [
        .. Sizes, .. Elasticity.Budgets.Adjacent<RoutedLm>().Where(mix => Sizes.All(size => size.Flops != mix.Flops)),
    ];

    public override string Run(Bench bench, CancellationToken cancellationToken)
    {
        using var corpus = TextCorpus.Open(bench.Data, bench.Folder, cancellationToken: cancellationToken);
        var found = new List<Found>();
        for (var seed = 1; seed <= bench.Seeds; seed++)
        {
            var options = new TrainerOptions
            {
                Steps = bench.Steps(FullSteps),
                Batch = Batch,
                LearningRate = 5e-3,
                Objective = Objective.SampledPerLayer,
                Seed = seed,
            };
            using var both = bench.Trained<RoutedLm>("half-routed", options, corpus, cancellationToken);
            using var without = bench.Trained<RoutedLm>("unrouted", options with { RoutedShare = 0 }, corpus, cancellationToken);
            var routed = Evaluator.Run(both, corpus, s_evaluation, cancellationToken: cancellationToken)
                .Rows.Where(row => row.Costs.Budget is not null).ToList();
            var times = Times(both, corpus, cancellationToken);
            found.Add(new Found(
                [.. routed.Select(row => row.BitsPerByte)], [.. routed.Select(row => row.UsedShare!.Value)], Losses(both), Losses(without),
                [.. times.Select(time => time.Share)], times[Sizes.Count - 1].Seconds));
        }

        return new Page(bench, corpus, found).Write();

        double[] Losses(RoutedLm model) =>
            [.. Evaluator.Run(model, [.. Uniform], corpus, s_evaluation, cancellationToken: cancellationToken)
                .Rows.Select(row => row.BitsPerByte)];
    }

    // The time per token of sizes and mixes and then of budgets, of one text at a time, token by token on one thread.
    private static (double Seconds, double Share)[] Times(RoutedLm model, TextCorpus corpus, CancellationToken cancellationToken)
    {
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = 1 });
        var texts = new List<int[]>();
        for (var i = 0; i < Texts; i++)
        {
            var bytes = new byte[RoutedLm.Spec.Context];
            corpus.Validation.Text.Read(i * ((corpus.Validation.Bytes - bytes.Length) / Texts), bytes);
            texts.Add([.. bytes.Select(b => (int)b)]);
        }

        var times = Turns.Of(
            [
                .. Uniform.Select(p => (Action)(() => Decode(() => engine.Use(0, p)))),
                .. Budgets.Select(b => (Action)(() => Decode(() => engine.Use(0, b)))),
            ],
            Sizes.Count - 1, Rounds, cancellationToken);
        return [.. times.Select(time => (time.Seconds / texts.Sum(text => text.Length), time.Share))];

        void Decode(Action use)
        {
            foreach (var text in texts)
            {
                engine.Truncate(0, 0);
                use();
                for (var i = 0; i < text.Length; i++)
                {
                    engine.Append(0, text.AsSpan(i, 1));
                    engine.Run();
                }
            }
        }
    }

    // The mean FLOPs of a token that uses a share of the hidden units. Layers are alike, so FLOPs grow linearly with the share.
    private static double FlopsAt(double share)
    {
        var least = (double)Sizes[0].Layers[0].HiddenWidth / Sizes[^1].Layers[0].HiddenWidth;
        var routers = RoutingBudget.Of(RoutedLm.Spec, 1).Flops - Whole;
        return Sizes[0].Flops + ((Whole - Sizes[0].Flops) * (share - least) / (1 - least)) + routers;
    }

    /// <summary>What a seed gave: losses of budgets, then of sizes and mixes of both models, and times in proportion to XL's.</summary>
    private sealed record Found(double[] Routed, double[] Used, double[] Both, double[] Without, double[] Times, double SecondsOfWhole)
    {
        /// <summary>The loss of the best of the first submodels, at the FLOPs of a budget.</summary>
        public double AtFlops(int budget, double[] losses, int count) =>
            Frontier.Best([.. losses.Take(count).Select((loss, i) => ((double)Uniform[i].Flops, loss))], FlopsAt(Used[budget]))!.Value;

        /// <summary>The loss of the best size or mix that takes no more time than a budget. None is below S.</summary>
        public double AtTime(int budget) => Frontier.Best(
            [.. Both.Select((loss, i) => (Times[i], loss))], Math.Max(TimeOf(budget), Times.Take(Uniform.Count).Min()))!.Value;

        /// <summary>The time of sizes and mixes at the FLOPs of a budget: the straight line between the neighbours.</summary>
        public double UniformTime(int budget)
        {
            var flops = FlopsAt(Used[budget]);
            var points = Uniform.Select((p, i) => (p.Flops, Time: Times[i])).OrderBy(p => p.Flops).ToList();
            var (left, right) = (points.Last(p => p.Flops <= flops), points.Find(p => p.Flops > flops));
            return right == default
                ? left.Time
                : left.Time + ((right.Time - left.Time) * (flops - left.Flops) / (right.Flops - left.Flops));
        }

        public double TimeOf(int budget) => Times[Uniform.Count + budget];
    }

    private sealed class Page(Bench bench, TextCorpus corpus, List<Found> found)
    {
        private readonly StringBuilder _text = new();

        public string Write()
        {
            Method();
            Losses();
            Submodels();
            Conclusions();
            return _text.ToString();
        }

        private void Method()
        {
            var widths = string.Join(", ", Sizes.Select(size => $"{size.Layers[0].HiddenWidth}"));
            var whole = Of(f => f.SecondsOfWhole * 1e6).Format("0");
            Write($"""
                # Tokens of text that choose their size

                Is a language model whose tokens [choose their hidden units](../routed-text.md) better than one in which all tokens use the
                same, at equal FLOPs and at equal time? This page was written by

                ```sh
                {bench.Command("causal")}
                ```

                on {Machine.Describe()}. Other programs may have run beside it. A full run has
                the scale 1, which is {FullSteps} steps.

                A model of {RoutedLm.Spec.Layers} layers of width {RoutedLm.Spec.Width} has sizes that keep
                {widths} hidden units. It is trained twice from the same beginning, for {bench.Steps(FullSteps)} steps of
                {Batch} windows of {RoutedLm.Spec.Context} bytes in float32, with {bench.Seeds} seeds: half of the steps routed at one of
                {Budgets.Count} budgets, and half of them a random mix of sizes (*half routed*); or all steps a random mix (*without
                routing*). The numbers are bits per byte on {Windows} windows of validation text, with 95% intervals over the seeds. The
                text is {corpus.Describe()}.

                - *Used* is the share of the hidden units that a token of this text used on average. The FLOPs follow from it, with those
                  of the routers.
                - *Sizes* are those of the half routed model, at the same FLOPs: the straight line between two sizes.
                  *Sizes and mixes* has also the mixes of two neighbouring sizes, the narrower one in the first layers (Mix'n'Match). The
                  best line of all counts, which favours them a little over a single routed pass.
                - *Without routing* is the same of the other model.
                - *Time* is that of decoding a token, in proportion to XL's: one text at a time, token by token, on one thread, with
                  float32 weights. All take turns, and the median of {Rounds} rounds counts, after one that warms up. XL takes
                  {whole} µs. *Time of a mix* is the time of sizes and mixes of the same FLOPs.


                """);
        }

        private void Losses()
        {
            Write($"| budget | used | MFLOPs | routed | sizes | sizes and mixes | without routing | time | time of a mix |\n")
                .Write($"|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
            for (var i = 0; i < Budgets.Count; i++)
            {
                var budget = i;
                Write($"| {Budgets[i]} | {Of(f => f.Used[budget]).Format()} | {Of(f => FlopsAt(f.Used[budget]) / 1e6).Format("0.00")} ")
                    .Write($"| {Of(f => f.Routed[budget]).Format()} | {Of(f => f.AtFlops(budget, f.Both, Sizes.Count)).Format()} ")
                    .Write($"| {Of(f => f.AtFlops(budget, f.Both, Uniform.Count)).Format()} ")
                    .Write($"| {Of(f => f.AtFlops(budget, f.Without, Uniform.Count)).Format()} ")
                    .Write($"| {Of(f => f.TimeOf(budget)).Format("0.00")} | {Of(f => f.UniformTime(budget)).Format("0.00")} |\n");
            }

            Write($"""

                Differences within a seed. Below zero, the routed pass is better, or takes less time. *At equal time* compares with the
                best size or mix of the same model that takes as long as the routed pass:

                | budget | routed - sizes | routed - sizes and mixes | routed - without routing | at equal time | time - time of a mix |
                |---:|---:|---:|---:|---:|---:|

                """);
            for (var i = 0; i < Budgets.Count; i++)
            {
                Write($"| {Budgets[i]} | {OverSizes(i).Signed4()} | {OverMixes(i).Signed4()} | {OverWithout(i).Signed4()} ")
                    .Write($"| {AtTime(i).Signed4()} | {MoreTime(i).Format("+0.00;-0.00;0.00")} |\n");
            }
        }

        private void Submodels()
        {
            Write($"\nThe sizes and mixes of both models, by their FLOPs:\n\n")
                .Write($"| layers | MFLOPs | half routed | without routing | difference | time |\n|---|---:|---:|---:|---:|---:|\n");
            foreach (var (profile, i) in Uniform.Select((p, i) => (p, i)).OrderBy(p => p.p.Flops))
            {
                Write($"| {profile.Pattern.Replace("*", "\\*", StringComparison.Ordinal)} | {profile.Flops / 1e6:0.00} ")
                    .Write($"| {Of(f => f.Both[i]).Format()} | {Of(f => f.Without[i]).Format()} | {OfTraining(i).Signed4()} ")
                    .Write($"| {Of(f => f.Times[i]).Format("0.00")} |\n");
            }
        }

        private void Conclusions()
        {
            var gain = Of(f => f.Both[Sizes.Count - 1] - f.Both[0]);
            var away = Budgets.Select((budget, i) => Math.Abs(Of(f => f.Used[i]).Mean - budget)).Max();
            Write($"\n## What it shows\n\nBy the intervals of the differences:\n\n")
                .Write($"- At equal FLOPs, the routed passes are {Verdict(OverSizes)} than the sizes of the same weights.\n")
                .Write($"- Against the best of sizes and mixes of the same weights, they are {Verdict(OverMixes)}.\n")
                .Write($"- Against the best of sizes and mixes of the model trained without routing, they are {Verdict(OverWithout)}.\n")
                .Write($"- At equal time of decoding, against sizes and mixes of the same weights, they are {Verdict(AtTime)}.\n")
                .Write($"- Decoding at a budget is {Verdict(MoreTime, "faster", "slower")} than with a mix of the same FLOPs.\n")
                .Write($"- The share of the hidden units that tokens use is up to {away:0.000} away from the budget.\n")
                .Write($"- Half of the steps routed makes the sizes ")
                .Write($"{EstimateFormat.Verdict(Sizes.Select((s, i) => (s.Name, OfTraining(i))))} than all steps without.\n")
                .Write($"- XL minus S is {gain.Signed4()}. ")
                .Write(gain.IsNegative
                    ? (FormattableString)$"So hidden units matter here, and routing has something to gain.\n"
                    : $"So hidden units hardly matter here, and this run decides nothing about routing.\n");
        }

        private Estimate OverSizes(int budget) => Of(f => f.Routed[budget] - f.AtFlops(budget, f.Both, Sizes.Count));

        private Estimate OverMixes(int budget) => Of(f => f.Routed[budget] - f.AtFlops(budget, f.Both, Uniform.Count));

        private Estimate OverWithout(int budget) => Of(f => f.Routed[budget] - f.AtFlops(budget, f.Without, Uniform.Count));

        private Estimate AtTime(int budget) => Of(f => f.Routed[budget] - f.AtTime(budget));

        private Estimate MoreTime(int budget) => Of(f => f.TimeOf(budget) - f.UniformTime(budget));

        private Estimate OfTraining(int profile) => Of(f => f.Both[profile] - f.Without[profile]);

        private Estimate Of(Func<Found, double> value) => Estimate.Of(found.Select(value));

        private static string Verdict(Func<int, Estimate> difference, string below = "better", string above = "worse") =>
            EstimateFormat.Verdict(Budgets.Select((b, i) => (Text(b), difference(i))), below, above);

        private static string Text(double number) => number.ToString(CultureInfo.InvariantCulture);

        private Page Write(FormattableString text)
        {
            _text.Append(text.ToString(CultureInfo.InvariantCulture));
            return this;
        }
    }
}

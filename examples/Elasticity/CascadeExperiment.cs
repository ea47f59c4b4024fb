using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using MatFormer;
using Paper;
using static TorchSharp.torch;

namespace Elasticity;

/// <summary>The cascade: a narrow size answers while it is sure, otherwise a wider one.</summary>
internal sealed class CascadeExperiment : Experiment
{
    private const int FullSteps = 500;
    private const int Rounds = 12;
    private const int Prompts = 8;

    private static readonly double[] s_shares = [0.1, 0.25, 0.5];
    private static readonly double[] s_thresholds = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98];
    private static readonly string[] s_mixes =
        ["3*S 3*M", "3*S 3*L", "3*M 3*L", "4*S 2*XL", "3*S 3*XL", "3*M 3*XL", "2*S 4*XL", "3*L 3*XL"];

    private static readonly string[][] s_cascades = [["S"], ["M"], ["S", "M"]];

    // How sure a distribution is of its likeliest token. The larger, the surer.
    private static readonly (string Name, Func<double[], double> Of)[] s_measures =
    [
        ("probability of the first token", p => p.Max()),
        ("margin of the first over the second", p => Margin(p)),
        ("negative entropy", p => p.Sum(x => x > 0 ? x * Math.Log(x) : 0)),
    ];

    public override string Name => "cascade";

    public override string Question => "Is a cascade of sizes faster than one size of equal loss?";

    private static Profile<CascadeLm> Whole => CascadeLm.Granularities[^1];

    public override string Run(Bench bench, CancellationToken cancellationToken)
    {
        using var corpus = TextCorpus.Open(bench.Data, bench.Folder, cancellationToken: cancellationToken);
        var windows = Math.Max(2, (int)(64 * Math.Min(1, bench.Scale)));
        var (choices, costs) = (new Results(), new Results());
        for (var seed = 1; seed <= bench.Seeds; seed++)
        {
            var path = Train(bench, corpus, seed, cancellationToken);
            var options = new DecodingOptions
            {
                Weights = Machine.CpuHasBFloat16 ? DecodingWeights.BFloat16 : DecodingWeights.Float32,
                Threads = 1,
            };
            bench.Log.WriteLine($"cascade, seed {seed}: measuring ...");
            using var engine = DecodingEngine.Open<CascadeLm>(path, options: options);
            Choices(engine, corpus, windows, choices, cancellationToken);
            using var together = DecodingEngine.Open<CascadeLm>(path, options: options with { Sequences = 16 });
            Losses(together, corpus, windows, costs, cancellationToken);
            Speeds(engine, corpus, costs, cancellationToken);
        }

        return Page(bench, corpus, windows, choices, costs);
    }

    // Returns the file of a trained model. What an earlier run with the same steps trained is kept.
    private static string Train(Bench bench, TextCorpus corpus, int seed, CancellationToken cancellationToken)
    {
        var steps = Steps(bench);
        var path = Path.Combine(bench.Folder, $"cascade-{seed}-{steps}.safetensors");
        if (File.Exists(path)) return path;
        bench.Log.WriteLine($"cascade, seed {seed}: {steps} steps ...");
        manual_seed(seed);
        using var model = new CascadeLm(CPU);
        model.ComputeType = Machine.CpuHasBFloat16 ? ScalarType.BFloat16 : ScalarType.Float32;
        var options = new TrainerOptions { Steps = steps, Batch = 16, LearningRate = 0.002, Seed = seed };
        using (var trainer = new Trainer<CascadeLm>(model, options))
        {
            if (!trainer.Fit(corpus, cancellationToken: cancellationToken).Finished)
                throw new OperationCanceledException(cancellationToken);
        }

        model.Save(path);
        return path;
    }

    private static int Steps(Bench bench) => Math.Max(1, (int)(FullSteps * bench.Scale));

    // Compares measures of sureness, and whether the wide size reuses the narrow one's keys and values, at equal shares of wide tokens.
    private static void Choices(
        DecodingEngine engine, TextCorpus corpus, int windows, Results results, CancellationToken cancellationToken)
    {
        var texts = Texts(corpus, windows);
        var narrow = CascadeLm.Granularities[0].Layers;
        var wide = Decode(engine, texts, Whole.Layers, Whole.Layers, _ => 0, 0, recomputes: false, cancellationToken).Bits;
        foreach (var (name, measure) in s_measures)
        {
            // Thresholds are quantiles of what the narrow size measures alone.
            var alone = Decode(engine, texts, narrow, narrow, measure, double.NegativeInfinity, recomputes: false, cancellationToken);
            var sorted = alone.Measured.Order().ToList();
            foreach (var share in s_shares)
            {
                foreach (var recomputes in (bool[])[false, true])
                {
                    if (recomputes && name != s_measures[0].Name) continue;
                    var threshold = sorted[(int)(share * (sorted.Count - 1))];
                    var its = Decode(engine, texts, narrow, Whole.Layers, measure, threshold, recomputes, cancellationToken);
                    var key = $"{name}{(recomputes ? ", keys and values computed again" : string.Empty)}|{share}";
                    results.Add(key, "share", its.Share);
                    results.Add(key, "loss", its.Bits - wide);
                }
            }
        }
    }

    // Feeds texts token by token, first halves as prompts of the wide size. Returns bits per byte, the share of wide tokens, and the
    // measure of each token that the narrow size computed.
    private static (double Bits, double Share, List<double> Measured) Decode(
        DecodingEngine engine, List<int[]> texts, ImmutableArray<LayerSlice> narrow, ImmutableArray<LayerSlice> wide,
        Func<double[], double> measure, double threshold, bool recomputes, CancellationToken cancellationToken)
    {
        var (nats, tokens, asked) = (0.0, 0, 0);
        var measured = new List<double>();
        foreach (var text in texts)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var exact = text.Length / 2;
            Feed(wide, 0, exact);
            for (var end = exact + 1; end < text.Length; end++)
            {
                var p = Feed(narrow, end - 1, end);
                var sureness = measure(p);
                measured.Add(sureness);
                if (!(sureness > threshold))
                {
                    // The wide size computes the last token only, or all tokens since it last did.
                    p = Feed(wide, recomputes ? exact : end - 1, end);
                    exact = end;
                    asked++;
                }

                nats -= Math.Log(p[text[end]]);
                tokens++;
            }

            double[] Feed(ImmutableArray<LayerSlice> layers, int from, int to)
            {
                engine.Truncate(0, from);
                engine.Use(0, layers);
                var row = engine.Append(0, text.AsSpan(from, to - from));
                engine.Run();
                return Softmax(engine.Logits(row));
            }
        }

        engine.Truncate(0, 0);
        engine.Use(0, Whole.Layers);
        return (nats / tokens / Math.Log(2), (double)asked / tokens, measured); // a token is a byte
    }

    // Measures loss and FLOPs of sizes, mixes and cascades.
    private static void Losses(
        DecodingEngine engine, TextCorpus corpus, int windows, Results results, CancellationToken cancellationToken)
    {
        foreach (var profile in Uniform())
        {
            var alone = Calibrate([profile], []);
            results.Add(profile.Name, "loss", alone.Rows[0].BitsPerByte - alone.Rows[^1].BitsPerByte);
            results.Add(profile.Name, "flops", alone.Rows[0].Flops / Whole.Flops);
        }

        foreach (var names in s_cascades)
        {
            var calibration = Calibrate([.. names.Select(Profile<CascadeLm>.Parse)], [.. s_thresholds]);
            foreach (var row in calibration.Rows.Where(r => r.Threshold is > 0 and < 1))
            {
                var key = KeyOf(names, row.Threshold);
                results.Add(key, "loss", row.BitsPerByte - calibration.Rows[^1].BitsPerByte);
                results.Add(key, "flops", row.Flops / Whole.Flops);
                results.Add(key, "agreement", row.Agreement);
                results.Add(key, "asked", row.Asked[^1]);
            }
        }

        CascadeCalibration Calibrate(ImmutableArray<Profile<CascadeLm>> narrower, ImmutableArray<double> thresholds) =>
            CascadeCalibrator.Run(
                engine, narrower, corpus, new CascadeCalibrationOptions { Thresholds = thresholds, Windows = windows },
                cancellationToken: cancellationToken);
    }

    // Measures tokens per second of one text at a time, in turns, in proportion to the whole model's in the same turn.
    private static void Speeds(DecodingEngine engine, TextCorpus corpus, Results results, CancellationToken cancellationToken)
    {
        var prompts = Texts(corpus, Prompts)
            .ConvertAll(text => Encoding.UTF8.GetString([.. text[..(text.Length / 2)].Select(t => (byte)t)]));
        var plain = new GenerationOptions { Tokens = CascadeLm.Spec.Context / 2, Temperature = 1 };
        var runs = new List<(string Key, ImmutableArray<LayerSlice> Layers, GenerationOptions Options)>();
        foreach (var profile in Uniform()) runs.Add((profile.Name, profile.Layers, plain));
        foreach (var names in s_cascades)
        {
            foreach (var threshold in s_thresholds)
            {
                var levels = names.Select(n => new CascadeLevel(Profile<CascadeLm>.Parse(n).Layers, threshold));
                runs.Add((KeyOf(names, threshold), Whole.Layers, plain with { Cascade = [.. levels] }));
            }
        }

        foreach (var draft in CascadeLm.Granularities.SkipLast(1))
            runs.Add(($"draft {draft.Name}", Whole.Layers, plain with { Draft = draft.Layers }));
        var seconds = runs.ToDictionary(run => run.Key, _ => new List<double>());
        for (var round = -1; round < Rounds; round++)
        {
            foreach (var (key, layers, options) in runs)
            {
                cancellationToken.ThrowIfCancellationRequested();
                engine.Truncate(0, 0);
                engine.Use(0, layers);
                var (tokens, start) = (0, Stopwatch.GetTimestamp());
                for (var i = 0; i < prompts.Count; i++)
                    tokens += TextGenerator.Generate(
                        engine, prompts[i], options with { Seed = i }, cancellationToken: cancellationToken).Tokens;
                if (round >= 0) seconds[key].Add(Stopwatch.GetElapsedTime(start).TotalSeconds / tokens); // the first round warms up
            }
        }

        engine.Truncate(0, 0);
        engine.Use(0, Whole.Layers);
        foreach (var (key, its) in seconds)
        {
            var ratios = its.Zip(seconds[Whole.Name], (own, whole) => whole / own).Order().ToList();
            results.Add(key, "speed", ratios[ratios.Count / 2]);
        }
    }

    private static IEnumerable<Profile<CascadeLm>> Uniform() =>
        CascadeLm.Granularities.Concat(s_mixes.Select(Profile<CascadeLm>.Parse));

    private static string KeyOf(string[] names, double threshold) => $"{string.Join(", ", names)}, then XL|{threshold}";

    // Windows of validation text, spread evenly. A token is a byte.
    private static List<int[]> Texts(TextCorpus corpus, int count)
    {
        var length = CascadeLm.Spec.Context;
        var texts = new List<int[]>();
        for (var i = 0; i < count; i++)
        {
            var bytes = new byte[length];
            corpus.Validation.Text.Read(i * ((corpus.Validation.Bytes - length) / count), bytes);
            texts.Add([.. bytes.Select(b => (int)b)]);
        }

        return texts;
    }

    private static double[] Softmax(ReadOnlySpan<float> logits)
    {
        var p = new double[logits.Length];
        var largest = float.NegativeInfinity;
        foreach (var logit in logits) largest = Math.Max(largest, logit);
        for (var i = 0; i < p.Length; i++) p[i] = Math.Exp((double)logits[i] - largest);
        var sum = p.Sum();
        for (var i = 0; i < p.Length; i++) p[i] /= sum;
        return p;
    }

    private static double Margin(double[] p)
    {
        var (first, second) = (0.0, 0.0);
        foreach (var x in p)
        {
            if (x > first) (first, second) = (x, first);
            else second = Math.Max(second, x);
        }

        return first - second;
    }

    private static string Page(Bench bench, TextCorpus corpus, int windows, Results choices, Results costs)
    {
        var page = new StringBuilder();
        page.Append($"""
            # A cascade of sizes

            A narrow size answers a token while it is sure. Otherwise a wider one computes the same token again, with the same cache
            ([how it works](../decoding.md#cascades-a-small-size-while-it-is-sure)). Here {CascadeLm.Spec.Name} ({CascadeLm.Spec.Layers} layers, width
            {CascadeLm.Spec.Width}, hidden 64 to 1024) was trained for {Steps(bench)} steps of 16 × {CascadeLm.Spec.Context} bytes, with {bench.Seeds} seeds, on
            {corpus.Source}. XL takes {Whole.Flops / 1e6:0.0} MFLOPs a token, S {(double)CascadeLm.Granularities[0].Flops / Whole.Flops:0%} of them. The command:

            ```sh
            dotnet run --project examples/Elasticity -c Release -- cascade --seeds {bench.Seeds} --threads 1
            ```

            Loss is in bits per byte above XL's. All are measured on the second halves of {windows} windows of validation text, decoded token by token.
            Intervals are of 95% over the seeds.

            ## How to tell that a size is sure

            S, then XL, with thresholds that send about the same share of tokens to XL:

            | measure | share of XL | loss above XL |
            |---|---|---|

            """);
        foreach (var (key, its) in choices.All)
            page.Append($"| {key.Split('|')[0]} | {Percent(its["share"])} | {its["loss"].Signed4()} |\n");
        page.Append("""

            ## Loss, compute and time

            FLOPs and speed are in proportion to XL's. The speed is that of one text at a time on one thread (64 bytes after a prompt of 64, at
            temperature 1), the median of rounds in which all took turns. *Better than one size* is the loss of sizes and mixes of equal FLOPs, or of
            equal speed, minus the cascade's: the straight line between the best of them. Above zero, the cascade wins.

            | | threshold | loss above XL | asks XL | FLOPs | speed | better at equal FLOPs | better at equal speed |
            |---|---|---|---|---|---|---|---|

            """);
        foreach (var (key, its) in costs.All)
        {
            var (name, threshold) = key.Split('|') is [var n, var t] ? (n, t) : (key, string.Empty);
            var isCascade = its.ContainsKey("asked");
            page.Append($"| {name.Replace("*", "\\*", StringComparison.Ordinal)} | {threshold} | ");
            page.Append(its.TryGetValue("loss", out var loss) ? loss.Signed4() : "0, the same text").Append(" | ");
            page.Append(isCascade ? Percent(its["asked"]) : string.Empty).Append(" | ");
            page.Append(its.TryGetValue("flops", out var flops) ? flops.Format("0.00") : string.Empty).Append(" | ");
            page.Append(its["speed"].Format("0.00")).Append(" | ");
            page.Append(isCascade ? Advantage(costs, key, "flops", f => f).Signed4() : string.Empty).Append(" | ");
            page.Append(isCascade ? Advantage(costs, key, "speed", s => 1 / s).Signed4() : string.Empty).Append(" |\n");
        }

        page.Append("\n## What it shows\n\n");
        foreach (var names in s_cascades)
        {
            var keys = s_thresholds.Select(t => KeyOf(names, t)).ToList();
            page.Append($"- {string.Join(", ", names)}, then XL: ")
                .Append($"at equal FLOPs it is {Verdict(keys.Select(k => Advantage(costs, k, "flops", f => f)))}, ")
                .Append($"and at equal speed {Verdict(keys.Select(k => Advantage(costs, k, "speed", s => 1 / s)))}.\n");
        }

        Conclude(page, choices, costs);
        return page.ToString();
    }

    // What follows from the results, in words.
    private static void Conclude(StringBuilder page, Results choices, Results costs)
    {
        var advantages = s_cascades.SelectMany(names => s_thresholds.Select(threshold => KeyOf(names, threshold)))
            .SelectMany(key => (Estimate[])[Advantage(costs, key, "flops", f => f), Advantage(costs, key, "speed", s => 1 / s)])
            .Where(advantage => !double.IsNaN(advantage.Mean)).ToList();
        var better = advantages.Count(advantage => advantage.IsPositive);
        page.Append(better == 0
            ? "\nSo here the cascade does not pay off: at no threshold is it better than a single size or mix of equal FLOPs, or of "
                + "equal speed, beyond the interval."
            : $"\nSo here a cascade is better beyond the interval in {better} of {advantages.Count} comparisons with a single size "
                + "or mix of equal FLOPs, or of equal speed.");
        var least = Uniform().Where(p => !Estimate.Of(costs.Seeds(p.Name, "loss")).IsPositive).MinBy(p => p.Flops)!;
        if (least.Name != Whole.Name)
        {
            page.Append($" {least.Name.Replace("*", "\\*", StringComparison.Ordinal)} takes ")
                .Append(CultureInfo.InvariantCulture, $"{(double)least.Flops / Whole.Flops:0%} of XL's FLOPs, and its loss is not above ")
                .Append("XL's beyond the interval, while a cascade pays for both sizes at every unsure token.");
        }

        page.Append(" This was a short training of a small model on one text. Measure your own with `calibrate` before you use a ")
            .Append("cascade, and compare it with `plan`.\n\n");
        var names = s_measures.Select(m => m.Name).ToList();
        var differ = s_shares.Any(share => names.Any(one => names.Any(other => Differ(Loss(one, share), Loss(other, share)))));
        var again = $"{names[0]}, keys and values computed again";
        var changes = s_shares.Select(share => (Plain: Loss(names[0], share), Again: Loss(again, share))).ToList();
        page.Append($"The three measures of sureness {(differ ? "differ" : "do not differ")} beyond their intervals. The library uses ")
            .Append("the probability, the simplest of them. Keys and values that are computed again change the loss by up to ")
            .Append($"{changes.Max(c => Math.Abs(c.Plain.Mean - c.Again.Mean)):0.000} bits per byte, ")
            .Append($"{(changes.Exists(c => Differ(c.Plain, c.Again)) ? "beyond" : "within")} the intervals, and XL then computes all ")
            .Append("tokens. The library reuses them.\n\n")
            .Append($"This ran on {Machine.Describe()}, with weights in {(Machine.CpuHasBFloat16 ? "bf16" : "f32")}. Other programs on ")
            .Append("the machine make the intervals of the speeds wide; the FLOPs are then the better guide.\n");

        Estimate Loss(string measure, double share) => Estimate.Of(choices.Seeds($"{measure}|{share}", "loss"));

        static bool Differ(Estimate one, Estimate other) => Math.Abs(one.Mean - other.Mean) > one.HalfWidth + other.HalfWidth;
    }

    private static string Verdict(IEnumerable<Estimate> advantages)
    {
        var all = advantages.Where(a => !double.IsNaN(a.Mean)).ToList();
        return $"better than one size at {all.Count(a => a.IsPositive)} of {all.Count} thresholds, worse at {all.Count(a => a.IsNegative)}";
    }

    // Returns, over the seeds, the loss of sizes and mixes at the cost of a cascade, minus its own loss. Above the largest cost, it is the
    // loss of the best.
    private static Estimate Advantage(Results costs, string key, string what, Func<double, double> cost)
    {
        var differences = new List<double>();
        for (var seed = 0; seed < costs.Seeds(key, what).Count; seed++)
        {
            var uniform = Uniform()
                .Select(p => (cost(costs.Seeds(p.Name, what)[seed]), costs.Seeds(p.Name, "loss")[seed])).ToList();
            if (Frontier.Best(uniform, cost(costs.Seeds(key, what)[seed])) is { } least)
                differences.Add(least - costs.Seeds(key, "loss")[seed]);
        }

        return differences.Count == 0 ? new Estimate(double.NaN, double.NaN) : Estimate.Of(differences);
    }

    private static string Percent(Estimate share) => new Estimate(100 * share.Mean, 100 * share.HalfWidth).Format("0") + "%";

    // What was measured of each contender, one value a seed.
    private sealed class Results
    {
        private readonly List<string> _keys = [];
        private readonly Dictionary<(string Key, string What), List<double>> _values = [];

        public IEnumerable<(string Key, Dictionary<string, Estimate> Its)> All => _keys.Select(key =>
            (key, _values.Where(v => v.Key.Key == key).ToDictionary(v => v.Key.What, v => Estimate.Of(v.Value))));

        public void Add(string key, string what, double value)
        {
            if (!_keys.Contains(key)) _keys.Add(key);
            if (!_values.TryGetValue((key, what), out var values)) _values[(key, what)] = values = [];
            values.Add(value);
        }

        public List<double> Seeds(string key, string what) => _values[(key, what)];
    }
}

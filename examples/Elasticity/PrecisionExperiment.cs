using System.Diagnostics;
using System.Globalization;
using System.Text;
using MatFormer;
using Paper;
using static TorchSharp.torch;

namespace Elasticity;

/// <summary>A small language model of bytes, for weights of 8, 4 and 2 bits.</summary>
[MatLM(Layers = 3, Width = 64, Heads = 4, Context = 64, Vocabulary = 256)]
[FeedForward(256, Activation.SwiGlu), Precision(8, 4, 2)]
[Granularity("S", 32), Granularity("M", 64), Granularity("L", 128), Granularity("XL", 256)]
public sealed partial class PrecisionLm;

/// <summary>Compares training for fewer bits with rounding of weights that were trained without.</summary>
internal sealed class PrecisionExperiment : Experiment
{
    private const int Steps = 2000;
    private const int Batch = 8;
    private const int Windows = 256;

    private static readonly int[] s_bits = [32, 8, 4, 2];

    private const string Without = "without";
    private const string Calibrated = "without, calibrated";
    private const string With = "for 8, 4, 2";

    private static readonly string[] s_runs = [Without, Calibrated, With];
    private static readonly DecodingWeights[] s_decoded = [DecodingWeights.Int8, DecodingWeights.Nested8];
    private static readonly string[] s_sizes = ["S", "M", "L", "XL"];

    public override string Name => "precision";

    public override string Question => "Are 4 and 2 bits better if training rounds the weights?";

    public override string Run(Bench bench, CancellationToken cancellationToken)
    {
        var steps = Math.Max(2, (int)(Steps * bench.Scale));
        using var corpus = TextCorpus.Open(bench.Data, bench.Folder, cancellationToken: cancellationToken);
        var watch = Stopwatch.StartNew();
        var losses = new Dictionary<(string Run, string Size, int Bits), List<double>>();
        var bytes = new Dictionary<(string Size, int Bits), long>();
        var decoded = new Dictionary<(string Run, string Size, DecodingWeights Weights), List<double>>();
        for (var seed = 1; seed <= bench.Seeds; seed++)
        {
            foreach (var (run, bits) in (ReadOnlySpan<(string, int[])>)[(Without, [32]), (With, [8, 4, 2])])
            {
                manual_seed(seed);
                using var model = new PrecisionLm();
                var options = new TrainerOptions
                {
                    Steps = steps,
                    Batch = Batch,
                    Objective = Objective.Split,
                    LearningRate = 5e-3,
                    Seed = seed,
                    Bits = [.. bits],
                };
                using (var trainer = new Trainer<PrecisionLm>(model, options)) trainer.Fit(corpus, cancellationToken: cancellationToken);
                Measure(model, run);
                if (run == Without)
                {
                    WeightCalibrator.Run(model, corpus, new WeightCalibrationOptions { Windows = Windows }, cancellationToken);
                    Measure(model, Calibrated);
                }

                bench.Log.WriteLine(string.Create(
                    CultureInfo.InvariantCulture, $"Seed {seed}, {run}: {watch.Elapsed.TotalSeconds:0} s"));
            }
        }

        return Write(losses, bytes, decoded, steps, bench);

        void Measure(PrecisionLm model, string run)
        {
            var rows = PrecisionEvaluator.Run(
                model, corpus, s_bits, new EvaluationOptions { Windows = Windows, Continuations = 0 }, cancellationToken);
            foreach (var row in rows)
            {
                foreach (var (result, size) in row.Evaluation.Rows.Zip(row.WeightBytes))
                {
                    var key = (run, result.Costs.Name, row.Bits);
                    if (!losses.TryGetValue(key, out var all)) losses.Add(key, all = []);
                    all.Add(result.BitsPerByte);
                    bytes[(result.Costs.Name, row.Bits)] = size;
                }
            }

            foreach (var weights in s_decoded)
            {
                foreach (var (size, loss) in Decode(model, weights, corpus, cancellationToken))
                {
                    if (!decoded.TryGetValue((run, size, weights), out var all)) decoded.Add((run, size, weights), all = []);
                    all.Add(loss);
                }
            }
        }
    }

    // The bits per byte of each size in the arithmetic of decoding. Windows of validation text are spread evenly. A token is a byte.
    private static IEnumerable<(string Size, double Loss)> Decode(
        PrecisionLm model, DecodingWeights weights, TextCorpus corpus, CancellationToken cancellationToken)
    {
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights, Threads = get_num_threads() });
        var text = new byte[PrecisionLm.Spec.Context];
        foreach (var size in PrecisionLm.Granularities)
        {
            var nats = 0.0;
            engine.Truncate(0, 0);
            engine.Use(0, size.Layers);
            for (var window = 0; window < Windows; window++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                corpus.Validation.Text.Read(window * ((corpus.Validation.Bytes - text.Length) / Windows), text);
                engine.Truncate(0, 0);
                var first = engine.Append(0, [.. text.Select(b => (int)b)], allLogits: true);
                engine.Run();
                for (var i = 1; i < text.Length; i++)
                {
                    var logits = engine.Logits(first + i - 1);
                    var sum = 0.0;
                    foreach (var logit in logits) sum += Math.Exp(logit);
                    nats += Math.Log(sum) - logits[text[i]];
                }
            }

            yield return (size.Name, nats / (Windows * (text.Length - 1)) / Math.Log(2));
        }
    }

    private static string Write(
        Dictionary<(string Run, string Size, int Bits), List<double>> losses, Dictionary<(string Size, int Bits), long> bytes,
        Dictionary<(string Run, string Size, DecodingWeights Weights), List<double>> decoded, int steps, Bench bench)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"""
            # Precision

            A language model of bytes (3 layers, width 64, hidden 32 to 256) was trained for {steps} steps of {Batch} windows of 64 bytes,
            with the objective `split`, on {(bench.Data is null ? "the XML documentation of the .NET SDK" : "other text")}. `without`
            trains in float32. `without, calibrated` is the same model after `calibrate-weights` with {Windows} windows of training text:
            its weights are 8-bit numbers, which were chosen so that 8, 4 and 2 bits change the outputs of each matrix little. `for 8, 4, 2`
            rounds the weights of each step to one of these bits, which is drawn. Both trainings have the same data, steps and FLOPs. The
            numbers are bits per byte of validation text (mean of {bench.Seeds} seeds ± 95% interval) after rounding to the bits of the
            column.


            """);
        text.Append("| size | training | ").AppendJoin(" | ", s_bits.Select(bits => $"{bits} bits")).Append(" |\n|---|---|")
            .Append(string.Concat(s_bits.Select(_ => "---|"))).Append('\n');
        foreach (var size in s_sizes)
        {
            foreach (var run in s_runs)
            {
                text.Append(CultureInfo.InvariantCulture, $"| {size} | {run} | ")
                    .AppendJoin(" | ", s_bits.Select(bits => Estimate.Of(losses[(run, size, bits)]).Format())).Append(" |\n");
            }
        }

        text.Append("\nCalibration, and training for 8, 4 and 2 bits, change the bits per byte by this much (paired by seed; less is ")
            .Append("better):\n\n| size | training | ").AppendJoin(" | ", s_bits.Select(bits => $"{bits} bits")).Append(" |\n|---|---|")
            .Append(string.Concat(s_bits.Select(_ => "---|"))).Append('\n');
        foreach (var size in s_sizes)
        {
            foreach (var run in s_runs.Skip(1))
            {
                text.Append(CultureInfo.InvariantCulture, $"| {size} | {run} | ")
                    .AppendJoin(" | ", s_bits.Select(bits => Difference(run, size, bits).Signed())).Append(" |\n");
            }
        }

        text.Append('\n');
        foreach (var (run, what) in (ReadOnlySpan<(string, string)>)[(Calibrated, "Calibration"), (With, "Training for 8, 4 and 2 bits")])
        {
            foreach (var bits in s_bits.Skip(1))
            {
                text.Append(CultureInfo.InvariantCulture, $"- {what} makes {bits} bits ")
                    .Append(EstimateFormat.Verdict(s_sizes.Select(size => (size, Difference(run, size, bits))))).Append(".\n");
            }
        }

        text.Append(CultureInfo.InvariantCulture, $"""

            Decoding on the CPU keeps 8 bits of a weight in two ways: `int8` has a scale for each row; `nested8` has a scale
            for 32 columns of a row, holds 4 and 2 bits too, and rounds the inputs of products to 8 bits. Both ran over {Windows} windows.
            The bits per byte are:

            | size | training | int8 | nested8 | nested8 - int8 |
            |---|---|---|---|---|

            """);
        foreach (var size in s_sizes)
        {
            foreach (var run in s_runs)
            {
                text.Append(CultureInfo.InvariantCulture, $"| {size} | {run} | {Of(run, size, s_decoded[0]).Format("0.0000")} ")
                    .Append(CultureInfo.InvariantCulture, $"| {Of(run, size, s_decoded[1]).Format("0.0000")} ")
                    .Append(CultureInfo.InvariantCulture, $"| {Against(run, size).Signed4()} |\n");
            }
        }

        text.Append('\n');
        foreach (var run in s_runs)
        {
            text.Append(CultureInfo.InvariantCulture, $"- Trained {run}: `nested8` is ")
                .Append(EstimateFormat.Verdict(s_sizes.Select(size => (size, Against(run, size))))).Append(" than `int8`.\n");
        }

        text.Append("\nThe same model by the bytes of its weights, trained for 8, 4 and 2 bits. "
                + "A row in bold has the best mean so far:\n\n")
            .Append("| bytes | size | bits | bits per byte |\n|---|---|---|---|\n");
        var best = double.PositiveInfinity;
        var choices = from size in s_sizes from bits in (int[])[8, 4, 2] orderby bytes[(size, bits)] select (size, bits);
        foreach (var (size, bits) in choices)
        {
            var estimate = Estimate.Of(losses[(With, size, bits)]);
            var mark = estimate.Mean < best ? "**" : string.Empty;
            best = Math.Min(best, estimate.Mean);
            text.Append(
                CultureInfo.InvariantCulture, $"| {bytes[(size, bits)]:n0} | {mark}{size}{mark} | {bits} | {estimate.Format()} |\n");
        }

        text.Append(CultureInfo.InvariantCulture, $"""

            This was measured with {get_num_threads()} thread on {Machine.Describe()}, a busy machine, by

            ```bash
            {bench.Command("precision")}
            ```

            """);
        return text.ToString();

        Estimate Difference(string run, string size, int bits) =>
            Estimate.Of(losses[(run, size, bits)].Zip(losses[(Without, size, bits)], (a, b) => a - b));

        Estimate Of(string run, string size, DecodingWeights weights) => Estimate.Of(decoded[(run, size, weights)]);

        Estimate Against(string run, string size) =>
            Estimate.Of(decoded[(run, size, s_decoded[1])].Zip(decoded[(run, size, s_decoded[0])], (a, b) => a - b));
    }
}

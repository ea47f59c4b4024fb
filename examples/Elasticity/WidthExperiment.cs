using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using MatFormer;
using Paper;

namespace Elasticity;

/// <summary>A model of bytes whose sizes keep fewer channels, heads and hidden units: from 5% of its parameters.</summary>
[MatLM(Layers = 3, Width = 96, Heads = 3, Context = 64, Vocabulary = 256)]
[FeedForward(384, Activation.SwiGlu)]
[Granularity("XS", 40, Heads = 1, Width = 24), Granularity("S", 96, Heads = 1, Width = 40)]
[Granularity("M", 144, Heads = 2, Width = 64), Granularity("L", 256, Heads = 2, Width = 72), Granularity("XL", 384)]
public sealed partial class WidthLm;

/// <summary>The same whole model, whose sizes keep fewer hidden units only. Its S and L have as many parameters as M and L above.</summary>
[MatLM(Layers = 3, Width = 96, Heads = 3, Context = 64, Vocabulary = 256)]
[FeedForward(384, Activation.SwiGlu)]
[Granularity("S", 16), Granularity("M", 64), Granularity("L", 120), Granularity("XL", 384)]
public sealed partial class HiddenLm;

/// <summary>Compares sizes that differ in the residual stream with sizes that differ in hidden units, and models trained alone.</summary>
internal sealed class WidthExperiment : Experiment
{
    private const int Steps = 600;
    private const int WarmSteps = 200;
    private const int Batch = 8;
    private const int Windows = 128;
    private const double LearningRate = 4e-3;

    // Sizes of two models are compared if their numbers of parameters differ by less than this share.
    private const double Near = 0.01;

    private static readonly string[] s_orders =
        ["original order", "hidden units by importance", "hidden units and channels by importance"];

    public override string Name => "width";

    public override string Question => "What do sizes with fewer channels lose against fewer hidden units, and models trained alone?";

    public override string Run(Bench bench, CancellationToken cancellationToken)
    {
        using var corpus = TextCorpus.Open(bench.Data, bench.Folder, cancellationToken: cancellationToken);
        var steps = Math.Max(WidthLm.Granularities.Count, (int)(Steps * bench.Scale));
        var warmSteps = Math.Max(1, (int)(WarmSteps * Math.Min(1, bench.Scale)));
        var found = new Found();
        for (var seed = 1; seed <= bench.Seeds; seed++)
        {
            using (var model = Trained<WidthLm>("all", steps, [], seed)) found.Add("width", Losses(model));
            using (var model = Trained<HiddenLm>("all", steps, [], seed)) found.Add("hidden", Losses(model));
            foreach (var size in WidthLm.Granularities)
            {
                ImmutableArray<double> only = [.. WidthLm.Granularities.Select(g => g == size ? 1.0 : 0)];
                using (var model = Trained<WidthLm>($"{size.Name}-alone", steps, only, seed)) found.Add($"alone {size.Name}", Loss(model));
                using (var model = Trained<WidthLm>($"{size.Name}-share", steps / WidthLm.Granularities.Count, only, seed))
                    found.Add($"share {size.Name}", Loss(model));

                double[] Loss(WidthLm model) => LossesOf(model, [size]);
            }

            foreach (var order in s_orders)
            {
                using var model = Trained<WidthLm>($"{WidthLm.Granularities[^1].Name}-alone", steps, [], seed);
                if (order != s_orders[0]) WarmStart.OrderHiddenUnits(model, corpus);
                if (order == s_orders[^1]) WarmStart.OrderChannels(model, corpus);
                found.Add($"before, {order}", Losses(model));
                Train(model, warmSteps, [], seed);
                found.Add($"after, {order}", Losses(model));
            }
        }

        return new Page(bench, corpus, steps, warmSteps, found).Write();

        TModel Trained<TModel>(string name, int steps, ImmutableArray<double> probabilities, int seed)
            where TModel : MatFormerModel, IMatFormer<TModel> =>
            bench.Trained<TModel>(name, Options(steps, probabilities, seed), corpus, cancellationToken);

        void Train<TModel>(TModel model, int steps, ImmutableArray<double> probabilities, int seed)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            using var trainer = new Trainer<TModel>(model, Options(steps, probabilities, seed));
            if (!trainer.Fit(corpus, cancellationToken: cancellationToken).Finished)
                throw new OperationCanceledException(cancellationToken);
        }

        static TrainerOptions Options(int steps, ImmutableArray<double> probabilities, int seed) => new()
        {
            Steps = steps,
            Batch = Batch,
            Objective = Objective.Split,
            Probabilities = probabilities,
            LearningRate = LearningRate,
            Seed = seed,
        };

        double[] Losses<TModel>(TModel model)
            where TModel : MatFormerModel, IMatFormer<TModel> => LossesOf(model, TModel.Granularities);

        double[] LossesOf<TModel>(TModel model, IReadOnlyList<Profile<TModel>> profiles)
            where TModel : MatFormerModel, IMatFormer<TModel> =>
            [.. Evaluator.Run(
                model, [.. profiles], corpus, new EvaluationOptions { Windows = Windows, Continuations = 0 },
                cancellationToken: cancellationToken).Rows.Select(row => row.BitsPerByte)];
    }

    // The bits per byte of what was measured: for each contender, the sizes of each seed.
    private sealed class Found
    {
        private readonly Dictionary<string, List<double[]>> _losses = [];

        public void Add(string contender, double[] losses)
        {
            if (!_losses.TryGetValue(contender, out var all)) _losses.Add(contender, all = []);
            all.Add(losses);
        }

        public Estimate Of(string contender, int size = 0) => Estimate.Of(_losses[contender].Select(losses => losses[size]));

        // The difference within a seed. Below zero, the first is better.
        public Estimate Minus(string one, int size, string other, int otherSize) =>
            Estimate.Of(_losses[one].Zip(_losses[other], (a, b) => a[size] - b[otherSize]));
    }

    private sealed class Page(Bench bench, TextCorpus corpus, int steps, int warmSteps, Found found)
    {
        private static readonly IReadOnlyList<Profile<WidthLm>> s_sizes = WidthLm.Granularities;

        private readonly StringBuilder _text = new();

        public string Write()
        {
            Sizes();
            WarmStarts();
            Conclusions();
            return _text.ToString();
        }

        private void Sizes()
        {
            var whole = s_sizes[^1];
            var arithmetic = s_sizes.Average(size => (double)size.Flops) / whole.Flops;
            var least = HiddenLm.Granularities[0];
            Write($"""
                # Width of the residual stream

                `{bench.Command("width")}` writes this
                page, here on {Machine.Describe()}. Other programs may have run beside it.

                One language model of bytes (3 layers, width 96, 3 heads, 384 hidden units) has sizes from {Share(s_sizes[0])} of its
                parameters on, because they keep fewer channels of the residual stream, and with them fewer heads and hidden units. Models
                are trained for {steps} steps of {Batch} windows of 64 bytes with the objective `split`, in float32, with {bench.Seeds} seeds.
                The numbers are bits per byte on {Windows} windows of validation text, with 95% intervals over the seeds. The text is
                {corpus.Describe()}.

                - *Width* is this model. Each size is trained on a fifth of each batch.
                - *Hidden units only* is a model of the same whole size, whose sizes keep all channels and heads. It has
                  {HiddenLm.Granularities.Count} sizes, so each is trained on a quarter of each batch. Its smallest size has
                  {least.Layers[0].HiddenWidth} hidden units in each layer and {Share(least)} of the parameters: embeddings and
                  attention stay.
                - *Alone* is a model of one size, trained on whole batches: on five times the tokens that this size gets in the model of
                  all sizes.
                - *Alone, a fifth* is the same in a fifth of the steps. Its five models together take the tokens and the FLOPs of the
                  one model of all sizes, which are {arithmetic:0%} of what the whole size takes alone in all steps.

                | size | channels | parameters | share | width | hidden units only | alone | alone, a fifth |
                |---|---|---|---|---|---|---|---|

                """);
            for (var i = 0; i < s_sizes.Count; i++)
            {
                var size = s_sizes[i];
                var partner = Partner(size) is { } p ? found.Of("hidden", p).Format() : string.Empty;
                Write($"| {size.Name} | {size.Width} | {size.ParameterCount:n0} | {Share(size)} ")
                    .Write($"| {found.Of("width", i).Format()} | {partner} ")
                    .Write($"| {found.Of($"alone {size.Name}").Format()} | {found.Of($"share {size.Name}").Format()} |\n");
            }

            Write($"\nAll sizes of the model that bends hidden units only:\n\n")
                .Write($"| size | hidden units | parameters | share | bits per byte |\n|---|---|---|---|---|\n");
            for (var i = 0; i < HiddenLm.Granularities.Count; i++)
            {
                var size = HiddenLm.Granularities[i];
                Write($"| {size.Name} | {size.Layers[0].HiddenWidth} | {size.ParameterCount:n0} | {Share(size)} ")
                    .Write($"| {found.Of("hidden", i).Format()} |\n");
            }

            Write($"""

                Differences within a seed. Below zero, the model of all sizes is better:

                | size | width - hidden units only | width - alone | width - alone, a fifth |
                |---|---|---|---|

                """);
            for (var i = 0; i < s_sizes.Count; i++)
            {
                var size = s_sizes[i];
                var partner = Partner(size) is { } p ? found.Minus("width", i, "hidden", p).Signed() : string.Empty;
                Write($"| {size.Name} | {partner} | {found.Minus("width", i, $"alone {size.Name}", 0).Signed()} ")
                    .Write($"| {found.Minus("width", i, $"share {size.Name}", 0).Signed()} |\n");
            }
        }

        private void WarmStarts()
        {
            Write($"""

                ## Warm start of a dense model

                The whole size that was trained alone is a dense model: nothing in its training made the first channels or hidden units
                more important. It begins the training of all sizes, as `train --init` does ([training](../training.md)): in its original
                order, with each layer's hidden units sorted by importance, and with the channels sorted as well
                (`WarmStart.OrderChannels`). Bits per byte right after the warm start and after {warmSteps} further steps:

                | size |{string.Concat(s_orders.Select(order => $" {order} | after {warmSteps} steps |"))}
                |---|{string.Concat(s_orders.Select(_ => "---|---|"))}

                """);
            for (var i = 0; i < s_sizes.Count; i++)
            {
                Write($"| {s_sizes[i].Name} |");
                foreach (var order in s_orders)
                    Write($" {found.Of($"before, {order}", i).Format()} | {found.Of($"after, {order}", i).Format()} |");
                Write($"\n");
            }
        }

        private void Conclusions()
        {
            var all = Enumerable.Range(0, s_sizes.Count).ToList();
            var equal = all.Where(i => Partner(s_sizes[i]) is not null && i < s_sizes.Count - 1).ToList();
            var narrow = all.SkipLast(1).ToList();
            var names = string.Join(", ", equal.Select(i => s_sizes[i].Name));
            var (first, last) = (s_orders[0], s_orders[^1]);
            Write($"\n## What it shows\n\n");
            Write($"- At equal parameters ({names}), sizes with fewer channels are\n  ")
                .Write($"{Verdict(equal, i => found.Minus("width", i, "hidden", Partner(s_sizes[i])!.Value))} than sizes with ")
                .Write($"fewer hidden units only.\n");
            Write($"- The whole size of the model with widths is ")
                .Write($"{Verdict([all[^1]], i => found.Minus("width", i, "hidden", HiddenLm.Granularities.Count - 1))} than that of ")
                .Write($"the model of hidden units only.\n");
            Write($"- Below {Share(HiddenLm.Granularities[0])} of the parameters, only widths have sizes here, down to ")
                .Write($"{Share(s_sizes[0])}.\n");
            Write($"- Against models trained alone on five times the tokens of a size, the model of all sizes is\n  ")
                .Write($"{Verdict(all, i => found.Minus("width", i, $"alone {s_sizes[i].Name}", 0))}.\n");
            Write($"- Against models trained alone with the same tokens and FLOPs in all, it is ")
                .Write($"{Verdict(all, i => found.Minus("width", i, $"share {s_sizes[i].Name}", 0))}.\n");
            Write($"- Right after the warm start, the order of importance makes the smaller sizes\n  ")
                .Write($"{Verdict(narrow, i => found.Minus($"before, {last}", i, $"before, {first}", i))} than the original order;\n  ")
                .Write($"after {warmSteps} steps {Verdict(narrow, i => found.Minus($"after, {last}", i, $"after, {first}", i))}.\n");
            Write($"- Of that, sorting the channels besides the hidden units makes the smaller sizes\n  ")
                .Write($"{Verdict(narrow, i => found.Minus($"before, {last}", i, $"before, {s_orders[1]}", i))} at once, and ")
                .Write($"{Verdict(narrow, i => found.Minus($"after, {last}", i, $"after, {s_orders[1]}", i))} after {warmSteps} steps.\n");
            Write($"- After these {warmSteps} steps, the sizes of the warm start are\n  ")
                .Write($"{Verdict(all, i => found.Minus($"after, {last}", i, "width", i))} than those trained for {steps} steps from ")
                .Write($"random weights (the dense model had {steps} steps before).\n");
        }

        private static string Verdict(List<int> sizes, Func<int, Estimate> difference) =>
            EstimateFormat.Verdict(sizes.Select(i => (s_sizes[i].Name, difference(i))));

        // The size of the other model with as many parameters.
        private static int? Partner(Profile<WidthLm> size)
        {
            for (var i = 0; i < HiddenLm.Granularities.Count; i++)
            {
                if (Math.Abs(((double)HiddenLm.Granularities[i].ParameterCount / size.ParameterCount) - 1) < Near) return i;
            }

            return null;
        }

        private static string Share<TModel>(Profile<TModel> size)
            where TModel : MatFormerModel, IMatFormer<TModel> => string.Create(
                CultureInfo.InvariantCulture, $"{(double)size.ParameterCount / TModel.Granularities[^1].ParameterCount:0%}");

        private Page Write(FormattableString text)
        {
            _text.Append(text.ToString(CultureInfo.InvariantCulture));
            return this;
        }
    }
}

using System.Globalization;
using System.Text;
using MatFormer;
using Paper;
using static TorchSharp.torch;

namespace Elasticity;

/// <summary>A model whose sizes differ in their hidden units.</summary>
[MatLM(Layers = 6, Width = 96, Heads = 4, Context = 128, Vocabulary = 256)]
[FeedForward(384, Activation.SwiGlu)]
[Granularity("S", 48), Granularity("M", 96), Granularity("L", 192), Granularity("XL", 384)]
public sealed partial class BudgetLm;

/// <summary>The same model, whose sizes differ in their heads too.</summary>
[MatLM(Layers = 6, Width = 96, Heads = 4, Context = 128, Vocabulary = 256)]
[FeedForward(384, Activation.SwiGlu)]
[Granularity("S", 48, Heads = 1), Granularity("M", 96, Heads = 2), Granularity("L", 192), Granularity("XL", 384)]
public sealed partial class BudgetHeadsLm;

/// <summary>Compares learned mixes with those of Mix'n'Match and of the planner, at equal budgets.</summary>
internal sealed class Budgets : Experiment
{
    private const int Steps = 1200;
    private const int Windows = 128;
    private static readonly double[] s_shares = [0.15, 0.3, 0.45, 0.7];

    public override string Name => "budgets";

    public override string Question => "Is a mix that gradients find for a budget better than Mix'n'Match?";

    public override string Run(Bench bench, CancellationToken cancellationToken)
    {
        using var corpus = TextCorpus.Open(bench.Data, bench.Folder, Tokenizer.ByteLevel, cancellationToken: cancellationToken);
        var steps = Math.Max(1, (int)(Steps * bench.Scale));
        var text = new StringBuilder();
        text.AppendLine("# Learned budgets").AppendLine();
        text.AppendLine(string.Create(CultureInfo.InvariantCulture, $"""
            `dotnet run --project examples/Elasticity -c Release -- budgets --seeds {bench.Seeds}` writes this page, here on
            {Machine.Describe()}.

            Two models of 6 layers (width 96, 384 hidden units, 4 heads) were trained for {steps} steps of 16 windows of 128 bytes
            with the objective `sampled-per-layer`, with {bench.Seeds} seeds. In one, sizes differ in their hidden units; in the
            other, in their heads too. Each budget is a share of the parameters between S and XL. The tables have bits per byte on
            {Windows} windows of held-out text, with 95% intervals over the seeds. The text is
            {corpus.Describe()}.

            - *uniform* is the largest granularity within the budget.
            - *the compiler* is the mix that `[Profile("P", MaxParameters = ...)]` is solved to: two adjacent granularities, the
              narrower one in the first layers (Mix'n'Match, arXiv 2310.07707, section 3.3).
            - *plan* is the best mix of `plan --search evolutionary`. It chooses by the loss on 16 of these windows, which
              favours it.
            - *learned* is the mix of `plan --search learned`, which saw only training text.
            - *learned - compiler* and *learned - plan* are differences within a seed: below 0, the learned mix is better.
            """));
        Table<BudgetLm>("Hidden units", text, bench, corpus, steps, cancellationToken);
        Table<BudgetHeadsLm>("Hidden units and heads", text, bench, corpus, steps, cancellationToken);
        return text.ToString();
    }

    private static void Table<TModel>(
        string heading, StringBuilder text, Bench bench, TextCorpus corpus, int steps, CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var rows = s_shares.Select(_ => new List<Found>()).ToArray();
        for (var seed = 1; seed <= bench.Seeds; seed++)
        {
            using var model = Trained<TModel>(bench, corpus, steps, seed, cancellationToken);
            using var engine = DecodingEngine.Create(model);
            for (var i = 0; i < rows.Length; i++)
            {
                var found = Find(model, engine, corpus, s_shares[i], seed, cancellationToken);
                bench.Log.WriteLine($"{TModel.Spec.Name}, seed {seed}, {s_shares[i]:0%}: {found}");
                rows[i].Add(found);
            }
        }

        text.AppendLine().AppendLine($"## {heading}").AppendLine();
        text.AppendLine("| budget | uniform | the compiler | plan | learned | learned - compiler | learned - plan | learned mixes |");
        text.AppendLine("|---|---|---|---|---|---|---|---|");
        for (var i = 0; i < rows.Length; i++)
        {
            var its = rows[i];
            string Of(Func<Found, double> loss) => Estimate.Of(its.Select(loss)).Format("0.0000");
            string Difference(Func<Found, double> loss) => Estimate.Of(its.Select(loss)).Format("+0.0000;-0.0000");
            text.AppendLine(string.Create(
                CultureInfo.InvariantCulture,
                $"| {s_shares[i]:0%} | {Of(f => f.Uniform)} | {Of(f => f.Solved)} | {Of(f => f.Planned)} | {Of(f => f.Learned)} "
                + $"| {Difference(f => f.Learned - f.Solved)} | {Difference(f => f.Learned - f.Planned)} "
                + $"| {string.Join(", ", its.Select(f => $"`{f.Pattern}`"))} |"));
        }
    }

    private static Found Find<TModel>(
        TModel model, DecodingEngine engine, TextCorpus corpus, double share, int seed, CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var (least, most) = (TModel.Granularities[0].ParameterCount, TModel.Granularities[^1].ParameterCount);
        var budget = new PlanBudget { MaxParameters = least + (long)(share * (most - least)) };
        var uniform = TModel.Granularities.Last(g => g.ParameterCount <= budget.MaxParameters);
        var solved = Adjacent<TModel>().Last(p => p.ParameterCount <= budget.MaxParameters);
        var learned = ProfilePlanner.Learn(model, corpus, budget, seed, cancellationToken: cancellationToken);
        var plan = ProfilePlanner.Run(
            model, engine, corpus, new PlanOptions { Budget = budget, Search = PlanSearch.Evolutionary, Seed = seed, Points = 6 },
            cancellationToken: cancellationToken);
        var planned = new Profile<TModel>(plan.Best!.Pattern, plan.Best.Layers);
        var losses = Evaluator.Run(
            model, [uniform, solved, planned, learned], corpus, new EvaluationOptions { Windows = Windows, Continuations = 0 },
            cancellationToken: cancellationToken).Rows.Select(row => row.BitsPerByte).ToList();
        return new Found(losses[0], losses[1], losses[2], losses[3], learned.Pattern);
    }

    // The mixes of two adjacent granularities, the narrower one in the first layers, in the order of their sizes.
    internal static IEnumerable<Profile<TModel>> Adjacent<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        for (var narrow = 0; narrow < TModel.Granularities.Count - 1; narrow++)
        {
            var (first, last) = (TModel.Granularities[narrow].Layers, TModel.Granularities[narrow + 1].Layers);
            for (var wide = 0; wide <= first.Length; wide++)
                yield return new Profile<TModel>("mix", [.. first[..^wide], .. last[^wide..]]);
        }
    }

    private static TModel Trained<TModel>(
        Bench bench, TextCorpus corpus, int steps, int seed, CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var path = Path.Combine(bench.Folder, $"{TModel.Spec.Name}-{steps}-{seed}.safetensors");
        if (!File.Exists(path))
        {
            bench.Log.WriteLine($"Trains {TModel.Spec.Name} with seed {seed}: {steps} steps.");
            manual_seed(seed);
            using var fresh = TModel.Create(CPU);
            fresh.ComputeType = ScalarType.BFloat16;
            var options = new TrainerOptions
            {
                Steps = steps,
                Batch = 16,
                Objective = Objective.SampledPerLayer,
                LearningRate = 2e-3,
                Seed = seed,
            };
            using var trainer = new Trainer<TModel>(fresh, options);
            if (!trainer.Fit(corpus, cancellationToken: cancellationToken).Finished)
                throw new OperationCanceledException(cancellationToken);
            fresh.Save(path);
        }

        var model = Checkpoint.OpenUniversal<TModel>(path, CPU);
        model.ComputeType = ScalarType.BFloat16;
        return model;
    }

    private sealed record Found(double Uniform, double Solved, double Planned, double Learned, string Pattern);
}

using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Learns what each choice of a layer adds to the loss of mixes near a budget. Each step draws a mix by the scores learned so far, and
/// moves every layer of it to a random point between two neighbouring choices. The derivative of the loss by the mask of the slab between
/// them is a sample of what the slab is worth: its mean over such points is the difference of the losses of both choices (integrated
/// gradients, arXiv 1703.01365). One backward pass gives a sample for every layer, with the other layers as the budget lets them be.
/// </summary>
internal static class MixLearner
{
    private const int Steps = 64;

    // A step's batch: windows of text, or images or pairs.
    private const int Windows = 4;
    private const int Examples = 64;

    // The neighbours of the solved mix that are compared with it, each on this many other batches of the training data.
    private const int Rivals = 8;
    private const int Comparisons = 8;

    // The mixes to draw from become this sharp: the heat of the softmax over a layer's scores, relative to the mean range of the scores.
    private const double Heat = 0.5;

    /// <summary>
    /// Finds a mix for a budget, from training data. The model's weights are changed meanwhile, and are as before afterwards.
    /// </summary>
    /// <returns>
    /// The mix, and its loss on the batches on which it was compared with others, which are the same for all spaces. Null if no mix meets
    /// the budget.
    /// </returns>
    public static (int[] Mix, double Loss)? Run<TModel>(
        TModel model, MixSpace space, TrainingData data, MixTable costs, PlanBudget budget, long seed, Action<string>? progress,
        CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        if (MixSearch.Best(space, costs, budget) is null) return null;
        var size = space.Spec.Kind == ModelKind.LanguageModel ? Evaluator.BatchOf(space.Spec, Windows) : Examples;
        var batches = Feed.Of(data).Batches(space.Spec, new TrainerOptions { Batch = size, Seed = seed });
        var batch = batches.NewBatch();
        double[][] scores;
        using (var masked = new MixMasks<TModel>(model, space))
        {
            scores = Learn(space, costs, budget, Steps, seed, (step, masks) =>
            {
                cancellationToken.ThrowIfCancellationRequested();
                batches.Fill(step, batch);
                masked.Set(masks);
                return masked.Differentiate(batch).Derivatives;
            });
        }

        var learned = costs.WithLosses(scores);
        var best = MixSearch.Best(space, learned, budget)!;
        var rivals = MixSearch.Neighbours(space, learned, budget, best, Rivals).Prepend(best).ToList();
        var streams = rivals.ConvertAll(mix => Streams.Of(space.LayersOf(mix)));
        var losses = new double[rivals.Count];
        using var unrecorded = no_grad();
        for (var i = 1; i <= Comparisons; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            batches.Fill(Steps + i, batch);
            using var scope = NewDisposeScope();
            var (input, targets) = batch.ToTensors(model.Device);
            for (var rival = 0; rival < losses.Length; rival++)
                losses[rival] += model.Losses(streams[rival], input, targets).to(ScalarType.Float64).sum().item<double>();
        }

        progress?.Invoke($"Learned from {Steps} batches of training data, and compared {Counted.Of(rivals.Count, "mix", "mixes")} on "
            + $"{Comparisons} others.");
        var least = losses.IndexOf(losses.Min());
        return (rivals[least], losses[least]);
    }

    /// <summary>Learns from the derivatives that a function returns.</summary>
    /// <param name="space">The mixes.</param>
    /// <param name="costs">The costs of the mixes.</param>
    /// <param name="budget">The limits. The expected costs of the drawn mixes meet them.</param>
    /// <param name="steps">The number of mixes to draw.</param>
    /// <param name="seed">The seed of the draws.</param>
    /// <param name="derivatives">
    /// Returns the derivatives of the loss by the masks of the choices of each layer, given a step, counted from 1, and the masks.
    /// </param>
    /// <returns>The loss that each choice of each layer adds to that of the whole layer.</returns>
    public static double[][] Learn(
        MixSpace space, MixTable costs, PlanBudget budget, int steps, long seed, Func<int, double[][], double[][]> derivatives)
    {
        var limits = LimitsOf(costs, budget);
        var (sums, counts) = (NewTable(space), NewTable(space));
        var scores = NewTable(space);
        for (var step = 1; step <= steps; step++)
        {
            var random = new CounterRandom(seed, RandomPurpose.Planning, step);
            var range = scores.Average(layer => layer.Max() - layer.Min());
            var chances = Chances(scores, limits, range > 0 ? Heat * range : 1);
            var (masks, slabs) = (NewTable(space), new int[space.Layers]);
            for (var layer = 0; layer < slabs.Length; layer++)
            {
                var choices = masks[layer].Length;
                if (choices == 1)
                {
                    masks[layer][0] = 1;
                    continue;
                }

                // From the drawn choice, the layer goes a part of the way up or down.
                var choice = Draw(chances[layer], random.Unit(3L * layer));
                var isUp = choice == 0 || (choice < choices - 1 && random.Unit((3L * layer) + 1) < 0.5);
                var slab = slabs[layer] = isUp ? choice + 1 : choice;
                masks[layer].AsSpan(0, slab).Fill(1);
                masks[layer][slab] = random.Unit((3L * layer) + 2);
            }

            var its = derivatives(step, masks);
            for (var layer = 0; layer < slabs.Length; layer++)
            {
                if (slabs[layer] == 0) continue;
                sums[layer][slabs[layer]] += its[layer][slabs[layer]];
                counts[layer][slabs[layer]]++;
            }

            scores = Scores(sums, counts);
        }

        return scores;
    }

    /// <summary>
    /// Returns the probability of each choice of each layer: the softmax of what it saves in loss and in cost. The price of the cost is as
    /// low as lets the expected costs meet the limits.
    /// </summary>
    internal static double[][] Chances(double[][] scores, IReadOnlyList<Limit> limits, double heat)
    {
        const int Halvings = 60;
        var (low, high) = (0.0, heat);
        if (Meets(Softmax(0))) return Softmax(0);

        // If only the cheapest mix meets a limit, rounding may keep its expected cost above the limit at any price.
        for (var doublings = 0; !Meets(Softmax(high)) && doublings < 1000; doublings++) high *= 2;
        for (var i = 0; i < Halvings; i++)
        {
            var middle = (low + high) / 2;
            if (Meets(Softmax(middle))) high = middle;
            else low = middle;
        }

        return Softmax(high);

        double[][] Softmax(double price) => [.. scores.Select((layer, at) =>
        {
            var exponents = layer.Select((score, choice) =>
                -(score + (price * limits.Sum(limit => limit.Added[at][choice]))) / heat).ToList();
            var most = exponents.Max();
            var powers = exponents.ConvertAll(exponent => Math.Exp(exponent - most));
            var sum = powers.Sum();
            return powers.Select(power => power / sum).ToArray();
        })];

        bool Meets(double[][] chances) => limits.All(limit => limit.Added.Zip(chances)
            .Sum(layer => layer.First.Zip(layer.Second, (added, chance) => added * chance).Sum()) <= limit.Room);
    }

    /// <summary>The limits of a budget.</summary>
    internal static IReadOnlyList<Limit> LimitsOf(MixTable costs, PlanBudget budget)
    {
        var limits = new List<Limit>();
        Add(budget.MaxMilliseconds, cost => cost.Milliseconds);
        Add(budget.MaxMemoryBytes, cost => cost.MemoryBytes);
        Add(budget.MaxParameters, cost => cost.Parameters);
        Add(budget.MaxFlops, cost => cost.Flops);
        return limits;

        void Add(double? most, Func<MixCost, double> of)
        {
            if (most is not { } limit) return;
            var whole = of(costs.Whole);
            limits.Add(new Limit(
                (limit - whole) / whole, [.. costs.Differences.Select(layer => layer.Select(cost => of(cost) / whole).ToArray())]));
        }
    }

    private static int Draw(double[] chances, double unit)
    {
        var choice = 0;
        for (; choice < chances.Length - 1 && unit >= chances[choice]; choice++) unit -= chances[choice];
        return choice;
    }

    // A slab's worth is the mean of its samples and of one more, the mean over all layers, so that a slab without samples has a worth too.
    private static double[][] Scores(double[][] sums, double[][] counts) => [.. sums.Select((layer, at) =>
    {
        var scores = new double[layer.Length];
        for (var slab = layer.Length - 1; slab > 0; slab--)
        {
            var all = counts.Sum(layer => layer.ElementAtOrDefault(slab));
            var mean = all == 0 ? 0 : sums.Sum(layer => layer.ElementAtOrDefault(slab)) / all;
            scores[slab - 1] = scores[slab] - ((layer[slab] + mean) / (counts[at][slab] + 1));
        }

        return scores;
    })];

    private static double[][] NewTable(MixSpace space) => [.. space.Choices.Select(choices => new double[choices.Length])];

    /// <summary>A limit, and what each choice of each layer adds to the cost of the whole model, both as shares of that cost.</summary>
    /// <param name="Room">The limit, less the cost of the whole model.</param>
    /// <param name="Added">The added costs.</param>
    internal sealed record Limit(double Room, double[][] Added);
}

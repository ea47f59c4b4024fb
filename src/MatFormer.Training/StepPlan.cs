using System.Collections.Immutable;

namespace MatFormer;

/// <summary>The submodels that one step trains, and how their losses are combined.</summary>
/// <param name="Streams">The submodels, widest first, and their rows of the batch.</param>
/// <param name="Names">
/// The name of each stream's loss: the name of a granularity, <c>mix</c>, <c>mix-</c> and the granularity in which a branch ends, or
/// <c>routed-</c> and the budget of a routed pass.
/// </param>
/// <param name="Weights">The factor of each stream's loss in the sum of the losses.</param>
internal sealed record StepPlan(Streams Streams, ImmutableArray<string> Names, ImmutableArray<float> Weights)
{
    /// <summary>
    /// Returns the factors of the losses (R), or with distillation of the losses and divergences (2, R), in the sum that is minimised.
    /// </summary>
    /// <param name="distilled">The share of the divergences in the loss, or null without distillation.</param>
    /// <param name="students">The index of the first stream that learns from the largest granularity.</param>
    public float[] Factors(double? distilled, int students)
    {
        if (distilled is not { } share) return [.. Weights];
        var losses = Weights.Select((weight, i) => i < students ? weight : (float)(weight * (1 - share)));
        return [.. losses, .. Weights.Select((weight, i) => i < students ? 0 : (float)(weight * share))];
    }
}

/// <summary>Creates the plans of an objective. A plan depends only on the options and the step.</summary>
internal sealed class Planner<TModel>
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    /// <summary>The name of a random mix's loss.</summary>
    public const string Mix = "mix";

    private const string Branch = Mix + "-";

    private readonly TrainerOptions _options;
    private readonly double[] _cumulative;
    private readonly StepPlan[] _alone;
    private readonly double _routedShare;

    /// <param name="options">The options, which the caller has validated.</param>
    public Planner(TrainerOptions options)
    {
        _options = options;
        _cumulative = Cumulative(options.Probabilities);
        _alone = [.. TModel.Granularities.Select((_, i) => Shared([Named(i)]))];
        Routed = [.. Budgets.Select(budget => new StepPlan(Streams.Routed<TModel>(budget), [RoutingBudget.NameOf(budget)], [1]))];
        _routedShare = options.RoutedShareOf(TModel.Spec);
        All = Shared([.. TModel.Granularities.Select((_, i) => Named(^(i + 1)))]);
    }

    /// <summary>All names that losses may have, in the order in which they are shown.</summary>
    public static ImmutableArray<string> AllNames { get; } =
        [.. TModel.Granularities.Select(g => g.Name), Mix, .. TModel.Granularities.Select(g => Branch + g.Name),
        .. Budgets.Select(RoutingBudget.NameOf)];

    /// <summary>The plan of all granularities over the same batch.</summary>
    public StepPlan All { get; }

    /// <summary>The plans of routed passes at the declared budgets.</summary>
    public ImmutableArray<StepPlan> Routed { get; }

    /// <summary>Returns the plan of a step. Steps are numbered from 1.</summary>
    public StepPlan At(long step)
    {
        // All streams of a step have the same compressed tokens.
        if (!Grids.IsEmpty)
            return At(Uniform(step), Grids[(int)new CounterRandom(_options.Seed, RandomPurpose.Grid).Below(Grids.Length, step)]);
        if (_routedShare == 0) return Uniform(step);

        // The number decides both whether the step is routed and the budget.
        var unit = new CounterRandom(_options.Seed, RandomPurpose.Routing).Unit(step);
        return unit < _routedShare ? Routed[Math.Min(Routed.Length - 1, (int)(unit / _routedShare * Routed.Length))] : Uniform(step);
    }

    // The plan of a step that is not routed.
    private StepPlan Uniform(long step) => _options.Objective switch
    {
        Objective.Sampled => _alone[Drawn(step)],
        Objective.Joint => All,
        Objective.Split => Split(step),
        Objective.SampledPerLayer => Shared([RandomMix(step)]),
        Objective.Sandwich => Shared(Sandwich(step)),
        _ => Branching(step),
    };

    /// <summary>Returns the bits that a step rounds weights to, and the factor of the losses at each of them.</summary>
    public ImmutableArray<(int Bits, float Factor)> BitsAt(long step)
    {
        ImmutableArray<int> bits = _options.BitsOf(TModel.Spec);
        if (_options.Objective == Objective.Joint)
        {
            var share = _options.Reduction == Reduction.Mean ? 1.0 / bits.Length : 1;
            return [.. bits.Select((b, i) => (b, (float)(WeightOf(i) * share)))];
        }

        var drawn = (int)new CounterRandom(_options.Seed, RandomPurpose.Bits).Below(bits.Length, step);
        return [(bits[drawn], (float)WeightOf(drawn))];

        double WeightOf(int index) => _options.BitWeights.IsEmpty ? 1 : _options.BitWeights[index];
    }

    /// <summary>Returns plans whose costs, weighted by their shares, add up to about the mean cost of a step.</summary>
    public IEnumerable<(StepPlan Plan, double Share)> Typical() => !Grids.IsEmpty
        ? TypicalUniform().SelectMany(typical => Grids.Select(grid => (At(typical.Plan, grid), typical.Share / Grids.Length)))
        : (_routedShare == 1 ? [] : TypicalUniform().Select(typical => (typical.Plan, typical.Share * (1 - _routedShare))))
        .Concat(_routedShare == 0 ? [] : Routed.Select(plan => (plan, _routedShare / Routed.Length)));

    private IEnumerable<(StepPlan Plan, double Share)> TypicalUniform()
    {
        const int drawn = 8;
        return _options.Objective switch
        {
            Objective.Sampled => _alone.Select((plan, i) => (Plan: plan, Share: Probability(i))).Where(p => p.Share > 0),
            Objective.Joint => [(All, 1)],
            Objective.Branching => TypicalBranches(),
            _ => Enumerable.Range(1, drawn).Select(step => (Uniform(step), 1.0 / drawn)),
        };
    }

    // Systematic sampling: on average each granularity gets its share of the batch, and no step is off by a whole row.
    private StepPlan Split(long step)
    {
        var offset = new CounterRandom(_options.Seed, RandomPurpose.Granularity).Unit(step);
        var streams = new List<Profile<TModel>>();
        var rows = new List<int>();
        for (var i = TModel.Granularities.Count - 1; i >= 0; i--)
        {
            var count = RowsUpTo(i) - RowsUpTo(i - 1);
            if (count == 0) continue;
            streams.Add(TModel.Granularities[i]);
            rows.Add(count * TModel.Spec.RowsPerExample);
        }

        // Weighting by rows makes every token count the same, whichever granularity it goes to.
        return new StepPlan(
            streams is [var only] ? Streams.Of(only) : Streams.Split<TModel>([.. streams], [.. rows]),
            [.. streams.Select(s => s.Name)],
            [.. streams.Select((s, i) => (float)(WeightOf(s) * rows[i] / (_options.Batch * TModel.Spec.RowsPerExample)))]);

        int RowsUpTo(int granularity) => granularity < 0 ? 0 : (int)Math.Floor((_cumulative[granularity] * _options.Batch) + offset);
    }

    // A step's cost falls linearly with the layer at which the streams part, so the middle layer has the mean cost.
    private IEnumerable<(StepPlan Plan, double Share)> TypicalBranches()
    {
        var last = TModel.Spec.Layers - 1;
        for (var prefix = 0; prefix < _cumulative.Length; prefix++)
        {
            var share = Probability(prefix) / 2;
            if (share == 0) continue;
            yield return (Branching(prefix, last / 2), share);
            yield return (Branching(prefix, (last + 1) / 2), share);
        }
    }

    private StepPlan Branching(long step) =>
        Branching(Drawn(step), (int)new CounterRandom(_options.Seed, RandomPurpose.Branching, step).Below(TModel.Spec.Layers, 0));

    private StepPlan Branching(int prefix, int parting)
    {
        var streams = new List<(string Name, Profile<TModel> Profile)>();
        for (var i = TModel.Granularities.Count - 1; i >= prefix; i--)
        {
            // Streams of another width have no layer in common with the prefix.
            var branch = TModel.Granularities[i];
            if (branch.Width != TModel.Granularities[prefix].Width) continue;
            ImmutableArray<LayerSlice> layers = [.. TModel.Granularities[prefix].Layers[..parting], .. branch.Layers[parting..]];

            // Granularities may be equal from the parting layer on. One of them is enough.
            if (streams.Count > 0 && SameLayers(streams[^1].Profile, layers)) continue;
            var granularity = TModel.Granularities.FirstOrDefault(g => SameLayers(g, layers));
            streams.Add(granularity is null
                ? (Branch + branch.Name, new Profile<TModel>(Branch + branch.Name, layers))
                : (granularity.Name, granularity));
        }

        return Shared([.. streams]);
    }

    // The largest and the smallest granularity, and a mix between them. The streams run widest first.
    private (string Name, Profile<TModel> Profile)[] Sandwich(long step)
    {
        var (name, mix) = RandomMix(step);
        return name == Mix ? [Named(^1), (name, mix), Named(0)]
            : [.. new[] { Named(^1), (name, mix), Named(0) }.DistinctBy(stream => stream.Item1)];
    }

    // Each layer draws its granularity. All layers draw again if the result is a granularity and not a mix. If granularities have different
    // widths, a granularity is drawn first, and all layers draw among those of its width. If there is no other, it is the result.
    private (string Name, Profile<TModel> Profile) RandomMix(long step)
    {
        var random = new CounterRandom(_options.Seed, RandomPurpose.Mix, step);
        var granularities = TModel.Granularities;
        if (TModel.Spec.ElasticWidth)
        {
            var drawnFirst = Drawn(step);
            var width = granularities[drawnFirst].Width;
            granularities = [.. granularities.Where(g => g.Width == width)];
            if (!Objectives.CanMix(TModel.Spec, granularities[0].Width)) return Named(drawnFirst);
        }

        for (var attempt = 0L; ; attempt++)
        {
            var counter = attempt * TModel.Spec.Layers;
            var drawn = Enumerable.Range(0, TModel.Spec.Layers).Select(l => (int)random.Below(granularities.Count, counter + l));
            ImmutableArray<LayerSlice> layers = [.. drawn.Select((granularity, l) => granularities[granularity].Layers[l])];
            if (!granularities.Any(g => SameLayers(g, layers))) return (Mix, new Profile<TModel>(Mix, layers));
        }
    }

    private static ImmutableArray<double> Budgets => TModel.Spec.Routing?.Budgets ?? [];

    private static ImmutableArray<int> Grids => TModel.Spec.Lookup?.Grids ?? [];

    private static StepPlan At(StepPlan plan, int grid) => plan with { Streams = plan.Streams.At(grid) };

    private static (string Name, Profile<TModel> Profile) Named(Index index)
    {
        var granularity = TModel.Granularities[index];
        return (granularity.Name, granularity);
    }

    private double Probability(int granularity) => _cumulative[granularity] - (granularity == 0 ? 0 : _cumulative[granularity - 1]);

    private int Drawn(long step)
    {
        var unit = new CounterRandom(_options.Seed, RandomPurpose.Granularity).Unit(step);
        return Array.FindIndex(_cumulative, c => unit < c);
    }

    private StepPlan Shared(ReadOnlySpan<(string Name, Profile<TModel> Profile)> streams)
    {
        var profiles = new Profile<TModel>[streams.Length];
        var names = ImmutableArray.CreateBuilder<string>(streams.Length);
        var weights = ImmutableArray.CreateBuilder<float>(streams.Length);
        for (var i = 0; i < streams.Length; i++)
        {
            profiles[i] = streams[i].Profile;
            names.Add(streams[i].Name);
            weights.Add((float)(WeightOf(profiles[i]) / (_options.Reduction == Reduction.Mean ? streams.Length : 1)));
        }

        return new StepPlan(Streams.Of<TModel>(profiles), names.MoveToImmutable(), weights.MoveToImmutable());
    }

    // A mix is not a granularity, and its loss has the weight 1.
    private double WeightOf(Profile<TModel> profile)
    {
        for (var i = 0; i < _options.LossWeights.Length; i++)
        {
            if (ReferenceEquals(TModel.Granularities[i], profile)) return _options.LossWeights[i];
        }

        return 1;
    }

    private static bool SameLayers(Profile<TModel> profile, ImmutableArray<LayerSlice> layers) =>
        profile.Layers.AsSpan().SequenceEqual(layers.AsSpan());

    private static double[] Cumulative(ImmutableArray<double> probabilities)
    {
        var weights = probabilities.IsEmpty ? [.. Enumerable.Repeat(1.0, TModel.Granularities.Count)] : probabilities;
        var total = weights.Sum();
        var sum = 0.0;
        var cumulative = weights.Select(w => sum += w / total).ToArray();

        // Rounding must not leave a gap below 1, and must not let a granularity of probability 0 be drawn.
        for (var i = cumulative.Length - 1; i >= 0; i--)
        {
            cumulative[i] = 1;
            if (weights[i] > 0) break;
        }

        return cumulative;
    }
}

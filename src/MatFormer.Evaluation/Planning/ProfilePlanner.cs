using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>
/// Finds the Mix'n'Match profiles that a machine should run. It times and evaluates some mixes on this machine, predicts the cost of every
/// mix as a sum over its layers, and measures mixes of the predicted frontier.
/// </summary>
public static class ProfilePlanner
{
    private const int EncoderBatch = 64;

    /// <summary>Plans for a language model.</summary>
    /// <param name="model">The universal model, on any device; losses are measured in its <see cref="MatFormerModel.ComputeType"/>.</param>
    /// <param name="engine">
    /// The decoding engine of the universal model, with its weights packed as they will be used. Its first sequence is overwritten. Its
    /// <see cref="DecodingOptions.Capacity"/> only limits the number of tokens before the timed token.
    /// </param>
    /// <param name="corpus">The corpus on whose validation text mixes are evaluated.</param>
    /// <param name="options">The options of planning.</param>
    /// <param name="progress">Called with a description of each step that is done.</param>
    /// <param name="cancellationToken">Cancels planning.</param>
    /// <exception cref="PlanException">No mix meets the budget, or there are too many mixes to search.</exception>
    /// <exception cref="ArgumentException">The engine does not have the whole model, or an option is out of range.</exception>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model and the corpus have different tokenizers.</exception>
    public static Plan Run<TModel>(
        TModel model, DecodingEngine engine, TextCorpus corpus, PlanOptions? options = null, Action<string>? progress = null,
        CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(engine);
        ArgumentNullException.ThrowIfNull(corpus);
        options ??= new PlanOptions();
        var spec = TModel.Spec;
        if (engine.Architecture != spec || !engine.Layers.AsSpan().SequenceEqual(spec.WholeLayers.AsSpan()))
            throw new ArgumentException($"The engine does not have all of {spec.Name}; open the universal model.", nameof(engine));
        CheckLearnable(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Points, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Windows, 1, nameof(options));
        var cacheTokens = options.CacheTokens ?? Math.Min(spec.Context / 2, engine.Capacity - 1);
        ArgumentOutOfRangeException.ThrowIfNegative(cacheTokens, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(cacheTokens, engine.Capacity, nameof(options));
        corpus.Tokenizer.CheckFits(model);
        var meter = new DecodingMixMeter<TModel>(model, engine, corpus, cacheTokens, options.Windows, cancellationToken);
        var plan = OfEachWidth(
            spec, options.Budget, space => Run(
                space, SizesOf<TModel>(space, engine.Weights), KnownIn<TModel>(space), meter, options, progress,
                Learner(model, space, corpus, options, progress, cancellationToken)));
        return plan with { CacheTokens = cacheTokens, ValidationTokens = meter.Tokens, ValidationBytes = meter.Bytes };
    }

    /// <summary>Plans for a vision transformer or a text encoder. Forward passes over one image or text are timed.</summary>
    /// <param name="model">
    /// The universal model, on the device on which it will run. Times and losses are measured in its
    /// <see cref="MatFormerModel.ComputeType"/>.
    /// </param>
    /// <param name="data">The data on whose validation examples mixes are evaluated.</param>
    /// <param name="options">The options of planning.</param>
    /// <param name="progress">Called with a description of each step that is done.</param>
    /// <param name="cancellationToken">Cancels planning.</param>
    /// <exception cref="PlanException">No mix meets the budget, or there are too many mixes to search.</exception>
    /// <exception cref="ArgumentException">
    /// The model is a language model, an option is out of range, or the model declares no such grid.
    /// </exception>
    /// <exception cref="DataException">The data do not fit the model, or there are fewer than two validation examples.</exception>
    /// <exception cref="TokenizerException">The model and the data have different tokenizers.</exception>
    public static Plan Run<TModel>(
        TModel model, TrainingData data, PlanOptions? options = null, Action<string>? progress = null,
        CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(data);
        options ??= new PlanOptions();
        var spec = TModel.Spec.AtGrid(options.Grid);
        if (spec.Kind == ModelKind.LanguageModel)
        {
            throw new ArgumentException(
                $"{spec.Name} is a language model; call the overload that takes a DecodingEngine.", nameof(model));
        }

        CheckLearnable(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Points, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Examples, 2, nameof(options));
        var tokens = spec.Image is null ? options.CacheTokens ?? spec.Context : 0;
        ArgumentOutOfRangeException.ThrowIfGreaterThan(tokens, spec.Context, nameof(options));
        Feed.Of(data).CheckFits(model);

        // A pair's loss depends on the number of pairs in its batch, so all batches must have the same size.
        var batches = Feed.Of(data).HeldOut(spec, EncoderBatch, options.Examples).ToList();
        if (batches.Count > 1 && spec.Kind == ModelKind.TextEncoder) batches.RemoveAll(batch => batch.Examples < EncoderBatch);
        if (batches.Count == 0 || batches[0].Examples < 2)
            throw new DataException($"The data of {data.Source} has fewer than 2 validation examples; give more data.");
        using var meter = new EncoderMixMeter<TModel>(model, batches, tokens, options.Grid, cancellationToken);
        var plan = OfEachWidth(
            spec, options.Budget, space => Run(
                space, SizesOf(space), KnownIn<TModel>(space), meter, options, progress,
                Learner(model, space, data, options, progress, cancellationToken)));
        ImmutableArray<PlannedMix> mixes = [.. plan.Mixes.Concat(Routed(meter)).OrderBy(m => m.Measured.Milliseconds)];
        return plan with { Mixes = mixes, CacheTokens = tokens, ValidationExamples = meter.Examples };
    }

    /// <summary>
    /// Finds the mix that <see cref="PlanSearch.Learned"/> finds, without measuring anything else. It learns from training data, with the
    /// model's own weights, which are the same afterwards.
    /// </summary>
    /// <param name="model">The universal model, on any device; it runs in its <see cref="MatFormerModel.ComputeType"/>.</param>
    /// <param name="data">The data from whose training examples it learns.</param>
    /// <param name="budget">
    /// The limits, without a time. The memory of a language model is that of a <see cref="DecodingEngine"/> in float32.
    /// </param>
    /// <param name="seed">The seed of the batches and draws. Equal seeds find equal mixes.</param>
    /// <param name="progress">Called with a description of each step that is done.</param>
    /// <param name="cancellationToken">Cancels learning.</param>
    /// <returns>The mix, whose name is its pattern.</returns>
    /// <exception cref="ArgumentException">The budget has no limit, or limits the time, which must be measured.</exception>
    /// <exception cref="PlanException">No mix meets the budget.</exception>
    /// <exception cref="DataException">The data do not fit the model, or there are too few of them.</exception>
    /// <exception cref="TokenizerException">The model and the data have different tokenizers.</exception>
    public static Profile<TModel> Learn<TModel>(
        TModel model, TrainingData data, PlanBudget budget, long seed = 1, Action<string>? progress = null,
        CancellationToken cancellationToken = default)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(data);
        ArgumentNullException.ThrowIfNull(budget);
        if (budget.MaxMilliseconds is not null)
            throw new ArgumentException("A time must be measured; call Run with PlanSearch.Learned.", nameof(budget));
        CheckLearnable(new PlanOptions { Budget = budget, Search = PlanSearch.Learned });
        Feed.Of(data).CheckFits(model);
        var spaces = MixSpace.OfEachWidth(TModel.Spec);
        ImmutableArray<LayerSlice>? best = null;
        var least = double.PositiveInfinity;
        foreach (var space in spaces)
        {
            var learned = MixLearner.Run(model, space, data, Sizes(space), budget, seed, progress, cancellationToken);
            if (learned is not var (mix, loss)) continue;
            if (best is null || loss < least) (best, least) = (space.LayersOf(mix), loss);
        }

        var layers = best ?? throw new PlanException(NothingFits(spaces[0], Sizes(spaces[0]), budget));
        return new Profile<TModel>(TModel.Spec.FormatPattern(layers.AsSpan()), layers);

        MixTable Sizes(MixSpace space) =>
            TModel.Spec.Kind == ModelKind.LanguageModel ? SizesOf<TModel>(space, DecodingWeights.Float32) : SizesOf(space);
    }

    /// <summary>Checks the part of the budget that needs no measurement.</summary>
    /// <exception cref="PlanException">No mix meets the budget in memory, parameters and FLOPs.</exception>
    internal static void CheckSizes<TModel>(PlanBudget budget, DecodingWeights weights)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        CheckSizes(TModel.Spec, budget, space => SizesOf<TModel>(space, weights));

    /// <summary>Checks the part of an encoder's budget that needs no measurement.</summary>
    /// <exception cref="PlanException">No mix meets the budget in memory, parameters and FLOPs.</exception>
    internal static void CheckSizes(ModelSpec spec, PlanBudget budget) => CheckSizes(spec, budget, SizesOf);

    /// <summary>Plans with any source of measurements. Tests call it directly.</summary>
    /// <param name="space">The mixes.</param>
    /// <param name="sizes">The memory, parameters and FLOPs of the mixes.</param>
    /// <param name="known">The mixes that have names, including the granularities.</param>
    /// <param name="meter">Measures times and losses.</param>
    /// <param name="options">The options of planning.</param>
    /// <param name="progress">Called with a description of each step that is done.</param>
    /// <param name="learn">Finds a mix for the budget, given the predicted costs of mixes. It is called only to learn.</param>
    internal static Plan Run(
        MixSpace space, MixTable sizes, IReadOnlyList<(string Name, int[] Mix)> known, IMixMeter meter, PlanOptions options,
        Action<string>? progress = null, Func<MixTable, int[]?>? learn = null)
    {
        var (budget, count) = (options.Budget, space.IncreasingCount);
        CheckSizes(space, sizes, budget);
        var timed = LatencyModel.Probes(space);
        var latency = LatencyModel.Fit(space, timed, Time(LayersOf(timed)));
        progress?.Invoke($"Timed {Counted.Of(timed.Count, "mix", "mixes")}.");
        var evaluated = LossModel.Probes(space);
        var loss = LossModel.Fit(space, evaluated, meter.Losses(LayersOf(evaluated)));
        progress?.Invoke($"Evaluated {Counted.Of(evaluated.Count, "mix", "mixes")}.");

        var table = sizes.With(latency, loss);
        var frontier = MixSearch.Increasing(space, table, budget);
        var bestIncreasing = frontier.BestWithin(budget.MaxMilliseconds) is >= 0 and var index ? frontier[index].Mix : null;
        if (options.Search == PlanSearch.Evolutionary) MixSearch.Evolve(space, table, budget, options.Seed, frontier);
        progress?.Invoke(FormattableString.Invariant($"Searched {count:n0} increasing mixes")
            + $"{(options.Search == PlanSearch.Evolutionary ? " and other mixes" : string.Empty)}; {frontier.Count} are on the frontier.");

        var front = frontier.Spread(options.Points, budget.MaxMilliseconds).Select(i => frontier[i].Mix).ToList();
        var isLearning = options.Search == PlanSearch.Learned;
        var (learned, solved) = isLearning ? (learn?.Invoke(table), space.Solve(table, budget)) : (null, null);
        var chosen = new List<int[]>(front);
        foreach (var mix in (IEnumerable<int[]?>)[.. known.Select(k => k.Mix), bestIncreasing, learned, solved])
            if (mix is not null && !chosen.Any(c => c.AsSpan().SequenceEqual(mix))) chosen.Add(mix);
        var layers = LayersOf(chosen);
        var (milliseconds, losses) = (Time(layers), meter.Losses(layers));
        var mixes = chosen.Select((mix, i) =>
        {
            var pattern = space.Spec.FormatPattern(layers[i].AsSpan());
            var name = known.FirstOrDefault(k => k.Mix.AsSpan().SequenceEqual(mix)).Name ?? pattern;
            var predicted = table.Of(mix);
            return new PlannedMix(
                name, pattern, layers[i], i < front.Count, predicted,
                predicted with { Milliseconds = milliseconds[i], Loss = losses[i] })
            {
                IsLearned = learned is not null && mix.AsSpan().SequenceEqual(learned),
                IsSolved = solved is not null && mix.AsSpan().SequenceEqual(solved),
            };
        }).OrderBy(m => m.Measured.Milliseconds).ToImmutableArray();

        PlannedMix? best = null;
        if (budget.IsGiven)
        {
            best = mixes.Where(m => budget.Admits(m.Measured)).MinBy(m => m.Measured.Loss)
                ?? throw new PlanException(TooSlow(space, budget, mixes));
        }

        return new Plan(mixes, best, (long)count, options.Search == PlanSearch.Evolutionary, frontier.Count, 0, 0, 0);

        double[] Time(ImmutableArray<LayerSlice>[] mixes) =>
            SteadyTimes.Measure(mixes, some => meter.Milliseconds([.. some.Select(i => mixes[i])]));

        ImmutableArray<LayerSlice>[] LayersOf(IReadOnlyList<int[]> some) => [.. some.Select(mix => space.LayersOf(mix))];
    }

    // Plans for each width by itself and puts the plans together. A width of which no mix meets the budget is left out, unless all are.
    private static Plan OfEachWidth(ModelSpec spec, PlanBudget budget, Func<MixSpace, Plan> plan)
    {
        var spaces = MixSpace.OfEachWidth(spec);
        foreach (var space in spaces) CheckCount(space);
        var plans = new List<Plan>();
        PlanException? refused = null;
        foreach (var space in spaces)
        {
            try
            {
                plans.Add(plan(space));
            }
            catch (PlanException exception)
            {
                refused = exception;
            }
        }

        if (plans is [var only]) return only;
        if (plans.Count == 0) throw refused!;
        var mixes = plans.SelectMany(p => p.Mixes).OrderBy(m => m.Measured.Milliseconds).ToList();
        var best = plans.Where(p => p.Best is not null).Select(p => p.Best!).MinBy(m => m.Measured.Loss);
        return new Plan(
            [.. mixes.Select(mix => mix with { IsOnFrontier = mix.IsOnFrontier && !mixes.Any(other => IsBeaten(mix, other)) })], best,
            plans.Sum(p => p.Searched), plans[0].IsEvolved, plans.Sum(p => p.FrontierCount), 0, 0, 0);

        static bool IsBeaten(PlannedMix mix, PlannedMix other) =>
            other.Predicted.Milliseconds <= mix.Predicted.Milliseconds && other.Predicted.Loss <= mix.Predicted.Loss
            && (other.Predicted.Milliseconds < mix.Predicted.Milliseconds || other.Predicted.Loss < mix.Predicted.Loss);
    }

    // Measures the routed passes at the declared budgets. No profile can be declared for them, so the best mix is not among them.
    private static IEnumerable<PlannedMix> Routed<TModel>(EncoderMixMeter<TModel> meter)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        if (TModel.Spec.Routing is not { Budgets: var budgets }) return [];
        var (milliseconds, losses) = meter.Routed(budgets);
        return budgets.Select((budget, i) =>
        {
            var costs = ProfileCosts.Of<TModel>(budget);
            var measured = new MixCost(milliseconds[i], losses[i], sizeof(float) * costs.Parameters, costs.Parameters, costs.Flops);
            return new PlannedMix(costs.Name, costs.Pattern, costs.Layers, false, measured, measured) { Budget = budget };
        });
    }

    private static List<(string Name, int[] Mix)> KnownIn<TModel>(MixSpace space)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        [.. TModel.Granularities.Concat(TModel.Profiles).Where(p => p.Width == space.Width).Select(p => (p.Name, space.MixOf(p.Layers)))];

    private static MixTable SizesOf(MixSpace space) =>
        MixTable.OfSizes(space, layers => sizeof(float) * space.Spec.ParameterCount(layers));

    private static MixTable SizesOf<TModel>(MixSpace space, DecodingWeights weights)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        MixTable.OfSizes(space, layers => DecodingPass.MemoryBytes<TModel>([.. layers], weights));

    private static void CheckLearnable(PlanOptions options)
    {
        if (options.Search == PlanSearch.Learned && !options.Budget.IsGiven)
            throw new ArgumentException("A mix is learned for a budget, but none is given; set a limit.", nameof(options));
        if (options is { Search: PlanSearch.Learned, Grid: not null })
            throw new ArgumentException("A mix is learned at the largest grid of compressed tokens; leave Grid out.", nameof(options));
    }

    // Times are predicted by then, so the budget may limit them.
    private static Func<MixTable, int[]?> Learner<TModel>(
        TModel model, MixSpace space, TrainingData data, PlanOptions options, Action<string>? progress, CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        table => MixLearner.Run(model, space, data, table, options.Budget, options.Seed, progress, cancellationToken)?.Mix;

    private static void CheckSizes(ModelSpec spec, PlanBudget budget, Func<MixSpace, MixTable> sizesOf)
    {
        var spaces = MixSpace.OfEachWidth(spec);
        foreach (var space in spaces) CheckCount(space);
        if (spaces.Any(space => MixSearch.Increasing(space, sizesOf(space), budget).Count > 0)) return;
        throw new PlanException(NothingFits(spaces[0], sizesOf(spaces[0]), budget));
    }

    private static void CheckSizes(MixSpace space, MixTable sizes, PlanBudget budget)
    {
        CheckCount(space);
        if (MixSearch.Increasing(space, sizes, budget).Count == 0) throw new PlanException(NothingFits(space, sizes, budget));
    }

    private static void CheckCount(MixSpace space)
    {
        if (space.IncreasingCount > MixSearch.MostMixes)
        {
            throw new PlanException(FormattableString.Invariant(
                $"{space.Spec.Name} has {space.IncreasingCount:0.##e+0} increasing mixes, but at most {MixSearch.MostMixes:n0} ")
                + "can be searched; declare fewer granularities.");
        }
    }

    private static string TooSlow(MixSpace space, PlanBudget budget, ImmutableArray<PlannedMix> mixes)
    {
        var fastest = mixes.First(m => budget.AdmitsSize(m.Measured));
        var fewerBits = space.Spec.Kind != ModelKind.LanguageModel ? " or use more threads."
            : ", use more threads, or keep the weights in fewer bits.";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"No mix of {space.Spec.Name} within the other limits takes at most {budget.MaxMilliseconds} ms per {space.Spec.Unit} "
            + $"on this machine: the fastest of them, {fastest.Pattern}, takes {fastest.Measured.Milliseconds:0.000} ms. "
            + $"Allow more time{fewerBits}");
    }

    private static string Count(long number) => FormattableString.Invariant($"{number:n0}");

    private static string NothingFits(MixSpace space, MixTable sizes, PlanBudget budget)
    {
        (string What, long? Limit, Func<MixCost, long> Of, Func<long, string> Text)[] limits =
        [
            ("of memory", budget.MaxMemoryBytes, c => c.MemoryBytes, ByteSize.Format),
            ("parameters", budget.MaxParameters, c => c.Parameters, Count),
            ($"FLOPs per {space.Spec.Unit}", budget.MaxFlops, c => c.Flops, Count),
        ];
        foreach (var (what, limit, of, text) in limits)
        {
            if (limit is not { } most) continue;
            var (least, smallest) = (long.MaxValue, string.Empty);
            space.Increasing(sizes, (mix, cost) =>
            {
                if (of(cost) < least) (least, smallest) = (of(cost), space.Spec.FormatPattern(space.LayersOf(mix).AsSpan()));
            });
            if (least <= most) continue;
            return $"No mix of {space.Spec.Name} takes at most {text(most)} {what}: the smallest one, {smallest}, takes {text(least)}; "
                + "allow more.";
        }

        return $"Each limit is met by some mixes of {space.Spec.Name}, but no mix meets all of them; raise one of the limits.";
    }
}

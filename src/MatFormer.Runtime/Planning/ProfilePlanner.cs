using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// Finds the Mix'n'Match profiles that a machine should run: times layers and evaluates them on the spot, predicts every mix as a sum over
/// its layers, and measures those that no other beats.
/// </summary>
public static class ProfilePlanner
{
    /// <summary>Plans.</summary>
    /// <param name="model">The universal model, on any device; losses are measured in its <see cref="MatFormerModel.ComputeType"/>.</param>
    /// <param name="engine">
    /// The same with its weights packed as they will be used. Its first sequence is overwritten; what its
    /// <see cref="DecodingOptions.Capacity"/> is decides nothing but how many tokens can be before the one that is timed.
    /// </param>
    /// <param name="corpus">Mixes are evaluated on its validation text.</param>
    /// <param name="options">What to plan.</param>
    /// <param name="progress">Told what was done.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="PlanException">No mix meets the budget; there are too many of them.</exception>
    /// <exception cref="ArgumentException">The engine has not the whole model, or an option is out of range.</exception>
    /// <exception cref="DataException">The validation text is shorter than the context.</exception>
    /// <exception cref="TokenizerException">The model's tokens are not the corpus's.</exception>
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
            throw new ArgumentException($"The engine has not all of {spec.Name}; make it of the universal model.", nameof(engine));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Points, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Windows, 1, nameof(options));
        var cacheTokens = options.CacheTokens ?? Math.Min(spec.Context / 2, engine.Capacity - 1);
        ArgumentOutOfRangeException.ThrowIfNegative(cacheTokens, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(cacheTokens, engine.Capacity, nameof(options));
        corpus.Tokenizer.CheckFits(model);
        var meter = new MixMeter<TModel>(model, engine, corpus, cacheTokens, options.Windows, cancellationToken);
        var space = new MixSpace(spec);
        var sizes = SizesOf<TModel>(space, engine.Weights);
        var known = TModel.Granularities.Concat(TModel.Profiles).Select(p => (p.Name, space.MixOf(p.Layers))).ToList();
        var plan = Run(space, sizes, known, meter, options, progress);
        return plan with { CacheTokens = cacheTokens, ValidationTokens = meter.Tokens, ValidationBytes = meter.Bytes };
    }

    /// <summary>Checks what need not be measured.</summary>
    /// <exception cref="PlanException">No mix meets the budget in memory, parameters and FLOPs.</exception>
    internal static void CheckSizes<TModel>(PlanBudget budget, DecodingWeights weights)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var space = new MixSpace(TModel.Spec);
        CheckSizes(space, SizesOf<TModel>(space, weights), budget);
    }

    /// <summary>The same with any measurements, for tests.</summary>
    /// <param name="space">The mixes.</param>
    /// <param name="sizes">What they take.</param>
    /// <param name="known">Those that have names, the granularities among them.</param>
    /// <param name="meter">Measures time and loss.</param>
    /// <param name="options">What to plan.</param>
    /// <param name="progress">Told what was done.</param>
    internal static Plan Run(
        MixSpace space, MixTable sizes, IReadOnlyList<(string Name, int[] Mix)> known, IMixMeter meter, PlanOptions options,
        Action<string>? progress = null)
    {
        var (budget, count) = (options.Budget, space.IncreasingCount);
        CheckSizes(space, sizes, budget);
        var timed = LatencyModel.Probes(space);
        var latency = LatencyModel.Fit(space, timed, meter.MillisecondsPerToken(LayersOf(timed)));
        progress?.Invoke($"Timed {timed.Count} mixes.");
        var evaluated = LossModel.Probes(space);
        var loss = LossModel.Fit(space, evaluated, meter.BitsPerByte(LayersOf(evaluated)));
        progress?.Invoke($"Evaluated {evaluated.Count} mixes.");

        var table = sizes.With(latency, loss);
        var frontier = MixSearch.Increasing(space, table, budget);
        var bestIncreasing = frontier.BestWithin(budget.MaxMillisecondsPerToken) is >= 0 and var index ? frontier[index].Mix : null;
        if (options.Search == PlanSearch.Evolutionary) MixSearch.Evolve(space, table, budget, options.Seed, frontier);
        progress?.Invoke(Output.Invariant($"Searched {count:n0} mixes whose layers only widen")
            + $"{(options.Search == PlanSearch.Evolutionary ? ", and others" : string.Empty)}; {frontier.Count} are on the frontier.");

        var front = frontier.Spread(options.Points, budget.MaxMillisecondsPerToken).Select(i => frontier[i].Mix).ToList();
        var chosen = new List<int[]>(front);
        foreach (var mix in known.Select(k => k.Mix).Append(bestIncreasing))
            if (mix is not null && !chosen.Any(c => c.AsSpan().SequenceEqual(mix))) chosen.Add(mix);
        var layers = LayersOf(chosen);
        var (milliseconds, bits) = (meter.MillisecondsPerToken(layers), meter.BitsPerByte(layers));
        var mixes = chosen.Select((mix, i) =>
        {
            var pattern = space.Spec.FormatPattern(layers[i].AsSpan());
            var name = known.FirstOrDefault(k => k.Mix.AsSpan().SequenceEqual(mix)).Name ?? pattern;
            var predicted = table.Of(mix);
            return new PlannedMix(
                name, pattern, layers[i], i < front.Count, predicted,
                predicted with { MillisecondsPerToken = milliseconds[i], BitsPerByte = bits[i] });
        }).OrderBy(m => m.Measured.MillisecondsPerToken).ToImmutableArray();

        PlannedMix? best = null;
        if (budget.IsGiven)
        {
            best = mixes.Where(m => budget.Admits(m.Measured)).MinBy(m => m.Measured.BitsPerByte)
                ?? throw new PlanException(TooSlow(space, budget, mixes));
        }

        return new Plan(mixes, best, (long)count, options.Search == PlanSearch.Evolutionary, frontier.Count, 0, 0, 0);

        ImmutableArray<LayerSlice>[] LayersOf(IReadOnlyList<int[]> some) => [.. some.Select(mix => space.LayersOf(mix))];
    }

    private static MixTable SizesOf<TModel>(MixSpace space, DecodingWeights weights)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        MixTable.OfSizes(space, layers => DecodingPass.MemoryBytes<TModel>([.. layers], weights));

    private static void CheckSizes(MixSpace space, MixTable sizes, PlanBudget budget)
    {
        if (space.IncreasingCount > MixSearch.MostMixes)
        {
            throw new PlanException(Output.Invariant(
                $"{space.Spec.Name} has {space.IncreasingCount:0.##e+0} mixes whose layers only widen, and {MixSearch.MostMixes:n0} ")
                + "can be searched; declare fewer granularities.");
        }

        if (MixSearch.Increasing(space, sizes, budget).Count == 0) throw new PlanException(NothingFits(space, sizes, budget));
    }

    private static string TooSlow(MixSpace space, PlanBudget budget, ImmutableArray<PlannedMix> mixes)
    {
        var fastest = mixes.First(m => budget.AdmitsSize(m.Measured));
        return Output.Invariant($"No mix of {space.Spec.Name} that meets the budget decodes a token in {budget.MaxMillisecondsPerToken} ")
            + Output.Invariant($"ms on this machine: the fastest of them, {fastest.Pattern}, takes ")
            + Output.Invariant($"{fastest.Measured.MillisecondsPerToken:0.000} ms. Allow more time, use more threads, or keep the weights in ")
            + "fewer bits.";
    }

    private static string NothingFits(MixSpace space, MixTable sizes, PlanBudget budget)
    {
        (string What, long? Limit, Func<MixCost, long> Of, Func<long, string> Text)[] limits =
        [
            ("of memory", budget.MaxMemoryBytes, c => c.MemoryBytes, ByteSize.Format),
            ("parameters", budget.MaxParameters, c => c.Parameters, Output.Count),
            ("FLOPs per token", budget.MaxFlopsPerToken, c => c.FlopsPerToken, Output.Count),
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
            return $"No mix of {space.Spec.Name} takes at most {text(most)} {what}: the smallest there is, {smallest}, takes "
                + $"{text(least)}.";
        }

        return $"Some mixes of {space.Spec.Name} meet each of the budgets, but none meets all of them; allow more of one.";
    }
}

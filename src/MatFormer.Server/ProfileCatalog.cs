using System.Collections.Immutable;
using System.Diagnostics;
using Microsoft.AspNetCore.Http;

namespace MatFormer;

/// <summary>A size that is served, with its costs.</summary>
/// <param name="Name">The name of the profile, or its pattern.</param>
/// <param name="Pattern">The granularities of its layers, such as <c>4*S 4*M</c>.</param>
/// <param name="Parameters">The number of all parameters.</param>
/// <param name="Flops">
/// FLOPs of one token, with attention averaged over a full context, or of one image or one text that fills the context. A multiply-add
/// counts as two.
/// </param>
/// <param name="Ms">
/// Milliseconds of a pass of one token, image, or text that fills the context, measured on this machine; null if not measured.
/// </param>
/// <param name="MsPerFurther">Milliseconds that each further token of another request, text or image adds to a pass.</param>
public sealed record ServedProfile(
    string Name, string Pattern, long Parameters, long Flops, double? Ms = null, double? MsPerFurther = null)
{
    /// <summary>The part of each layer that the profile keeps.</summary>
    public required ImmutableArray<LayerSlice> Layers { get; init; }

    /// <summary>
    /// The compute budget of a routed pass, to which the FLOPs belong; null for a granularity or profile. Its layers are whole.
    /// </summary>
    public double? Budget { get; init; }

    /// <summary>The side of the grid of compressed tokens, to which the FLOPs belong; null if the model has none.</summary>
    public int? Grid { get; init; }

    /// <summary>
    /// Returns the milliseconds of a pass with one token for each of the requests, or with so many texts or images, if all of them have
    /// this size.
    /// </summary>
    /// <exception cref="InvalidOperationException">The size was not measured.</exception>
    public double MsOf(int load) => (Ms + ((load - 1) * MsPerFurther))!.Value;
}

/// <summary>Knows the sizes that can be served, and selects the size of a request.</summary>
internal sealed class ProfileCatalog
{
    private const string Auto = "auto";
    private static readonly TimeSpan s_atLeast = TimeSpan.FromSeconds(0.1);
    private readonly ModelSpec _spec;
    private readonly ImmutableArray<LayerSlice> _held;
    private readonly ServedProfile[] _largestFirst;
    private readonly bool _isOneSize;
    private readonly string _maxFlops;
    private readonly string _maxMs;

    /// <param name="spec">The declared model.</param>
    /// <param name="held">The largest size, whose weights are there.</param>
    /// <param name="profiles">The sizes, one of which is the largest.</param>
    /// <param name="autoMs">The target of <c>/auto</c>.</param>
    /// <param name="isOneSize">True if the weights cannot compute smaller sizes.</param>
    public ProfileCatalog(
        ModelSpec spec, ImmutableArray<LayerSlice> held, ImmutableArray<ServedProfile> profiles, double autoMs, bool isOneSize = false)
    {
        (_spec, _held, Profiles, AutoMs, _isOneSize) = (spec, held, profiles, autoMs, isOneSize);
        (_maxFlops, _maxMs) = ($"max_flops_per_{spec.Unit}", $"max_ms_per_{spec.Unit}");
        Whole = profiles.First(p => p.Layers.AsSpan().SequenceEqual(held.AsSpan()));

        // A routed pass at a budget of 1 takes more than the whole model, which is the largest size.
        _largestFirst = [.. profiles.OrderByDescending(p => p == Whole).ThenByDescending(p => p.Flops)];
    }

    /// <summary>
    /// The granularities and declared profiles, at each declared grid of compressed tokens, and the declared routing budgets that can be
    /// served.
    /// </summary>
    public ImmutableArray<ServedProfile> Profiles { get; }

    /// <summary>The largest size.</summary>
    public ServedProfile Whole { get; }

    public double AutoMs { get; }

    public string IdOf(ServedProfile profile) => $"{_spec.Name}/{profile.Name}";

    /// <summary>Measures the sizes of a language model. Nothing else may use the engine meanwhile.</summary>
    public static ProfileCatalog Measure<TModel>(DecodingEngine engine, double autoMs)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var spec = TModel.Spec;
        var known = TModel.Granularities.Concat(TModel.Profiles).Select(p => (p.Name, p.Layers)).ToList();

        // A slice with an undeclared pattern is served under its own name.
        if (!known.Any(p => p.Layers.AsSpan().SequenceEqual(engine.Layers.AsSpan()))) known.Add((engine.ProfileName, engine.Layers));
        ImmutableArray<ServedProfile> held =
            [.. known.Where(p => engine.Layers.Hold(p.Layers)).Select(p => Of(spec, p.Name, p.Layers))];
        var further = Math.Min(15, engine.Capacity - 1);
        SteadyTimes.WarmUp(() => Time(held.MaxBy(size => size.Flops)!, 1));

        // Routing takes time of its own, so a budget may be slower than a size of more FLOPs.
        return new ProfileCatalog(
            spec, engine.Layers,
            [.. Measured(held, further, Time), .. BudgetsOf<TModel>(engine.CanRoute).SelectMany(one => Measured([one], further, Time))],
            autoMs);

        double Time(ServedProfile profile, int tokens) => TimeToken(engine, profile, tokens);
    }

    /// <summary>Measures the sizes of an encoder of texts or images. Nothing else may use the model meanwhile.</summary>
    public static ProfileCatalog Measure<TModel>(MatFormerModel encoder, Func<ServedProfile, RequestEmbedder> embedderOf, double autoMs)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var spec = TModel.Spec;
        var isSlice = !(encoder is TModel && encoder.IsUniversal);
        (string Name, ImmutableArray<LayerSlice> Layers)[] sizes = isSlice ? [(encoder.ProfileName, encoder.Layers)]
            : [.. TModel.Granularities.Concat(TModel.Profiles).Select(p => (p.Name, p.Layers))];
        ImmutableArray<ServedProfile> profiles = [.. sizes.Select(p => Of(spec, p.Name, p.Layers))];

        // The sizes of a grid are compared with each other. A routed pass may take longer than any size, so it is compared with none.
        ImmutableArray<ServedProfile>[] groups =
        [
            profiles,
            .. ProfileCosts.SmallerGrids(spec).Select(grid => ImmutableArray.CreateRange(profiles, size => At(spec, size, grid))),
            .. BudgetsOf<TModel>(canRoute: !isSlice).Select(one => ImmutableArray.Create(one)),
        ];
        var embedders = groups.SelectMany(group => group).ToDictionary(profile => profile, embedderOf);
        SteadyTimes.WarmUp(() => Time(profiles[^1], 1));
        return new ProfileCatalog(spec, encoder.Layers, [.. groups.SelectMany(group => Measured(group, 7, Time))], autoMs, isSlice);

        // Returns the median milliseconds of at least 5 passes.
        double Time(ServedProfile profile, int inputs)
        {
            var example = EmbeddingRequest.Example(spec, profile, inputs);
            return Median(() => embedders[profile](example, CancellationToken.None), () => { });
        }
    }

    /// <summary>Selects the size of a request.</summary>
    /// <param name="model">
    /// The model's name alone selects the largest size within the budgets. With <c>/auto</c>, the size also meets the target at this
    /// load, or is the fastest. With a profile's name or pattern, it is that profile.
    /// </param>
    /// <param name="maxFlops">A budget of FLOPs per token, text or image.</param>
    /// <param name="maxMs">A budget of milliseconds per token, text or image of a request that runs alone.</param>
    /// <param name="load">The number of requests, or of texts or images, that run and wait, including the new ones.</param>
    /// <exception cref="ApiException">There is no such size, or none within the budgets.</exception>
    public ServedProfile Select(string model, long? maxFlops, double? maxMs, int load)
    {
        var name = model == _spec.Name ? string.Empty
            : model.StartsWith(_spec.Name + "/", StringComparison.Ordinal) ? model[(_spec.Name.Length + 1)..] : null;
        if (name is "" or Auto)
        {
            var affordable = _largestFirst.Where(p => p.Flops <= (maxFlops ?? long.MaxValue)).ToList();
            if (affordable.Count == 0)
            {
                var cheapest = _largestFirst[^1];
                throw ApiException.Impossible(
                    $"'{_maxFlops}' is {maxFlops}, but the smallest size of {_spec.Name}, {cheapest.Name}, takes {cheapest.Flops}; give at "
                    + "least that.", _maxFlops, "budget_too_small");
            }

            var fast = affordable.Where(p => p.Ms <= (maxMs ?? double.MaxValue)).ToList();
            if (fast.Count == 0)
            {
                var fastest = affordable.MinBy(p => p.Ms)!;
                throw ApiException.Impossible(
                    FormattableString.Invariant($"'{_maxMs}' is {maxMs}, but the fastest allowed size, {fastest.Name}, takes ")
                    + FormattableString.Invariant($"{fastest.Ms:0.####} ms here."), _maxMs, "budget_too_small");
            }

            return name.Length == 0 ? fast[0] : fast.FirstOrDefault(p => p.MsOf(load) <= AutoMs) ?? fast.MinBy(p => p.MsOf(load))!;
        }

        if (maxFlops is not null || maxMs is not null)
        {
            var budget = maxFlops is not null ? _maxFlops : _maxMs;
            throw ApiException.Impossible(
                $"'{budget}' chooses a size, but 'model' names one already; give the model {_spec.Name} or {_spec.Name}/{Auto}.", budget,
                "conflict");
        }

        return Find(model, name);
    }

    public ServedProfile Find(string model, string? name)
    {
        if (name is not null)
        {
            if (Profiles.FirstOrDefault(p => p.Name == name) is { } known) return known;
            if (name.Contains('*', StringComparison.Ordinal) || name.Contains(' ', StringComparison.Ordinal)) return Parse(name);
        }

        throw Unknown($"There is no model '{Shortened(model)}'. There are {_spec.Name} (the whole model), {_spec.Name}/{Auto} (by load), "
            + string.Join(", ", Profiles.Select(IdOf))
            + (_isOneSize ? "." : $", and patterns such as '{_spec.Name}/{Profiles[0].Pattern}'."));
    }

    /// <summary>Returns the models that <c>/v1/models</c> lists.</summary>
    public ImmutableArray<ModelEntry> List(long created) =>
    [
        new(_spec.Name, created, $"The whole, or the largest size within {_maxFlops} or {_maxMs}.", SizeEntry.Of(_spec, Whole)),
        new(
            $"{_spec.Name}/{Auto}", created,
            FormattableString.Invariant($"The largest size within {AutoMs} ms ")
            + (_spec.Kind == ModelKind.LanguageModel ? "per token at the current load"
                : $"for the {_spec.Unit}s of all requests that run and wait") + ", else the fastest.", null),
        .. Profiles.Select(p => new ModelEntry(IdOf(p), created, p.Pattern, SizeEntry.Of(_spec, p))),
    ];

    private static ServedProfile Of(ModelSpec spec, string name, ImmutableArray<LayerSlice> layers) =>
        new(name, spec.FormatPattern(layers.AsSpan()), spec.ParameterCount(layers.AsSpan()), spec.Flops(layers.AsSpan()))
        {
            Layers = layers,
            Grid = spec.Lookup?.Grids[^1],
        };

    // The same size at another grid of compressed tokens.
    private static ServedProfile At(ModelSpec spec, ServedProfile size, int grid) => size with
    {
        Name = ProfileCosts.NameAt(spec, size.Name, grid),
        Flops = spec.AtGrid(grid).Flops(size.Layers.AsSpan()),
        Grid = grid,
    };

    // The declared budgets, if the weights have the routers.
    private static ImmutableArray<ServedProfile> BudgetsOf<TModel>(bool canRoute)
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        canRoute && TModel.Spec.Routing is { } routing ? [.. routing.Budgets.Select(budget => Of(ProfileCosts.Of<TModel>(budget)))] : [];

    private static ServedProfile Of(ProfileCosts costs) =>
        new(costs.Name, costs.Pattern, costs.Parameters, costs.Flops) { Layers = costs.Layers, Budget = costs.Budget };

    /// <summary>Adds times to sizes. A size that is out of order is measured again.</summary>
    /// <param name="profiles">The sizes.</param>
    /// <param name="further">
    /// How many tokens, texts or images a larger pass has beyond the first one; 0 if there is no room for a second.
    /// </param>
    /// <param name="time">Returns the milliseconds of a pass over so many tokens, texts or images.</param>
    internal static ImmutableArray<ServedProfile> Measured(
        ImmutableArray<ServedProfile> profiles, int further, Func<ServedProfile, int, double> time)
    {
        ImmutableArray<LayerSlice>[] sizes = [.. profiles.Select(profile => profile.Layers)];
        var one = Times(1);
        var many = further > 0 ? Times(1 + further) : [.. one.Select(ms => 2 * ms)];
        return
        [
            .. profiles.Select((profile, i) =>
                profile with { Ms = one[i], MsPerFurther = Math.Max(0, (many[i] - one[i]) / Math.Max(1, further)) }),
        ];

        double[] Times(int load) => SteadyTimes.Measure(sizes, some => [.. some.Select(i => time(profiles[i], load))]);
    }

    // The first pass is not timed, because another size was timed before it.
    private static double Median(Action pass, Action reset)
    {
        var times = new List<double>();
        pass();
        reset();
        for (var start = Stopwatch.GetTimestamp(); times.Count < 5 || Stopwatch.GetElapsedTime(start) < s_atLeast;)
        {
            var begin = Stopwatch.GetTimestamp();
            pass();
            times.Add(Stopwatch.GetElapsedTime(begin).TotalMilliseconds);
            reset();
        }

        times.Sort();
        return times[times.Count / 2];
    }

    // Returns the median milliseconds of at least 5 passes with the given number of tokens. Before each pass, the cache holds half as
    // many tokens as still fit, but at most 64. The tokens vary, because at a budget each one chooses its hidden units.
    private static double TimeToken(DecodingEngine engine, ServedProfile profile, int tokens)
    {
        var next = 0L;
        var before = Math.Min(64, (engine.Capacity - tokens) / 2);
        engine.Truncate(0, 0);
        if (profile.Budget is { } budget) engine.Use(0, budget);
        else engine.Use(0, profile.Layers);
        if (before > 0) engine.Append(0, Next(before));
        engine.Run();
        var median = Median(
            () =>
            {
                engine.Append(0, Next(tokens));
                engine.Run();
            },
            () => engine.Truncate(0, before));
        engine.Truncate(0, 0);
        return median;

        int[] Next(int count) => [.. Enumerable.Range(0, count).Select(_ => (int)(7919 * next++ % engine.Architecture.Vocabulary))];
    }

    private ServedProfile Parse(string pattern)
    {
        // A pattern may end in a grid, as the name of a profile does.
        ServedProfile profile;
        var grid = ProfileCosts.SmallerGrids(_spec).FirstOrDefault(
            side => pattern.EndsWith(ProfileCosts.NameAt(_spec, string.Empty, side), StringComparison.Ordinal));
        try
        {
            var sizes = grid == 0 ? pattern : pattern[..^ProfileCosts.NameAt(_spec, string.Empty, grid).Length];
            profile = Of(_spec, pattern, _spec.ParsePattern(sizes));
        }
        catch (ArgumentException e)
        {
            throw Unknown(ArgumentProblem.Of(e));
        }

        if (_isOneSize && !profile.Layers.AsSpan().SequenceEqual(_held.AsSpan()))
            throw Unknown($"'{pattern}' is not what is served: {Whole.Pattern} of {_spec.Name}, a slice without other sizes.");
        if (_held.Hold(profile.Layers))
        {
            profile = profile with { Name = profile.Pattern };
            return grid == 0 ? profile : At(_spec, profile, grid);
        }

        throw Unknown($"'{pattern}' is larger than what is served: {Whole.Pattern} of {_spec.Name}.");
    }

    private static ApiException Unknown(string message) => new(StatusCodes.Status404NotFound, message, "model", "model_not_found");

    private static string Shortened(string text) => text.Length <= 100 ? text : text[..100] + "...";
}

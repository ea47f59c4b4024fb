using System.Collections.Immutable;

namespace MatFormer;

/// <summary>The costs of a granularity or profile.</summary>
/// <param name="Name">The name.</param>
/// <param name="IsGranularity">True for a granularity, whose layers are all of the same granularity.</param>
/// <param name="Shape">How the layers change from the first to the last.</param>
/// <param name="Pattern">The pattern of the layers, such as <c>4*S 4*M</c>.</param>
/// <param name="Layers">The part of each layer that is kept.</param>
/// <param name="Parameters">The number of all parameters.</param>
/// <param name="NonEmbeddingParameters">The number of parameters without the embeddings and an untied head.</param>
/// <param name="Flops">The FLOPs (a multiply-add is two) of the forward pass over one <see cref="ModelSpec.Unit"/>.</param>
/// <param name="KeyValueCacheBytesPerToken">The bytes of float32 key/value cache per token.</param>
public sealed record ProfileCosts(
    string Name,
    bool IsGranularity,
    MixShape Shape,
    string Pattern,
    ImmutableArray<LayerSlice> Layers,
    long Parameters,
    long NonEmbeddingParameters,
    long Flops,
    long KeyValueCacheBytesPerToken)
{
    /// <summary>The bits in which the profile is meant to be stored and decoded; null if none are declared.</summary>
    public int? Bits { get; init; }

    /// <summary>The bytes of the weights at these bits; null if none are declared.</summary>
    public long? WeightBytes { get; init; }

    /// <summary>The compute budget of a routed pass, to which the FLOPs belong; null for a granularity or profile.</summary>
    public double? Budget { get; init; }

    /// <summary>The side of the grid of compressed tokens, to which the FLOPs belong; null if the model has none.</summary>
    public int? Grid { get; init; }

    /// <summary>The number of channels of the residual stream; null if all granularities of the model keep the whole stream.</summary>
    public int? Width { get; init; }

    /// <summary>The pattern, and the number of channels if granularities of the model keep different numbers.</summary>
    internal string Layout => LayoutOf(Pattern, Width);

    internal static string LayoutOf(string pattern, int? width) =>
        width is null ? pattern : FormattableString.Invariant($"{pattern}, {width} channels");

    /// <summary>
    /// Returns the costs of all granularities, narrowest first, then of all declared profiles, then of all declared routing budgets.
    /// </summary>
    public static ImmutableArray<ProfileCosts> Of<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
        =>
        [
            .. TModel.Granularities.Select(g => Of(g, true)), .. TModel.Profiles.Select(p => Of(p, false)),
            .. (TModel.Spec.Routing?.Budgets ?? []).Select(Of<TModel>),
        ];

    /// <summary>Returns the costs of one profile.</summary>
    public static ProfileCosts Of<TModel>(Profile<TModel> profile, bool isGranularity)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(profile);
        return new ProfileCosts(
            NameAt(TModel.Spec, profile.Name, profile.Grid),
            isGranularity,
            Mixes.ShapeOf(profile),
            profile.Pattern,
            profile.Layers,
            profile.ParameterCount,
            profile.NonEmbeddingParameterCount,
            profile.Flops,
            profile.KeyValueCacheBytesPerToken)
        {
            Width = TModel.Spec.ElasticWidth ? profile.Width : null,
            Bits = profile.Bits,
            WeightBytes = profile.WeightBytes,
            Grid = profile.Grid ?? TModel.Spec.Lookup?.Grids[^1],
        };
    }

    /// <summary>Returns the costs of the same profile at a grid of compressed tokens.</summary>
    internal ProfileCosts At(ModelSpec spec, int grid) => this with
    {
        Name = NameAt(spec, Name, grid),
        Flops = spec.AtGrid(grid).Flops(Layers.AsSpan()),
        Grid = grid,
    };

    // A profile at the largest grid, which runs if no other is chosen, has its own name.
    private static string NameAt(ModelSpec spec, string name, int? grid) =>
        grid is null || grid == spec.Lookup?.Grids[^1] ? name : FormattableString.Invariant($"{name}-{grid}x{grid}");

    /// <summary>Returns the costs of the routed pass of a universal model at a compute budget.</summary>
    /// <exception cref="ArgumentException">The model declares no routing, or the budget is out of range.</exception>
    public static ProfileCosts Of<TModel>(double budget)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var spec = TModel.Spec;
        var flops = RoutingBudget.Of(spec, budget).Flops;
        long routers = spec.Routing!.Layers.Length * (((long)spec.Granularities.Length * spec.Width) + 1);
        return Of(TModel.Granularities[^1], false) with
        {
            Name = RoutingBudget.NameOf(budget),
            Shape = MixShape.Routed,
            Pattern = "by token",
            Parameters = spec.ParameterCount(spec.WholeLayers.AsSpan()) + routers,
            NonEmbeddingParameters = spec.NonEmbeddingParameterCount(spec.WholeLayers.AsSpan()) + routers,
            Flops = flops,
            Budget = budget,
        };
    }
}

using System.Collections.Immutable;

namespace MatFormer;

/// <summary>What a granularity or profile costs.</summary>
/// <param name="Name">Its name.</param>
/// <param name="IsGranularity">True if all its layers are alike.</param>
/// <param name="Shape">How its layers change from the first to the last.</param>
/// <param name="Pattern">Its layers, such as <c>4*S 4*M</c>.</param>
/// <param name="Layers">What is kept of each layer.</param>
/// <param name="Parameters">All parameters.</param>
/// <param name="NonEmbeddingParameters">Parameters without the embeddings and an untied head.</param>
/// <param name="Flops">FLOPs (a multiply-add is two) of the forward pass over one <see cref="ModelSpec.Unit"/>.</param>
/// <param name="KeyValueCacheBytesPerToken">Bytes of float32 key/value cache that one token takes.</param>
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
    /// <summary>The costs of all granularities, narrowest first, then of all declared profiles.</summary>
    public static ImmutableArray<ProfileCosts> Of<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
        => [.. TModel.Granularities.Select(g => Of(g, true)), .. TModel.Profiles.Select(p => Of(p, false))];

    /// <summary>The costs of one profile.</summary>
    public static ProfileCosts Of<TModel>(Profile<TModel> profile, bool isGranularity)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        ArgumentNullException.ThrowIfNull(profile);
        return new ProfileCosts(
            profile.Name,
            isGranularity,
            Mixes.ShapeOf(profile),
            profile.Pattern,
            profile.Layers,
            profile.ParameterCount,
            profile.NonEmbeddingParameterCount,
            profile.Flops,
            profile.KeyValueCacheBytesPerToken);
    }
}

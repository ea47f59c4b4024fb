using System.Globalization;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Validation;

namespace MatFormer.Generators.Parsing;

/// <summary>A value, and the place of its argument (or of the attribute, if there is no argument).</summary>
internal sealed record Located<T>(T Value, LocationInfo At);

/// <summary>A string, its argument, and the place of the characters within the quotes if the value is written there as it is.</summary>
internal sealed record LocatedText(string Value, LocationInfo At, LocationInfo? Characters)
{
    /// <summary>Returns the place of some characters of the value, or of the whole argument if it is not a plain literal.</summary>
    public LocationInfo Slice(int start, int length) => Characters?.Slice(start, length) ?? At;
}

/// <summary>The attribute that makes the class a model. Properties that its kind does not have are null.</summary>
internal sealed record ModelDeclaration(
    ModelKind Kind,
    LocationInfo At,
    Located<int>? Layers,
    Located<int>? Width,
    Located<int>? Heads,
    Located<int>? Context,
    Located<int>? Vocabulary,
    Located<int>? Image,
    Located<int>? Patch,
    Located<int>? Channels,
    Located<int>? Classes,
    Located<int>? Embedding,
    Located<Pooling>? Pooling,
    Located<double>? Temperature)
{
    /// <summary>The attribute as source code writes it, such as <c>[MatLM]</c>.</summary>
    public string Attribute => Kind switch
    {
        ModelKind.VisionTransformer => "[MatViT]",
        ModelKind.TextEncoder => "[MatEncoder]",
        _ => "[MatLM]",
    };
}

internal sealed record NestedEmbeddingDeclaration(
    LocationInfo At,
    EquatableArray<Located<int>> Dimensions,
    LocationInfo DimensionsAt,
    EquatableArray<double>? Weights,
    LocationInfo? WeightsAt);

/// <summary>Routing of tokens. The budgets are empty if none are given.</summary>
internal sealed record RoutingDeclaration(
    LocationInfo At, EquatableArray<Located<double>> Budgets, LocatedText? Layers) : IOfLayers;

internal sealed record LookupDeclaration(LocationInfo At, EquatableArray<Located<int>> Grids, Located<int>? Hidden);

/// <summary>An attribute for the layers that it names, or for all layers that no other attribute names.</summary>
internal interface IOfLayers
{
    /// <summary>The place of the attribute.</summary>
    LocationInfo At { get; }

    /// <summary>The layers that the attribute names, or null for all other layers.</summary>
    LocatedText? Layers { get; }
}

internal sealed record FeedForwardDeclaration(
    LocationInfo At, Located<int> Width, Located<Activation> Activation, bool Bias, LocatedText? Layers) : IOfLayers;

internal sealed record AttentionDeclaration(
    LocationInfo At,
    Located<int>? KeyValueHeads,
    Located<int>? Window,
    Located<int>? HeadWidth,
    Located<double>? RotaryBase,
    Located<bool>? QkNorm,
    Located<bool>? Bias,
    Located<bool>? OutputBias,
    LocatedText? Layers) : IOfLayers;

internal sealed record RotaryScalingDeclaration(
    LocationInfo At,
    Located<RotaryScalingKind> Kind,
    Located<double> Factor,
    Located<int>? OriginalContext,
    Located<double>? LowFrequencyFactor,
    Located<double>? HighFrequencyFactor);

internal sealed record NormDeclaration(Located<NormKind> Kind, Located<double>? Epsilon);

/// <summary>
/// A granularity, given by its number of hidden units or by a fraction of them. The other of the two is null. <c>Stream</c> is the width of
/// the residual stream.
/// </summary>
internal sealed record GranularityDeclaration(
    LocatedText Name, Located<int>? Width, Located<double>? Fraction, Located<int>? Heads, Located<int>? Stream, LocatedText? Layers)
    : IOfLayers
{
    public LocationInfo At => Name.At;

    /// <summary>The place of the width or fraction.</summary>
    public LocationInfo WidthAt => Width?.At ?? Fraction?.At ?? Name.At;
}

/// <summary>A profile, given by a pattern, by widths or by budgets. What is not given is null.</summary>
internal sealed record ProfileDeclaration(
    LocatedText Name,
    LocatedText? Pattern,
    EquatableArray<Located<int>>? Widths,
    LocationInfo? WidthsAt,
    Located<long>? MaxParameters,
    Located<long>? MaxNonEmbeddingParameters,
    Located<long>? MaxFlopsPerToken,
    Located<long>? MaxFlopsPerImage,
    Located<long>? MaxFlopsPerText,
    Located<long>? MaxWeightBytes,
    Located<WeightType>? WeightType,
    Located<double>? FeedForwardShare)
{
    public Located<int>? Bits { get; init; }
}

internal sealed record PrecisionDeclaration(LocationInfo At, EquatableArray<Located<int>> Bits, LocationInfo BitsAt);

internal sealed record ProfileGridDeclaration(LocationInfo At, Located<int> Count, LocatedText? Prefix)
{
    // No program needs more profiles.
    public const int MaxCount = 256;

    /// <summary>The names of the profiles.</summary>
    public IEnumerable<string> Names => Enumerable.Range(1, Math.Max(0, Math.Min(Count.Value, MaxCount)))
        .Select(i => (Prefix?.Value ?? "Grid") + i.ToString(CultureInfo.InvariantCulture));
}

/// <summary>The contents of the attributes of one class, before the validator checks them.</summary>
/// <param name="Type">The class.</param>
/// <param name="NameAt">The place of the class's name.</param>
/// <param name="Problems">Mistakes of the class itself. If there are any, no code can be added to the class.</param>
/// <param name="IsComplete">False if the compiler reports an error in an attribute.</param>
/// <param name="TakenNames">
/// Those names among the class's name, the granularities and the profiles that the class's own or inherited members already have.
/// </param>
internal sealed record Declaration(
    TypeSpec Type,
    LocationInfo NameAt,
    EquatableArray<DiagnosticInfo> Problems,
    bool IsComplete,
    EquatableArray<string> TakenNames,
    EquatableArray<ModelDeclaration> Models,
    EquatableArray<FeedForwardDeclaration> FeedForwards,
    EquatableArray<AttentionDeclaration> Attentions,
    NormDeclaration? Norm,
    Located<PositionKind>? Position,
    RotaryScalingDeclaration? RotaryScaling,
    Located<bool>? Tied,
    LocationInfo? EmbeddingAt,
    NestedEmbeddingDeclaration? Nested,
    EquatableArray<GranularityDeclaration> Granularities,
    EquatableArray<ProfileDeclaration> Profiles,
    ProfileGridDeclaration? Grid,
    RoutingDeclaration? Routing)
{
    /// <summary>The bits that the model is trained for, or null.</summary>
    public PrecisionDeclaration? Precision { get; init; }

    /// <summary>The compressed tokens, or null.</summary>
    public LookupDeclaration? Lookup { get; init; }

    /// <summary>The first attribute that makes the class a model.</summary>
    public ModelDeclaration Model => Models[0];
}

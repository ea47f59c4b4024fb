using System.Globalization;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Validation;

namespace MatFormer.Generators.Parsing;

/// <summary>A value and the argument that gave it, or the attribute if none did.</summary>
internal sealed record Located<T>(T Value, LocationInfo At);

/// <summary>A string, the argument that gave it, and the characters within the quotes if they are the value's own.</summary>
internal sealed record LocatedText(string Value, LocationInfo At, LocationInfo? Characters)
{
    /// <summary>Where some characters of the value stand, or the whole argument if it is no plain literal.</summary>
    public LocationInfo Slice(int start, int length) => Characters?.Slice(start, length) ?? At;
}

/// <summary>The attribute that makes the class a model; what its kind does not have is null.</summary>
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
    /// <summary>What is written: <c>[MatLM]</c>.</summary>
    public string Attribute => Kind switch
    {
        ModelKind.VisionTransformer => "[MatViT]",
        ModelKind.TextEncoder => "[MatEncoder]",
        _ => "[MatLM]",
    };
}

internal sealed record NestedEmbeddingDeclaration(
    LocationInfo At, EquatableArray<Located<int>> Dimensions, LocationInfo DimensionsAt, EquatableArray<double>? Weights, LocationInfo? WeightsAt);

/// <summary>An attribute for some layers, or for all others.</summary>
internal interface IOfLayers
{
    /// <summary>Where it is.</summary>
    LocationInfo At { get; }

    /// <summary>The layers that it names, or null for all others.</summary>
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
    LocatedText? Layers) : IOfLayers;

internal sealed record RotaryScalingDeclaration(
    LocationInfo At,
    Located<RotaryScalingKind> Kind,
    Located<double> Factor,
    Located<int>? OriginalContext,
    Located<double>? LowFrequencyFactor,
    Located<double>? HighFrequencyFactor);

internal sealed record NormDeclaration(Located<NormKind> Kind, Located<double>? Epsilon);

/// <summary>A granularity by width or by fraction: one of them is null.</summary>
internal sealed record GranularityDeclaration(
    LocatedText Name, Located<int>? Width, Located<double>? Fraction, Located<int>? Heads, LocatedText? Layers) : IOfLayers
{
    public LocationInfo At => Name.At;

    /// <summary>The argument that says how wide it is.</summary>
    public LocationInfo WidthAt => Width?.At ?? Fraction?.At ?? Name.At;
}

/// <summary>A profile by pattern, by widths, or by budgets: the others are null; all are for <c>[Profile("Name")]</c>.</summary>
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
    Located<double>? FeedForwardShare);

internal sealed record ProfileGridDeclaration(LocationInfo At, Located<int> Count, LocatedText? Prefix)
{
    // More names than anyone could use.
    public const int MaxCount = 256;

    /// <summary>The profiles' names.</summary>
    public IEnumerable<string> Names => Enumerable.Range(1, Math.Max(0, Math.Min(Count.Value, MaxCount)))
        .Select(i => (Prefix?.Value ?? "Grid") + i.ToString(CultureInfo.InvariantCulture));
}

/// <summary>What the attributes of one class say, before anyone has judged it.</summary>
/// <param name="Type">The class.</param>
/// <param name="NameAt">Its name.</param>
/// <param name="Problems">What is wrong with the class itself; no code can be added to it then.</param>
/// <param name="IsComplete">False if the compiler has already refused an attribute.</param>
/// <param name="TakenNames">The class's name and declared names of granularities and profiles that members or base classes have.</param>
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
    ProfileGridDeclaration? Grid)
{
    /// <summary>What the class is.</summary>
    public ModelDeclaration Model => Models[0];
}

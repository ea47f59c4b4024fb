using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// A Mix'n'Match profile of <typeparamref name="TModel"/>: the part of each layer that it keeps. A granularity is a profile too. The type
/// parameter makes another model's profile a type error.
/// </summary>
/// <typeparam name="TModel">The model that declares it.</typeparam>
public sealed class Profile<TModel>
    where TModel : IDeclaredModel<TModel>
{
    /// <summary>Creates a profile from the part of each layer that it keeps, first layer first.</summary>
    /// <exception cref="ArgumentException">
    /// The number of layers is not the model's, no granularity has one of the slices, or a layer is left out that the model always has.
    /// </exception>
    public Profile(string name, ImmutableArray<LayerSlice> layers)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        TModel.Spec.CheckLayers(name, layers.AsSpan(), nameof(layers));
        Name = name;
        Layers = layers;
    }

    /// <summary>Creates a profile from runs of layers that keep the same part, first layer first.</summary>
    /// <exception cref="ArgumentException">
    /// The number of layers is not the model's, no granularity has one of the slices, or a layer is left out that the model always has.
    /// </exception>
    public Profile(string name, params ReadOnlySpan<(int Count, LayerSlice Slice)> runs)
        : this(name, BlockSpec.Expand(runs))
    {
    }

    /// <summary>Creates a profile from a pattern such as <c>4*S 4*M</c>.</summary>
    /// <exception cref="ArgumentException">The pattern is not valid: see <see cref="ModelSpec.ParsePattern"/>.</exception>
    public Profile(string name, string pattern)
        : this(name, TModel.Spec.ParsePattern(pattern))
    {
    }

    /// <summary>The declared name, or the pattern of a profile made at run time.</summary>
    public string Name { get; }

    /// <summary>The part of each layer that the profile keeps, first layer first.</summary>
    public ImmutableArray<LayerSlice> Layers { get; }

    /// <summary>How many channels of the residual stream the profile keeps.</summary>
    public int Width => TModel.Spec.WidthOf(Layers.AsSpan());

    /// <summary>The bits in which the weights are meant to be stored and decoded: 8, 4 or 2. Null if no bits are declared.</summary>
    public int? Bits { get; init; }

    /// <summary>
    /// The bytes of the weights at the declared bits: 2 bytes for the scale of each 32 weights included, norms and biases in float32. Null
    /// if no bits are declared.
    /// </summary>
    public long? WeightBytes { get; init; }

    /// <summary>
    /// The side of the grid of compressed tokens at which the universal model computes the profile (<see cref="At"/>); null for the largest
    /// declared grid, or if the model has no compressed tokens.
    /// </summary>
    public int? Grid { get; private init; }

    /// <summary>
    /// Returns this profile at a grid of compressed tokens, for a model that declares <c>[Lookup]</c>. The weights are the same at all
    /// grids.
    /// </summary>
    /// <param name="grid">The side of a declared grid.</param>
    /// <exception cref="ArgumentException">The model has no compressed tokens, or declares no such grid.</exception>
    public Profile<TModel> At(int grid)
    {
        TModel.Spec.CheckGrid(grid);
        return new Profile<TModel>(Name, Layers) { Bits = Bits, WeightBytes = WeightBytes, Grid = grid };
    }

    /// <summary>The layers as a pattern of granularities, such as <c>4*S 4*M</c>.</summary>
    public string Pattern => TModel.Spec.FormatPattern(Layers.AsSpan());

    /// <summary>The number of all parameters of the extracted model.</summary>
    public long ParameterCount => TModel.Spec.ParameterCount(Layers.AsSpan());

    /// <summary>The number of parameters without the embeddings and an untied head.</summary>
    public long NonEmbeddingParameterCount => TModel.Spec.NonEmbeddingParameterCount(Layers.AsSpan());

    /// <summary>
    /// FLOPs (a multiply-add is two) of the forward pass over one <see cref="ModelSpec.Unit"/>: a token, an image or a text.
    /// </summary>
    public long Flops => TModel.Spec.AtGrid(Grid).Flops(Layers.AsSpan());

    /// <summary>Bytes of key/value cache that one token takes in float32; half as many in bfloat16.</summary>
    public long KeyValueCacheBytesPerToken => TModel.Spec.KeyValueCacheBytesPerToken(Layers.AsSpan());

    /// <summary>Finds a declared granularity or profile by name, or parses a pattern such as <c>4*S 4*M</c>.</summary>
    /// <exception cref="ArgumentException">The text is neither a name nor a valid pattern.</exception>
    public static Profile<TModel> Parse(string text)
    {
        ArgumentException.ThrowIfNullOrEmpty(text);
        foreach (var known in TModel.Granularities.Concat(TModel.Profiles))
        {
            if (known.Name == text) return known;
        }

        try
        {
            return new Profile<TModel>(text, text);
        }
        catch (ArgumentException e) when (!text.Contains('*', StringComparison.Ordinal) && !text.Contains(' ', StringComparison.Ordinal))
        {
            var names = TModel.Granularities.Concat(TModel.Profiles).Select(p => p.Name);
            throw new ArgumentException(
                $"'{text}' is not a profile of {TModel.Spec.Name}; it has {string.Join(", ", names)}, and patterns such as "
                + $"'{TModel.Profiles.Concat(TModel.Granularities).First().Pattern}'.", nameof(text), e);
        }
    }

    /// <inheritdoc/>
    public override string ToString() => $"{TModel.Spec.Name}.{Name} ({Pattern})";
}

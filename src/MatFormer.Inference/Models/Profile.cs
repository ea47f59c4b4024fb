using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// A Mix'n'Match profile of <typeparamref name="TModel"/>: what it keeps of each layer. A granularity is a
/// profile too.
/// The type parameter makes another model's profile a type error.
/// </summary>
/// <typeparam name="TModel">The model that declares it.</typeparam>
public sealed class Profile<TModel>
    where TModel : IDeclaredModel<TModel>
{
    /// <summary>Makes a profile from what it keeps of each layer, first layer first.</summary>
    /// <exception cref="ArgumentException">
    /// The number of layers is not the model's, a slice is no granularity's, or layers are left out that the model always has.
    /// </exception>
    public Profile(string name, ImmutableArray<LayerSlice> layers)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        var spec = TModel.Spec;
        if (layers.Length != spec.Layers)
        {
            throw new ArgumentException(
                $"The profile '{name}' has {layers.Length} layers, but {spec.Name} has {spec.Layers}.", nameof(layers));
        }

        for (var layer = 0; layer < layers.Length; layer++)
        {
            var slice = layers[layer];
            if (slice.IsSkipped ? spec.CanSkip : spec.Granularities.Any(g => g.Layers[layer] == slice)) continue;
            var sizes = spec.Granularities.Select(g => $"{g.Name} ({g.Layers[layer].HiddenWidth}, {g.Layers[layer].Heads})");
            throw new ArgumentException(
                $"The profile '{name}' keeps {slice.HiddenWidth} hidden units and {slice.Heads} heads of layer {layer}, as no granularity "
                + $"of {spec.Name} does; there are {string.Join(", ", sizes)}.", nameof(layers));
        }

        Name = name;
        Layers = layers;
    }

    /// <summary>Makes a profile from runs of layers that keep the same, the first layer first.</summary>
    /// <exception cref="ArgumentException">
    /// The number of layers is not the model's, a slice is no granularity's, or layers are left out that the model always has.
    /// </exception>
    public Profile(string name, params ReadOnlySpan<(int Count, LayerSlice Slice)> runs)
        : this(name, BlockSpec.Expand(runs))
    {
    }

    /// <summary>Makes a profile from a pattern such as <c>4*S 4*M</c>.</summary>
    /// <exception cref="ArgumentException">The pattern cannot be read: see <see cref="ModelSpec.ParsePattern"/>.</exception>
    public Profile(string name, string pattern)
        : this(name, TModel.Spec.ParsePattern(pattern))
    {
    }

    /// <summary>The declared name, or the pattern of a profile made at run time.</summary>
    public string Name { get; }

    /// <summary>What it keeps of each layer, first layer first.</summary>
    public ImmutableArray<LayerSlice> Layers { get; }

    /// <summary>The layers as a pattern of granularities, such as <c>4*S 4*M</c>.</summary>
    public string Pattern => TModel.Spec.FormatPattern(Layers.AsSpan());

    /// <summary>All parameters of the extracted model.</summary>
    public long ParameterCount => TModel.Spec.ParameterCount(Layers.AsSpan());

    /// <summary>Parameters without the embeddings and an untied head.</summary>
    public long NonEmbeddingParameterCount => TModel.Spec.NonEmbeddingParameterCount(Layers.AsSpan());

    /// <summary>
    /// FLOPs (a multiply-add is two) of the forward pass over one <see cref="ModelSpec.Unit"/>: a token, an image or a text.
    /// </summary>
    public long Flops => TModel.Spec.Flops(Layers.AsSpan());

    /// <summary>Bytes of float32 key/value cache that one token takes; half of it in bfloat16.</summary>
    public long KeyValueCacheBytesPerToken => TModel.Spec.KeyValueCacheBytesPerToken(Layers.AsSpan());

    /// <summary>Finds a declared granularity or profile by name, or reads a pattern such as <c>4*S 4*M</c>.</summary>
    /// <exception cref="ArgumentException">It is neither.</exception>
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
                $"'{text}' is no profile of {TModel.Spec.Name}; it has {string.Join(", ", names)}, and patterns such as "
                + $"'{TModel.Profiles.Concat(TModel.Granularities).First().Pattern}'.", nameof(text), e);
        }
    }

    /// <inheritdoc/>
    public override string ToString() => $"{TModel.Spec.Name}.{Name} ({Pattern})";
}

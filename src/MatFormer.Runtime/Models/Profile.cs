using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// A Mix'n'Match profile of <typeparamref name="TModel"/>: one hidden width per layer. A granularity is a profile whose layers are alike.
/// The type parameter makes another model's profile a type error.
/// </summary>
/// <typeparam name="TModel">The model that declares it.</typeparam>
public sealed class Profile<TModel>
    where TModel : MatFormerModel, IMatFormer<TModel>
{
    /// <summary>Makes a profile from a hidden width per layer, first layer first.</summary>
    /// <exception cref="ArgumentException">The number of widths is not the model's number of layers, or a width is no granularity's.</exception>
    public Profile(string name, ImmutableArray<int> widths)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        var spec = TModel.Spec;
        if (widths.Length != spec.Layers)
        {
            throw new ArgumentException(
                $"The profile '{name}' has {widths.Length} widths, but {spec.Name} has {spec.Layers} layers.", nameof(widths));
        }

        foreach (var width in widths)
        {
            if (!spec.Granularities.Any(g => g.Width == width))
            {
                throw new ArgumentException(
                    $"The profile '{name}' has a layer of width {width}, which is no granularity of {spec.Name}; "
                    + $"it has {string.Join(", ", spec.Granularities.Select(g => $"{g.Name}={g.Width}"))}.", nameof(widths));
            }
        }

        Name = name;
        Widths = widths;
        Streams = Streams.Of(widths);
    }

    /// <summary>The declared name, or the pattern of a profile made at run time.</summary>
    public string Name { get; }

    /// <summary>Hidden units of each layer, first layer first.</summary>
    public ImmutableArray<int> Widths { get; }

    /// <summary>The widths as a pattern of granularities, such as <c>4*S 4*M</c>.</summary>
    public string Pattern => TModel.Spec.FormatPattern(Widths.AsSpan());

    /// <summary>All parameters of the extracted model.</summary>
    public long ParameterCount => TModel.Spec.ParameterCount(Widths.AsSpan());

    /// <summary>Parameters without the embeddings and an untied head.</summary>
    public long NonEmbeddingParameterCount => TModel.Spec.NonEmbeddingParameterCount(Widths.AsSpan());

    /// <summary>FLOPs (a multiply-add is two) of one token's forward pass, attention averaged over a full causal context.</summary>
    public long FlopsPerToken => TModel.Spec.FlopsPerToken(Widths.AsSpan());

    /// <summary>This profile alone, as what a forward pass runs.</summary>
    public Streams Streams { get; }

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
            return new Profile<TModel>(text, TModel.Spec.ParsePattern(text));
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

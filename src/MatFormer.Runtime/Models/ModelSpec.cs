using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>One size of a model's nested feed-forward: its name and how many of the hidden units it keeps in every layer.</summary>
/// <param name="Name">The name in the declaration, such as <c>S</c>.</param>
/// <param name="Width">Hidden units kept: the first <c>Width</c> of the feed-forward.</param>
public sealed record Granularity(string Name, int Width);

/// <summary>What is known of a declared model without its weights: sizes, granularities and costs. Generated code holds one per model.</summary>
public sealed record ModelSpec
{
    /// <summary>The name of the declaring class.</summary>
    public required string Name { get; init; }

    /// <summary>A hash of the declared architecture, not of its profiles: weight files carry it, so that they load only where they fit.</summary>
    public required string Fingerprint { get; init; }

    /// <summary>Transformer blocks.</summary>
    public required int Layers { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int Width { get; init; }

    /// <summary>Attention heads of the query.</summary>
    public required int Heads { get; init; }

    /// <summary>Attention heads of the keys and values; divides <see cref="Heads"/>.</summary>
    public required int KeyValueHeads { get; init; }

    /// <summary>Width of one attention head.</summary>
    public required int HeadWidth { get; init; }

    /// <summary>Hidden units of the whole feed-forward.</summary>
    public required int HiddenWidth { get; init; }

    /// <summary>The longest sequence, in tokens.</summary>
    public required int Context { get; init; }

    /// <summary>The number of different tokens.</summary>
    public required int Vocabulary { get; init; }

    /// <summary>The granularities, narrowest first; the last is the whole model.</summary>
    public required ImmutableArray<Granularity> Granularities { get; init; }

    /// <summary>Parameters of the token and position embeddings and of an untied head.</summary>
    public required long EmbeddingParameters { get; init; }

    /// <summary>Parameters that every profile has, the embeddings included.</summary>
    public required long SharedParameters { get; init; }

    /// <summary>Parameters that one hidden unit adds to one layer.</summary>
    public required long ParametersPerHiddenUnit { get; init; }

    /// <summary>FLOPs of one token's forward pass that every profile needs, attention averaged over a full causal context.</summary>
    public required long SharedFlopsPerToken { get; init; }

    /// <summary>FLOPs of one token's forward pass that one hidden unit of one layer adds.</summary>
    public required long FlopsPerHiddenUnit { get; init; }

    /// <summary>Bytes of float32 key/value cache that one token takes; half of it in bfloat16.</summary>
    public required long KeyValueCacheBytesPerToken { get; init; }

    /// <summary>All parameters of a model with the given hidden width per layer.</summary>
    public long ParameterCount(ReadOnlySpan<int> widths) => SharedParameters + (ParametersPerHiddenUnit * Sum(widths));

    /// <summary>Parameters without the embeddings and an untied head.</summary>
    public long NonEmbeddingParameterCount(ReadOnlySpan<int> widths) => ParameterCount(widths) - EmbeddingParameters;

    /// <summary>FLOPs (a multiply-add is two) of one token's forward pass, attention averaged over a full causal context.</summary>
    public long FlopsPerToken(ReadOnlySpan<int> widths) => SharedFlopsPerToken + (FlopsPerHiddenUnit * Sum(widths));

    /// <summary>Writes the hidden widths of a profile as a pattern of granularities, such as <c>4*S 4*M</c>.</summary>
    public string FormatPattern(ReadOnlySpan<int> widths)
    {
        var runs = new List<string>();
        for (var start = 0; start < widths.Length;)
        {
            var end = start;
            while (end < widths.Length && widths[end] == widths[start]) end++;
            var width = widths[start];
            var name = Granularities.FirstOrDefault(g => g.Width == width)?.Name ?? width.ToString(CultureInfo.InvariantCulture);
            runs.Add(string.Create(CultureInfo.InvariantCulture, $"{end - start}*{name}"));
            start = end;
        }

        return string.Join(' ', runs);
    }

    /// <summary>Reads a pattern such as <c>4*S 4*M</c> or <c>S S M XL</c>, the first layer on the left, into a hidden width per layer.</summary>
    /// <exception cref="ArgumentException">The pattern names an unknown granularity or has the wrong number of layers.</exception>
    public ImmutableArray<int> ParsePattern(string pattern)
    {
        ArgumentNullException.ThrowIfNull(pattern);
        var widths = ImmutableArray.CreateBuilder<int>(Layers);
        foreach (var term in pattern.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))
        {
            var star = term.IndexOf('*', StringComparison.Ordinal);
            var count = 1;
            if (star >= 0 && !(int.TryParse(term.AsSpan(0, star), NumberStyles.None, CultureInfo.InvariantCulture, out count) && count > 0))
            {
                throw new ArgumentException(
                    $"'{term}' in the profile '{pattern}' has no number of layers before '*'; write it as '4*S'.", nameof(pattern));
            }

            var name = term[(star + 1)..];
            var granularity = Granularities.FirstOrDefault(g => g.Name == name)
                ?? throw new ArgumentException(
                    $"'{name}' in the profile '{pattern}' is no granularity of {Name}; "
                    + $"it has {string.Join(", ", Granularities.Select(g => g.Name))}.",
                    nameof(pattern));
            if (count > Layers - widths.Count)
                throw new ArgumentException($"The profile '{pattern}' names more layers than the {Layers} of {Name}.", nameof(pattern));
            widths.AddRange(Enumerable.Repeat(granularity.Width, count));
        }

        if (widths.Count != Layers)
            throw new ArgumentException($"The profile '{pattern}' names {widths.Count} layers, but {Name} has {Layers}.", nameof(pattern));
        return widths.MoveToImmutable();
    }

    private static long Sum(ReadOnlySpan<int> widths)
    {
        long sum = 0;
        foreach (var width in widths) sum += width;
        return sum;
    }
}

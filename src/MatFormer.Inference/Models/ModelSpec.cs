using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>
/// What is known of a declared model without its weights: sizes, granularities and costs. Generated code holds one per model.
/// </summary>
public sealed record ModelSpec
{
    /// <summary>What a pattern names the layers that it leaves out.</summary>
    public const string Skip = "Skip";

    /// <summary>The name of the declaring class.</summary>
    public required string Name { get; init; }

    /// <summary>What it takes and gives.</summary>
    public ModelKind Kind { get; init; }

    /// <summary>
    /// A hash of the declared architecture, not of its profiles: weight files carry it, so that they load only where they fit.
    /// </summary>
    public required string Fingerprint { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int Width { get; init; }

    /// <summary>Width of one attention head.</summary>
    public required int HeadWidth { get; init; }

    /// <summary>The longest sequence, in tokens; of images their patches and, if there is one, the class token.</summary>
    public required int Context { get; init; }

    /// <summary>The number of different tokens; 0 if it takes images.</summary>
    public int Vocabulary { get; init; }

    /// <summary>The images that it takes and the classes it tells apart, or null if it takes tokens.</summary>
    public ImageSpec? Image { get; init; }

    /// <summary>How an encoder makes one vector of a sequence; language models make none.</summary>
    public Pooling Pooling { get; init; }

    /// <summary>
    /// Width of the embeddings that a text encoder gives, or of the vector in front of an image's classifier; 0 for language models.
    /// </summary>
    public int EmbeddingWidth { get; init; }

    /// <summary>
    /// Prefixes of the embedding that are trained to be embeddings too, narrowest first; the last is the whole. Empty for language models.
    /// </summary>
    public ImmutableArray<int> EmbeddingDimensions { get; init; } = [];

    /// <summary>What costs are of: <c>token</c>, <c>image</c> or <c>text</c>.</summary>
    public string Unit => Kind switch
    {
        ModelKind.LanguageModel => "token",
        ModelKind.VisionTransformer => "image",
        _ => "text",
    };

    /// <summary>Rows of a batch that an example of training takes: a text encoder learns from pairs, a query and its document.</summary>
    internal int RowsPerExample => Kind == ModelKind.TextEncoder ? 2 : 1;

    internal int TokensPerExample => RowsPerExample * Context;

    /// <summary>The norms in front of attention, feed-forward and head.</summary>
    public required NormKind Norm { get; init; }

    /// <summary>Added to the mean square, or to the variance, before the root is taken.</summary>
    public required double NormEpsilon { get; init; }

    /// <summary>How the model knows a token's position.</summary>
    public required PositionKind Position { get; init; }

    /// <summary>The base of the rotary angles; 0 with learned positions.</summary>
    public double RotaryBase { get; init; }

    /// <summary>How the rotary angles are scaled; null if they are not.</summary>
    public RotaryScaling? RotaryScaling { get; init; }

    /// <summary>True if each projection of attention has a bias.</summary>
    public bool AttentionBias { get; init; }

    /// <summary>True if each head of queries and keys is RMS-normalised before it is turned.</summary>
    public bool QkNorm { get; init; }

    /// <summary>True if the head uses the embedding's weight.</summary>
    public bool TiedHead { get; init; }

    /// <summary>The granularities, narrowest first; the last is the whole model.</summary>
    public required ImmutableArray<Granularity> Granularities { get; init; }

    /// <summary>Parameters of the token and position embeddings and of an untied head.</summary>
    public required long EmbeddingParameters { get; init; }

    /// <summary>Parameters around the blocks, which every profile has, the embeddings included.</summary>
    public required long SharedParameters { get; init; }

    /// <summary>FLOPs of the forward pass over one <see cref="Unit"/> around the blocks.</summary>
    public required long SharedFlops { get; init; }

    /// <summary>The blocks, first layer first.</summary>
    public required ImmutableArray<BlockSpec> Blocks { get; init; }

    /// <summary>How many blocks there are.</summary>
    public int Layers => Blocks.Length;

    /// <summary>True if a declared profile leaves layers out, so that others may too.</summary>
    public bool CanSkip { get; init; }

    /// <summary>The whole model, as what it keeps of each layer.</summary>
    public ImmutableArray<LayerSlice> WholeLayers => Granularities[^1].Layers;

    /// <summary>All parameters of a model that keeps this of each layer.</summary>
    public long ParameterCount(ReadOnlySpan<LayerSlice> layers) => SharedParameters + Sum(layers, block => block.Parameters);

    /// <summary>Parameters without the embeddings and an untied head.</summary>
    public long NonEmbeddingParameterCount(ReadOnlySpan<LayerSlice> layers) => ParameterCount(layers) - EmbeddingParameters;

    /// <summary>
    /// FLOPs (a multiply-add is two) of the forward pass over one <see cref="Unit"/>: of a language model one token, attention averaged
    /// over a full causal context; of an encoder one image or one text of a full context.
    /// </summary>
    public long Flops(ReadOnlySpan<LayerSlice> layers) => SharedFlops + Sum(layers, block => block.Flops);

    /// <summary>Bytes of float32 key/value cache that one token takes; half of it in bfloat16.</summary>
    public long KeyValueCacheBytesPerToken(ReadOnlySpan<LayerSlice> layers) => Sum(layers, block => block.KeyValueCacheBytesPerToken);

    /// <summary>The width itself, or of the whole embedding if null.</summary>
    /// <exception cref="ArgumentException">The model declares no such width.</exception>
    internal int CheckEmbeddingWidth(int? width)
    {
        if (EmbeddingDimensions.IsEmpty)
            throw new ArgumentException($"{Name} is a language model, and gives no embeddings.", nameof(width));
        if (width is null || EmbeddingDimensions.Contains(width.Value)) return width ?? EmbeddingWidth;
        throw new ArgumentException(
            $"Embeddings of {Name} are trained to be cut to {string.Join(", ", EmbeddingDimensions)}, not to {width}.", nameof(width));
    }

    /// <summary>Writes a profile as a pattern of granularities, such as <c>4*S 4*M</c> or <c>2*S Skip 5*M</c>.</summary>
    public string FormatPattern(ReadOnlySpan<LayerSlice> layers)
    {
        var runs = new List<string>();
        for (var start = 0; start < layers.Length;)
        {
            // Granularities may be alike in some layers: the one that lasts longest is named.
            string? name = null;
            var end = start + 1;
            foreach (var granularity in Granularities)
            {
                var last = start;
                while (last < layers.Length && layers[last] == granularity.Layers[last]) last++;
                if (last > start && (name is null || last > end)) (name, end) = (granularity.Name, last);
            }

            while (layers[start].IsSkipped && end < layers.Length && layers[end].IsSkipped) end++;
            name ??= layers[start].IsSkipped ? Skip : layers[start].ToString();
            runs.Add(string.Create(CultureInfo.InvariantCulture, $"{end - start}*{name}"));
            start = end;
        }

        return string.Join(' ', runs);
    }

    /// <summary>
    /// Reads a pattern such as <c>4*S 4*M</c>, <c>S S M XL</c> or <c>2*S Skip 5*M</c>, the first layer on the left, into what is kept of
    /// each layer.
    /// </summary>
    /// <exception cref="ArgumentException">
    /// The pattern names an unknown granularity, has the wrong number of layers, or leaves out layers that the model always has.
    /// </exception>
    public ImmutableArray<LayerSlice> ParsePattern(string pattern)
    {
        ArgumentNullException.ThrowIfNull(pattern);
        var layers = ImmutableArray.CreateBuilder<LayerSlice>(Layers);
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
            var granularity = Granularities.FirstOrDefault(g => g.Name == name);
            if (granularity is null && !(CanSkip && name == Skip))
            {
                throw new ArgumentException(
                    $"'{name}' in the profile '{pattern}' is no granularity of {Name}; "
                    + $"it has {string.Join(", ", Granularities.Select(g => g.Name))}"
                    + (CanSkip ? $", and {Skip}." : name == Skip ? ", and no declared profile of it leaves layers out." : "."),
                    nameof(pattern));
            }

            if (count > Layers - layers.Count)
                throw new ArgumentException($"The profile '{pattern}' names more layers than the {Layers} of {Name}.", nameof(pattern));
            for (; count > 0; count--) layers.Add(granularity?.Layers[layers.Count] ?? LayerSlice.Skipped);
        }

        if (layers.Count != Layers)
            throw new ArgumentException($"The profile '{pattern}' names {layers.Count} layers, but {Name} has {Layers}.", nameof(pattern));
        return layers.MoveToImmutable();
    }

    private long Sum(ReadOnlySpan<LayerSlice> layers, Func<BlockSpec, BlockCost> cost)
    {
        long sum = 0;
        for (var layer = 0; layer < layers.Length; layer++) sum += Blocks[layer].CostOf(cost(Blocks[layer]), layers[layer]);
        return sum;
    }
}

using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>
/// The sizes, granularities and costs of a declared model, without its weights. Generated code holds one instance for each model.
/// </summary>
public sealed record ModelSpec
{
    /// <summary>The name of a layer that a pattern leaves out.</summary>
    public const string Skip = "Skip";

    private readonly bool? _outputBias;

    /// <summary>The name of the declaring class.</summary>
    public required string Name { get; init; }

    /// <summary>The input and the output of the model.</summary>
    public ModelKind Kind { get; init; }

    /// <summary>
    /// A hash of the declared architecture, without the profiles. Weight files carry it, so that they load only into a model that they fit.
    /// </summary>
    public required string Fingerprint { get; init; }

    /// <summary>The width of the residual stream.</summary>
    public required int Width { get; init; }

    /// <summary>The width of one attention head.</summary>
    public required int HeadWidth { get; init; }

    /// <summary>The longest sequence, in tokens. For images: the patches and the class token, if there is one.</summary>
    public required int Context { get; init; }

    /// <summary>The number of different tokens; 0 for models of images.</summary>
    public int Vocabulary { get; init; }

    /// <summary>The images that the model takes and the classes that it distinguishes; null if it takes tokens.</summary>
    public ImageSpec? Image { get; init; }

    /// <summary>How an encoder turns a sequence into one vector. Language models do not use it.</summary>
    public Pooling Pooling { get; init; }

    /// <summary>
    /// The width of a text encoder's embeddings, or of the vector that an image's classifier takes; 0 for language models.
    /// </summary>
    public int EmbeddingWidth { get; init; }

    /// <summary>
    /// The widths of the embedding's prefixes that are trained as embeddings, narrowest first. The last one is the whole embedding. Empty
    /// for language models.
    /// </summary>
    public ImmutableArray<int> EmbeddingDimensions { get; init; } = [];

    /// <summary>The unit that costs refer to: <c>token</c>, <c>image</c> or <c>text</c>.</summary>
    public string Unit => Kind switch
    {
        ModelKind.LanguageModel => "token",
        ModelKind.VisionTransformer => "image",
        _ => "text",
    };

    /// <summary>The number of batch rows for one training example. A text encoder learns from pairs of a query and a document.</summary>
    internal int RowsPerExample => Kind == ModelKind.TextEncoder ? 2 : 1;

    internal int TokensPerExample => RowsPerExample * Context;

    /// <summary>The kind of the norms before attention, feed-forward and head.</summary>
    public required NormKind Norm { get; init; }

    /// <summary>The number that a norm adds to the mean square, or to the variance, before it takes the root.</summary>
    public required double NormEpsilon { get; init; }

    /// <summary>How the model knows a token's position.</summary>
    public required PositionKind Position { get; init; }

    /// <summary>The base of the rotary angles; 0 if positions are learned.</summary>
    public double RotaryBase { get; init; }

    /// <summary>How the rotary angles are scaled; null if they are not.</summary>
    public RotaryScaling? RotaryScaling { get; init; }

    /// <summary>True if the projections of queries, keys and values have biases.</summary>
    public bool AttentionBias { get; init; }

    /// <summary>True if the projection of attention's output has a bias. By default it has one if the other projections do.</summary>
    public bool OutputBias
    {
        get => _outputBias ?? AttentionBias;
        init => _outputBias = value;
    }

    /// <summary>True if each head of queries and keys is RMS-normalised before the rotary rotation.</summary>
    public bool QkNorm { get; init; }

    /// <summary>True if the head uses the embedding's weight.</summary>
    public bool TiedHead { get; init; }

    /// <summary>The granularities, narrowest first. The last one is the whole model.</summary>
    public required ImmutableArray<Granularity> Granularities { get; init; }

    /// <summary>The number of parameters of the token and position embeddings and of an untied head.</summary>
    public required long EmbeddingParameters { get; init; }

    /// <summary>The number of parameters outside the blocks, embeddings included. Every profile has them.</summary>
    public required long SharedParameters { get; init; }

    /// <summary>FLOPs outside the blocks of the forward pass over one <see cref="Unit"/>.</summary>
    public required long SharedFlops { get; init; }

    /// <summary>The blocks, first layer first.</summary>
    public required ImmutableArray<BlockSpec> Blocks { get; init; }

    /// <summary>The number of blocks.</summary>
    public int Layers => Blocks.Length;

    /// <summary>True if a declared profile leaves layers out. Only then may other profiles do so.</summary>
    public bool CanSkip { get; init; }

    /// <summary>How tokens are routed to granularities; null if all tokens of a layer use the same hidden units.</summary>
    public RoutingSpec? Routing { get; init; }

    /// <summary>The layers of the whole model.</summary>
    public ImmutableArray<LayerSlice> WholeLayers => Granularities[^1].Layers;

    /// <summary>Returns the number of all parameters of a submodel.</summary>
    public long ParameterCount(ReadOnlySpan<LayerSlice> layers) => SharedParameters + Sum(layers, block => block.Parameters);

    /// <summary>Returns the number of parameters without the embeddings and an untied head.</summary>
    public long NonEmbeddingParameterCount(ReadOnlySpan<LayerSlice> layers) => ParameterCount(layers) - EmbeddingParameters;

    /// <summary>
    /// Returns the FLOPs (a multiply-add is two) of the forward pass over one <see cref="Unit"/>. For a language model this is one token,
    /// with attention averaged over a full causal context. For an encoder it is one image, or one text that fills the context.
    /// </summary>
    public long Flops(ReadOnlySpan<LayerSlice> layers) => SharedFlops + Sum(layers, block => block.Flops);

    /// <summary>Returns the key/value cache bytes that one token takes in float32; half as many in bfloat16.</summary>
    public long KeyValueCacheBytesPerToken(ReadOnlySpan<LayerSlice> layers) => Sum(layers, block => block.KeyValueCacheBytesPerToken);

    /// <summary>Returns the given width, or the width of the whole embedding if it is null.</summary>
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
            // Granularities may be equal in some layers: the one that covers most layers from here is named.
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
    /// Parses a pattern such as <c>4*S 4*M</c>, <c>S S M XL</c> or <c>2*S Skip 5*M</c>, the first layer on the left. Returns the part of
    /// each layer that is kept.
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
                    $"'{name}' in the profile '{pattern}' is not a granularity of {Name}; "
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

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
    private readonly int? _wholeWidth;

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

    /// <summary>
    /// The part of <see cref="EmbeddingParameters"/> for each channel of the residual stream; 0 if no granularity keeps fewer channels.
    /// </summary>
    public long EmbeddingParametersPerChannel { get; init; }

    /// <summary>
    /// The part of <see cref="SharedParameters"/> for each channel of the residual stream; 0 if no granularity keeps fewer channels.
    /// </summary>
    public long SharedParametersPerChannel { get; init; }

    /// <summary>
    /// The part of <see cref="SharedFlops"/> for each channel of the residual stream; 0 if no granularity keeps fewer channels.
    /// </summary>
    public long SharedFlopsPerChannel { get; init; }

    /// <summary>The blocks, first layer first.</summary>
    public required ImmutableArray<BlockSpec> Blocks { get; init; }

    /// <summary>The number of blocks.</summary>
    public int Layers => Blocks.Length;

    /// <summary>
    /// The bits that the weights are trained for (<see cref="PrecisionAttribute"/>), widest first; empty if they are not trained for any.
    /// </summary>
    public ImmutableArray<int> Precision { get; init; } = [];

    /// <summary>True if a declared profile leaves layers out. Only then may other profiles do so.</summary>
    public bool CanSkip { get; init; }

    /// <summary>How tokens are routed to granularities; null if all tokens of a layer use the same hidden units.</summary>
    public RoutingSpec? Routing { get; init; }

    /// <summary>The compressed tokens; null if all tokens run through the whole of each layer.</summary>
    public LookupSpec? Lookup { get; init; }

    /// <summary>The layers of the whole model.</summary>
    public ImmutableArray<LayerSlice> WholeLayers => Granularities[^1].Layers;

    /// <summary>Returns the number of all parameters of a submodel.</summary>
    public long ParameterCount(ReadOnlySpan<LayerSlice> layers)
    {
        var left = Width - WidthOf(layers);
        return SharedParameters - (left * SharedParametersPerChannel)
            + Sum(layers, block => block.Parameters.Without(left, block.ParametersPerChannel));
    }

    /// <summary>Returns the number of parameters without the embeddings and an untied head.</summary>
    public long NonEmbeddingParameterCount(ReadOnlySpan<LayerSlice> layers) =>
        ParameterCount(layers) - EmbeddingParameters + ((Width - WidthOf(layers)) * EmbeddingParametersPerChannel);

    /// <summary>
    /// Returns the FLOPs (a multiply-add is two) of the forward pass over one <see cref="Unit"/>. For a language model this is one token,
    /// with attention averaged over a full causal context. For an encoder it is one image, or one text that fills the context.
    /// </summary>
    public long Flops(ReadOnlySpan<LayerSlice> layers)
    {
        var left = Width - WidthOf(layers);
        return SharedFlops - (left * SharedFlopsPerChannel) + Sum(layers, block => block.Flops.Without(left, block.FlopsPerChannel));
    }

    /// <summary>Returns the key/value cache bytes that one token takes in float32; half as many in bfloat16.</summary>
    public long KeyValueCacheBytesPerToken(ReadOnlySpan<LayerSlice> layers) => Sum(layers, block => block.KeyValueCacheBytesPerToken);

    /// <summary>The width of the declared residual stream, also if this is the model as narrow as a submodel.</summary>
    internal int WholeWidth
    {
        get => _wholeWidth ?? Width;
        private init => _wholeWidth = value;
    }

    /// <summary>Returns how many channels of the residual stream a slice of a layer has.</summary>
    public int WidthOf(LayerSlice slice) => slice.Width == 0 ? Width : slice.Width;

    /// <summary>Returns how many channels of the residual stream a submodel has. A layer that is left out does not say.</summary>
    public int WidthOf(ReadOnlySpan<LayerSlice> layers)
    {
        foreach (var slice in layers)
        {
            if (!slice.IsSkipped) return WidthOf(slice);
        }

        return Width;
    }

    /// <summary>True if some granularity keeps fewer channels of the residual stream than the model has.</summary>
    public bool ElasticWidth => Granularities.Any(granularity => granularity.Layers[0].Width > 0);

    /// <summary>
    /// Returns the model as wide as a submodel's residual stream: what a program sees that knows only this submodel. It is this object if
    /// the submodel keeps the whole stream.
    /// </summary>
    internal ModelSpec Narrowed(ReadOnlySpan<LayerSlice> layers)
    {
        var width = WidthOf(layers);
        if (width == Width) return this;
        var left = Width - width;
        var narrowed = this with
        {
            Width = width,
            WholeWidth = WholeWidth,
            EmbeddingParameters = EmbeddingParameters - (left * EmbeddingParametersPerChannel),
            SharedParameters = SharedParameters - (left * SharedParametersPerChannel),
            SharedFlops = SharedFlops - (left * SharedFlopsPerChannel),
            Blocks =
            [
                .. Blocks.Select(block => block with
                {
                    Parameters = block.Parameters.Without(left, block.ParametersPerChannel),
                    Flops = block.Flops.Without(left, block.FlopsPerChannel),
                }),
            ],
        };
        return Image is null ? narrowed : narrowed with
        {
            EmbeddingWidth = width,
            EmbeddingDimensions = [.. EmbeddingDimensions.Where(dimension => dimension < width), width],
        };
    }

    /// <summary>Checks the side of a grid of compressed tokens.</summary>
    /// <exception cref="ArgumentException">The model has no compressed tokens, or declares no such grid.</exception>
    internal void CheckGrid(int grid)
    {
        if (Lookup is null)
            throw new ArgumentException($"{Name} has no compressed tokens; declare [Lookup] to choose their grid.", nameof(grid));
        if (Lookup.Grids.Contains(grid)) return;
        throw new ArgumentException(
            $"{Name} is trained for compressed tokens in grids of side {string.Join(", ", Lookup.Grids)}, not {grid}.", nameof(grid));
    }

    /// <summary>Returns the model with the FLOPs at a grid of compressed tokens, or this object for the last grid or null.</summary>
    /// <exception cref="ArgumentException">The model has no compressed tokens, or declares no such grid.</exception>
    internal ModelSpec AtGrid(int? grid)
    {
        if (grid is not { } side) return this;
        CheckGrid(side);
        var index = Lookup!.Grids.IndexOf(side);
        return index == Lookup.Grids.Length - 1
            ? this
            : this with { Blocks = [.. Blocks.Select(block => block with { Flops = block.FlopsAtGrids[index] })] };
    }

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
        var parsed = layers.MoveToImmutable();
        CheckWidths(pattern, parsed.AsSpan(), nameof(pattern));
        return parsed;
    }

    /// <summary>Checks that a profile keeps of each layer what some granularity keeps.</summary>
    /// <exception cref="ArgumentException">
    /// The number of layers is not the model's, no granularity has one of the slices, two layers keep different numbers of channels, or a
    /// layer is left out that the model always has.
    /// </exception>
    internal void CheckLayers(string profile, ReadOnlySpan<LayerSlice> layers, string parameter)
    {
        if (layers.Length != Layers)
            throw new ArgumentException($"The profile '{profile}' has {layers.Length} layers, but {Name} has {Layers}.", parameter);
        for (var layer = 0; layer < layers.Length; layer++)
        {
            var (slice, index) = (layers[layer], layer);
            if (slice == LayerSlice.Skipped ? CanSkip : Granularities.Any(g => g.Layers[index] == slice)) continue;
            var sizes = Granularities.Select(g => $"{g.Name} ({g.Layers[index].HiddenWidth}, {g.Layers[index].Heads}"
                + (ElasticWidth ? $", {WidthOf(g.Layers[index])})" : ")"));
            var heads = ElasticWidth ? $", {slice.Heads} heads and {WidthOf(slice)} channels" : $" and {slice.Heads} heads";
            throw new ArgumentException(
                $"The profile '{profile}' keeps {slice.HiddenWidth} hidden units{heads} of layer {layer}, but no granularity "
                + $"of {Name} does; use one of {string.Join(", ", sizes)}.", parameter);
        }

        CheckWidths(profile, layers, parameter);
    }

    /// <summary>Checks that all layers of a profile are in a residual stream of the same width.</summary>
    /// <exception cref="ArgumentException">Two layers keep different numbers of channels.</exception>
    internal void CheckWidths(string profile, ReadOnlySpan<LayerSlice> layers, string parameter)
    {
        if (!ElasticWidth) return;
        var width = WidthOf(layers);
        for (var layer = 0; layer < layers.Length; layer++)
        {
            if (layers[layer].IsSkipped || WidthOf(layers[layer]) == width) continue;
            throw new ArgumentException(
                $"The profile '{profile}' keeps {WidthOf(layers[layer])} channels of the residual stream in layer {layer}, but {width} in "
                + $"the layers before it; all layers add to the same stream, so choose granularities of one Width.", parameter);
        }
    }

    private long Sum(ReadOnlySpan<LayerSlice> layers, Func<BlockSpec, BlockCost> cost)
    {
        long sum = 0;
        for (var layer = 0; layer < layers.Length; layer++) sum += Blocks[layer].CostOf(cost(Blocks[layer]), layers[layer]);
        return sum;
    }
}

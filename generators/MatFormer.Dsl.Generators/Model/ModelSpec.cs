namespace MatFormer.Generators.Model;

/// <summary>
/// The size that a granularity gives a layer, with one field for each axis. CONTRIBUTING.md describes how to add an axis.
/// </summary>
/// <param name="HiddenWidth">The number of hidden units of the feed-forward, or 0 if the layer is left out.</param>
/// <param name="Heads">The number of query heads.</param>
internal readonly record struct LayerSlice(int HiddenWidth, int Heads)
{
    /// <summary>The number of channels of the residual stream, or 0 for all. It is the same in all layers of a granularity.</summary>
    public int Width { get; init; }

    public bool IsSkipped => HiddenWidth == 0;

    /// <summary>Returns true if this slice contains the other slice.</summary>
    public bool Holds(LayerSlice other) => HiddenWidth >= other.HiddenWidth && Heads >= other.Heads && HoldsStream(other);

    /// <summary>Returns true if this slice keeps all channels that the other slice keeps.</summary>
    public bool HoldsStream(LayerSlice other) => Width == 0 || (other.Width > 0 && Width >= other.Width);
}

/// <summary>One transformer block.</summary>
/// <param name="HiddenWidth">The number of hidden units of the whole feed-forward.</param>
/// <param name="Activation">The nonlinearity of the feed-forward.</param>
/// <param name="Bias">True if each projection of the feed-forward has a bias.</param>
/// <param name="Heads">The number of query heads.</param>
/// <param name="KeyValueHeads">The number of key/value heads.</param>
/// <param name="HeadWidth">The width of a head.</param>
/// <param name="Window">The number of tokens that a token attends to, or 0 for all tokens before it.</param>
internal sealed record BlockSpec(
    int HiddenWidth, Activation Activation, bool Bias, int Heads, int KeyValueHeads, int HeadWidth, int Window)
{
    /// <summary>True if the layer gives its result back to lookup tokens. Without compressed tokens, it is false.</summary>
    public bool Spreads { get; init; }

    public bool Gated => Activation is Activation.SwiGlu or Activation.GeGlu;

    /// <summary>The number of query heads that share a key/value head.</summary>
    public int Group => Heads / KeyValueHeads;

    /// <summary>The whole block.</summary>
    public LayerSlice Whole => new(HiddenWidth, Heads);

    /// <summary>The kind of the block. Blocks of one kind share their code and differ only in the width of their feed-forward.</summary>
    public BlockSpec Kind => this with { HiddenWidth = 0 };
}

/// <summary>The kinds of models, which differ in input and output.</summary>
internal enum ModelKind
{
    /// <summary><c>[MatLM]</c>: a decoder.</summary>
    LanguageModel,

    /// <summary><c>[MatViT]</c>: an encoder of images, with a classifier.</summary>
    VisionTransformer,

    /// <summary><c>[MatEncoder]</c>: an encoder of text, with a projection.</summary>
    TextEncoder,
}

/// <summary>The images of a vision transformer.</summary>
internal sealed record ImageSpec(int Size, int Patch, int Channels, int Classes)
{
    public int Patches => Size / Patch * (Size / Patch);

    /// <summary>The number of values in a patch.</summary>
    public int PatchElements => Channels * Patch * Patch;
}

/// <summary>The scaling of the frequencies of rotary positions. A linear scaling has only a factor.</summary>
internal sealed record RotaryScalingSpec(
    RotaryScalingKind Kind, double Factor, int OriginalContext = 0, double LowFrequencyFactor = 0, double HighFrequencyFactor = 0);

/// <summary>The embedding that an encoder returns.</summary>
/// <param name="Width">The width of the whole embedding.</param>
/// <param name="Dimensions">The widths of the trained prefixes, narrowest first. The last is the whole width.</param>
/// <param name="Weights">The weight of each prefix in the loss. The weights add up to 1.</param>
/// <param name="Temperature">The number that the loss of a text encoder divides cosines by.</param>
internal sealed record EmbeddingSpec(int Width, EquatableArray<int> Dimensions, EquatableArray<double> Weights, double Temperature);

/// <summary>Routing of tokens to granularities.</summary>
/// <param name="Budgets">The budgets to train and to measure, in increasing order.</param>
/// <param name="Layers">The routed layers, in increasing order.</param>
internal sealed record RoutingSpec(EquatableArray<double> Budgets, EquatableArray<int> Layers);

/// <summary>Compressed tokens, which do the heavy work of a vision transformer.</summary>
/// <param name="Grids">The sides of the grids to train and to measure, in increasing order.</param>
/// <param name="Hidden">The number of hidden units of the light feed-forward of the lookup tokens.</param>
internal sealed record LookupSpec(EquatableArray<int> Grids, int Hidden)
{
    /// <summary>The grid that costs are counted for, and that runs if no other is chosen.</summary>
    public int Largest => Grids[Grids.Count - 1];
}

/// <summary>One size of the nested model.</summary>
internal sealed record GranularitySpec(string Name, EquatableArray<LayerSlice> Layers);

/// <summary>A granularity for each layer.</summary>
/// <param name="Name">The name of the profile.</param>
/// <param name="Choices">The index of each layer's granularity, or <see cref="Skip"/>.</param>
/// <param name="Origin">How the compiler found the profile, such as "the largest within 3,000,000 parameters", or empty.</param>
internal sealed record ProfileSpec(string Name, EquatableArray<int> Choices, string Origin)
{
    /// <summary>The bits in which the profile is meant to be stored and decoded, or 0 if they are not declared.</summary>
    public int Bits { get; init; }

    /// <summary>The choice for a layer that is left out.</summary>
    public const int Skip = -1;
}

/// <summary>A valid declaration. The generated code is a function of it.</summary>
internal sealed record ModelSpec(
    TypeSpec Type,
    int Width,
    int HeadWidth,
    int Context,
    int Vocabulary,
    NormKind Norm,
    double Epsilon,
    PositionKind Position,
    double RotaryBase,
    bool QkNorm,
    bool Tied,
    EquatableArray<BlockSpec> Blocks,
    EquatableArray<GranularitySpec> Granularities,
    EquatableArray<ProfileSpec> Profiles)
{
    /// <summary>The most declared profiles that each have their own forward pass. With more passes, builds would take too long.</summary>
    public const int MaxOwnPasses = 200;

    /// <summary>True if each profile's class has its own forward pass.</summary>
    public bool HasOwnPasses => Profiles.Count <= MaxOwnPasses;

    public ModelKind Kind { get; init; }

    /// <summary>The images that the model takes, or null.</summary>
    public ImageSpec? Image { get; init; }

    /// <summary>The embedding that an encoder returns, or null for language models.</summary>
    public EmbeddingSpec? Embedding { get; init; }

    public Pooling Pooling { get; init; }

    /// <summary>The scaling of rotary positions, or null if they are not scaled.</summary>
    public RotaryScalingSpec? RotaryScaling { get; init; }

    /// <summary>The bits that the weights are trained for, widest first, or empty.</summary>
    public EquatableArray<int> Precision { get; init; }

    /// <summary>True if the projections of queries, keys and values have biases.</summary>
    public bool AttentionBias { get; init; }

    /// <summary>True if the projection of attention's output has a bias. The other projections then have biases too.</summary>
    public bool OutputBias { get; init; }

    /// <summary>The routing of tokens, or null if every token takes the same granularity.</summary>
    public RoutingSpec? Routing { get; init; }

    /// <summary>The compressed tokens, or null if all tokens run through the whole of each layer.</summary>
    public LookupSpec? Lookup { get; init; }

    public int Layers => Blocks.Count;

    public bool IsDecoder => Kind == ModelKind.LanguageModel;

    public bool IsVision => Kind == ModelKind.VisionTransformer;

    public bool HasClassToken => !IsDecoder && Pooling == Pooling.ClassToken;

    /// <summary>The most tokens that run through the blocks, including a class token.</summary>
    public int Sequence => IsVision ? Context : Context + (HasClassToken ? 1 : 0);

    /// <summary>The number of tokens that costs are counted for: 1 for a decoder, and all tokens of a sequence for an encoder.</summary>
    public long TokensPerUnit => IsDecoder ? 1 : Attending;

    /// <summary>The most tokens that attend to each other and run through the feed-forwards.</summary>
    public int Attending => Lookup is null ? Sequence : Lookup.Largest * Lookup.Largest;

    public bool Rotary => Position == PositionKind.Rotary;

    /// <summary>The unit that costs are counted for.</summary>
    public string Unit => Kind switch
    {
        ModelKind.LanguageModel => "token",
        ModelKind.VisionTransformer => "image",
        _ => "text",
    };

    /// <summary>True if some granularity keeps fewer attention heads than the block has.</summary>
    public bool ElasticHeads => Granularities.Any(g => g.Layers.Where((slice, layer) => slice.Heads < Blocks[layer].Heads).Any());

    /// <summary>True if some granularity keeps fewer channels of the residual stream than the model has.</summary>
    public bool ElasticWidth => !IsOfOneWidth && Granularities.Any(g => g.Layers[0].Width > 0);

    /// <summary>The residual stream, as a dimension of weights.</summary>
    public Dimension Stream => new(Width, Axis.Channels);

    /// <summary>True if this is the model as narrow as one of its profiles: see <see cref="Narrowed"/>.</summary>
    public bool IsOfOneWidth { get; private init; }

    /// <summary>True if some profile leaves layers out.</summary>
    public bool CanSkip => Profiles.Any(p => p.Choices.Contains(ProfileSpec.Skip));

    /// <summary>The kinds of blocks and their layers, in the order of their first layers.</summary>
    public IEnumerable<(BlockSpec Kind, IReadOnlyList<int> Layers)> Kinds => Blocks
        .Select((block, layer) => (block.Kind, Layer: layer))
        .GroupBy(block => block.Kind, block => block.Layer)
        .Select(group => (group.Key, (IReadOnlyList<int>)group.ToList()));

    /// <summary>The granularities as profiles, narrowest first.</summary>
    public IEnumerable<ProfileSpec> GranularityProfiles =>
        Granularities.Select((g, i) => new ProfileSpec(g.Name, Enumerable.Repeat(i, Layers).ToEquatableArray(), ""));

    /// <summary>The widest granularity, which is the whole model.</summary>
    public GranularitySpec Widest => Granularities[Granularities.Count - 1];

    /// <summary>Returns how many channels of the residual stream a profile's layers keep.</summary>
    public int WidthOf(IReadOnlyList<LayerSlice> layers) =>
        layers.Select(slice => slice.Width).FirstOrDefault(width => width > 0) is > 0 and var width ? width : Width;

    /// <summary>Returns the model with a residual stream of another width, as if it were declared so.</summary>
    public ModelSpec Narrowed(int width) => width == Width && !ElasticWidth ? this : this with { Width = width, IsOfOneWidth = true };

    /// <summary>Returns the model as if a grid were the largest.</summary>
    public ModelSpec AtGrid(int grid) => this with { Lookup = Lookup! with { Grids = new EquatableArray<int>([grid]) } };

    /// <summary>Returns the size that a profile gives each layer.</summary>
    public LayerSlice[] LayersOf(IReadOnlyList<int> choices)
    {
        var layers = new LayerSlice[choices.Count];
        for (var layer = 0; layer < layers.Length; layer++)
            layers[layer] = choices[layer] == ProfileSpec.Skip ? default : Granularities[choices[layer]].Layers[layer];
        return layers;
    }
}

namespace MatFormer.Generators.Model;

/// <summary>
/// What is kept of a layer, a field for each axis. Adding an axis means a field here, its costs, its validation and its emission.
/// </summary>
/// <param name="HiddenWidth">Hidden units of the feed-forward; 0 if the layer is left out.</param>
/// <param name="Heads">Attention heads of the queries.</param>
internal readonly record struct LayerSlice(int HiddenWidth, int Heads)
{
    public bool IsSkipped => HiddenWidth == 0;

    /// <summary>True if all that another keeps is kept.</summary>
    public bool Holds(LayerSlice other) => HiddenWidth >= other.HiddenWidth && Heads >= other.Heads;
}

/// <summary>One transformer block.</summary>
/// <param name="HiddenWidth">Hidden units of the whole feed-forward.</param>
/// <param name="Activation">Its nonlinearity.</param>
/// <param name="Bias">A bias in each of its projections.</param>
/// <param name="Heads">Attention heads of the queries.</param>
/// <param name="KeyValueHeads">Attention heads of the keys and values.</param>
/// <param name="HeadWidth">Width of a head.</param>
/// <param name="Window">How many tokens a token attends to, or 0 for all before it.</param>
internal sealed record BlockSpec(
    int HiddenWidth, Activation Activation, bool Bias, int Heads, int KeyValueHeads, int HeadWidth, int Window)
{
    public bool Gated => Activation is Activation.SwiGlu or Activation.GeGlu;

    /// <summary>Query heads that share a key/value head.</summary>
    public int Group => Heads / KeyValueHeads;

    /// <summary>The whole block.</summary>
    public LayerSlice Whole => new(HiddenWidth, Heads);

    /// <summary>What the code depends on: blocks that differ in their feed-forward's width alone are of one kind.</summary>
    public BlockSpec Kind => this with { HiddenWidth = 0 };
}

/// <summary>What a model takes and gives.</summary>
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

    /// <summary>Numbers in a patch.</summary>
    public int PatchElements => Channels * Patch * Patch;
}

/// <summary>How the frequencies of rotary positions are scaled; a linear one has but a factor.</summary>
internal sealed record RotaryScalingSpec(
    RotaryScalingKind Kind, double Factor, int OriginalContext = 0, double LowFrequencyFactor = 0, double HighFrequencyFactor = 0);

/// <summary>The vector that an encoder makes.</summary>
/// <param name="Width">Its width.</param>
/// <param name="Dimensions">Prefixes that are trained too, narrowest first; the last is the whole.</param>
/// <param name="Weights">How much the loss of each counts; they add up to 1.</param>
/// <param name="Temperature">What cosines are divided by, of a text encoder.</param>
internal sealed record EmbeddingSpec(int Width, EquatableArray<int> Dimensions, EquatableArray<double> Weights, double Temperature);

/// <summary>One size of the nested model.</summary>
internal sealed record GranularitySpec(string Name, EquatableArray<LayerSlice> Layers);

/// <summary>A granularity for each layer.</summary>
/// <param name="Name">The name.</param>
/// <param name="Choices">The index of each layer's granularity, or <see cref="Skip"/>.</param>
/// <param name="Origin">What it was solved for, such as "the largest within 3,000,000 parameters", or empty.</param>
internal sealed record ProfileSpec(string Name, EquatableArray<int> Choices, string Origin)
{
    /// <summary>The layer is left out.</summary>
    public const int Skip = -1;
}

/// <summary>A valid declaration: everything that is emitted is a function of it.</summary>
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
    /// <summary>More declared profiles than these have no forward pass of their own each: builds would take long.</summary>
    public const int MaxOwnPasses = 200;

    /// <summary>Whether each profile's class has a forward pass of its own.</summary>
    public bool HasOwnPasses => Profiles.Count <= MaxOwnPasses;

    public ModelKind Kind { get; init; }

    /// <summary>The images, if it takes any.</summary>
    public ImageSpec? Image { get; init; }

    /// <summary>What an encoder gives; null for language models.</summary>
    public EmbeddingSpec? Embedding { get; init; }

    public Pooling Pooling { get; init; }

    /// <summary>How rotary positions are scaled; null if they are not.</summary>
    public RotaryScalingSpec? RotaryScaling { get; init; }

    /// <summary>A bias in each projection of attention.</summary>
    public bool AttentionBias { get; init; }

    public int Layers => Blocks.Count;

    public bool IsDecoder => Kind == ModelKind.LanguageModel;

    public bool IsVision => Kind == ModelKind.VisionTransformer;

    public bool HasClassToken => !IsDecoder && Pooling == Pooling.ClassToken;

    /// <summary>The most tokens that run through the blocks, a class token included.</summary>
    public int Sequence => IsVision ? Context : Context + (HasClassToken ? 1 : 0);

    /// <summary>Tokens that one unit of cost has: 1 for a decoder, whose costs are of one token; else all tokens of a sequence.</summary>
    public long TokensPerUnit => IsDecoder ? 1 : Sequence;

    public bool Rotary => Position == PositionKind.Rotary;

    /// <summary>What costs are of.</summary>
    public string Unit => Kind switch
    {
        ModelKind.LanguageModel => "token",
        ModelKind.VisionTransformer => "image",
        _ => "text",
    };

    /// <summary>True if some granularity keeps fewer attention heads than the block has.</summary>
    public bool ElasticHeads => Granularities.Any(g => g.Layers.Where((slice, layer) => slice.Heads < Blocks[layer].Heads).Any());

    /// <summary>True if some profile leaves layers out.</summary>
    public bool CanSkip => Profiles.Any(p => p.Choices.Contains(ProfileSpec.Skip));

    /// <summary>Blocks by kind, in the order of their first layers, with their layers.</summary>
    public IEnumerable<(BlockSpec Kind, IReadOnlyList<int> Layers)> Kinds => Blocks
        .Select((block, layer) => (block.Kind, Layer: layer))
        .GroupBy(block => block.Kind, block => block.Layer)
        .Select(group => (group.Key, (IReadOnlyList<int>)group.ToList()));

    /// <summary>The granularities as profiles, narrowest first.</summary>
    public IEnumerable<ProfileSpec> GranularityProfiles =>
        Granularities.Select((g, i) => new ProfileSpec(g.Name, Enumerable.Repeat(i, Layers).ToEquatableArray(), ""));

    /// <summary>The widest granularity: the whole model.</summary>
    public GranularitySpec Widest => Granularities[Granularities.Count - 1];

    /// <summary>What a profile keeps of each layer.</summary>
    public LayerSlice[] LayersOf(IReadOnlyList<int> choices)
    {
        var layers = new LayerSlice[choices.Count];
        for (var layer = 0; layer < layers.Length; layer++)
            layers[layer] = choices[layer] == ProfileSpec.Skip ? default : Granularities[choices[layer]].Layers[layer];
        return layers;
    }
}

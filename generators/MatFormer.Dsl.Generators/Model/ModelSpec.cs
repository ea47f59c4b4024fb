namespace MatFormer.Generators.Model;

/// <summary>What is kept of a layer, a field for each axis. Adding an axis means a field here, its costs, its validation and its emission.</summary>
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
    public int Layers => Blocks.Count;

    public bool Rotary => Position == PositionKind.Rotary;

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

namespace MatFormer.Generators.Model;

/// <summary>One size of the nested feed-forward.</summary>
internal sealed record GranularitySpec(string Name, int Width);

/// <summary>A granularity for each layer.</summary>
/// <param name="Name">The name.</param>
/// <param name="Widths">Hidden units of each layer.</param>
/// <param name="MaxParameters">The budget it was solved for, or 0.</param>
internal sealed record ProfileSpec(string Name, EquatableArray<int> Widths, long MaxParameters);

/// <summary>A valid declaration: everything that is emitted is a function of it.</summary>
internal sealed record ModelSpec(
    TypeSpec Type,
    int Layers,
    int Width,
    int Heads,
    int KeyValueHeads,
    int HeadWidth,
    int Context,
    int Vocabulary,
    int HiddenWidth,
    Activation Activation,
    bool Bias,
    NormKind Norm,
    double Epsilon,
    PositionKind Position,
    double RotaryBase,
    bool QkNorm,
    bool Tied,
    EquatableArray<GranularitySpec> Granularities,
    EquatableArray<ProfileSpec> Profiles)
{
    public bool Gated => Activation is Activation.SwiGlu or Activation.GeGlu;

    public bool Rotary => Position == PositionKind.Rotary;

    /// <summary>Width of all queries.</summary>
    public int QueryWidth => Heads * HeadWidth;

    /// <summary>Width of all keys, or of all values.</summary>
    public int KeyValueWidth => KeyValueHeads * HeadWidth;

    /// <summary>The granularities as profiles, narrowest first.</summary>
    public IEnumerable<ProfileSpec> GranularityProfiles =>
        Granularities.Select(g => new ProfileSpec(g.Name, Enumerable.Repeat(g.Width, Layers).ToEquatableArray(), 0));

    /// <summary>The widest granularity: the whole model.</summary>
    public GranularitySpec Widest => Granularities[Granularities.Count - 1];
}

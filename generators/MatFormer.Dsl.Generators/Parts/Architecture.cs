using MatFormer.Generators.Model;
using MatFormer.Generators.Writing;

namespace MatFormer.Generators.Parts;

/// <summary>Chooses the parts of a model. Everything that differs between kinds of models is in one of the parts.</summary>
internal sealed class Architecture
{
    private readonly IReadOnlyList<Part> _before;
    private readonly IReadOnlyList<Part> _after;

    private Architecture(ModelSpec spec)
    {
        Norm = spec.Norm == NormKind.Rms ? new RmsNorm(spec) : new LayerNorm(spec);
        Mask = spec.Kind switch
        {
            ModelKind.LanguageModel => new CausalMask(spec),
            ModelKind.TextEncoder => new LengthMask(spec),
            _ => new NoMask(spec),
        };
        Pooling = spec.IsDecoder ? new NoPooling(spec, this)
            : spec.Lookup is not null ? new CompressedPooling(spec, this)
            : spec.HasClassToken ? new ClassTokenPooling(spec, this)
            : new MeanPooling(spec, this);
        Positions = spec.Position switch
        {
            PositionKind.Rotary => new RotaryPositions(spec, this),
            PositionKind.Sinusoidal => new SinusoidalPositions(spec),
            _ => new LearnedPositions(spec),
        };
        Input = spec.Image is { } image ? (spec.Lookup is null ? new PatchInput(spec, image, this) : new LookupInput(spec, image, this))
            : spec.IsDecoder ? new TokenInput(spec, this)
            : new TextInput(spec, this);
        Head = spec.Kind switch
        {
            ModelKind.LanguageModel => new VocabularyHead(spec, this),
            ModelKind.TextEncoder => new ProjectionHead(spec, this),
            _ => spec.Lookup is null ? new ClassifierHead(spec, this) : new LookupHead(spec, this),
        };
        Attention = new Attention(spec, this);
        FeedForward = spec.Routing is null ? new FeedForward(spec, this) : new RoutedFeedForward(spec, this);
        Block = spec.Lookup is null ? [Attention, FeedForward]
            : [new LookupGather(spec, this), Attention, FeedForward, new LookupSpread(spec, this)];

        // Weights are drawn and registered in this order. Never change it: the weights of a seed depend on it, and so do weight files.
        _before = spec.IsVision ? [Pooling, Positions, Input] : [Input, Pooling, Positions];
        _after = [Norm, Head];
        Around = [Mask, Positions, Input, Norm, Pooling, Head];
    }

    /// <summary>The part that turns the input into states.</summary>
    public InputPart Input { get; }

    public PositionPart Positions { get; }

    /// <summary>The part that decides which tokens a token may attend to.</summary>
    public MaskPart Mask { get; }

    public NormPart Norm { get; }

    public Attention Attention { get; }

    public FeedForward FeedForward { get; }

    /// <summary>The part that turns the states of a sequence into the input of the head.</summary>
    public PoolingPart Pooling { get; }

    /// <summary>The part that computes the output and the losses.</summary>
    public HeadPart Head { get; }

    /// <summary>The parts around the blocks, in the order of execution.</summary>
    public IReadOnlyList<Part> Around { get; }

    /// <summary>The parts of a block, in the order of execution.</summary>
    public IReadOnlyList<BlockPart> Block { get; }

    /// <summary>The input of the attention in a layer of all streams, as an expression.</summary>
    public string Attended => ReferenceEquals(Block[0], Attention) ? "x" : Block[0].Passes;

    /// <summary>The weights that are drawn before the weights of the blocks.</summary>
    public IEnumerable<WeightSpec> WeightsBefore => _before.SelectMany(part => part.Weights);

    /// <summary>The weights that are drawn after the weights of the blocks.</summary>
    public IEnumerable<WeightSpec> WeightsAfter => _after.SelectMany(part => part.Weights);

    /// <summary>The weights around the blocks.</summary>
    public IEnumerable<WeightSpec> WeightsAround => WeightsBefore.Concat(WeightsAfter);

    /// <summary>The parts' initializers for the run-time <c>ModelSpec</c>.</summary>
    public IEnumerable<string> SpecLines => Around.SelectMany(part => part.SpecLines).Concat(Block.SelectMany(part => part.SpecLines));

    public static Architecture Of(ModelSpec spec) => new(spec);

    /// <summary>Returns the weights of a block, in the order in which they are drawn.</summary>
    public IEnumerable<WeightSpec> WeightsOf(BlockSpec block) => Block.SelectMany(part => part.Weights(block));
}

using System.Collections.Immutable;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace MatFormer.Runtime.Tests;

/// <summary>
/// The smallest model that the runtime takes, written by hand. It has an embedding, nested feed-forwards, and a scaled sum over the tokens
/// so far that comes through the key/value cache, so that context matters.
/// </summary>
public sealed class TinyModel : MatFormerModel, IMatFormer<TinyModel>
{
    private const int LayerCount = 2;
    private readonly ImmutableArray<LayerSlice> _layers;
    private readonly string _profileName;
    private Parameter _embedding = null!;
    private readonly Parameter[] _up = new Parameter[LayerCount];
    private readonly Parameter[] _down = new Parameter[LayerCount];

    public TinyModel(Device? device = null)
        : this(Granularities[^1], device ?? CPU)
    {
    }

    private TinyModel(Profile<TinyModel> profile, Device device)
        : base("TinyModel")
    {
        _layers = profile.Layers;
        _profileName = profile.Name;
        register_parameter("model.embed_tokens.weight", Weights.Normal(0.5, device, Vocabulary, Width));
        for (var layer = 0; layer < LayerCount; layer++)
        {
            register_parameter($"model.layers.{layer}.mlp.up_proj.weight", Weights.Normal(0.3, device, _layers[layer].HiddenWidth, Width));
            register_parameter(
                $"model.layers.{layer}.mlp.down_proj.weight", Weights.Normal(0.3, device, Width, _layers[layer].HiddenWidth));
        }

        Bind();
    }

    private TinyModel(TinyModel source, Profile<TinyModel> profile, bool copy)
        : base("TinyModel")
    {
        _layers = profile.Layers;
        _profileName = profile.Name;
        DescendFrom(source);
        register_parameter("model.embed_tokens.weight", Weights.Whole(source._embedding, copy));
        for (var layer = 0; layer < LayerCount; layer++)
        {
            register_parameter(
                $"model.layers.{layer}.mlp.up_proj.weight", Weights.Rows(source._up[layer], _layers[layer].HiddenWidth, copy));
            register_parameter(
                $"model.layers.{layer}.mlp.down_proj.weight", Weights.Columns(source._down[layer], _layers[layer].HiddenWidth, copy));
        }

        Bind();
    }

    public const int Width = 16;

    /// <summary>The size of the vocabulary. Bytes do not need all of it.</summary>
    public const int Vocabulary = 320;

    public static ModelSpec Spec { get; } = new()
    {
        Name = "TinyModel",
        Fingerprint = "0123456789abcdef",
        Width = Width,
        HeadWidth = Width,
        Context = 16,
        Vocabulary = Vocabulary,
        Norm = NormKind.Rms,
        NormEpsilon = 1e-5,
        Position = PositionKind.Learned,
        TiedHead = true,
        Granularities = [new("S", (LayerCount, new(8, 1))), new("M", (LayerCount, new(16, 1))), new("XL", (LayerCount, new(32, 1)))],
        EmbeddingParameters = Vocabulary * Width,
        SharedParameters = Vocabulary * Width,
        SharedFlops = 2 * Vocabulary * Width,
        Blocks = BlockSpec.Stack((LayerCount, new()
        {
            HiddenWidth = 32,
            Activation = Activation.SquaredRelu,
            Heads = 1,
            KeyValueHeads = 1,
            Parameters = new(0, 2 * Width, 0),
            Flops = new(0, 4 * Width, 0),
            KeyValueCacheBytesPerToken = new(0, 0, 2 * Width * 4),
        })),
    };

    public static IReadOnlyList<Profile<TinyModel>> Granularities { get; } = [new("S", "2*S"), new("M", "2*M"), new("XL", "2*XL")];

    public static IReadOnlyList<Profile<TinyModel>> Profiles { get; } = [new("Phone", "S XL")];

    public override ModelSpec Architecture => Spec;

    protected override IEnumerable<Parameter> DecayingParameters => [.. _up, .. _down];

    public override string ProfileName => _profileName;

    public override ImmutableArray<LayerSlice> Layers => _layers;

    public override bool IsUniversal => _layers.All(l => l.HiddenWidth == 32) && _profileName == "XL";

    public override Device Device => _embedding.device;

    public static TinyModel Create(Device? device = null) => new(device);

    public static MatFormerModel CreateSubmodel(Profile<TinyModel> profile, Device? device = null) => new TinyModel(profile, device ?? CPU);

    public static DecodingNetwork CreateDecodingNetwork(ImmutableArray<LayerSlice> layers, WeightPacker packer) =>
        throw new NotSupportedException("A TinyModel has no attention, so it has no decoding network.");

    public override Tensor forward(Tensor tokens)
    {
        using var cache = NewCache((int)tokens.shape[0]);
        return forward(tokens, cache);
    }

    public override Tensor forward(Tensor tokens, KeyValueCache cache) => Run(_layers, tokens, cache);

    public Tensor Forward(Profile<TinyModel> profile, Tensor tokens)
    {
        using var cache = NewCache((int)tokens.shape[0]);
        return Run(profile.Layers, tokens, cache);
    }

    public Tensor Losses(Streams streams, Tensor tokens, Tensor targets, Recomputation? recomputation = null)
    {
        using var both = DistilledLosses(streams, tokens, targets, 1, recomputation);
        return both.select(0, 0);
    }

    public Tensor DistilledLosses(
        Streams streams, Tensor tokens, Tensor targets, double temperature, Recomputation? recomputation = null)
    {
        if (recomputation is not null) throw new NotSupportedException("A TinyModel cannot recompute its layers.");
        streams.CheckBatch(tokens);
        using var scope = NewDisposeScope();
        var (losses, divergences) = (new List<Tensor>(), new List<Tensor>());
        var first = 0L;
        for (var stream = 0; stream < streams.Count; stream++)
        {
            var rows = streams.BatchRows?[stream] ?? tokens.shape[0];
            var (its, wanted) = (tokens.narrow(0, first, rows), targets.narrow(0, first, rows));
            if (streams.BatchRows is not null) first += rows;
            LayerSlice[] layers = [.. Enumerable.Range(0, LayerCount)
                .Select(l => new LayerSlice(streams.HiddenWidths(l) is [var all] ? all : streams.HiddenWidths(l)[stream], 1))];
            var logits = Logits([.. layers], its);
            losses.Add(functional.cross_entropy(logits.view(-1, Vocabulary), wanted.reshape(-1)));
            var (known, learnt) =
                ((Logits(Spec.WholeLayers, its).detach() / temperature).log_softmax(-1), (logits / temperature).log_softmax(-1));
            divergences.Add((known.exp() * (known - learnt)).sum([-1]).mean() * (temperature * temperature));
        }

        return stack([stack(losses), stack(divergences)]).MoveToOuterDisposeScope();
    }

    private Tensor Logits(ImmutableArray<LayerSlice> layers, Tensor tokens)
    {
        using var cache = NewCache((int)tokens.shape[0]);
        return Run(layers, tokens, cache, training: true);
    }

    public Tensor[] HiddenImportance(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        var importance = new Tensor[LayerCount];
        var x = _embedding.index_select(0, tokens.flatten()).view(tokens.shape[0], tokens.shape[1], Width);
        for (var layer = 0; layer < LayerCount; layer++)
        {
            var hidden = functional.linear(x, _up[layer]).relu();
            importance[layer] = (hidden.mean([0, 1]) * _down[layer].square().sum([0]).sqrt()).MoveToOuterDisposeScope();
            x = x + functional.linear(hidden, _down[layer]);
        }

        return importance;
    }

    public void ReorderHiddenUnits(int layer, Tensor order)
    {
        Weights.Reorder(_up[layer], 0, order);
        Weights.Reorder(_down[layer], 1, order);
    }

    public MatFormerModel Extract(Profile<TinyModel> profile) => new TinyModel(this, profile, copy: true);

    public MatFormerModel View(Profile<TinyModel> profile) => new TinyModel(this, profile, copy: false);

    protected override void BindParameters() => Bind();

    private void Bind()
    {
        var named = named_parameters().ToDictionary(p => p.Item1, p => p.Item2);
        _embedding = named["model.embed_tokens.weight"];
        for (var layer = 0; layer < LayerCount; layer++)
        {
            _up[layer] = named[$"model.layers.{layer}.mlp.up_proj.weight"];
            _down[layer] = named[$"model.layers.{layer}.mlp.down_proj.weight"];
        }
    }

    private Tensor Run(ImmutableArray<LayerSlice> layers, Tensor tokens, KeyValueCache cache, bool training = false)
    {
        CheckTokens(tokens, cache);
        using var scope = NewDisposeScope();
        var (batch, time) = (tokens.shape[0], tokens.shape[1]);
        var x = _embedding.index_select(0, tokens.flatten()).view(batch, time, Width);
        for (var layer = 0; layer < LayerCount; layer++)
        {
            // Except in training, the sum over the tokens so far comes from the cache. Training works without it.
            if (!training)
            {
                var own = x.view(batch, time, 1, Width);
                var (keys, _) = cache.Append(layer, own, own);
                var sums = keys.cumsum(1).view(batch, -1, Width).narrow(1, cache.Length, time);
                x = x + (sums * 0.01);
            }

            var hidden = functional.linear(x, _up[layer].narrow(0, 0, layers[layer].HiddenWidth)).relu();
            x = x + functional.linear(hidden, _down[layer].narrow(1, 0, layers[layer].HiddenWidth));
        }

        cache.Advance((int)time);
        return functional.linear(x, _embedding).MoveToOuterDisposeScope();
    }
}

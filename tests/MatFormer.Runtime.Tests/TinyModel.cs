using System.Collections.Immutable;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace MatFormer.Runtime.Tests;

/// <summary>
/// A model as small as the runtime can take, written by hand: an embedding, nested feed-forwards, and the mean of what came before through
/// the
/// key/value cache, so that context matters. <c>Narrow</c> is declared with other granularities, to be a foreigner.
/// </summary>
public sealed class TinyModel : MatFormerModel, IMatFormer<TinyModel>
{
    private const int Layers = 2;
    private readonly ImmutableArray<int> _widths;
    private readonly string _profileName;
    private Parameter _embedding = null!;
    private readonly Parameter[] _up = new Parameter[Layers];
    private readonly Parameter[] _down = new Parameter[Layers];

    public TinyModel(Device? device = null)
        : this(Granularities[^1], device ?? CPU)
    {
    }

    private TinyModel(Profile<TinyModel> profile, Device device)
        : base("TinyModel")
    {
        _widths = profile.Widths;
        _profileName = profile.Name;
        register_parameter("model.embed_tokens.weight", Weights.Normal(0.5, device, 256, Width));
        for (var layer = 0; layer < Layers; layer++)
        {
            register_parameter($"model.layers.{layer}.mlp.up_proj.weight", Weights.Normal(0.3, device, _widths[layer], Width));
            register_parameter($"model.layers.{layer}.mlp.down_proj.weight", Weights.Normal(0.3, device, Width, _widths[layer]));
        }

        Bind();
    }

    private TinyModel(TinyModel source, Profile<TinyModel> profile, bool copy)
        : base("TinyModel")
    {
        _widths = profile.Widths;
        _profileName = profile.Name;
        register_parameter("model.embed_tokens.weight", Weights.Whole(source._embedding, copy));
        for (var layer = 0; layer < Layers; layer++)
        {
            register_parameter($"model.layers.{layer}.mlp.up_proj.weight", Weights.Rows(source._up[layer], _widths[layer], copy));
            register_parameter($"model.layers.{layer}.mlp.down_proj.weight", Weights.Columns(source._down[layer], _widths[layer], copy));
        }

        Bind();
    }

    public const int Width = 16;

    public static ModelSpec Spec { get; } = new()
    {
        Name = "TinyModel",
        Fingerprint = "0123456789abcdef",
        Layers = Layers,
        Width = Width,
        Heads = 1,
        KeyValueHeads = 1,
        HeadWidth = Width,
        HiddenWidth = 32,
        Context = 16,
        Vocabulary = 256,
        Granularities = [new("S", 8), new("M", 16), new("XL", 32)],
        EmbeddingParameters = 256 * Width,
        SharedParameters = 256 * Width,
        ParametersPerHiddenUnit = 2 * Width,
        SharedFlopsPerToken = 2 * 256 * Width,
        FlopsPerHiddenUnit = 4 * Width,
        KeyValueCacheBytesPerToken = 2 * Layers * Width * 4,
    };

    public static IReadOnlyList<Profile<TinyModel>> Granularities { get; } = [new("S", [8, 8]), new("M", [16, 16]), new("XL", [32, 32])];

    public static IReadOnlyList<Profile<TinyModel>> Profiles { get; } = [new("Phone", [8, 32])];

    public override ModelSpec Architecture => Spec;

    public override string ProfileName => _profileName;

    public override ImmutableArray<int> Widths => _widths;

    public override bool IsUniversal => _widths.All(w => w == Spec.HiddenWidth) && _profileName == "XL";

    public override Device Device => _embedding.device;

    public static TinyModel Create(Device? device = null) => new(device);

    public static MatFormerModel CreateSubmodel(Profile<TinyModel> profile, Device? device = null) => new TinyModel(profile, device ?? CPU);

    public override Tensor forward(Tensor tokens)
    {
        using var cache = NewCache((int)tokens.shape[0]);
        return forward(tokens, cache);
    }

    public override Tensor forward(Tensor tokens, KeyValueCache cache) => Run(_widths, tokens, cache);

    public Tensor Forward(Profile<TinyModel> profile, Tensor tokens)
    {
        using var cache = NewCache((int)tokens.shape[0]);
        return Run(profile.Widths, tokens, cache);
    }

    public Tensor Losses(Streams streams, Tensor tokens, Tensor targets)
    {
        using var scope = NewDisposeScope();
        var losses = new List<Tensor>();
        for (var stream = 0; stream < streams.Count; stream++)
        {
            using var cache = NewCache((int)tokens.shape[0]);
            var logits = Run([.. Enumerable.Range(0, Layers).Select(l => streams[l][stream])], tokens, cache, training: true);
            losses.Add(functional.cross_entropy(logits.view(-1, 256), targets.view(-1)));
        }

        return stack(losses).MoveToOuterDisposeScope();
    }

    public MatFormerModel Extract(Profile<TinyModel> profile) => new TinyModel(this, profile, copy: true);

    public MatFormerModel View(Profile<TinyModel> profile) => new TinyModel(this, profile, copy: false);

    protected override void BindParameters() => Bind();

    private void Bind()
    {
        var named = named_parameters().ToDictionary(p => p.Item1, p => p.Item2);
        _embedding = named["model.embed_tokens.weight"];
        for (var layer = 0; layer < Layers; layer++)
        {
            _up[layer] = named[$"model.layers.{layer}.mlp.up_proj.weight"];
            _down[layer] = named[$"model.layers.{layer}.mlp.down_proj.weight"];
        }
    }

    private Tensor Run(ImmutableArray<int> widths, Tensor tokens, KeyValueCache cache, bool training = false)
    {
        CheckTokens(tokens, cache);
        using var scope = NewDisposeScope();
        var (batch, time) = (tokens.shape[0], tokens.shape[1]);
        var x = _embedding.index_select(0, tokens.flatten()).view(batch, time, Width);
        for (var layer = 0; layer < Layers; layer++)
        {
            // What came before, as one mean: from the cache when decoding; the token itself when training, which needs no more to be a
            // model.
            if (!training)
            {
                var own = x.view(batch, time, 1, Width);
                var (keys, _) = cache.Append(layer, own, own);
                var sums = keys.cumsum(1).view(batch, -1, Width).narrow(1, cache.Length, time);
                x = x + (sums * 0.01);
            }

            var hidden = functional.linear(x, _up[layer].narrow(0, 0, widths[layer])).relu();
            x = x + functional.linear(hidden, _down[layer].narrow(1, 0, widths[layer]));
        }

        cache.Advance((int)time);
        return functional.linear(x, _embedding).MoveToOuterDisposeScope();
    }
}

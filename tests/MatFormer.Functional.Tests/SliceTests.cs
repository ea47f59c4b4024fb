using System.Collections.Immutable;
using System.Reflection;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>
/// Tests the central invariant: a slice computes what the universal model computes with the same weights, bit for bit with the fused loops,
/// and within rounding otherwise.
/// </summary>
public sealed class SliceTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-slices-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void SlicesEqualTheUniversalModelForOracleModels()
    {
        SliceEqualsUniversal<OracleLlama>();
        SliceEqualsUniversal<OracleClassic>();
        SliceEqualsUniversal<OracleGemma>();
        SliceEqualsUniversal<OracleOdd>();
        SliceEqualsUniversal<OracleElastic>();
        SliceEqualsUniversal<OracleUneven>();
        SliceEqualsUniversal<OracleViT>();
        SliceEqualsUniversal<OtherViT>();
        SliceEqualsUniversal<LookupViT>();
        SliceEqualsUniversal<CompressedViT>();
        SliceEqualsUniversal<OracleEncoder>();
        SliceEqualsUniversal<OtherEncoder>();
        SliceEqualsUniversal<OracleNarrow>();
        SliceEqualsUniversal<NarrowClassic>();
        SliceEqualsUniversal<NarrowViT>();
        SliceEqualsUniversal<NarrowEncoder>();
        SliceEqualsUniversal<RoutedLm>();
    }

    [Fact]
    public void SlicesEqualTheUniversalModelForRandomDeclarations()
    {
        var check = typeof(SliceTests).GetMethod(nameof(SliceEqualsUniversal), BindingFlags.Instance | BindingFlags.NonPublic)!;
        foreach (var model in RandomDeclarations.Compile(50, seed: 20231210))
        {
            try
            {
                check.MakeGenericMethod(model).Invoke(this, null);
            }
            catch (TargetInvocationException e)
            {
                throw new InvalidOperationException($"{model.Name}: {e.InnerException!.Message}", e.InnerException);
            }
        }
    }

    [Fact]
    public void TheConstantsOfAGeneratedProfileAreThoseOfItsModel()
    {
        using var model = DrawnModel.New<OracleLlama>();
        using var mixed = model.Extract<OracleLlama.Mixed>();
        Assert.Equal(OracleLlama.Mixed.ParameterCount, CountParameters(mixed));
        Assert.Equal(OracleLlama.Mixed.ParameterCount, OracleLlama.Profile.Mixed.ParameterCount);
        Assert.Equal(OracleLlama.Mixed.NonEmbeddingParameterCount, OracleLlama.Profile.Mixed.NonEmbeddingParameterCount);
        Assert.Equal(OracleLlama.Mixed.FlopsPerToken, OracleLlama.Profile.Mixed.Flops);
        Assert.Equal(OracleLlama.Mixed.KeyValueCacheBytesPerToken, OracleLlama.Profile.Mixed.KeyValueCacheBytesPerToken);
        Assert.Equal(OracleLlama.ParameterCount, CountParameters(model));
    }

    [Fact]
    public void AViewSharesTheWeightsAndACopyDoesNot()
    {
        using var model = DrawnModel.New<OracleLlama>();
        using var view = model.View<OracleLlama.S>();
        using var copy = model.Extract<OracleLlama.S>();
        using var tokens = zeros(1, 3, ScalarType.Int64);
        using var before = copy.forward(tokens);
        using (no_grad())
        {
            foreach (var (_, parameter) in model.named_parameters()) parameter.mul_(1.5);
        }

        using var universal = model.Forward(OracleLlama.Profile.S, tokens);
        using var shared = view.forward(tokens);
        using var own = copy.forward(tokens);
        Assert.True(Agree(universal, shared, ScalarType.Float32));
        Assert.True(Same(own, before));
        Assert.False(Same(own, shared));
    }

    private void SliceEqualsUniversal<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var spec = TModel.Spec;
        var random = new Random(7);
        manual_seed(7);
        using var model = DrawnModel.New<TModel>();
        var mix = new Profile<TModel>(
            "mix", [.. Enumerable.Range(0, spec.Layers).Select(l => spec.Granularities[Inputs.Mixable(spec, 0, random)].Layers[l])]);
        foreach (var profile in TModel.Granularities.Concat(TModel.Profiles).Append(mix))
        {
            using var copy = model.Extract(profile);
            Assert.Equal(profile.ParameterCount, CountParameters(copy));
            using var view = model.View(profile);
            var file = Path.Combine(_folder, $"{spec.Name}-{profile.Name}.safetensors");
            copy.Save(file);
            using var loaded = TModel.CreateSubmodel(profile);
            loaded.Load(file);

            foreach (var type in (ScalarType[])[ScalarType.Float32, ScalarType.BFloat16])
            {
                foreach (var (batch, time) in ((int, int)[])[(1, 1), (3, spec.Context)])
                {
                    using var scope = NewDisposeScope();
                    using var noGrad = no_grad();
                    var input = Inputs.Of(spec, batch, time);
                    model.ComputeType = view.ComputeType = copy.ComputeType = loaded.ComputeType = type;
                    var expected = model.Forward(profile, input);
                    Assert.Equal(Inputs.ShapeOf(spec, input), expected.shape);
                    Assert.True(expected.isfinite().all().item<bool>(), $"{profile} {type}: not finite");
                    Assert.True(Agree(expected, copy.forward(input), type), $"{profile} {type} ({batch}, {time}): the copy differs");
                    Assert.True(Agree(expected, view.forward(input), type), $"{profile} {type} ({batch}, {time}): the view differs");
                    Assert.True(
                        Agree(expected, loaded.forward(input), type), $"{profile} {type} ({batch}, {time}): the reloaded copy differs");

                    // A norm over one or two channels is nearly a sign, which the rounding of one of the passes may turn over.
                    if (spec.Kind == ModelKind.LanguageModel && (type == ScalarType.Float32 || profile.Width > 2))
                        CachedDecodingEqualsTheFullForward(copy, input, expected, type);
                    foreach (var width in spec.EmbeddingDimensions)
                    {
                        var embeddings = model.Embed(profile, input, width);
                        Assert.Equal([batch, spec.Image is null ? width : Math.Min(width, profile.Width)], embeddings.shape);
                        Assert.All(embeddings.square().sum([1]).data<float>().ToArray(), length => Assert.Equal(1, length, 1e-4));
                        Assert.True(Agree(embeddings, copy.Embed(input, width), type), $"{profile} {type}: the copy's embeddings differ");
                        Assert.True(Agree(embeddings, view.Embed(input, width), type), $"{profile} {type}: the view's embeddings differ");
                    }
                }
            }
        }
    }

    // Fused loops give the same bits. The rounding of libtorch's matrix products depends on the memory layout of their operands.
    private static bool Agree(Tensor expected, Tensor actual, ScalarType type)
    {
        if (Kernels.Cpu.IsEnabled) return Same(expected, actual);
        var error = (expected - actual).abs().max().item<float>();
        return error <= (type == ScalarType.Float32 ? 1e-6f : 2e-2f) * expected.abs().max().item<float>();
    }

    private static void CachedDecodingEqualsTheFullForward(MatFormerModel model, Tensor tokens, Tensor expected, ScalarType type)
    {
        using var cache = model.NewCache((int)tokens.shape[0]);
        var prefill = Math.Max(1, tokens.shape[1] / 2);
        var parts = new List<Tensor> { model.forward(tokens.narrow(1, 0, prefill), cache) };
        for (var position = prefill; position < tokens.shape[1]; position++) parts.Add(model.forward(tokens.narrow(1, position, 1), cache));
        Assert.Equal(tokens.shape[1], cache.Length);
        var stepwise = cat(parts, 1);
        var scale = expected.abs().max().item<float>();
        var error = (stepwise - expected).abs().max().item<float>();
        var limit = 1e-5f * scale;
        if (type == ScalarType.BFloat16)
        {
            // Some drawn models amplify rounding, so that it moves their logits far from those in float32. It may move each pass as far.
            model.ComputeType = ScalarType.Float32;
            var rounding = (expected - model.forward(tokens)).abs().max().item<float>();
            model.ComputeType = type;
            limit = Math.Max(0.05f * scale, 2 * rounding);
        }

        Assert.True(error <= limit, $"{type}: cached decoding is off by {error} of {scale}; the limit is {limit}");
    }

    private static bool Same(Tensor left, Tensor right) =>
        left.shape.AsSpan().SequenceEqual(right.shape) && left.eq(right).all().item<bool>();

    private static long CountParameters(nn.Module model) => model.parameters().Sum(p => p.numel());
}

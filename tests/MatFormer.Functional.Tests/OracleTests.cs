using MatFormer.Tests;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Runs the tests with the fused loops.</summary>
[Trait("Kernels", "any")]
public sealed class CpuOracleTests() : OracleTests(isFused: true);

/// <summary>Runs the tests with TorchSharp's operations.</summary>
[Trait("Kernels", "any")]
public sealed class CompositeOracleTests() : OracleTests(isFused: false);

/// <summary>
/// Compares models with the float32 values that Oracle/record.py recorded from PyTorch. The relative error is at most 1e-4.
/// </summary>
public abstract class OracleTests : IDisposable
{
    private const double Tolerance = 1e-4;

    private readonly bool _before = Kernels.Cpu.IsEnabled;

    protected OracleTests(bool isFused)
    {
        if (isFused) Assert.Null(CpuLibrary.Problem);
        Kernels.Cpu.IsEnabled = isFused;
    }

    public void Dispose()
    {
        Kernels.Cpu.IsEnabled = _before;
        GC.SuppressFinalize(this);
    }

    [Fact]
    public void LlamaEqualsPyTorch() => Compare<OracleLlama>();

    [Fact]
    public void ClassicEqualsPyTorch() => Compare<OracleClassic>();

    [Fact]
    public void GemmaEqualsPyTorch() => Compare<OracleGemma>();

    [Fact]
    public void OddWidthsEqualPyTorch() => Compare<OracleOdd>();

    [Fact]
    public void ElasticHeadsEqualPyTorch() => Compare<OracleElastic>();

    [Fact]
    public void UnevenLayersEqualPyTorch() => Compare<OracleUneven>();

    [Fact]
    public void NarrowerResidualStreamsEqualPyTorch() => Compare<OracleNarrow>();

    [Fact]
    public void AnOddWidthOfTheResidualStreamEqualsPyTorch() => Compare<NarrowClassic>();

    [Fact]
    public void ANarrowerVisionTransformerEqualsPyTorch() => Compare<NarrowViT>();

    [Fact]
    public void ANarrowerTextEncoderEqualsPyTorch() => Compare<NarrowEncoder>();

    [Fact]
    public void LinearRotaryScalingEqualsPyTorch() => Compare<OracleLinear>();

    [Fact]
    public void Llama3RotaryScalingEqualsPyTorch() => Compare<OracleLlama3>();

    /// <summary>The heads are 128 or 64 wide. The base, the factors and the original context are those of the published models.</summary>
    [Theory]
    [InlineData("llama3.1", 8)]
    [InlineData("llama3.2", 32)]
    public void RotaryFrequenciesEqualThoseOfPublishedModels(string model, double factor)
    {
        using var scope = NewDisposeScope();
        var recorded = ReadAll(Path.Combine(AppContext.BaseDirectory, "Oracle", "OracleLlama3.safetensors"))["frequencies." + model];
        var scaling =
            new RotaryScaling(RotaryScalingKind.Llama3, factor) { OriginalContext = 8192, LowFrequencyFactor = 1, HighFrequencyFactor = 4 };
        var expected = recorded.data<float>().ToArray();

        // The angles of the second token are the frequencies. Each is compared alone, because the last are a millionth of the first.
        using var table = new RotaryTable(2, 2 * expected.Length, 500_000, CPU, scaling);
        var (cos, sin) = table.Slice(1, 1);
        var actual = sin.flatten().data<float>().ToArray().Zip(cos.flatten().data<float>().ToArray(), MathF.Atan2).ToArray();
        Assert.Equal(expected.Length, actual.Length);
        for (var pair = 0; pair < expected.Length; pair++) Assert.InRange(actual[pair] / expected[pair], 1 - 1e-5f, 1 + 1e-5f);
        Oracles.Compared("PyTorch: rotary frequencies of published models", expected.Length);
    }

    [Fact]
    public void AVisionTransformerEqualsPyTorch() => Compare<OracleViT>();

    [Fact]
    public void AnotherVisionTransformerEqualsPyTorch() => Compare<OtherViT>();

    [Fact]
    public void ATextEncoderEqualsPyTorch() => Compare<OracleEncoder>();

    [Fact]
    public void AnotherTextEncoderEqualsPyTorch() => Compare<OtherEncoder>();

    [Fact]
    public void RoutedTokensEqualPyTorch()
    {
        using var scope = NewDisposeScope();
        var recorded = ReadAll(Path.Combine(AppContext.BaseDirectory, "Oracle", "RoutedViT.safetensors"));
        var (pixels, targets) = (recorded["pixels"], recorded["targets"]);
        foreach (var budget in (double[])[0.4, 0.7])
        {
            using var model = Load<RoutedViT>(recorded);
            var name = FormattableString.Invariant($"routed-{budget}");
            AssertClose(recorded["logits." + name], model.Forward(budget, pixels), $"logits of {name}");
            AssertClose(recorded["logits." + name], model.Classify(budget, pixels), $"classes of {name}");
            AssertClose(recorded[$"embeddings.{name}.24"], model.Embed(budget, pixels), $"embeddings of {name}");
            Follow(recorded, name, model, () => Loss(model, budget));
        }

        using var joint = Load<RoutedViT>(recorded);
        Follow(recorded, "joint", joint, () => (Loss(joint, 0.4) + Loss(joint, 0.7)) / 2);

        Tensor Loss(RoutedViT model, double budget) => model.Losses(Streams.Routed<RoutedViT>(budget), pixels, targets).sum();
    }

    [Fact]
    public void RoutedTokensOfTextsOfDifferentLengthsEqualPyTorch()
    {
        using var scope = NewDisposeScope();
        var recorded = ReadAll(Path.Combine(AppContext.BaseDirectory, "Oracle", "RoutedEncoder.safetensors"));
        var (tokens, targets) = (recorded["tokens"], recorded["targets"]);
        foreach (var budget in (double[])[0.4, 0.7])
        {
            using var model = Load<RoutedEncoder>(recorded);
            var name = FormattableString.Invariant($"routed-{budget}");
            AssertClose(recorded[$"embeddings.{name}.16"], model.Forward(budget, tokens), $"embeddings of {name}");
            foreach (var width in (int[])[8, 16])
                AssertClose(recorded[$"embeddings.{name}.{width}"], model.Embed(budget, tokens, width), $"{width} embeddings of {name}");
            Follow(recorded, name, model, () => Loss(model, budget));
        }

        using var joint = Load<RoutedEncoder>(recorded);
        Follow(recorded, "joint", joint, () => (Loss(joint, 0.4) + Loss(joint, 0.7)) / 2);

        Tensor Loss(RoutedEncoder model, double budget) => model.Losses(Streams.Routed<RoutedEncoder>(budget), tokens, targets).sum();
    }

    [Fact]
    public void CompressedTokensEqualPyTorch()
    {
        using var scope = NewDisposeScope();
        var recorded = ReadAll(Path.Combine(AppContext.BaseDirectory, "Oracle", "LookupViT.safetensors"));
        var (pixels, targets) = (recorded["pixels"], recorded["targets"]);
        foreach (var grid in LookupViT.Spec.Lookup!.Grids)
        {
            foreach (var profile in LookupViT.Granularities.Select(granularity => granularity.At(grid)))
            {
                using var model = Load<LookupViT>(recorded);
                var name = FormattableString.Invariant($"{profile.Name}-{grid}x{grid}");
                AssertClose(recorded["logits." + name], model.Forward(profile, pixels), $"logits of {name}");
                AssertClose(recorded["logits." + name], model.Classify(profile, pixels), $"classes of {name}");
                AssertClose(recorded[$"embeddings.{name}.24"], model.Embed(profile, pixels), $"embeddings of {name}");
                Follow(recorded, name, model, () => model.Loss(profile, pixels, targets));
            }
        }

        using var joint = Load<LookupViT>(recorded);
        Follow(recorded, "joint", joint, () => (Loss(2) + Loss(3)) / 2);

        Tensor Loss(int grid) => joint.Losses(LookupViT.Network.Joint.At(grid), pixels, targets).mean();
    }

    /// <summary>The logits are those of tokens that choose by thresholds; the losses sort the tokens of the batch.</summary>
    [Fact]
    public void RoutedTokensOfALanguageModelEqualPyTorch()
    {
        using var scope = NewDisposeScope();
        var recorded = ReadAll(Path.Combine(AppContext.BaseDirectory, "Oracle", "RoutedLm.safetensors"));
        var (tokens, targets) = (recorded["tokens"], recorded["targets"]);
        foreach (var budget in (double[])[0.4, 0.7])
        {
            using var model = Load<RoutedLm>(recorded);
            var name = FormattableString.Invariant($"routed-{budget}");
            AssertClose(recorded["logits." + name], model.Forward(budget, tokens), $"logits of {name}");
            Follow(recorded, name, model, () => Loss(model, budget));
        }

        using var joint = Load<RoutedLm>(recorded);
        Follow(recorded, "joint", joint, () => (Loss(joint, 0.4) + Loss(joint, 0.7)) / 2);

        Tensor Loss(RoutedLm model, double budget) => model.Losses(Streams.Routed<RoutedLm>(budget), tokens, targets).sum();
    }

    private static void Compare<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var scope = NewDisposeScope();
        var recorded = ReadAll(Path.Combine(AppContext.BaseDirectory, "Oracle", TModel.Spec.Name + ".safetensors"));
        var isEncoder = TModel.Spec.Kind != ModelKind.LanguageModel;
        var (input, targets) = (recorded.GetValueOrDefault("pixels") ?? recorded["tokens"], recorded["targets"]);

        foreach (var profile in TModel.Granularities)
        {
            using var model = Load<TModel>(recorded);
            CompareOutputs(model, profile);
            if (isEncoder) CompareDistilled(model, [profile]);
            Follow(recorded, profile.Name, model, () => model.Losses(Streams.Of(profile), input, targets).mean());
        }

        using var joint = Load<TModel>(recorded);
        foreach (var profile in TModel.Profiles)
        {
            if (isEncoder || recorded.ContainsKey("logits." + profile.Name)) CompareOutputs(joint, profile);
        }

        List<Profile<TModel>> all = [.. TModel.Granularities.Reverse()];
        var streams = Streams.Of<TModel>([.. all]);
        if (isEncoder)
        {
            using var taught = Load<TModel>(recorded);
            CompareDistilled(taught, all);
            CompareDistilled(taught, [.. all.Skip(1)]);
            Follow(recorded, "distilled", taught, () => taught.DistilledLosses(streams, input, targets, 2).sum([0]).mean());
        }

        Follow(recorded, "joint", joint, () => joint.Losses(streams, input, targets).mean());

        void CompareOutputs(TModel model, Profile<TModel> profile)
        {
            if (TModel.Spec.Kind != ModelKind.TextEncoder)
                AssertClose(recorded["logits." + profile.Name], model.Forward(profile, input), $"logits of {profile.Name}");
            else
                AssertClose(recorded[Embeddings(TModel.Spec.EmbeddingWidth)], model.Forward(profile, input), $"forward of {profile.Name}");
            foreach (var width in TModel.Spec.EmbeddingDimensions)
                AssertClose(recorded[Embeddings(width)], model.Embed(profile, input, width), $"{width} wide embeddings of {profile.Name}");

            string Embeddings(int width) => FormattableString.Invariant($"embeddings.{profile.Name}.{width}");
        }

        // Losses and distances are compared separately, because the losses are much larger.
        void CompareDistilled(TModel model, List<Profile<TModel>> profiles)
        {
            var expected = stack([.. profiles.Select(profile => recorded["distilled." + profile.Name])], 1);
            var actual = model.DistilledLosses(Streams.Of<TModel>([.. profiles]), input, targets, 2);
            var names = string.Join(", ", profiles.Select(profile => profile.Name));
            AssertClose(expected[0], actual[0], $"losses of {names}");
            AssertClose(expected[1], actual[1], $"distances of {names}");
        }
    }

    // Compares the gradients of the first step, and the losses of ten.
    private static void Follow(
        Dictionary<string, Tensor> recorded, string objective, MatFormerModel model, Func<Tensor> computed)
    {
        var parameters = model.parameters().Where(parameter => parameter.requires_grad).ToList();
        List<Tensor> first = [.. parameters.Select(p => zeros(p.numel()))], second = [.. parameters.Select(p => zeros(p.numel()))];
        var flat = model.Flat!;
        var losses = new List<float>();
        for (var step = 1; step <= 10; step++)
        {
            using var inner = NewDisposeScope();
            flat.ClearGradients();
            var loss = computed();
            loss.backward();
            flat.GatherGradients();
            losses.Add(loss.item<float>());
            if (step == 1 && objective != "distilled")
            {
                // Some gradients are zero apart from rounding: a bias of keys without rotation and norm adds the same to all scores of
                // a query.
                var largest = parameters.Max(parameter => parameter.grad!.abs().max().item<float>());
                foreach (var (name, parameter) in model.named_parameters().Where(named => named.parameter.requires_grad))
                    AssertClose(
                        recorded[$"gradient.{objective}.{name}"], parameter.grad!, $"gradient of {name} ({objective})", largest / 100);
            }

            Kernels.ClipGradientNorm(flat.Gradients, 1.0);
            for (var i = 0; i < parameters.Count; i++)
            {
                Kernels.AdamW(
                    parameters[i].detach().view(-1), parameters[i].grad!.view(-1), first[i], second[i], parameters[i].dim() > 1 ? 0.1 : 0,
                    3e-3, 0.9, 0.95, 1e-8, step);
            }
        }

        AssertClose(recorded["losses." + objective], tensor(losses.ToArray()), $"losses ({objective})");
    }

    internal static TModel Load<TModel>(IReadOnlyDictionary<string, Tensor> recorded)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var model = TModel.Create();
        var names = model.named_parameters().Select(p => p.Item1).Order(StringComparer.Ordinal);
        Assert.Equal(
            recorded.Keys.Where(k => k.StartsWith("weight.", StringComparison.Ordinal)).Select(k => k[7..]).Order(StringComparer.Ordinal),
            names);
        using (no_grad())
        {
            foreach (var (name, parameter) in model.named_parameters()) parameter.copy_(recorded["weight." + name]);
        }

        return model;
    }

    internal static void AssertClose(Tensor expected, Tensor actual, string what, float least = 0)
    {
        Assert.Equal(expected.shape, actual.shape);
        // The error is relative to the tensor's largest value, because elements near zero have no meaningful relative error in float32.
        var scale = Math.Max(expected.abs().max().item<float>(), least);
        var error = (expected - actual.detach()).abs().max().item<float>();
        Assert.True(error <= Tolerance * scale, $"{what}: off by {error}, largest value {scale}");
        Oracles.Compared("PyTorch: logits, embeddings, losses and gradients", expected.numel());
    }

    internal static Dictionary<string, Tensor> ReadAll(string path)
    {
        using var file = SafetensorsReader.Open(path);
        return file.Tensors.ToDictionary(entry => entry.Name, entry =>
        {
            var value = empty([.. entry.Shape], entry.Type == SafetensorsType.Int64 ? ScalarType.Int64 : ScalarType.Float32);
            file.Read(entry, 0, value.bytes);
            return value;
        });
    }
}

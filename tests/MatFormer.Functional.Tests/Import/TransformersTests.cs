using MatFormer.Tests;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>A model of Qwen 2's shape whose head is its embedding.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 32, Vocabulary = 64)]
[FeedForward(48, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2, Bias = true, OutputBias = false)]
[Norm(NormKind.Rms, Epsilon = 1e-6)]
[Granularity("S", 0.125), Granularity("M", 0.25), Granularity("L", 0.5), Granularity("XL", 1.0)]
public sealed partial class Qwen2Tied;

/// <summary>A model of Qwen 2's shape with a head of its own, and windows from the second layer on.</summary>
[MatLM(Layers = 3, Width = 32, Heads = 4, Context = 32, Vocabulary = 64)]
[FeedForward(48, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2, RotaryBase = 1e6, Bias = true, OutputBias = false), Attention(Window = 5, Layers = "1-2")]
[Norm(NormKind.Rms, Epsilon = 1e-6), Embedding(Tied = false)]
[Granularity("S", 0.125), Granularity("M", 0.25), Granularity("L", 0.5), Granularity("XL", 1.0)]
public sealed partial class Qwen2Untied;

/// <summary>Runs the tests with the fused loops.</summary>
[Trait("Kernels", "any")]
public sealed class CpuTransformersTests() : TransformersTests(isFused: true);

/// <summary>Runs the tests with TorchSharp's operations.</summary>
[Trait("Kernels", "any")]
public sealed class CompositeTransformersTests() : TransformersTests(isFused: false);

/// <summary>
/// Models that Hugging Face's transformers wrote are declared and imported, and compute what Oracle/record_transformers.py recorded there.
/// The error is at most 1e-5 of the largest logit.
/// </summary>
public abstract class TransformersTests : IDisposable
{
    private const double Tolerance = 1e-5;

    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-transformers-").FullName;
    private readonly bool _before = Kernels.Cpu.IsEnabled;

    protected TransformersTests(bool isFused)
    {
        if (isFused) Assert.Null(CpuLibrary.Problem);
        Kernels.Cpu.IsEnabled = isFused;
    }

    public void Dispose()
    {
        Kernels.Cpu.IsEnabled = _before;
        Directory.Delete(_folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    [Fact]
    public void ATiedQwen2EqualsTransformers()
    {
        AssertDeclared(nameof(Qwen2Tied), """
            using MatFormer;

            /// <summary>The shape of a dense model of the type qwen2.</summary>
            [MatLM(Layers = 2, Width = 32, Heads = 4, Context = 32, Vocabulary = 64)]
            [FeedForward(48, Activation.SwiGlu)]
            [Attention(KeyValueHeads = 2, Bias = true, OutputBias = false)]
            [Norm(NormKind.Rms, Epsilon = 1e-06)]
            [Granularity("S", 0.125), Granularity("M", 0.25), Granularity("L", 0.5), Granularity("XL", 1.0)]
            public sealed partial class Qwen2Tied;

            """);
        Compare<Qwen2Tied>();
    }

    [Fact]
    public void AnUntiedQwen2WithWindowsEqualsTransformers()
    {
        AssertDeclared(nameof(Qwen2Untied), """
            using MatFormer;

            /// <summary>The shape of a dense model of the type qwen2.</summary>
            [MatLM(Layers = 3, Width = 32, Heads = 4, Context = 32, Vocabulary = 64)]
            [FeedForward(48, Activation.SwiGlu)]
            [Attention(KeyValueHeads = 2, RotaryBase = 1000000, Bias = true, OutputBias = false)]
            [Attention(Window = 5, Layers = "1-2")]
            [Norm(NormKind.Rms, Epsilon = 1e-06)]
            [Embedding(Tied = false)]
            [Granularity("S", 0.125), Granularity("M", 0.25), Granularity("L", 0.5), Granularity("XL", 1.0)]
            public sealed partial class Qwen2Untied;

            """);
        Compare<Qwen2Untied>();
    }

    private static void AssertDeclared(string name, string declaration) =>
        Assert.Equal(declaration, DenseModel.Declare(FolderOf(name), name));

    // The logits of the model, and the text that the decoding engine writes without sampling.
    private void Compare<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        var folder = FolderOf(TModel.Spec.Name);
        var imported = Path.Combine(_folder, "imported.safetensors");
        DenseModel.Import<TModel>(folder, imported);
        using var model = Checkpoint.OpenUniversal<TModel>(imported);
        using var recorded = SafetensorsReader.Open(Path.Combine(folder, "recorded.safetensors"));
        var (tokens, expected, greedy) =
            (Read("tokens", ScalarType.Int64), Read("logits", ScalarType.Float32), Read("greedy", ScalarType.Int64));

        var logits = model.Forward(TModel.Granularities[^1], tokens);
        Assert.Equal(expected.shape, logits.shape);
        var (error, scale) = ((expected - logits).abs().max().item<float>(), expected.abs().max().item<float>());
        Assert.True(error <= Tolerance * scale, $"off by {error}, largest logit {scale}");
        Oracles.Compared("transformers: logits", expected.numel());

        using var engine = DecodingEngine.Create(model);
        int[] next = [.. tokens[0].data<long>().Select(token => (int)token)];
        foreach (var token in greedy.flatten().data<long>())
        {
            engine.Append(0, next);
            engine.Run();
            var its = engine.Logits(0).ToArray();
            next = [Array.IndexOf(its, its.Max())];
            Assert.Equal(token, next[0]);
        }

        Oracles.Compared("transformers: generated tokens", greedy.numel());

        Tensor Read(string name, ScalarType type)
        {
            var entry = recorded.Find(name)!;
            var value = empty([.. entry.Shape], type);
            recorded.Read(entry, 0, value.bytes);
            return value;
        }
    }

    private static string FolderOf(string name) => Path.Combine(AppContext.BaseDirectory, "Oracle", name);
}

using System.Reflection;
using MatFormer.Functional.Tests;
using MatFormer.Tests;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Interop.Tests;

/// <summary>A text encoder with what the other encoders do not have.</summary>
[MatEncoder(Layers = 3, Width = 24, Heads = 6, Context = 18, Vocabulary = 50, Embedding = 20, Pooling = Pooling.ClassToken)]
[FeedForward(40, Activation.GeGlu, Bias = true), FeedForward(40, Activation.SquaredRelu, Layers = "1")]
[Attention(KeyValueHeads = 2, HeadWidth = 6, QkNorm = true, RotaryBase = 300), Attention(KeyValueHeads = 6, Layers = "2")]
[RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 40)]
[Granularity("S", 10, Heads = 3), Granularity("XL", 40)]
[Profile("Short", "S Skip XL")]
public sealed partial class MixedEncoder;

/// <summary>A vision transformer with what the other ones do not have.</summary>
[MatViT(Image = 9, Patch = 3, Channels = 2, Classes = 4, Layers = 2, Width = 20, Heads = 2)]
[FeedForward(30, Activation.SquaredRelu), Attention(HeadWidth = 7), Position(PositionKind.Sinusoidal), NestedEmbedding(5, 20)]
[Granularity("S", 10), Granularity("XL", 30)]
public sealed partial class MixedViT;

/// <summary>A text encoder so large that a copy of its weights would show in the memory.</summary>
[MatEncoder(Layers = 4, Width = 512, Heads = 8, Context = 16, Vocabulary = 256, Embedding = 64)]
[FeedForward(2048, Activation.SwiGlu)]
[Granularity("S", 1024), Granularity("XL", 2048)]
public sealed partial class LargeEncoder;

/// <summary>ONNX Runtime loads the ONNX files and computes what the models compute.</summary>
public sealed class OnnxTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-onnx-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void OnnxRuntimeComputesWhatTheModelsCompute()
    {
        Compare<OracleViT>();
        Compare<OtherViT>();
        Compare<OracleEncoder>();
        Compare<OtherEncoder>();
        Compare<MixedEncoder>();
        Compare<MixedViT>();
    }

    [Fact]
    public void OnnxRuntimeComputesWhatRandomModelsCompute()
    {
        var check = typeof(OnnxTests).GetMethod(nameof(Compare), BindingFlags.Instance | BindingFlags.NonPublic)!;

        // The others are language models, or have compressed tokens, which are refused.
        var models = RandomDeclarations.Compile(33, seed: 17)
            .Where((model, i) => i % 3 != 0 && ((ModelSpec)model.GetProperty("Spec")!.GetValue(null)!).Lookup is null).Take(14).ToList();
        Assert.Equal(14, models.Count);
        foreach (var model in models) check.MakeGenericMethod(model).Invoke(this, null);
    }

    [Fact]
    public void AnOnnxFileDescribesItsModel()
    {
        using var text = Onnx(Save<OracleEncoder>(), OracleEncoder.Profile.Mixed, width: 8);
        Assert.Equal("batch, tokens", text.ShapeOf("input_ids"));
        Assert.Equal("batch, tokens", text.ShapeOf("attention_mask"));
        Assert.Equal("batch, 8", text.ShapeOf("embedding"));
        Assert.Equal(OracleEncoder.Spec.Fingerprint, text.Metadata["matformer.fingerprint"]);
        Assert.Equal("16,32,64", text.Metadata["matformer.widths"]);
        using var image = Onnx(Save<OracleViT>(), OracleViT.Profile.S);
        Assert.Equal("batch, 3, 12, 12", image.ShapeOf("pixel_values"));
        Assert.Equal("batch, 7", image.ShapeOf("logits"));
        Assert.Equal("batch, 24", image.ShapeOf("embedding"));
    }

    [Fact]
    public void WhatOnnxCannotHoldIsRefused()
    {
        var path = Path.Combine(_folder, "refused.onnx");
        var language = Assert.Throws<ExtractionException>(() => Extraction.ToOnnx(Save<TiedLlama>(), TiedLlama.Profile.S, path));
        Assert.Contains("TiedLlama is a language model", language.Message, StringComparison.Ordinal);
        Assert.Contains("--format gguf", language.Message, StringComparison.Ordinal);
        var checkpoint = Save<OtherViT>();
        var width = Assert.Throws<ArgumentException>(() => Extraction.ToOnnx(checkpoint, OtherViT.Profile.S, path, width: 9));
        Assert.Contains("8, 16, 32, not to 9", width.Message, StringComparison.Ordinal);
        var slice = Path.Combine(_folder, "slice.safetensors");
        Extraction.ToSafetensors(checkpoint, OtherViT.Profile.S, slice);
        Assert.Contains(
            "is the slice S of OtherViT",
            Assert.Throws<CheckpointException>(() => Extraction.ToOnnx(slice, OtherViT.Profile.S, path)).Message, StringComparison.Ordinal);
        Assert.False(File.Exists(path));
    }

    /// <summary>The 67 MB of weights are copied in pieces of a megabyte.</summary>
    [Fact]
    public void MemoryDoesNotGrowWithTheModel()
    {
        var (checkpoint, path) = (Save<LargeEncoder>(), Path.Combine(_folder, "large.onnx"));
        Extraction.ToOnnx(checkpoint, LargeEncoder.Profile.XL, path);
        Assert.InRange(new FileInfo(path).Length, 60_000_000, long.MaxValue);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Extraction.ToOnnx(checkpoint, LargeEncoder.Profile.XL, path);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 10_000_000);
    }

    [Fact]
    public async Task TheCommandWritesAnOnnxFileAndTheTokenizer()
    {
        var checkpoint = Save<OracleEncoder>();
        Tokenizer.ByteLevel.Save(Path.Combine(_folder, Tokenizer.FileName));
        var output = Path.Combine(_folder, "out");
        string[] extract = ["extract", "--checkpoint", checkpoint, "--profile", "S M M", "--out", output, "--format"];
        var whole = await Run<OracleEncoder>([.. extract, "onnx"]);
        Assert.True(whole.Code == 0, whole.Errors);
        var cut = await Run<OracleEncoder>([.. extract, "onnx", "--dimension", "4"]);
        Assert.True(cut.Code == 0, cut.Errors);
        Assert.Equal(
            ["s-m-m-4.onnx", "s-m-m.onnx", Tokenizer.FileName],
            Directory.GetFiles(output).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        using var file = new OnnxFile(Path.Combine(output, "s-m-m-4.onnx"));
        Assert.Equal("batch, 4", file.ShapeOf("embedding"));
    }

    [Fact]
    public async Task TheCommandRefusesWhatItCannotWrite()
    {
        var encoder = new[] { "extract", "--checkpoint", Save<OracleEncoder>(), "--profile", "S", "--out", Path.Combine(_folder, "none") };
        var image = new[] { "extract", "--checkpoint", Save<OtherViT>(), "--profile", "S", "--out", Path.Combine(_folder, "none") };
        Refuses(
            "--type bf16 is not available in --format onnx",
            await Run<OracleEncoder>([.. encoder, "--format", "onnx", "--type", "bf16"]));
        Refuses("declares 4, 8, 16", await Run<OracleEncoder>([.. encoder, "--format", "onnx", "--dimension", "5"]));
        Refuses("--dimension is for --format onnx", await Run<OracleEncoder>([.. encoder, "--dimension", "4"]));
        Refuses("must be safetensors or onnx", await Run<OracleEncoder>([.. encoder, "--format", "gguf"]));
        Refuses("--dimension is for --format onnx", await Run<OtherViT>([.. image, "--format", "huggingface", "--dimension", "8"]));
        Assert.False(Directory.Exists(Path.Combine(_folder, "none")));

        static void Refuses(string says, (int Code, string Errors) run)
        {
            Assert.Equal(2, run.Code);
            Assert.Contains(says, run.Errors, StringComparison.Ordinal);
        }
    }

    private static async Task<(int Code, string Errors)> Run<TModel>(string[] arguments)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using StringWriter output = new(), error = new();
        var code = await ModelProgram.RunAsync<TModel>(arguments, output, error, CancellationToken.None);
        return (code, error.ToString());
    }

    // Compares each profile, and one profile with each width of its embeddings, for batches of several sizes and texts of several lengths.
    private void Compare<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var (checkpoint, spec) = (Save<TModel>(), TModel.Spec);
        using var model = Checkpoint.OpenUniversal<TModel>(checkpoint);
        using var unrecorded = no_grad();
        foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
        {
            using var file = Onnx(checkpoint, profile);
            Assert.Equal(spec.Image is null ? ["embedding"] : ["logits", "embedding"], file.Outputs);
            foreach (var input in InputsOf(spec))
            {
                using var scope = NewDisposeScope();
                Same($"{profile}", model.Forward(profile, input), file.Run(input, file.Outputs[0], padding: -7));
                if (spec.Image is not null) Same($"{profile}", model.Embed(profile, input), file.Run(input, "embedding"));
            }
        }

        var first = TModel.Granularities[0];
        foreach (var width in spec.EmbeddingDimensions)
        {
            using var file = Onnx(checkpoint, first, width);
            foreach (var input in InputsOf(spec))
            {
                using var scope = NewDisposeScope();
                Same($"{first} {width}", model.Embed(first, input, width), file.Run(input, "embedding", padding: 1 << 20));
                if (spec.Image is not null) Same($"{first} {width}", model.Classify(first, input, width), file.Run(input, "logits"));
            }
        }
    }

    // Texts end at different places; one is empty, one fills the context.
    private static IEnumerable<Tensor> InputsOf(ModelSpec spec)
    {
        yield return Inputs.Of(spec, 1);
        yield return Inputs.Of(spec, 5);
        if (spec.Image is not null) yield break;
        yield return Inputs.Of(spec, 3, 1);
        yield return Inputs.Of(spec, 4, (spec.Context + 1) / 2);
        var tokens = Inputs.Of(spec, 3);
        tokens[0] = -1;
        tokens[1] = spec.Vocabulary - 1;
        yield return tokens;
    }

    private static void Same(string what, Tensor expected, Tensor actual)
    {
        Assert.Equal(expected.shape, actual.shape);
        var (scale, difference) = (expected.abs().max().item<float>(), (expected - actual).abs().max().item<float>());
        Assert.True(difference <= 1e-5 * scale, $"{what}: differs by {difference} of {scale}");
        Oracles.Compared("ONNX Runtime: logits and embeddings", expected.numel());
    }

    private OnnxFile Onnx<TModel>(string checkpoint, Profile<TModel> profile, int? width = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var path = Path.Combine(_folder, "model.onnx");
        Extraction.ToOnnx(checkpoint, profile, path, width);
        return new OnnxFile(path);
    }

    private string Save<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel> => SavedModel.Write<TModel>(_folder);
}

using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>
/// A model of Qwen 3's shape: norms of queries and keys, an untied head, no biases, and a width that is not the heads times their width.
/// </summary>
[MatLM(Layers = 3, Width = 40, Heads = 4, Context = 12, Vocabulary = 300)]
[FeedForward(96, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2, HeadWidth = 16, RotaryBase = 1e6, QkNorm = true)]
[Norm(NormKind.Rms, Epsilon = 1e-6), Embedding(Tied = false)]
[Granularity("S", 0.125), Granularity("M", 0.25), Granularity("L", 0.5), Granularity("XL", 1.0)]
public sealed partial class ImportedLm;

/// <summary>
/// The parts of Gemma 3n that declarations can express: layers of different widths, windows in most layers, and a profile that skips
/// layers.
/// </summary>
[MatLM(Layers = 5, Width = 32, Heads = 4, Context = 16, Vocabulary = 64)]
[FeedForward(64, Activation.GeGlu), FeedForward(96, Activation.GeGlu, Layers = "2-3")]
[Attention(KeyValueHeads = 2, QkNorm = true, RotaryBase = 1e6), Attention(Window = 4, Layers = "0-3")]
[Norm(NormKind.Rms, Epsilon = 1e-6)]
[Granularity("S", 0.125), Granularity("M", 0.25), Granularity("L", 0.5), Granularity("XL", 1.0)]
[Profile("Shallow", "M Skip XL Skip M")]
public sealed partial class StackedLm;

/// <summary>A model with the shape of the profile Alike of <see cref="ExportedLm"/>: its layers, at its widths.</summary>
[MatLM(Layers = 3, Width = 64, Heads = 4, Context = 12, Vocabulary = 300)]
[FeedForward(64, Activation.SwiGlu, Bias = true)]
[Attention(KeyValueHeads = 2, RotaryBase = 500)]
[Norm(NormKind.Rms, Epsilon = 1e-3), Embedding(Tied = false)]
[Granularity("S", 32), Granularity("M", 64)]
public sealed partial class KeptLm;

/// <summary>The weights of other programs are imported exactly, or refused with a message that names the problem.</summary>
public sealed class DenseModelTests : IDisposable
{
    // Models that an import can read.
    private static readonly Type[] s_models =
    [
        typeof(OracleLlama), typeof(OracleElastic), typeof(GatedGelu), typeof(ImportedLm),
        typeof(OracleLinear), typeof(ScaledNormLm), typeof(Qwen2Tied), typeof(BiasedQueryLm),
    ];

    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-import-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void AnExtractedModelIsImportedBitForBit() => CheckModels(nameof(ImportsBitForBit));

    private void ImportsBitForBit<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var checkpoint = Save<TModel>();
        Extraction.ToHuggingFace(checkpoint, TModel.Granularities[^1], PathOf("extracted"), null);
        string[] forms =
        [
            DenseFolder.Split(PathOf("extracted"), PathOf("one")),
            DenseFolder.Split(PathOf("extracted"), PathOf("three"), 3),
            Path.Combine(PathOf("three"), "model.safetensors.index.json"),
            Path.Combine(PathOf("one"), "model.safetensors"),
            PathOf("extracted"),
        ];
        foreach (var form in forms)
        {
            DenseModel.Import<TModel>(form, PathOf("imported.safetensors"));
            Assert.Equal(File.ReadAllBytes(checkpoint), File.ReadAllBytes(PathOf("imported.safetensors")));
        }

        Directory.Delete(PathOf("three"), recursive: true);
    }

    [Fact]
    public void SixteenBitWeightsAreImportedExactly()
    {
        var checkpoint = Save<ImportedLm>();
        using var exact = Checkpoint.OpenUniversal<ImportedLm>(checkpoint);
        foreach (var (encoding, type) in ((WeightEncoding, ScalarType)[])
                 [(WeightEncoding.Float16, ScalarType.Float16), (WeightEncoding.BFloat16, ScalarType.BFloat16)])
        {
            Extraction.ToHuggingFace(checkpoint, ImportedLm.Profile.XL, PathOf("extracted"), null, encoding);
            var folder = DenseFolder.Split(PathOf("extracted"), PathOf($"{encoding}"), 2);
            DenseModel.Import<ImportedLm>(folder, PathOf("imported.safetensors"));
            using var imported = Checkpoint.OpenUniversal<ImportedLm>(PathOf("imported.safetensors"));
            foreach (var (parameter, its) in imported.parameters().Zip(exact.parameters()))
            {
                using var rounded = its.detach().to(type).to(ScalarType.Float32);
                Assert.True(parameter.detach().eq(rounded).all().item<bool>(), $"{encoding}");
            }
        }
    }

    [Fact]
    public void AWarmStartReadsASetOfFiles()
    {
        using var corpus = TestCorpus.Open(_folder);
        var checkpoint = Save<OracleBytes>();
        Extraction.ToHuggingFace(checkpoint, OracleBytes.Profile.XL, PathOf("extracted"), null);
        using OracleBytes one = new(), several = new();
        Assert.True(WarmStart.Load(one, DenseFolder.Split(PathOf("extracted"), PathOf("one")), corpus));
        Assert.True(WarmStart.Load(several, DenseFolder.Split(PathOf("extracted"), PathOf("several"), 4), corpus));
        Assert.Equal(Weights(one), Weights(several));

        // The hidden units are ordered by importance, so the weights are not as they were.
        using var before = Checkpoint.OpenUniversal<OracleBytes>(checkpoint);
        Assert.NotEqual(Weights(before), Weights(several));

        // Our own files may be split too, because the reader is the same.
        Extraction.ToHuggingFace(checkpoint, OracleBytes.Profile.XL, PathOf("ours"), null);
        using var opened = Checkpoint.OpenUniversal<OracleBytes>(PathOf("ours"));
        Assert.Equal(Weights(before), Weights(opened));
    }

    [Fact]
    public void ThePrintedDeclarationCompilesAndFits() => CheckModels(nameof(DeclaresWhatFits));

    private void DeclaresWhatFits<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        Extraction.ToHuggingFace(Save<TModel>(), TModel.Granularities[^1], PathOf("extracted"), null);
        var folder = DenseFolder.Split(PathOf("extracted"), PathOf("dense"));
        Assert.Equal(TModel.Spec.Granularities[^1].Layers, Imported(folder, DenseModel.Declare(folder, "Fitting")));
    }

    [Fact]
    public void ThePrintedDeclarationLeavesDefaultsOut()
    {
        Extraction.ToHuggingFace(Save<ImportedLm>(), ImportedLm.Profile.XL, PathOf("extracted"), null);
        Assert.Equal(
            """
            using MatFormer;

            /// <summary>The shape of a dense model of the type qwen3.</summary>
            [MatLM(Layers = 3, Width = 40, Heads = 4, Context = 12, Vocabulary = 300)]
            [FeedForward(96, Activation.SwiGlu)]
            [Attention(KeyValueHeads = 2, HeadWidth = 16, RotaryBase = 1000000, QkNorm = true)]
            [Norm(NormKind.Rms, Epsilon = 1e-06)]
            [Embedding(Tied = false)]
            [Granularity("S", 0.125), Granularity("M", 0.25), Granularity("L", 0.5), Granularity("XL", 1.0)]
            public sealed partial class Named;

            """,
            DenseModel.Declare(PathOf("extracted"), "Named"));

        // The widths are not divisible by 8. The window is as long as the context, so it is left out.
        DenseFolder.Configure(
            PathOf("extracted"), ("model_type", "\"mistral\""), ("intermediate_size", "[90, 70, 90]"), ("num_key_value_heads", "4"),
            ("head_dim", "10"), ("rope_theta", "10000.0"), ("rope_parameters", null), ("rms_norm_eps", "1e-5"),
            ("tie_word_embeddings", "true"), ("sliding_window", "12"));
        Assert.Equal(
            """
            using MatFormer;

            /// <summary>The shape of a dense model of the type mistral.</summary>
            [MatLM(Layers = 3, Width = 40, Heads = 4, Context = 12, Vocabulary = 300)]
            [FeedForward(90, Activation.SwiGlu)]
            [FeedForward(70, Activation.SwiGlu, Layers = "1")]
            [Granularity("S", 11), Granularity("S", 8, Layers = "1")]
            [Granularity("M", 22), Granularity("M", 17, Layers = "1")]
            [Granularity("L", 45), Granularity("L", 35, Layers = "1")]
            [Granularity("XL", 90), Granularity("XL", 70, Layers = "1")]
            public sealed partial class Named;

            """,
            DenseModel.Declare(Path.Combine(PathOf("extracted"), "config.json"), "Named"));
        DenseFolder.Configure(PathOf("extracted"), ("sliding_window", "4"));
        Assert.Contains("\n[Attention(Window = 4)]\n", DenseModel.Declare(PathOf("extracted"), "Named"), StringComparison.Ordinal);
    }

    /// <summary>The layers have their own widths and windows, and norms of queries and keys, as in Gemma 3n.</summary>
    [Fact]
    public void AStackOfDifferentLayersIsImported()
    {
        var checkpoint = Save<StackedLm>();
        var folder = DenseFolder.Split(checkpoint, PathOf("stacked"), 2);
        DenseFolder.Configure(
            folder, ("model_type", "\"qwen3\""), ("vocab_size", "64"), ("hidden_size", "32"), ("intermediate_size", "[64, 64, 96, 96, 64]"),
            ("num_hidden_layers", "5"), ("num_attention_heads", "4"), ("num_key_value_heads", "2"), ("head_dim", "8"),
            ("hidden_act", "\"gelu\""), ("max_position_embeddings", "16"), ("rms_norm_eps", "1e-06"),
            ("rope_parameters", """{"rope_type": "default", "rope_theta": 1e6}"""),
            ("use_sliding_window", "true"), ("sliding_window", "4"), ("tie_word_embeddings", "true"),
            ("layer_types", """["sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]"""));
        DenseModel.Import<StackedLm>(folder, PathOf("imported.safetensors"));
        Assert.Equal(File.ReadAllBytes(checkpoint), File.ReadAllBytes(PathOf("imported.safetensors")));
        Assert.Equal(StackedLm.Spec.Granularities[^1].Layers, Imported(folder, DenseModel.Declare(folder, "Fitting")));
        Assert.Contains("[Attention(Window = 4, Layers = \"0-3\")]", DenseModel.Declare(folder, "Fitting"), StringComparison.Ordinal);

        // Without a list, the layers from max_window_layers on have the window.
        DenseFolder.Configure(folder, ("layer_types", null), ("max_window_layers", "2"));
        Assert.Contains("[Attention(Window = 4, Layers = \"2-4\")]", DenseModel.Declare(folder, "Fitting"), StringComparison.Ordinal);
        Refused<StackedLm>(folder, "it attends to all earlier tokens, so declare no [Attention(Window = 4)] in layer 0");
        DenseFolder.Configure(folder, ("max_window_layers", "0"), ("intermediate_size", "[64, 96, 96, 96, 64]"));
        Refused<StackedLm>(
            folder, "intermediate_size is 96, so declare [FeedForward(96, ...)], not 64 in layer 1",
            "it attends to 4 tokens, so declare [Attention(Window = 4)] in layer 4");
    }

    /// <summary>The numbers of parameters are those of the published models.</summary>
    [Fact]
    public void ThePublishedQwen25IsDeclared()
    {
        DenseFolder.Configure(
            PathOf("."), ("architectures", """["Qwen2ForCausalLM"]"""), ("model_type", "\"qwen2\""), ("vocab_size", "151936"),
            ("hidden_size", "896"), ("intermediate_size", "4864"), ("num_hidden_layers", "24"), ("num_attention_heads", "14"),
            ("num_key_value_heads", "2"), ("hidden_act", "\"silu\""), ("max_position_embeddings", "32768"), ("max_window_layers", "21"),
            ("rms_norm_eps", "1e-06"), ("rope_theta", "1000000.0"), ("sliding_window", "32768"), ("tie_word_embeddings", "true"),
            ("use_mrope", "false"), ("use_sliding_window", "false"), ("attention_dropout", "0.0"), ("initializer_range", "0.02"),
            ("torch_dtype", "\"bfloat16\""));
        var small = DenseModel.Declare(PathOf("."), "Fitting");
        Assert.Contains(
            "\n[Attention(KeyValueHeads = 2, RotaryBase = 1000000, Bias = true, OutputBias = false)]\n", small, StringComparison.Ordinal);
        Assert.DoesNotContain("Tied", small, StringComparison.Ordinal);
        Assert.Equal(494_032_768, Parameters(small));

        DenseFolder.Configure(
            PathOf("."), ("vocab_size", "152064"), ("hidden_size", "3584"), ("intermediate_size", "18944"), ("num_hidden_layers", "28"),
            ("num_attention_heads", "28"), ("num_key_value_heads", "4"), ("max_window_layers", "28"), ("sliding_window", "131072"),
            ("tie_word_embeddings", "false"), ("use_mrope", null));
        var large = DenseModel.Declare(PathOf("."), "Fitting");
        Assert.Contains("\n[Embedding(Tied = false)]\n", large, StringComparison.Ordinal);
        Assert.Equal(7_615_616_512, Parameters(large));

        // Without a number, the window of Qwen is transformers' default.
        DenseFolder.Configure(PathOf("."), ("use_sliding_window", "true"), ("max_window_layers", "21"), ("sliding_window", null));
        Assert.Contains(
            "\n[Attention(Window = 4096, Layers = \"21-27\")]\n", DenseModel.Declare(PathOf("."), "Fitting"), StringComparison.Ordinal);

        static long Parameters(string declaration)
        {
            var model = RandomDeclarations.Compile(declaration).GetType("Fitting", throwOnError: true)!;
            var spec = (ModelSpec)model.GetProperty("Spec", BindingFlags.Static | BindingFlags.Public)!.GetValue(null)!;
            return spec.ParameterCount(spec.WholeLayers.AsSpan());
        }
    }

    [Fact]
    public void BiasesThatDifferFromTheDeclarationAreRefused()
    {
        Extraction.ToHuggingFace(Save<BiasedLm>(), BiasedLm.Profile.XL, PathOf("all"), null);
        Extraction.ToHuggingFace(Save<BiasedQueryLm>(), BiasedQueryLm.Profile.XL, PathOf("three"), null);
        Refused<BiasedLm>(
            PathOf("three"), "qwen2 has biases of queries, keys and values, so declare [Attention(Bias = true, OutputBias = false)]");
        Refused<BiasedQueryLm>(PathOf("all"), "attention_bias is true, so declare [Attention(Bias = true, OutputBias = true)]");
    }

    /// <summary>A profile that skips layers is a dense model with fewer layers.</summary>
    [Fact]
    public void AProfileThatSkipsLayersIsImportedAsASmallerModel()
    {
        Extraction.ToHuggingFace(Save<ExportedLm>(), ExportedLm.Profile.Alike, PathOf("alike"), null);
        DenseModel.Import<KeptLm>(PathOf("alike"), PathOf("kept.safetensors"));
        using var kept = Checkpoint.OpenUniversal<KeptLm>(PathOf("kept.safetensors"));
        using var universal = Checkpoint.OpenUniversal<ExportedLm>(PathOf("ExportedLm.safetensors"));
        using var slice = universal.View(ExportedLm.Profile.Alike);
        using var tokens = randint(300, [2, 12], ScalarType.Int64);
        using var noGrad = no_grad();
        using Tensor its = kept.call(tokens), expected = slice.call(tokens);
        Assert.True(its.eq(expected).all().item<bool>());
    }

    [Fact]
    public void RedundantTensorsAreIgnored()
    {
        Extraction.ToHuggingFace(Save<OracleLlama>(), OracleLlama.Profile.XL, PathOf("extracted"), null);
        var folder = DenseFolder.Split(PathOf("extracted"), PathOf("dense"));
        DenseFolder.Alter(
            folder, tensors => tensors.Append(new("model.layers.1.self_attn.rotary_emb.inv_freq", SafetensorsType.Float32, [2])));
        DenseModel.Import<OracleLlama>(folder, PathOf("imported.safetensors"));
        Assert.Equal(File.ReadAllBytes(PathOf("OracleLlama.safetensors")), File.ReadAllBytes(PathOf("imported.safetensors")));

        // A tied head may be written as a tensor if it equals the embedding. A head of zeros does not.
        DenseFolder.Alter(folder, tensors => tensors.Append(new("lm_head.weight", SafetensorsType.Float32, [31, 16])));
        Refused<OracleLlama>(
            folder, "holds the tensor 'lm_head.weight', which OracleLlama does not have; its head is not its embedding's weight, "
            + "so declare [Embedding(Tied = false)]");
        using (var model = Checkpoint.OpenUniversal<OracleLlama>(PathOf("OracleLlama.safetensors")))
        {
            var parameters = model.named_parameters().Select(p => (p.Item1, (Tensor)p.Item2)).ToList();
            Checkpoint.Write(
                Path.Combine(folder, "model.safetensors"), new Dictionary<string, string>(),
                [.. parameters, ("lm_head.weight", model.get_parameter("model.embed_tokens.weight")!)]);
        }

        File.Delete(PathOf("imported.safetensors"));
        DenseModel.Import<OracleLlama>(folder, PathOf("imported.safetensors"));
        Assert.Equal(File.ReadAllBytes(PathOf("OracleLlama.safetensors")), File.ReadAllBytes(PathOf("imported.safetensors")));
    }

    [Theory]
    [InlineData("hidden_size", "32", "hidden_size is 32, so declare [MatLM(Width = 32)], not 64")]
    [InlineData("num_hidden_layers", "2", "num_hidden_layers is 2, so declare [MatLM(Layers = 2)], not 3")]
    [InlineData("num_attention_heads", "8", "num_attention_heads is 8, so declare [MatLM(Heads = 8)], not 4")]
    [InlineData("num_key_value_heads", "4", "num_key_value_heads is 4, so declare [Attention(KeyValueHeads = 4)], not 2 in layer 0")]
    [InlineData("num_key_value_heads", null, "num_key_value_heads is 4")]
    [InlineData("head_dim", "8", "head_dim is 8, so declare [Attention(HeadWidth = 8)], not 16")]
    [InlineData("intermediate_size", "48", "intermediate_size is 48, so declare [FeedForward(48, ...)], not 64 in layer 0")]
    [InlineData("intermediate_size", "[64, 64, 48]", "intermediate_size is 48, so declare [FeedForward(48, ...)], not 64 in layer 2")]
    [InlineData("vocab_size", "301", "vocab_size is 301, so declare [MatLM(Vocabulary = 301)], not 300")]
    [InlineData("max_position_embeddings", "8", "max_position_embeddings is 8, so declare [MatLM(Context = 8)] or less, not 12")]
    [InlineData("rms_norm_eps", "1e-06", "rms_norm_eps is 1e-06, so declare [Norm(NormKind.Rms, Epsilon = 1e-06)], not 0.001")]
    [InlineData("tie_word_embeddings", "true", "tie_word_embeddings is true, so declare [Embedding(Tied = true)]")]
    [InlineData("hidden_act", "\"gelu\"", "declare [FeedForward(..., Activation.GeGlu)], not SwiGlu in layer 0")]
    [InlineData("mlp_bias", "false", "mlp_bias is false, so declare [FeedForward(..., Bias = false)] in layer 0")]
    [InlineData("model_type", "\"qwen3\"", "qwen3 norms queries and keys, so declare [Attention(QkNorm = true)]")]
    [InlineData("rope_theta", "20000", "rope_theta is 20000, so declare [Attention(RotaryBase = 20000)], not 500")]
    [InlineData("hidden_act", "\"gelu_pytorch_tanh\"", "no word for: the activation gelu_pytorch_tanh (hidden_act).")]
    [InlineData("attention_bias", "true", "attention_bias is true, so declare [Attention(Bias = true)]")]
    [InlineData("rope_scaling", """{"type": "linear", "factor": 2}""",
        "its rotary positions are scaled, so declare [RotaryScaling(RotaryScalingKind.Linear, 2)].")]
    [InlineData("rope_parameters", """{"rope_type": "linear", "factor": 2.5}""", "declare [RotaryScaling(RotaryScalingKind.Linear, 2.5)].")]
    [InlineData(
        "rope_scaling", """{"rope_type": "yarn", "factor": 2}""", "no word for: scaled rotary positions (rope_scaling of the type yarn).")]
    [InlineData("rope_scaling", "8", "has 8 for 'rope_scaling', not an object")]
    [InlineData("rope_scaling", """{"factor": 2}""", "lacks 'rope_scaling.rope_type'")]
    [InlineData("rope_scaling", """{"rope_type": 7}""", "has 7 for 'rope_scaling.rope_type', not a string")]
    [InlineData("rope_scaling", """{"type": "linear"}""", "lacks 'rope_scaling.factor'")]
    [InlineData("rope_parameters", """{"rope_type": "linear", "factor": "2"}""", "has \"2\" for 'rope_parameters.factor', not a number")]
    [InlineData("rope_scaling", """{"type": "linear", "factor": 0.5}""", "has 0.5 for 'rope_scaling.factor', not a number of 1 or more")]
    [InlineData("rope_scaling", """{"type": "linear", "factor": 1e999}""", "has 1e999 for 'rope_scaling.factor', not a number above 0")]
    [InlineData("rope_scaling", """{"rope_type": "llama3", "factor": 8}""", "lacks 'rope_scaling.original_max_position_embeddings'")]
    [InlineData("model_type", "\"qwen2\"",
        "qwen2 has biases of queries, keys and values, so declare [Attention(Bias = true, OutputBias = false)]; mlp_bias is false")]
    [InlineData("model_type", "\"qwen2_moe\"", "model_type qwen2_moe (supported: llama, mistral, qwen2, qwen3, arcee).")]
    [InlineData("model_type", "\"gemma2\"", "norms after attention and feed-forward; norms that multiply by 1 + weight")]
    [InlineData("quantization_config", """{"quant_method": "gptq"}""", "quantised weights (quantization_config)")]
    [InlineData("partial_rotary_factor", "0.5", "rotary positions for a part of each head (partial_rotary_factor)")]
    [InlineData(
        "layer_types", """["linear_attention", "full_attention", "full_attention"]""", "layers of the type linear_attention (layer_types)")]
    [InlineData("model_type", null, "lacks 'model_type'")]
    [InlineData("model_type", "7", "has 7 for 'model_type', not a string")]
    [InlineData("hidden_size", null, "lacks 'hidden_size'")]
    [InlineData("hidden_size", "\"64\"", "has \"64\" for 'hidden_size', not a whole number above 0")]
    [InlineData("hidden_size", "0", "has 0 for 'hidden_size', not a whole number above 0")]
    [InlineData("intermediate_size", "[64, 64]", "for 'intermediate_size', not a whole number above 0, or one for each of 3 layers")]
    [InlineData("num_hidden_layers", "2000000000", "has 2000000000 for 'num_hidden_layers', not a whole number up to 4096")]
    [InlineData("hidden_act", null, "lacks 'hidden_act'")]
    [InlineData("rms_norm_eps", null, "lacks 'rms_norm_eps'")]
    [InlineData("rms_norm_eps", "-1", "has -1 for 'rms_norm_eps', not a number above 0")]
    [InlineData("rope_theta", "1e999", "for 'rope_theta', not a number above 1")]
    [InlineData("num_key_value_heads", "3", "has 3 for 'num_key_value_heads', not a number that divides num_attention_heads")]
    [InlineData("head_dim", "15", "has 15 for 'head_dim', not an even number")]
    [InlineData("mlp_bias", "1", "has 1 for 'mlp_bias', not true or false")]
    public void AConfigurationThatDiffersFromTheDeclarationIsRefused(string key, string? json, string says)
    {
        Extraction.ToHuggingFace(Save<KeptLm>(), KeptLm.Profile.M, PathOf("extracted"), null);
        if (key == "rope_theta") DenseFolder.Configure(PathOf("extracted"), ("rope_parameters", null));
        DenseFolder.Configure(PathOf("extracted"), (key, json));
        var message = Refused<KeptLm>(PathOf("extracted"), says);
        Assert.Contains(Path.Combine(PathOf("extracted"), "config.json"), message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(
        "original_max_position_embeddings", "0", "has 0 for 'rope_scaling.original_max_position_embeddings', not a whole number above 0")]
    [InlineData(
        "original_max_position_embeddings", "80", "so declare [RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 80)], not [")]
    [InlineData("low_freq_factor", null, "lacks 'rope_scaling.low_freq_factor'")]
    [InlineData("low_freq_factor", "0", "has 0 for 'rope_scaling.low_freq_factor', not a number above 0")]
    [InlineData("low_freq_factor", "2",
        "OriginalContext = 40, LowFrequencyFactor = 2)], not [RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 40)].")]
    [InlineData("high_freq_factor", null, "lacks 'rope_scaling.high_freq_factor'")]
    [InlineData("high_freq_factor", "1.0", "has 1.0 for 'rope_scaling.high_freq_factor', not a number above low_freq_factor, which is 1")]
    public void ARotaryScalingThatDiffersFromTheDeclarationIsRefused(string key, string? json, string says)
    {
        Extraction.ToHuggingFace(Save<OracleLlama3>(), OracleLlama3.Profile.XL, PathOf("extracted"), null);
        var scaling = DenseFolder.Config(PathOf("extracted"))["rope_scaling"]!.AsObject();
        scaling.Remove(key);
        if (json is not null) scaling.Add(key, JsonNode.Parse(json));
        DenseFolder.Configure(PathOf("extracted"), ("rope_scaling", scaling.ToJsonString()));
        Refused<OracleLlama3>(PathOf("extracted"), says);
    }

    /// <summary>The forms are those that transformers wrote before version 4.43, before version 5, and since then.</summary>
    [Fact]
    public void ARotaryScalingIsReadInEveryForm()
    {
        var checkpoint = Save<OracleLlama3>();
        Extraction.ToHuggingFace(checkpoint, OracleLlama3.Profile.XL, PathOf("extracted"), null);
        var folder = DenseFolder.Split(PathOf("extracted"), PathOf("dense"));
        const string Scaling = "\"factor\": 8.0, \"original_max_position_embeddings\": 40, \"low_freq_factor\": 1, \"high_freq_factor\": 4";
        Reads(("rope_parameters", null), ("rope_scaling", $"{{\"type\": \"llama3\", {Scaling}}}"));
        Reads(("rope_scaling", $"{{\"rope_type\": \"llama3\", {Scaling}}}"));
        Reads(("rope_scaling", null), ("rope_theta", null),
            ("rope_parameters", $"{{\"rope_type\": \"llama3\", \"rope_theta\": 100.0, {Scaling}}}"));

        // If both forms are there, the older one counts.
        Reads(
            ("rope_theta", "100"), ("rope_scaling", $"{{\"rope_type\": \"llama3\", {Scaling}}}"),
            ("rope_parameters", """{"rope_type": "default", "rope_theta": 100}"""));
        DenseFolder.Configure(folder, ("rope_scaling", "{}"));
        Refused<OracleLlama3>(folder, "its rotary positions are not scaled, so leave [RotaryScaling] out");
        DenseFolder.Configure(folder, ("rope_scaling", """{"type": "linear", "factor": 1.0}"""));
        Refused<OracleLlama3>(folder, "its rotary positions are not scaled, so leave [RotaryScaling] out");

        void Reads(params (string, string?)[] values)
        {
            DenseFolder.Configure(folder, values);
            DenseModel.Import<OracleLlama3>(folder, PathOf("imported.safetensors"));
            Assert.Equal(File.ReadAllBytes(checkpoint), File.ReadAllBytes(PathOf("imported.safetensors")));
            Assert.Contains(
                "[Attention(KeyValueHeads = 1, RotaryBase = 100)]\n[RotaryScaling(RotaryScalingKind.Llama3, 8, OriginalContext = 40)]\n",
                DenseModel.Declare(folder, "Named"), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void AnotherKindOfModelIsRefusedWithWhatToDeclare()
    {
        Extraction.ToHuggingFace(Save<OracleLlama>(), OracleLlama.Profile.XL, PathOf("extracted"), null);
        Refused<Positioned>(PathOf("extracted"), "llama has rotary positions, so leave [Position(PositionKind.Learned)] out");
        Refused<OracleClassic>(PathOf("extracted"), "declare [Norm(NormKind.Rms, Epsilon = 1e-05)], not 1e-05 of NormKind.Layer");
        Refused<OracleElastic>(PathOf("extracted"), "llama does not norm queries and keys, so declare [Attention(QkNorm = false)]");
        DenseFolder.Configure(PathOf("extracted"), ("model_type", "\"mistral\""), ("max_position_embeddings", "32768"));
        DenseModel.Import<OracleLlama>(PathOf("extracted"), PathOf("imported.safetensors")); // the context fits into the window of 4096
        File.Delete(PathOf("imported.safetensors"));
        DenseFolder.Configure(PathOf("extracted"), ("sliding_window", "5"));
        Refused<OracleLlama>(PathOf("extracted"), "it attends to 5 tokens, so declare [Attention(Window = 5)] in layer 0");
    }

    [Fact]
    public void Gemma3nIsRefusedWithAllThatIsMissing()
    {
        DenseFolder.Configure(
            PathOf("."), ("model_type", "\"gemma3n\""), ("audio_config", "{}"), ("vision_config", "{}"), ("text_config", """
            {
                "model_type": "gemma3n_text", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 30, "num_attention_heads": 8,
                "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 262400, "hidden_activation": "gelu_pytorch_tanh", "rope_theta": 1000000.0,
                "rope_local_base_freq": 10000.0, "rms_norm_eps": 1e-06, "sliding_window": 512, "num_kv_shared_layers": 10, "altup_num_inputs": 4,
                "laurel_rank": 64, "hidden_size_per_layer_input": 256, "final_logit_softcapping": 30.0, "max_position_embeddings": 32768,
                "activation_sparsity_pattern": [0.95, 0.95, 0.0], "rope_scaling": null
            }
            """));
        var refusal = Assert.Throws<CheckpointException>(() => DenseModel.Declare(PathOf("."), "Gemma"));
        string[] parts =
        [
            "model_type gemma3n_text", "embeddings scaled by the root of the width", "norms after attention", "norms of values",
            "gelu_pytorch_tanh",
            "layers that read the keys and values of others (num_kv_shared_layers)", "AltUp", "LAuReL", "per-layer embeddings",
            "keep only their largest activations", "capped logits", "another rotary base", "image input", "audio input", "docs/import.md",
        ];
        foreach (var part in parts) Assert.Contains(part, refusal.Message, StringComparison.Ordinal);
        Refused<OracleLlama>(PathOf("."), "AltUp");
    }

    [Theory]
    [InlineData("model.embed_tokens.weight", new long[] { 31, 24 }, "[MatLM(Width = 24)]")]
    [InlineData("model.embed_tokens.weight", new long[] { 32, 16 }, "[MatLM(Vocabulary = 32)]")]
    [InlineData("model.embed_tokens.weight", new long[] { 32, 24 }, "[MatLM(Vocabulary = 32)] and [MatLM(Width = 24)]")]
    [InlineData("model.layers.1.self_attn.q_proj.weight", new long[] { 32, 16 }, "[MatLM(Heads = 8)], or another HeadWidth than 4")]
    [InlineData(
        "model.layers.1.self_attn.k_proj.weight", new long[] { 4, 16 }, "[Attention(KeyValueHeads = 1)], or another HeadWidth than 4")]
    [InlineData("model.layers.1.self_attn.k_proj.weight", new long[] { 6, 16 },
        "[Attention(KeyValueHeads)] and HeadWidth so that their product is 6")]
    [InlineData("model.layers.0.self_attn.o_proj.weight", new long[] { 16, 32 }, "[MatLM(Heads = 8)], or another HeadWidth than 4")]
    [InlineData("model.layers.1.mlp.up_proj.weight", new long[] { 40, 16 }, "[FeedForward(40, ...)] in layer 1")]
    [InlineData("model.layers.0.mlp.down_proj.weight", new long[] { 16, 40 }, "[FeedForward(40, ...)] in layer 0")]
    [InlineData("model.norm.weight", new long[] { 17 }, "[MatLM(Width = 17)]")]
    public void AShapeThatDoesNotFitIsRefusedWithWhatToDeclare(string name, long[] shape, string declare)
    {
        var folder = Dense<OracleLlama>();
        DenseFolder.Alter(folder, tensors => tensors.Select(tensor => tensor.Name == name ? tensor with { Shape = [.. shape] } : tensor));
        var message = Refused<OracleLlama>(folder, $"holds the tensor '{name}' of shape ({string.Join(", ", shape)}), but (");
        Assert.EndsWith($" fits OracleLlama; it belongs to another model, or declare {declare}.", message, StringComparison.Ordinal);
    }

    [Fact]
    public void MissingTensorsAreRefusedWithWhatToDeclare()
    {
        Without<OracleLlama>(
            "layers.1.", "lacks the tensor 'model.layers.1.input_layernorm.weight'; it has 1 layers, so declare [MatLM(Layers = 1)]");
        Without<OracleLlama>("layers.0.mlp.gate", "it was written by another program, or is damaged", "Activation.SquaredRelu");
        Without<ImportedLm>("lm_head", "leave [Embedding(Tied = false)] out");
        Without<ImportedLm>("q_norm", "lacks the tensor 'model.layers.0.self_attn.q_norm.weight'", "leave [Attention(QkNorm = true)] out");
        Without<GatedGelu>("bias", "leave [FeedForward(..., Bias = true)] out");
        Without<BiasedLm>("self_attn.v_proj.bias", "leave [Attention(Bias = true)] out");
        Without<BiasedLm>(
            "self_attn.o_proj.bias", "the output of its attention has no bias, so declare [Attention(Bias = true, OutputBias = false)]");
        Without<BiasedLm>("_proj.bias", "leave [Attention(Bias = true)] out");
        Without<OracleClassic>("embed_positions", "leave [Position(PositionKind.Learned)] out");
        Without<OracleClassic>("layernorm.bias", "declare [Norm(NormKind.Rms)]");
        Without<OracleLlama>("o_proj", "lacks the tensor 'model.layers.0.self_attn.o_proj.weight'; it was written by another program");

        void Without<TModel>(string part, params string[] says)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            var folder = Dense<TModel>();
            DenseFolder.Alter(folder, tensors => tensors.Where(tensor => !tensor.Name.Contains(part, StringComparison.Ordinal)));
            Assert.Contains(says, text => Refused<TModel>(folder).Contains(text, StringComparison.Ordinal));
        }
    }

    [Fact]
    public void AdditionalTensorsAreRefusedWithWhatToDeclare()
    {
        With("model.layers.2.mlp.up_proj.weight", "it has 3 layers, so declare [MatLM(Layers = 3)]");
        With("model.layers.0.self_attn.q_norm.weight", "declare [Attention(QkNorm = true)]");
        With("model.layers.0.self_attn.q_proj.bias", "but not of the output, so declare [Attention(Bias = true, OutputBias = false)]");
        With("model.layers.0.self_attn.o_proj.bias", "its attention has biases, so declare [Attention(Bias = true)].");
        With("model.layers.0.mlp.up_proj.bias", "declare [FeedForward(..., Bias = true)]");
        With("model.layers.0.input_layernorm.bias", "declare [Norm(NormKind.Layer)]");
        With("model.layers.0.pre_feedforward_layernorm.weight", "a part that cannot be declared");
        With("visual.patch_embed.weight", "a part that cannot be declared");
        var folder = Dense<OracleOdd>();
        DenseFolder.Alter(folder, tensors => tensors.Append(new("model.layers.1.mlp.gate_proj.weight", SafetensorsType.Float32, [1])));
        Refused<OracleOdd>(folder, "declare Activation.SwiGlu or Activation.GeGlu");
        DenseFolder.Alter(folder, tensors => tensors.Append(new("model.more.weight", SafetensorsType.Float32, [1])));
        Refused<OracleOdd>(folder, "(and 1 other)");
        folder = Dense<Qwen2Tied>();
        DenseFolder.Alter(folder, tensors => tensors.Append(new("model.layers.1.self_attn.o_proj.bias", SafetensorsType.Float32, [1])));
        Refused<Qwen2Tied>(folder, "its attention has biases, so declare [Attention(Bias = true)] without OutputBias = false.");

        void With(string name, string says)
        {
            var folder = Dense<OracleLlama>();
            DenseFolder.Alter(folder, tensors => tensors.Append(new(name, SafetensorsType.Float32, [1])));
            Refused<OracleLlama>(folder, $"holds the tensor '{name}', which OracleLlama does not have; ", says);
        }
    }

    [Fact]
    public void ASingleFileOfASetIsRefused()
    {
        var (folder, files, _) = DenseSet();
        Refused<OracleLlama>(Path.Combine(folder, files[1]), "it is one of several files, so give the folder with all of them");
    }

    [Fact]
    public void AnIndexThatDoesNotMatchItsFilesIsRefused()
    {
        var (folder, files, _) = DenseSet();
        var whole = DenseFolder.Index(folder);
        var moved = whole.DeepClone().AsObject();
        moved["model.norm.weight"] = moved["model.norm.weight"]!.GetValue<string>() == files[0] ? files[1] : files[0];
        Changed(moved, "does not name the tensor 'model.norm.weight' as one of");
        var fewer = whole.DeepClone().AsObject();
        fewer.Remove("model.norm.weight");
        Changed(fewer, "does not name the tensor 'model.norm.weight' as one of");
        var more = whole.DeepClone().AsObject();
        more["model.more.weight"] = files[2];
        Changed(more, $"names the tensor 'model.more.weight' as one of '{files[2]}', which does not have it");
        foreach (var elsewhere in (string[])["../model.safetensors", "/model.safetensors", "..", "", "model.bin"])
        {
            var astray = whole.DeepClone().AsObject();
            astray["model.norm.weight"] = elsewhere;
            Changed(astray, $"names \"{elsewhere}\" as the file of the tensor 'model.norm.weight', "
                + "which is not the name of a .safetensors file beside it");
        }

        Changed([], "has no 'weight_map'");

        void Changed(System.Text.Json.Nodes.JsonObject map, string says)
        {
            DenseFolder.WriteIndex(folder, map);
            Refused<OracleLlama>(folder, says);
        }
    }

    [Fact]
    public void AMalformedIndexIsRefused()
    {
        var (folder, _, index) = DenseSet();
        Said("{\"weight_map\": {\"a\": \"b.safetensors\", \"a\": \"b.safetensors\"}}", "names the tensor 'a' twice");
        Said("{\"weight_map\": {\"a\\ud800\": \"b.safetensors\"}}", "is not valid JSON");
        Said("{\"weight_map\": ", "is not valid JSON");
        Said("[]", "is not a JSON object");
        Said("", "is not valid JSON");

        void Said(string json, string says)
        {
            File.WriteAllText(index, json);
            Refused<OracleLlama>(folder, index, says);
        }
    }

    [Fact]
    public void DamagedAndMissingFilesOfASetAreRefused()
    {
        var (folder, files, index) = DenseSet();
        File.Copy(Path.Combine(folder, files[0]), Path.Combine(folder, "kept"));
        File.Copy(Path.Combine(folder, files[1]), Path.Combine(folder, files[0]), overwrite: true);
        Refused<OracleLlama>(folder, $"'{Path.Combine(folder, files[1])}' has the tensor", "as another file of its set");
        File.WriteAllBytes(Path.Combine(folder, files[0]), File.ReadAllBytes(Path.Combine(folder, "kept"))[..^20]);
        Refused<OracleLlama>(folder, files[0], "cut off");
        File.Delete(Path.Combine(folder, files[0]));
        Refused<OracleLlama>(folder, $"names the file '{files[0]}', which is not beside it; copy or download the whole set");
        File.Delete(Path.Combine(folder, files[2]));
        Refused<OracleLlama>(folder, $"names the file '{files[0]}', which is not beside it, nor are 1 others");
        File.Delete(index);
        Refused<OracleLlama>(index, "does not exist");
        Refused<OracleLlama>(folder, "is a folder with neither model.safetensors nor model.safetensors.index.json");
        File.WriteAllText(Path.Combine(folder, "pytorch_model.bin"), "");
        Refused<OracleLlama>(folder, "save the model again with save_pretrained");
    }

    [Fact]
    public void DamagedFilesAreReadOrRefused()
    {
        Extraction.ToHuggingFace(Save<ImportedLm>(), ImportedLm.Profile.XL, PathOf("extracted"), null);
        var folder = DenseFolder.Split(PathOf("extracted"), PathOf("dense"), 2);
        var random = new Random(3);
        var refused = 0;
        foreach (var name in (string[])["config.json", "model.safetensors.index.json"])
        {
            var path = Path.Combine(folder, name);
            var sound = File.ReadAllBytes(path);
            for (var i = 0; i < 300; i++)
            {
                var damaged = sound.ToArray();
                for (var many = random.Next(1, 4); many > 0; many--) damaged[random.Next(damaged.Length)] = (byte)random.Next(32, 256);
                File.WriteAllBytes(path, damaged[..random.Next(damaged.Length / 2, damaged.Length + 1)]);
                try
                {
                    DenseModel.Declare(folder, "Damaged");
                    SafetensorsReader.Open(folder).Dispose();
                }
                catch (CheckpointException)
                {
                    refused++;
                }
            }

            File.WriteAllBytes(path, sound);
        }

        Assert.InRange(refused, 500, 600);
        Assert.NotEqual(string.Empty, DenseModel.Declare(folder, "Sound"));
    }

    [Fact]
    public void ARefusedImportLeavesTheModelUnchanged()
    {
        using var corpus = TestCorpus.Open(_folder);
        using var model = new OracleBytes();
        var before = Weights(model);
        var folder = Dense<OracleBytes>();
        DenseFolder.Alter(
            folder, tensors => tensors.Select(tensor => tensor.Name == "model.norm.weight" ? tensor with { Shape = [31] } : tensor));
        Assert.Throws<CheckpointException>(() => WarmStart.Load(model, folder, corpus));
        Extraction.ToHuggingFace(PathOf("OracleBytes.safetensors"), OracleBytes.Profile.XL, PathOf("extracted"), null);
        DenseFolder.Configure(PathOf("extracted"), ("rms_norm_eps", "0.5"));
        Assert.Throws<CheckpointException>(() => WarmStart.Load(model, PathOf("extracted"), corpus));
        Assert.Equal(before, Weights(model));
    }

    [Fact]
    public void AnImportTakesOnlyTheTokenizerOfTheWeights()
    {
        var checkpoint = Save<ExportedLm>(Tokenizer.ByteLevel.Fingerprint);
        DenseModel.Import<ExportedLm>(checkpoint, PathOf("imported.safetensors"), Tokenizer.ByteLevel);
        using (var imported = Checkpoint.OpenUniversal<ExportedLm>(PathOf("imported.safetensors")))
            Assert.Equal(Tokenizer.ByteLevel.Fingerprint, imported.TokenizerFingerprint);
        var other = new Tokenizer(
            TokenizerContent.Bytes with { Tokens = [.. TokenizerContent.Bytes.Tokens, "th"u8.ToArray()], Merges = [('t', 'h', 256)] });
        File.Delete(PathOf("imported.safetensors"));
        Assert.Throws<TokenizerException>(() => DenseModel.Import<ExportedLm>(checkpoint, PathOf("imported.safetensors"), other));
        Assert.Throws<TokenizerException>(() => DenseModel.Import<OracleLlama>(Save<OracleLlama>(), PathOf("imported.safetensors"), other));
        Assert.False(File.Exists(PathOf("imported.safetensors")));
    }

    /// <summary>The 67 MB of weights are copied in pieces of a megabyte.</summary>
    [Fact]
    public void MemoryDoesNotGrowWithTheModel()
    {
        var folder = Dense<LargeLm>(3);
        DenseModel.Import<LargeLm>(folder, PathOf("imported.safetensors"));
        var before = GC.GetAllocatedBytesForCurrentThread();
        DenseModel.Import<LargeLm>(folder, PathOf("imported.safetensors"));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 5_000_000);
    }

    // Calls a check for each of the models.
    private void CheckModels(string check)
    {
        var method = typeof(DenseModelTests).GetMethod(check, BindingFlags.Instance | BindingFlags.NonPublic)!;
        foreach (var model in s_models)
            method.MakeGenericMethod(model).Invoke(this, BindingFlags.DoNotWrapExceptions, null, null, null);
    }

    // Compiles a declaration, imports weights into its model, and returns what the whole model keeps of each layer.
    private IEnumerable<LayerSlice> Imported(string folder, string declaration)
    {
        var model = RandomDeclarations.Compile(declaration).GetType("Fitting", throwOnError: true)!;
        var import = typeof(DenseModel).GetMethod(nameof(DenseModel.Import))!.MakeGenericMethod(model);
        import.Invoke(null, BindingFlags.DoNotWrapExceptions, null, [folder, PathOf("fitting.safetensors"), null], null);
        var spec = (ModelSpec)model.GetProperty("Spec", BindingFlags.Static | BindingFlags.Public)!.GetValue(null)!;
        return spec.WholeLayers;
    }

    private string Refused<TModel>(string from, params string[] says)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var refusal = Assert.Throws<CheckpointException>(() => DenseModel.Import<TModel>(from, PathOf("refused.safetensors")));
        foreach (var text in says) Assert.Contains(text, refusal.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(PathOf("refused.safetensors")));
        return refusal.Message;
    }

    // A folder with a model in three files, the names of the files, and the path of their index.
    private (string Folder, string[] Files, string Index) DenseSet()
    {
        var folder = Dense<OracleLlama>(3);
        string[] files = [.. Enumerable.Range(1, 3).Select(i => $"model-0000{i}-of-00003.safetensors")];
        return (folder, files, Path.Combine(folder, "model.safetensors.index.json"));
    }

    private string Dense<TModel>(int files = 1)
        where TModel : MatFormerModel, IMatFormer<TModel> => DenseFolder.Split(Save<TModel>(), PathOf("dense"), files);

    private string Save<TModel>(string? tokenizer = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(11);
        using var model = TModel.Create();
        using (no_grad())
        {
            foreach (var (_, parameter) in model.named_parameters()) parameter.normal_(0, 0.3); // norms and biases too
        }

        model.TokenizerFingerprint = tokenizer;
        var path = PathOf(TModel.Spec.Name + ".safetensors");
        model.Save(path);
        return path;
    }

    private static byte[] Weights(MatFormerModel model) =>
        [.. model.parameters().SelectMany(parameter => MemoryMarshal.AsBytes<byte>(parameter.detach().contiguous().bytes).ToArray())];

    private string PathOf(string name) => Path.Combine(_folder, name);
}

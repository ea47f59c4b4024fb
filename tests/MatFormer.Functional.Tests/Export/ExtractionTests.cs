using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>A Llama with all options: both axes, biases, an untied head, profiles that skip layers, and more tokens than bytes.</summary>
[MatLM(Layers = 4, Width = 64, Heads = 4, Context = 12, Vocabulary = 300)]
[FeedForward(96, Activation.SwiGlu, Bias = true)]
[Attention(KeyValueHeads = 2, RotaryBase = 500), Attention(KeyValueHeads = 4, Layers = "2")]
[Norm(NormKind.Rms, Epsilon = 1e-3), Embedding(Tied = false)]
[Granularity("S", 32, Heads = 2), Granularity("M", 64), Granularity("XL", 96)]
[Profile("Shallow", "S Skip XL M"), Profile("Alike", "M M Skip M")]
public sealed partial class ExportedLm;

/// <summary>A Llama whose attention has biases and whose smallest granularity keeps fewer heads.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 12, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2, Bias = true)]
[Granularity("S", 32, Heads = 2), Granularity("XL", 64)]
public sealed partial class BiasedLm;

/// <summary>A Qwen2, whose attention has biases, but not of the output, and whose smallest granularity keeps fewer heads.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 12, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Attention(KeyValueHeads = 2, Bias = true, OutputBias = false), Embedding(Tied = false)]
[Granularity("S", 32, Heads = 2), Granularity("M", 32), Granularity("XL", 64)]
[Profile("Mixed", "S XL")]
public sealed partial class BiasedQueryLm;

/// <summary>A Qwen2 with scaled positions and biases in feed-forwards, which llama.cpp supports in its Llama alone.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 12, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu, Bias = true)]
[Attention(Bias = true, OutputBias = false, RotaryBase = 50)]
[RotaryScaling(RotaryScalingKind.Llama3, 16, OriginalContext = 50, LowFrequencyFactor = 2, HighFrequencyFactor = 6.5)]
[Granularity("S", 32), Granularity("XL", 64)]
public sealed partial class ScaledQueryLm;

/// <summary>A Qwen3 whose queries, keys and values have biases.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 12, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Attention(QkNorm = true, Bias = true, OutputBias = false)]
[Granularity("S", 32), Granularity("XL", 64)]
public sealed partial class BiasedQueryNormLm;

/// <summary>A Qwen3 whose attention has biases.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 12, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Attention(QkNorm = true, Bias = true)]
[Granularity("S", 32), Granularity("XL", 64)]
public sealed partial class BiasedNormLm;

/// <summary>A Qwen3 whose positions are scaled as Llama 3.1's.</summary>
[MatLM(Layers = 2, Width = 32, Heads = 4, Context = 12, Vocabulary = 256)]
[FeedForward(64, Activation.SwiGlu)]
[Attention(QkNorm = true, RotaryBase = 50)]
[RotaryScaling(RotaryScalingKind.Llama3, 16, OriginalContext = 50, LowFrequencyFactor = 2, HighFrequencyFactor = 6.5)]
[Granularity("S", 32), Granularity("XL", 64)]
public sealed partial class ScaledNormLm;

/// <summary>A plain Llama at each width of its residual stream.</summary>
[MatLM(Layers = 2, Width = 64, Heads = 4, Context = 16, Vocabulary = 48)]
[FeedForward(64, Activation.SwiGlu)]
[Granularity("S", 32, Heads = 2, Width = 32), Granularity("M", 32, Width = 48), Granularity("XL", 64)]
public sealed partial class NarrowLm;

/// <summary>A model so large that a copy of its weights would show in the memory.</summary>
[MatLM(Layers = 4, Width = 512, Heads = 8, Context = 16, Vocabulary = 256)]
[FeedForward(2048, Activation.SwiGlu)]
[Granularity("S", 1024), Granularity("XL", 2048)]
public sealed partial class LargeLm;

/// <summary>Files that were extracted from a checkpoint give the logits of the model, in each format.</summary>
public sealed class ExtractionTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-extraction-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void ASafetensorsFileEqualsWhatTheExtractedModelSaves()
    {
        SameBytes<OracleClassic>();
        SameBytes<OracleElastic>();
        SameBytes<ExportedLm>();
        SameBytes<OracleNarrow>();
        SameBytes<NarrowViT>();
        var check = typeof(ExtractionTests).GetMethod(nameof(SameBytes), BindingFlags.Instance | BindingFlags.NonPublic)!;
        foreach (var model in RandomDeclarations.Compile(10, seed: 5)) check.MakeGenericMethod(model).Invoke(this, null);
    }

    [Fact]
    public void SixteenBitWeightsLoadAsTheNearestValues()
    {
        var checkpoint = Save<OracleLlama>();
        using var model = Checkpoint.OpenUniversal<OracleLlama>(checkpoint);
        using var exact = model.Extract(OracleLlama.Profile.Mixed);
        foreach (var (encoding, type) in ((WeightEncoding, ScalarType)[])
                 [(WeightEncoding.Float16, ScalarType.Float16), (WeightEncoding.BFloat16, ScalarType.BFloat16)])
        {
            var path = PathOf($"{encoding}.safetensors");
            Extraction.ToSafetensors(checkpoint, OracleLlama.Profile.Mixed, path, encoding);
            using var loaded = Checkpoint.Open<OracleLlama>(path);
            foreach (var (parameter, its) in loaded.parameters().Zip(exact.parameters()))
            {
                using var rounded = its.detach().to(type).to(ScalarType.Float32);
                Assert.True(parameter.detach().eq(rounded).all().item<bool>(), $"{encoding}");
            }
        }
    }

    [Fact]
    public void AGgufFileGivesTheSameLogits()
    {
        foreach (var profile in OracleLlama.Granularities.Concat(OracleLlama.Profiles)) CompareGguf(profile);
        foreach (var profile in OracleElastic.Granularities) CompareGguf(profile);
        foreach (var profile in NarrowLm.Granularities) CompareGguf(profile);
        foreach (var profile in BiasedLm.Granularities) CompareGguf(profile);
        foreach (var profile in BiasedQueryLm.Granularities.Concat(BiasedQueryLm.Profiles)) CompareGguf(profile);
        foreach (var profile in Qwen2Tied.Granularities) CompareGguf(profile);
        CompareGguf(ScaledQueryLm.Profile.S);
        foreach (var profile in OracleLinear.Granularities) CompareGguf(profile);
        foreach (var profile in OracleLlama3.Granularities.Concat(OracleLlama3.Profiles)) CompareGguf(profile);
        foreach (var profile in ExportedLm.Granularities.Concat(ExportedLm.Profiles)) CompareGguf(profile);
    }

    [Fact]
    public void AFolderForHuggingFaceGivesTheSameLogits()
    {
        foreach (var profile in OracleLlama.Granularities) CompareHuggingFace(profile);
        foreach (var profile in OracleElastic.Granularities) CompareHuggingFace(profile);
        foreach (var profile in NarrowLm.Granularities) CompareHuggingFace(profile);
        foreach (var profile in BiasedLm.Granularities) CompareHuggingFace(profile);
        foreach (var profile in BiasedQueryLm.Granularities) CompareHuggingFace(profile);
        foreach (var profile in Qwen2Tied.Granularities) CompareHuggingFace(profile);
        foreach (var profile in OracleLinear.Granularities) CompareHuggingFace(profile);
        foreach (var profile in OracleLlama3.Granularities) CompareHuggingFace(profile);
        CompareHuggingFace(ScaledNormLm.Profile.S);
        CompareHuggingFace(BiasedNormLm.Profile.S);
        CompareHuggingFace(ExportedLm.Profile.Alike);
        CompareHuggingFace(GatedGelu.Profile.S);
    }

    /// <summary>Read as GGUF defines it, a block has the weights that the decoder computes with.</summary>
    [Theory]
    [InlineData(WeightEncoding.Nested8, 8)]
    [InlineData(WeightEncoding.Nested4, 4)]
    public void AGgufFileHoldsTheNestedWeights(WeightEncoding encoding, int bits)
    {
        var checkpoint = Save<ExportedLm>();
        using var model = Checkpoint.OpenUniversal<ExportedLm>(checkpoint);
        var path = PathOf("nested.gguf");
        Extraction.ToGguf(checkpoint, ExportedLm.Granularities[^1], path, Tokenizer.ByteLevel, encoding);
        var (shape, type, data) = new GgufFile(path).Tensors["blk.0.ffn_up.weight"];
        Assert.Equal(bits == 8 ? 8u : 2, type);
        var weights = MemoryMarshal.Cast<byte, float>(
            model.named_parameters().First(p => p.name == "model.layers.0.mlp.up_proj.weight").parameter.detach().bytes).ToArray();
        Assert.Equal(shape[0] * shape[1], weights.Length);
        var wanted = new float[weights.Length];
        for (var row = 0; row < shape[0]; row++)
        {
            var columns = (int)shape[1];
            NestedRounding.Round(weights.AsSpan(row * columns, columns), bits, wanted.AsSpan(row * columns, columns));
        }

        var got = new List<float>();
        for (var bytes = data.Span; !bytes.IsEmpty; bytes = bytes[(bits == 8 ? 34 : 18)..])
        {
            var scale = (float)MemoryMarshal.Read<Half>(bytes);
            for (var i = 0; i < 32; i++)
                got.Add(scale * (bits == 8 ? (sbyte)bytes[2 + i] : ((i < 16 ? bytes[2 + i] : bytes[2 + i - 16] >> 4) & 15) - 8));
        }

        Assert.Equal(wanted, got);
    }

    [Fact]
    public void AGgufFileHoldsEveryWeightExactlyOrRoundedToItsType()
    {
        var checkpoint = Save<ExportedLm>();
        using var model = Checkpoint.OpenUniversal<ExportedLm>(checkpoint);
        using var slice = model.Extract(ExportedLm.Profile.Shallow);
        foreach (var (encoding, type) in ((WeightEncoding, uint)[])
                 [(WeightEncoding.Float32, 0), (WeightEncoding.Float16, 1), (WeightEncoding.BFloat16, 30), (WeightEncoding.Q8, 8)])
        {
            var path = PathOf($"{encoding}.gguf");
            Extraction.ToGguf(checkpoint, ExportedLm.Profile.Shallow, path, Tokenizer.ByteLevel, encoding);
            var file = new GgufFile(path);
            Assert.Equal(slice.named_parameters().Count(), file.Tensors.Count);
            foreach (var (name, parameter) in slice.named_parameters())
            {
                var its = GgufName(name);
                var (shape, stored, data) = file.Tensors[its];
                var values = MemoryMarshal.Cast<byte, float>(parameter.detach().contiguous().bytes).ToArray();
                Assert.Equal(parameter.shape, shape);
                Assert.Equal(shape.Length == 2 ? type : 0, stored);
                if (its.EndsWith("attn_q.weight", StringComparison.Ordinal) || its.EndsWith("attn_k.weight", StringComparison.Ordinal))
                    values = Interleave(values, ExportedLm.Spec.HeadWidth, (int)shape[1]);
                Assert.True(data.Span.SequenceEqual(Encode(values, stored)), $"{its} as {encoding}");
            }
        }

        // Layer 1 is skipped, so the layers behind it have other numbers.
        static string GgufName(string name)
        {
            var parts = name.Split('.');
            return name switch
            {
                "model.embed_tokens.weight" => "token_embd.weight",
                "model.norm.weight" => "output_norm.weight",
                "lm_head.weight" => "output.weight",
                _ => $"blk.{(parts[2] == "0" ? 0 : int.Parse(parts[2]) - 1)}." + string.Join('.', parts[3..]) switch
                {
                    "input_layernorm.weight" => "attn_norm.weight",
                    "post_attention_layernorm.weight" => "ffn_norm.weight",
                    "self_attn.o_proj.weight" => "attn_output.weight",
                    var rest when parts[3] == "self_attn" => $"attn_{parts[4][..1]}.weight",
                    var rest => $"ffn_{parts[4].Replace("_proj", "", StringComparison.Ordinal)}.{parts[5]}",
                },
            };
        }
    }

    [Fact]
    public void AGgufFileDescribesItsModel()
    {
        var file = ShallowGguf();
        Assert.Equal("deci", file.Value<string>("general.architecture"));
        Assert.Equal("ExportedLm Shallow", file.Value<string>("general.name"));
        Assert.Equal(7u, file.Value<uint>("general.file_type"));
        Assert.Equal([32, 96, 64], file.Value<object[]>("deci.feed_forward_length").Cast<int>());
        Assert.Equal([2, 4, 4], file.Value<object[]>("deci.attention.head_count").Cast<int>());
        Assert.Equal([1, 4, 2], file.Value<object[]>("deci.attention.head_count_kv").Cast<int>());
        Assert.Equal(12u, file.Value<uint>("deci.context_length"));
        Assert.Equal(ExportedLm.Spec.Fingerprint, file.Value<string>("matformer.fingerprint"));
        Assert.Equal("32,0,96,64", file.Value<string>("matformer.widths"));
    }

    /// <summary>llama.cpp's Qwen2 has heads that together are as wide as the model; its Llama has any.</summary>
    [Fact]
    public void AGgufFileIsOfQwen2IfItsLayersAre()
    {
        Assert.Equal("qwen2", Architecture(BiasedQueryLm.Profile.XL));
        Assert.Equal("qwen2", Architecture(BiasedQueryLm.Profile.M));
        Assert.Equal("qwen2", Architecture(Qwen2Tied.Profile.S));
        Assert.Equal("llama", Architecture(BiasedQueryLm.Profile.S));
        Assert.Equal("deci", Architecture(BiasedQueryLm.Profile.Mixed));
        Assert.Equal("llama", Architecture(ScaledQueryLm.Profile.XL));
        Assert.Equal("llama", Architecture(BiasedLm.Profile.XL));

        string Architecture<TModel>(Profile<TModel> profile)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            Extraction.ToGguf(Save<TModel>(), profile, PathOf("model.gguf"), null);
            return new GgufFile(PathOf("model.gguf")).Value<string>("general.architecture");
        }
    }

    [Fact]
    public void AGgufFileHasTheTokensOfBytes()
    {
        var file = ShallowGguf();
        var tokens = file.Value<object[]>("tokenizer.ggml.tokens").Cast<string>().ToList();
        Assert.Equal(300, tokens.Count);
        Assert.Equal(300, tokens.Distinct().Count());
        Assert.Equal(["A", "\u0120", "\u010A", "[UNUSED256]"], [tokens['A'], tokens[' '], tokens['\n'], tokens[256]]);
        Assert.Equal([1, 1, 5, 5], new[] { 0, 255, 256, 299 }.Select(t => (int)file.Value<object[]>("tokenizer.ggml.token_type")[t]));
        Assert.Empty(file.Value<object[]>("tokenizer.ggml.merges"));
        Assert.Equal(255u, file.Value<uint>("tokenizer.ggml.eos_token_id"));
        Assert.False(file.Value<bool>("tokenizer.ggml.add_bos_token"));
    }

    [Fact]
    public void AGgufFileHasTheTokenizer()
    {
        var pairs = NewPairTokenizer();
        var checkpoint = Save<ExportedLm>(pairs.Fingerprint);
        Extraction.ToGguf(checkpoint, ExportedLm.Profile.Alike, PathOf("alike.gguf"), pairs);
        var file = new GgufFile(PathOf("alike.gguf"));
        Assert.Equal("gpt-2", file.Value<string>("tokenizer.ggml.pre"));
        Assert.Equal(["t h", "\u0120 th"], file.Value<object[]>("tokenizer.ggml.merges").Cast<string>());
        Assert.Equal(Tokenizer.DefaultEndOfText, file.Value<object[]>("tokenizer.ggml.tokens")[258]);
        Assert.Equal(3, file.Value<object[]>("tokenizer.ggml.token_type")[258]);
        Assert.Equal(258u, file.Value<uint>("tokenizer.ggml.eos_token_id"));
    }

    [Fact]
    public void AFolderForHuggingFaceHasTheTokenizer()
    {
        var pairs = NewPairTokenizer();
        var folder = PathOf("alike");
        Extraction.ToHuggingFace(Save<ExportedLm>(pairs.Fingerprint), ExportedLm.Profile.Alike, folder, pairs, WeightEncoding.BFloat16);
        Assert.Equal(pairs.Fingerprint, Tokenizer.Load(Path.Combine(folder, "tokenizer.json")).Fingerprint);
        using var config = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "config.json")));
        Assert.Equal(258, config.RootElement.GetProperty("eos_token_id").GetInt32());
        Assert.Equal("bfloat16", config.RootElement.GetProperty("torch_dtype").GetString());
    }

    [Fact]
    public void AGgufFileHasTheTokenizerOfPieces()
    {
        var pieces = NewPieceTokenizer();
        Extraction.ToGguf(Save<ExportedLm>(pieces.Fingerprint), ExportedLm.Profile.Alike, PathOf("alike.gguf"), pieces);
        var file = new GgufFile(PathOf("alike.gguf"));
        Assert.Equal("llama", file.Value<string>("tokenizer.ggml.model"));
        var tokens = file.Value<object[]>("tokenizer.ggml.tokens");
        Assert.Equal(["<unk>", "<0xFF>", "\u2581th"], new[] { 0, 258, 263 }.Select(t => (string)tokens[t]));
        Assert.Equal([2, 3, 6, 1, 5], new[] { 0, 2, 258, 263, 299 }.Select(t => (int)file.Value<object[]>("tokenizer.ggml.token_type")[t]));
        Assert.Equal([0f, -1f, -2f, 0f], new[] { 261, 262, 263, 299 }.Select(t => (float)file.Value<object[]>("tokenizer.ggml.scores")[t]));
        Assert.Equal(
            [1u, 2u, 0u], new[] { "bos", "eos", "unknown" }.Select(name => file.Value<uint>($"tokenizer.ggml.{name}_token_id")));
        Assert.Equal(
            [true, false, true],
            new[] { "bos_token", "eos_token", "space_prefix" }.Select(name => file.Value<bool>($"tokenizer.ggml.add_{name}")));
    }

    [Fact]
    public void AFolderForHuggingFaceHasTheTokenThatTextsBeginWith()
    {
        var (pieces, folder) = (NewPieceTokenizer(), PathOf("alike"));
        Extraction.ToHuggingFace(Save<ExportedLm>(pieces.Fingerprint), ExportedLm.Profile.Alike, folder, pieces);
        Assert.Equal(pieces.Encode("th"), Tokenizer.Load(Path.Combine(folder, "tokenizer.json")).Encode("th"));
        using var config = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "config.json")));
        var ids = new[] { "bos_token_id", "eos_token_id" }.Select(name => config.RootElement.GetProperty(name).GetInt32());
        Assert.Equal([1, 2], ids);
        using var names = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "tokenizer_config.json")));
        Assert.Equal(["<s>", "</s>"], new[] { "bos_token", "eos_token" }.Select(name => names.RootElement.GetProperty(name).GetString()));
    }

    [Fact]
    public void AnotherTokenizerThanThatOfTheWeightsIsRefused()
    {
        var checkpoint = Save<ExportedLm>(NewPairTokenizer().Fingerprint);
        var wrong = Assert.Throws<TokenizerException>(
            () => Extraction.ToGguf(checkpoint, ExportedLm.Profile.Alike, PathOf("wrong.gguf"), Tokenizer.ByteLevel));
        Assert.Contains("another tokenizer", wrong.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(PathOf("wrong.gguf")));
    }

    [Fact]
    public void ATokenizerThatGgufCannotExpressIsRefused()
    {
        var whole = new Tokenizer(NewPairTokenizer().Content with { Pattern = WordPattern.Whole });
        var cut = Assert.Throws<ExtractionException>(
            () => Extraction.ToGguf(Save<ExportedLm>(), ExportedLm.Profile.Alike, PathOf("wrong.gguf"), whole));
        Assert.Contains("cuts text into words", cut.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFormatRefusesByNameWhatItCannotExpress()
    {
        Refuses(OracleClassic.Profile.Small, "[Norm(NormKind.Layer)]", "[Norm(NormKind.Layer)]");
        Refuses(OracleOdd.Profile.S, "Activation.SquaredRelu in layer 0", "Activation.SquaredRelu in layer 0");
        Refuses(OracleUneven.Profile.S, "[Attention(Window = 3)] in layer 0", "[Attention(Window = 3)] in layer 0");
        Refuses(OracleGemma.Profile.S, "QkNorm together with Bias in layer 0", "Activation.GeGlu in layer 0");
        Refuses(OracleElastic.Profile.Mixed, "layers of different sizes (1*S 1*L)", "QkNorm and layers of different sizes (1*S 1*L)");
        Refuses(OracleLlama.Profile.Mixed, "layers of different sizes (1*S 1*L)", null);
        Refuses(Positioned.Profile.S, "[Position(PositionKind.Learned)]", "[Position(PositionKind.Learned)]");
        Refuses(FewHeads.Profile.S, "3 heads and Width = 64", null);
        Refuses(
            ScaledQueryLm.Profile.S, "[Attention(Bias = true, OutputBias = false)] together with a feed-forward's Bias in layer 0", null);
        Refuses(
            BiasedQueryNormLm.Profile.S, "QkNorm together with [Attention(Bias = true, OutputBias = false)]",
            "QkNorm together with [Attention(Bias = true)], but llama.cpp's Qwen3, which norms queries and keys, has no biases; "
                + "only --format safetensors");
        Refuses(Qwen2Untied.Profile.S, "[Attention(Window = 5)] in layer 1", "[Attention(Window = 5)] in layer 1");
        Refuses(OtherViT.Profile.XL, "fewer heads", "[MatViT]");
        Refuses(QueryBiasViT.Profile.XL, "the output of its attention has no bias", "[MatViT]");
        Refuses(OracleEncoder.Profile.S, "[MatEncoder]", "[MatEncoder]");
        var biased = Assert.Throws<ExtractionException>(
            () => Extraction.ToGguf(Save<BiasedNormLm>(), BiasedNormLm.Profile.S, PathOf("biased.gguf"), null));
        Assert.Contains("QkNorm together with [Attention(Bias = true)]", biased.Message, StringComparison.Ordinal);
        var scaled = Assert.Throws<ExtractionException>(
            () => Extraction.ToGguf(Save<ScaledNormLm>(), ScaledNormLm.Profile.S, PathOf("scaled.gguf"), null));
        Assert.Contains("QkNorm together with [RotaryScaling(RotaryScalingKind.Llama3, ...)]", scaled.Message, StringComparison.Ordinal);

        void Refuses<TModel>(Profile<TModel> profile, string huggingFace, string? gguf)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            var checkpoint = Save<TModel>();
            var folder = PathOf("refused");
            var refusal = Assert.Throws<ExtractionException>(() => Extraction.ToHuggingFace(checkpoint, profile, folder, null));
            Assert.Contains(huggingFace, refusal.Message, StringComparison.Ordinal);
            Assert.Contains(profile.Name, refusal.Message, StringComparison.Ordinal);
            if (gguf is not null)
            {
                refusal = Assert.Throws<ExtractionException>(
                    () => Extraction.ToGguf(checkpoint, profile, Path.Combine(folder, "refused.gguf"), null));
                Assert.Contains(gguf, refusal.Message, StringComparison.Ordinal);
            }

            Assert.False(Directory.Exists(folder));
        }
    }

    [Fact]
    public void ASliceIsNotSlicedAgain()
    {
        var checkpoint = Save<ExportedLm>();
        var slice = PathOf("slice.safetensors");
        Extraction.ToSafetensors(checkpoint, ExportedLm.Profile.M, slice);
        var again = Assert.Throws<CheckpointException>(() => Extraction.ToGguf(slice, ExportedLm.Profile.S, PathOf("s.gguf"), null));
        Assert.Contains("is the slice M of ExportedLm", again.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFolderForHuggingFaceOpensIfItsLayersHaveOurNumbers()
    {
        // The profile Alike skips a layer, so the layers behind it have other numbers in the folder.
        Extraction.ToHuggingFace(Save<ExportedLm>(), ExportedLm.Profile.Alike, PathOf("alike"), null);
        var numbered = Assert.Throws<CheckpointException>(
            () => Checkpoint.Open<ExportedLm>(Path.Combine(PathOf("alike"), "model.safetensors")));
        Assert.Contains("only the layers 0,1,3", numbered.Message, StringComparison.Ordinal);
        var llama = Save<OracleLlama>();
        Extraction.ToHuggingFace(llama, OracleLlama.Profile.S, PathOf("s"), null);
        using var loaded = Checkpoint.Open<OracleLlama>(Path.Combine(PathOf("s"), "model.safetensors"));
        Assert.Equal("S", loaded.ProfileName);
    }

    [Fact]
    public void AWeightThatOverflowsItsTypeIsRefused()
    {
        using var model = DrawnModel.New<OracleLlama>();
        using (no_grad()) model.get_parameter("model.layers.1.mlp.up_proj.weight")!.fill_(1e5);
        var checkpoint = PathOf("huge.safetensors");
        model.Save(checkpoint);
        var path = PathOf("huge.gguf");
        var refusal = Assert.Throws<ExtractionException>(
            () => Extraction.ToGguf(checkpoint, OracleLlama.Profile.S, path, null, WeightEncoding.Float16));
        Assert.Contains("model.layers.1.mlp.up_proj.weight", refusal.Message, StringComparison.Ordinal);
        Assert.Equal([checkpoint], Directory.GetFiles(_folder));
        Extraction.ToGguf(checkpoint, OracleLlama.Profile.S, path, null, WeightEncoding.BFloat16);
    }

    /// <summary>
    /// The 67 MB of weights are copied in pieces of a megabyte. Only managed memory is counted, since extraction does not use libtorch.
    /// </summary>
    [Fact]
    public void MemoryDoesNotGrowWithTheModel()
    {
        var checkpoint = Save<LargeLm>();
        Assert.InRange(new FileInfo(checkpoint).Length, 60_000_000, long.MaxValue);
        foreach (var encoding in Enum.GetValues<WeightEncoding>())
        {
            Extraction.ToGguf(checkpoint, LargeLm.Profile.S, PathOf("s.gguf"), Tokenizer.ByteLevel, encoding);
            var before = GC.GetAllocatedBytesForCurrentThread();
            Extraction.ToGguf(checkpoint, LargeLm.Profile.S, PathOf("s.gguf"), Tokenizer.ByteLevel, encoding);
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 10_000_000);
        }
    }

    private GgufFile ShallowGguf()
    {
        var path = PathOf("shallow.gguf");
        Extraction.ToGguf(Save<ExportedLm>(), ExportedLm.Profile.Shallow, path, Tokenizer.ByteLevel, WeightEncoding.Q8);
        return new GgufFile(path);
    }

    // A tokenizer with two byte pairs and a token for the end of a text.
    private static Tokenizer NewPairTokenizer() => new(TokenizerContent.Bytes with
    {
        Tokens =
        [
            .. TokenizerContent.Bytes.Tokens, "th"u8.ToArray(), " th"u8.ToArray(), Encoding.UTF8.GetBytes(Tokenizer.DefaultEndOfText),
        ],
        Merges = [('t', 'h', 256), (' ', 256, 257)],
        Added = [new AddedToken(258, true)],
        Pattern = WordPattern.Gpt2,
    });

    // A tokenizer of Llama 2's kind with two pieces of several characters.
    private Tokenizer NewPieceTokenizer()
    {
        string[] names =
            ["<unk>", "<s>", "</s>", .. Enumerable.Range(0, 256).Select(value => $"<0x{value:X2}>"), "\u2581", "t", "h", "th", "\u2581th"];
        var vocab = string.Join(", ", names.Select((name, id) => $"\"{name}\": {id}"));
        var added = string.Join(", ", names.Take(3).Select((name, id) => $$"""{"id": {{id}}, "content": "{{name}}", "special": true}"""));
        File.WriteAllText(PathOf("pieces.json"), $$$"""
            {
              "added_tokens": [{{{added}}}],
              "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
              "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
              "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"},
              "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "vocab": { {{{vocab}}} }, "merges": ["t h", "\u2581 th"]}
            }
            """);
        return Tokenizer.Load(PathOf("pieces.json"));
    }

    private void SameBytes<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var checkpoint = Save<TModel>();
        using var model = Checkpoint.OpenUniversal<TModel>(checkpoint);
        foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
        {
            using var slice = model.Extract(profile);
            slice.Save(PathOf("saved.safetensors"));
            Extraction.ToSafetensors(checkpoint, profile, PathOf("extracted.safetensors"));
            Assert.True(
                File.ReadAllBytes(PathOf("saved.safetensors")).AsSpan().SequenceEqual(File.ReadAllBytes(PathOf("extracted.safetensors"))),
                $"{profile}");
        }
    }

    private void CompareGguf<TModel>(Profile<TModel> profile)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var checkpoint = Save<TModel>();
        Extraction.ToGguf(checkpoint, profile, PathOf("model.gguf"), null);
        Compare(checkpoint, profile, new PlainLlama(new GgufFile(PathOf("model.gguf"))));
    }

    private void CompareHuggingFace<TModel>(Profile<TModel> profile)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var checkpoint = Save<TModel>();
        Extraction.ToHuggingFace(checkpoint, profile, PathOf("model"), null);
        Compare(checkpoint, profile, new PlainLlama(PathOf("model")));
    }

    private static void Compare<TModel>(string checkpoint, Profile<TModel> profile, PlainLlama reader)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = Checkpoint.OpenUniversal<TModel>(checkpoint);
        var tokens = Enumerable.Range(0, TModel.Spec.Context).Select(t => ((t * 7) + 3) % TModel.Spec.Vocabulary).ToArray();
        long[] shape = [1, tokens.Length];
        var logits = model.Forward(profile, tensor(Array.ConvertAll(tokens, t => (long)t), shape));
        var expected = MemoryMarshal.Cast<byte, float>(logits.contiguous().bytes).ToArray();
        var its = reader.Logits(tokens).SelectMany(row => row).ToArray();
        Assert.Equal(expected.Length, its.Length);
        var scale = expected.Max(Math.Abs);
        for (var i = 0; i < its.Length; i++)
            Assert.True(
                Math.Abs(its[i] - expected[i]) <= 1e-5 * scale, $"{profile}: logit {i} is {its[i]}, not {expected[i]} (of {scale})");
    }

    private string Save<TModel>(string? tokenizer = null)
        where TModel : MatFormerModel, IMatFormer<TModel> => SavedModel.Write<TModel>(_folder, tokenizer);

    private string PathOf(string name) => Path.Combine(_folder, name);

    // Row 2i of a head in the file is row i of the weight, and row 2i + 1 is row i + width/2.
    private static float[] Interleave(float[] values, int headWidth, int columns)
    {
        var rows = values.Chunk(columns).ToArray();
        return [.. rows.Chunk(headWidth)
            .SelectMany(head => Enumerable.Range(0, headWidth / 2).SelectMany(i => (float[])[.. head[i], .. head[i + (headWidth / 2)]]))];
    }

    private static byte[] Encode(float[] values, uint type) => type switch
    {
        0 => MemoryMarshal.AsBytes<float>(values).ToArray(),
        1 => MemoryMarshal.AsBytes<Half>(Array.ConvertAll(values, value => (Half)value)).ToArray(),
        30 => BFloat16(values),
        _ => [.. values.Chunk(32).SelectMany(Block)],
    };

    // libtorch does the rounding.
    private static byte[] BFloat16(float[] values)
    {
        using var exact = tensor(values);
        using var rounded = exact.to(ScalarType.BFloat16);
        return rounded.bytes.ToArray();
    }

    private static IEnumerable<byte> Block(float[] values)
    {
        var scale = values.Max(Math.Abs) / 127f;
        return BitConverter.GetBytes((Half)scale).Concat(values.Select(value =>
            (byte)(sbyte)(scale == 0 ? 0 : Math.Floor(Math.Abs(value * (1 / scale)) + 0.5) * Math.Sign(value))));
    }
}

/// <summary>A Llama with another activation, which Hugging Face's transformers can express.</summary>
[MatLM(Layers = 2, Width = 16, Heads = 2, Context = 8, Vocabulary = 20)]
[FeedForward(24, Activation.GeGlu, Bias = true)]
[Granularity("S", 8), Granularity("XL", 24)]
public sealed partial class GatedGelu;

/// <summary>A vision transformer whose attention has biases, but not of the output.</summary>
[MatViT(Image = 8, Patch = 4, Classes = 3, Layers = 1, Width = 16, Heads = 2)]
[FeedForward(24, Activation.Gelu, Bias = true), Attention(Bias = true, OutputBias = false)]
[Granularity("S", 8), Granularity("XL", 24)]
public sealed partial class QueryBiasViT;

/// <summary>A Llama with learned positions.</summary>
[MatLM(Layers = 1, Width = 16, Heads = 2, Context = 8, Vocabulary = 20)]
[FeedForward(24, Activation.SwiGlu), Position(PositionKind.Learned)]
[Granularity("S", 8), Granularity("XL", 24)]
public sealed partial class Positioned;

/// <summary>A model whose smallest granularity keeps a number of heads that does not divide the width.</summary>
[MatLM(Layers = 1, Width = 64, Heads = 4, Context = 8, Vocabulary = 20)]
[FeedForward(24, Activation.SwiGlu)]
[Granularity("S", 8, Heads = 3), Granularity("XL", 24)]
public sealed partial class FewHeads;

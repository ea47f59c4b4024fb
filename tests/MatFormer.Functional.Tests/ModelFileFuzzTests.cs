using System.Buffers.Binary;
using System.Text;
using MatFormer.Tests;

namespace MatFormer.Functional.Tests;

/// <summary>
/// Tests that damaged files of declared models are either read or refused. In files of weights only the header is damaged: it says which
/// widths, heads, channels and bits the file holds. ReaderFuzzTests damages whole files.
/// </summary>
[Trait("Kernels", "any")]
public sealed class ModelFileFuzzTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-fuzz-").FullName;

    private string WeightsPath => Path.Combine(_folder, "weights.safetensors");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void DamagedHeadersOfNarrowSlicesAreReadOrRefused()
    {
        using (var model = new OracleNarrow())
        using (var slice = model.Extract(OracleNarrow.Profile.Mixed)) slice.Save(WeightsPath);
        DamageHeader(() => OpenLanguageModel<OracleNarrow>(DecodingWeights.Float32));
    }

    [Fact]
    public void DamagedHeadersOfSlicesInFewBitsAreReadOrRefused()
    {
        using (var model = new NestedBytes())
        using (var slice = model.Extract<NestedBytes.Phone>()) slice.Save(WeightsPath);
        DamageHeader(() => OpenLanguageModel<NestedBytes>(DecodingWeights.Nested4));
    }

    [Fact]
    public void HeadsThatNoGranularityHasAreRefused()
    {
        using (var model = new NestedBytes())
        using (var slice = model.Extract<NestedBytes.Phone>()) slice.Save(WeightsPath);
        var header = "\"matformer.heads\":\"4,4\""u8;
        var file = File.ReadAllBytes(WeightsPath);
        var at = file.AsSpan().IndexOf(header);
        byte[] damaged = [.. file[..at], .. "\"matformer.heads\":\"2147483647,4\""u8, .. file[(at + header.Length)..]];
        BinaryPrimitives.WriteInt64LittleEndian(damaged, BinaryPrimitives.ReadInt64LittleEndian(file) + damaged.Length - file.Length);
        File.WriteAllBytes(WeightsPath, damaged);
        var e = Assert.Throws<CheckpointException>(() => DecodingEngine.Open<NestedBytes>(WeightsPath));
        Assert.Contains("32 hidden units and 2147483647 heads of layer 0", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DamagedHeadersOfRoutedModelsAreReadOrRefused()
    {
        using (var model = new RoutedViT()) model.Save(WeightsPath);
        DamageHeader(() =>
        {
            using var model = Checkpoint.Open<RoutedViT>(WeightsPath);
        });
    }

    [Fact]
    public void DamagedHeadersOfModelsWithCompressedTokensAreReadOrRefused()
    {
        using (var model = new LookupViT())
        using (var slice = model.Extract<LookupViT.Mixed>()) slice.Save(WeightsPath);
        DamageHeader(() =>
        {
            using var model = Checkpoint.Open<LookupViT>(WeightsPath);
        });
    }

    [Fact]
    public void DamagedHeadersOfTrainingCheckpointsAreReadOrRefused()
    {
        using var corpus = TestCorpus.Open(_folder);
        var options = new TrainerOptions { Steps = 2, Batch = 1, Distillation = new(0.5, 2), OutputFolder = Path.Combine(_folder, "run") };
        using (var model = new OracleBytes())
        using (var trainer = new Trainer<OracleBytes>(model, options)) trainer.Fit(corpus);
        File.Copy(Path.Combine(options.OutputFolder!, RunFolder.CheckpointName), WeightsPath);
        using var resumed = new OracleBytes();
        using var other = new Trainer<OracleBytes>(resumed, options);
        DamageHeader(() => other.Resume(WeightsPath, allowsOtherOptions: true));
    }

    [Fact]
    public void DamagedConfigurationsOfDenseModelsAreReadOrRefused()
    {
        var path = Path.Combine(_folder, "config.json");
        string[] configurations =
        [
            File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Oracle", "Qwen2Tied", "config.json")),
            """
            {
              "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 96,
              "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32,
              "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "float32",
              "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192}
            }
            """,
            """
            {
              "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 96,
              "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 16, "max_position_embeddings": 32, "hidden_act": "silu",
              "rms_norm_eps": 1e-06, "use_sliding_window": false, "tie_word_embeddings": false
            }
            """,
        ];
        Mutator.Run(
            [.. configurations.Select(Encoding.UTF8.GetBytes)],
            file =>
            {
                File.WriteAllBytes(path, file);
                Assert.Contains("MatLM", DenseModel.Declare(path, "Declared"), StringComparison.Ordinal);
            },
            e => e is CheckpointException);
    }

    [Fact]
    public void DamagedCalibrationsAreReadOrRefused()
    {
        using var pairs = TestPairs.Open(_folder);
        using var model = new ByteEncoder();
        var path = Path.Combine(_folder, "index.safetensors");
        TextEmbedder.Of(model, ByteEncoder.Profile.XL, pairs.Tokenizer)
            .WriteIndex(path, pairs.Training.Select(pair => new IndexEntry(pair.Title, pair.Document)));
        using var index = VectorIndex.Open(path);
        var measured = new RetrievalMeasure(0.5, 0.4, 0.6, 10);
        CheapFirstFile.Write<ByteEncoder>(
            index, new EscalationRow(0.01, ["S", "Mixed", "XL"], [0.5f, 0.25f], [1, 2, 3], measured, measured, 0.5));
        Mutator.Run(
            [File.ReadAllBytes(CheapFirstFile.PathOf(path))],
            file =>
            {
                File.WriteAllBytes(CheapFirstFile.PathOf(path), file);
                var (profiles, thresholds) = CheapFirstFile.Read<ByteEncoder>(index, "calibrate");
                Assert.Equal(profiles.Count - 1, thresholds.Count);
            },
            e => e is CheckpointException);
    }

    private void OpenLanguageModel<TModel>(DecodingWeights weights)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var engine = DecodingEngine.Open<TModel>(WeightsPath, options: new DecodingOptions { Weights = weights, Threads = 1 });
        using var model = Checkpoint.Open<TModel>(WeightsPath);
        Assert.Equal(engine.ProfileName, model.ProfileName);
    }

    // Damages the header of a file of weights. The length before it stays right, so that the reader looks beyond it.
    private void DamageHeader(Action read)
    {
        const int LengthBytes = 8;
        var file = File.ReadAllBytes(WeightsPath);
        var end = LengthBytes + (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        Mutator.Run(
            [file[LengthBytes..end]],
            header =>
            {
                var length = new byte[LengthBytes];
                BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
                File.WriteAllBytes(WeightsPath, [.. length, .. header, .. file.AsSpan(end)]);
                read();
            },
            e => e is CheckpointException);
    }
}

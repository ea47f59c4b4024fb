using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

public sealed class WarmStartTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-warm-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>All weights of a hidden unit move with it, also with uneven layers, biases, elastic heads and learned positions.</summary>
    [Fact]
    public void ReorderedHiddenUnitsComputeTheSame()
    {
        Check<OracleLlama>();
        Check<OracleClassic>();
        Check<OracleGemma>();
        Check<OracleOdd>();
        Check<OracleElastic>();
        Check<OracleUneven>();
        Check<Qwen2Untied>();
        Check<OracleViT>();
        Check<OtherViT>();
        Check<OracleEncoder>();
        Check<OtherEncoder>();

        static void Check<TModel>()
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            using var scope = NewDisposeScope();
            var (model, input) = Drawn<TModel>();
            var (before, beforeNarrow) = (Logits(model, ^1), Logits(model, 0));
            for (var layer = 0; layer < TModel.Spec.Layers; layer++)
                model.ReorderHiddenUnits(layer, randperm(TModel.Spec.Blocks[layer].HiddenWidth));
            var (after, afterNarrow) = (Logits(model, ^1), Logits(model, 0));
            Assert.True(allclose(before, after, 1e-4, 1e-4), typeof(TModel).Name);
            Assert.False(allclose(beforeNarrow, afterNarrow, 1e-4, 1e-4), typeof(TModel).Name);

            Tensor Logits(TModel of, Index granularity) => of.Forward(TModel.Granularities[granularity], input);
        }
    }

    /// <summary>All weights that read or write a channel of the residual stream move with it.</summary>
    [Fact]
    public void ReorderedChannelsComputeTheSame()
    {
        Check<OracleNarrow>();
        Check<NarrowClassic>();
        Check<NarrowViT>();
        Check<NarrowEncoder>();

        static void Check<TModel>()
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            using var scope = NewDisposeScope();
            var (model, input) = Drawn<TModel>();
            var (before, beforeNarrow) = (model.Forward(TModel.Granularities[^1], input), model.Forward(TModel.Granularities[0], input));
            model.ReorderChannels(randperm(TModel.Spec.Width));
            Assert.True(allclose(before, model.Forward(TModel.Granularities[^1], input), 1e-4, 1e-4), typeof(TModel).Name);
            Assert.False(allclose(beforeNarrow, model.Forward(TModel.Granularities[0], input), 1e-4, 1e-4), typeof(TModel).Name);
        }
    }

    /// <summary>
    /// A model is trained whole, its channels are shuffled, and the narrow size is measured before and after the warm start.
    /// </summary>
    [Fact]
    public void ADenseModelsImportantChannelsComeFirst()
    {
        using var corpus = TestCorpus.Open(_folder);
        manual_seed(1);
        using var dense = DrawnModel.New<NarrowBytes>();
        using (var trainer = new Trainer<NarrowBytes>(dense, new() { Steps = 150, Batch = 8, Probabilities = [0, 0, 1] }))
            trainer.Fit(corpus);
        WarmStart.OrderChannels(dense, corpus);
        using var backwards = arange(NarrowBytes.Spec.Width, dtype: ScalarType.Int64).flip(0);
        dense.ReorderChannels(backwards);
        var path = Path.Combine(_folder, "dense.safetensors");
        SaveAsOthersDo(dense, path);
        using var warm = DrawnModel.New<NarrowBytes>();
        Assert.True(WarmStart.Load(warm, path, corpus));
        var (before, after) = (Losses(dense, corpus), Losses(warm, corpus));
        var what = $"{string.Join(", ", before)} and then {string.Join(", ", after)}";
        Assert.True(Math.Abs(before[^1] - after[^1]) <= 1e-4, what);
        Assert.True(after[0] < before[0], what);
    }

    [Fact]
    public void ChannelsWithoutAnOrderAreNotOrdered()
    {
        using var corpus = TestCorpus.Open(_folder);
        using var model = DrawnModel.New<OracleBytes>();
        var error = Assert.Throws<NotSupportedException>(() => WarmStart.OrderChannels(model, corpus));
        Assert.Contains("keep the whole residual stream", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ImportanceIsTheMeanMagnitudeTimesTheNormOfTheColumn()
    {
        using var scope = NewDisposeScope();
        manual_seed(4);
        var model = DrawnModel.New<OracleBytes>();
        var tokens = randint(256, [2, 8], ScalarType.Int64);
        var named = model.named_parameters().ToDictionary(p => p.Item1, p => (Tensor)p.Item2);
        using (no_grad())
        {
            // Unit 5 writes nothing, unit 7 writes twice what unit 6 writes, and unit 9 is never active.
            named["model.layers.1.mlp.down_proj.weight"].select(1, 5).zero_();
            named["model.layers.1.mlp.down_proj.weight"].select(1, 7).copy_(named["model.layers.1.mlp.down_proj.weight"].select(1, 6) * 2);
            named["model.layers.1.mlp.gate_proj.weight"].select(0, 7).copy_(named["model.layers.1.mlp.gate_proj.weight"].select(0, 6));
            named["model.layers.1.mlp.up_proj.weight"].select(0, 7).copy_(named["model.layers.1.mlp.up_proj.weight"].select(0, 6));
            named["model.layers.1.mlp.up_proj.weight"].select(0, 9).zero_();
        }

        var importance = model.HiddenImportance(tokens);
        Assert.Equal(2, importance.Length);
        var second = importance[1].data<float>().ToArray();
        Assert.Equal(64, second.Length);
        Assert.Equal(0, second[5]);
        Assert.Equal(0, second[9]);
        Assert.Equal(2, second[7] / second[6], 1e-4);
        Assert.All(importance[0].data<float>().ToArray(), one => Assert.True(one > 0));
    }

    [Fact]
    public void ADenseModelsImportantUnitsComeFirst()
    {
        Check<OracleBytes>(TestCorpus.Open(_folder), new() { Steps = 300, Batch = 8 });
        Check<RoundedViT>(TestImages.Open(_folder, noise: 120), new() { Steps = 60, Batch = 40, LearningRate = 2e-3 });
        Check<RoundedEncoder>(TestPairs.Open(_folder), new() { Steps = 30, Batch = 16, LearningRate = 2e-3 });

        void Check<TModel>(TrainingData data, TrainerOptions options)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            using var owned = data;
            var path = Path.Combine(_folder, $"{TModel.Spec.Name}.safetensors");
            manual_seed(1);
            using var dense = TModel.Create();
            using (var trainer = new Trainer<TModel>(dense, options with { Probabilities = [0, 0, 1] })) trainer.Fit(data);
            SaveAsOthersDo(dense, path);

            // The first call creates masks that stay alive, so that they are not counted below.
            using (var other = TModel.Create()) WarmStart.Load(other, path, data);
            using var warm = TModel.Create();
            GC.Collect();
            GC.WaitForPendingFinalizers();
            var tensors = Tensor.TotalCount;
            Assert.True(WarmStart.Load(warm, path, data));
            Assert.Equal(tensors, Tensor.TotalCount);
            var (before, after) = (Losses(dense, data), Losses(warm, data));
            var what = $"{TModel.Spec.Name}: {string.Join(", ", before)} and then {string.Join(", ", after)}";
            Assert.True(Math.Abs(before[^1] - after[^1]) <= 1e-4, what);
            Assert.True(after[0] < before[0] && after[1] < before[1], what);

            // A file that MatFormer saved is nested already, so its order stays.
            var saved = Path.Combine(_folder, "nested.safetensors");
            warm.Save(saved);
            using var again = TModel.Create();
            Assert.False(WarmStart.Load(again, saved, data));
            Assert.Equal(after, Losses(again, data));
        }
    }

    [Fact]
    public void DataOfAnotherKindAndWeightsOfOtherTokensAreRefused()
    {
        using var pairs = TestPairs.Open(_folder);
        using var images = TestImages.Open(_folder);
        using var model = new RoundedEncoder { TokenizerFingerprint = "of other tokens" };
        var path = Path.Combine(_folder, "encoder.safetensors");
        model.Save(path);
        using var other = new RoundedEncoder();
        var before = Losses(other, pairs);
        var error = Assert.Throws<CheckpointException>(() => WarmStart.Load(other, path, pairs));
        Assert.Contains("another tokenizer", error.Message, StringComparison.Ordinal);
        Assert.Throws<DataException>(() => WarmStart.Load(other, path, images));
        Assert.Throws<DataException>(() => WarmStart.OrderHiddenUnits(other, images));
        Assert.Equal(before, Losses(other, pairs));
    }

    [Fact]
    public void AFileOfAnotherShapeChangesNothing()
    {
        using var corpus = TestCorpus.Open(_folder);
        using var model = DrawnModel.New<OracleBytes>();
        using var other = DrawnModel.New<OracleLlama>();
        var path = Path.Combine(_folder, "other.safetensors");
        SaveAsOthersDo(other, path);
        var before = Losses(model, corpus);
        var error = Assert.Throws<CheckpointException>(() => WarmStart.Load(model, path, corpus));
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
        Assert.Contains("of shape (31, 16), but (256, 32) fits", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, Losses(model, corpus));
    }

    // Returns a model whose weights, also its biases, are drawn, and inputs for it.
    private static (TModel Model, Tensor Input) Drawn<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(3);
        var model = TModel.Create();
        foreach (var (_, parameter) in model.named_parameters())
        {
            using var frozen = no_grad();
            parameter.normal_(0, 0.3);
        }

        return (model, Inputs.Of(TModel.Spec, 2));
    }

    // Saves the weights without our metadata.
    private static void SaveAsOthersDo(MatFormerModel model, string path) => Checkpoint.Write(
        path, new Dictionary<string, string> { ["format"] = "pt" }, [.. model.named_parameters().Select(p => (p.Item1, (Tensor)p.Item2))]);

    // Returns the validation losses of the granularities, narrowest first.
    private static double[] Losses<TModel>(TModel model, TrainingData data)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        var (input, targets) = Feed.Of(data).HeldOut(TModel.Spec, 64, 64).First().ToTensors(CPU);
        var losses = model.Losses(Streams.Of<TModel>([.. TModel.Granularities.Reverse()]), input, targets);
        return [.. losses.data<float>().ToArray().Reverse().Select(loss => (double)loss)];
    }
}

using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

public sealed class WarmStartTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-warm-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>Uneven stacks, biases, elastic heads and learned positions included: all that hidden units touch moves with them.</summary>
    [Fact]
    public void AnotherOrderOfHiddenUnitsComputesTheSame()
    {
        Check<OracleLlama>();
        Check<OracleClassic>();
        Check<OracleGemma>();
        Check<OracleOdd>();
        Check<OracleElastic>();
        Check<OracleUneven>();

        static void Check<TModel>()
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            using var scope = NewDisposeScope();
            manual_seed(3);
            var model = TModel.Create();
            foreach (var (_, parameter) in model.named_parameters())
            {
                using var frozen = no_grad();
                parameter.normal_(0, 0.3); // biases too
            }

            var tokens = randint(TModel.Spec.Vocabulary, [2, TModel.Spec.Context], ScalarType.Int64);
            var (before, beforeNarrow) = (Logits(model, ^1), Logits(model, 0));
            for (var layer = 0; layer < TModel.Spec.Layers; layer++)
                model.ReorderHiddenUnits(layer, randperm(TModel.Spec.Blocks[layer].HiddenWidth));
            var (after, afterNarrow) = (Logits(model, ^1), Logits(model, 0));
            Assert.True(allclose(before, after, 1e-4, 1e-4), typeof(TModel).Name);
            Assert.False(allclose(beforeNarrow, afterNarrow, 1e-4, 1e-4), typeof(TModel).Name);

            Tensor Logits(TModel of, Index granularity) => of.Forward(TModel.Granularities[granularity], tokens);
        }
    }

    [Fact]
    public void ImportanceIsTheMeanMagnitudeTimesTheNormOfTheColumn()
    {
        using var scope = NewDisposeScope();
        manual_seed(4);
        var model = new OracleBytes();
        var tokens = randint(256, [2, 8], ScalarType.Int64);
        var named = model.named_parameters().ToDictionary(p => p.Item1, p => (Tensor)p.Item2);
        using (no_grad())
        {
            // A unit that writes nothing, one that writes twice what another writes, and one that is never active.
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
        using var corpus = TestCorpus.Open(_folder);
        var path = Path.Combine(_folder, "dense.safetensors");
        manual_seed(1);
        using var dense = new OracleBytes();
        using (var trainer = new Trainer<OracleBytes>(dense, new TrainerOptions { Steps = 300, Batch = 8, Probabilities = [0, 0, 1] }))
        {
            for (var step = 0; step < 300; step++) trainer.Step(corpus);
        }

        SaveAsOthersDo(dense, path);
        using var warm = new OracleBytes();
        Assert.True(WarmStart.Load(warm, path, corpus));
        var (before, after) = (Losses(dense, corpus), Losses(warm, corpus));
        Assert.Equal(before[^1], after[^1], 1e-4);
        Assert.True(after[0] < before[0] && after[1] < before[1], $"{string.Join(", ", before)} and then {string.Join(", ", after)}");

        // What MatFormer saved is nested already.
        var saved = Path.Combine(_folder, "nested.safetensors");
        warm.Save(saved);
        using var again = new OracleBytes();
        Assert.False(WarmStart.Load(again, saved, corpus));
        Assert.Equal(after, Losses(again, corpus));
    }

    [Fact]
    public void AFileOfAnotherShapeChangesNothing()
    {
        using var corpus = TestCorpus.Open(_folder);
        using var model = new OracleBytes();
        using var other = new OracleLlama();
        var path = Path.Combine(_folder, "other.safetensors");
        SaveAsOthersDo(other, path);
        var before = Losses(model, corpus);
        var error = Assert.Throws<CheckpointException>(() => WarmStart.Load(model, path, corpus));
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
        Assert.Contains("of shape (31, 16), but (256, 32) fits", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, Losses(model, corpus));
    }

    // Without what our metadata say.
    private static void SaveAsOthersDo(MatFormerModel model, string path) => Checkpoint.Write(
        path, new Dictionary<string, string> { ["format"] = "pt" }, [.. model.named_parameters().Select(p => (p.Item1, (Tensor)p.Item2))]);

    private static double[] Losses(OracleBytes model, TextCorpus corpus) =>
        [.. Evaluator.Run(model, corpus).Rows.Where(row => row.Costs.IsGranularity).Select(row => row.NatsPerToken)];
}

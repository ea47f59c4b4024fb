using System.Collections.Immutable;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Tests learned mixes with real models.</summary>
public sealed class LearnedBudgetTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-learned-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void AMaskedModelComputesTheMix()
    {
        Computes<OracleClassic>();
        Computes<OracleGemma>();
        Computes<OracleElastic>();
        Computes<OracleUneven>();
        Computes<OracleViT>();
        Computes<OtherViT>();
        Computes<CompressedViT>();
        Computes<OracleEncoder>();
        Computes<OtherEncoder>();
    }

    private static void Computes<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        using var model = DrawnModel.New<TModel>();
        Stir(model);
        var space = new MixSpace(TModel.Spec);
        using var batch = new Given(TModel.Spec);
        using var masked = new MixMasks<TModel>(model, space);
        foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
        {
            double wanted;
            var mix = space.MixOf(profile.Layers);
            masked.Set(Whole(space));
            using (no_grad()) wanted = model.Losses(Streams.Of(profile), batch.Input, batch.Targets).sum().item<float>();
            masked.Set([.. space.Choices.Select((choices, layer) => choices.Select((_, c) => c <= mix[layer] ? 1.0 : 0).ToArray())]);
            Assert.Equal(wanted, masked.Differentiate(batch).Loss, 1e-4 * Math.Max(1, wanted));
        }
    }

    [Fact]
    public void DerivativesAreThoseOfFiniteDifferences()
    {
        Differentiates<OracleClassic>();
        Differentiates<OracleElastic>();
        Differentiates<OracleUneven>();
        Differentiates<OtherViT>();
        Differentiates<CompressedViT>();
        Differentiates<OtherEncoder>();
    }

    private static void Differentiates<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        const double Step = 0.004;
        using var scope = NewDisposeScope();
        manual_seed(4);
        using var model = DrawnModel.New<TModel>();
        Stir(model);
        var space = new MixSpace(TModel.Spec);
        using var batch = new Given(TModel.Spec);
        using var masked = new MixMasks<TModel>(model, space);
        var masks = Whole(space);
        foreach (var layer in masks)
            for (var choice = 0; choice < layer.Length; choice++) layer[choice] = 1 - (0.2 * choice);
        masked.Set(masks);
        var derivatives = masked.Differentiate(batch).Derivatives;
        Assert.Contains(derivatives, layer => layer.Any(d => Math.Abs(d) > 0.01));
        for (var layer = 0; layer < masks.Length; layer++)
        {
            for (var choice = 0; choice < masks[layer].Length; choice++)
            {
                var slope = (LossAt(Step) - LossAt(-Step)) / (2 * Step);
                Assert.Equal(slope, derivatives[layer][choice], 1e-3 + (0.02 * Math.Abs(slope)));

                double LossAt(double change)
                {
                    masks[layer][choice] += change;
                    masked.Set(masks);
                    masks[layer][choice] -= change;
                    return masked.Differentiate(batch).Loss;
                }
            }
        }
    }

    [Fact]
    public void LanguageModelsLearnMixes()
    {
        using var corpus = TestCorpus.Open(_folder);
        Learns<OracleBytes>(corpus);
    }

    [Fact]
    public void VisionTransformersLearnMixes()
    {
        using var images = TestImages.Open(_folder);
        Learns<OtherViT>(images);
    }

    [Fact]
    public void TextEncodersLearnMixes()
    {
        using var pairs = TestPairs.Open(_folder);
        Learns<ByteEncoder>(pairs);
    }

    // Mixes fit their budgets, are the same for the same seed, and leave the weights as they were, bit for bit.
    private static void Learns<TModel>(TrainingData data)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(5);
        using var model = DrawnModel.New<TModel>();
        var options = new TrainerOptions { Steps = 30, Batch = 8, Objective = Objective.SampledPerLayer };
        using (var trainer = new Trainer<TModel>(model, options)) trainer.Fit(data);
        var before = Bits(model);
        var (least, most) = (TModel.Granularities[0].Flops, TModel.Granularities[^1].Flops);
        var flops = new PlanBudget { MaxFlops = least + ((most - least) / 2) };
        var found = ProfilePlanner.Learn(model, data, flops, seed: 2);
        Assert.InRange(found.Flops, 1, flops.MaxFlops.Value);
        Assert.Equal(found.Pattern, ProfilePlanner.Learn(model, data, flops, seed: 2).Pattern);
        Assert.Equal(before, Bits(model));

        // Only the narrowest mix fits its own size, except for a model that may leave layers out.
        var smallest = new PlanBudget { MaxParameters = TModel.Granularities[0].ParameterCount };
        Assert.True(ProfilePlanner.Learn(model, data, smallest).ParameterCount <= smallest.MaxParameters);
        Assert.Throws<PlanException>(() => ProfilePlanner.Learn(model, data, new PlanBudget { MaxParameters = 10 }));
        Assert.Throws<ArgumentException>(() => ProfilePlanner.Learn(model, data, new PlanBudget()));
        Assert.Throws<ArgumentException>(() => ProfilePlanner.Learn(model, data, new PlanBudget { MaxMilliseconds = 1 }));

        using var stop = new CancellationTokenSource(TimeSpan.FromMilliseconds(20));
        Assert.ThrowsAny<OperationCanceledException>(LearnUntilStopped);
        Assert.Equal(before, Bits(model));
        Assert.All(model.parameters(), parameter => Assert.Null(parameter.grad));

        void LearnUntilStopped()
        {
            while (true) ProfilePlanner.Learn(model, data, flops, cancellationToken: stop.Token);
        }
    }

    private static byte[] Bits(MatFormerModel model) => [.. model.parameters().SelectMany(parameter => parameter.bytes.ToArray())];

    private static double[][] Whole(MixSpace space) => [.. space.Choices.Select(choices => choices.Select(_ => 1.0).ToArray())];

    // Makes every weight matter. New biases are zeros, and new weights so small that no mask would.
    private static void Stir(MatFormerModel model)
    {
        using var unrecorded = no_grad();
        foreach (var parameter in model.parameters())
        {
            using var noise = randn_like(parameter) * 0.2;
            parameter.add_(noise);
        }
    }

    /// <summary>Random inputs and targets.</summary>
    private sealed class Given : Batch, IDisposable
    {
        public Given(ModelSpec spec)
        {
            Input = Inputs.Of(spec, 6).DetachFromDisposeScope();
            Targets = Inputs.TargetsOf(spec, Input).DetachFromDisposeScope();
        }

        public Tensor Input { get; }

        public Tensor Targets { get; }

        public override int Examples => 6;

        public override (Tensor Input, Tensor Targets) ToTensors(Device device) => (Input.alias(), Targets.alias());

        public void Dispose()
        {
            Input.Dispose();
            Targets.Dispose();
        }
    }
}

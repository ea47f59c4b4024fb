using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Training runs that several tests of routers and compressed tokens share.</summary>
internal static class TrainingRuns
{
    /// <summary>Returns the options of a run in which all sizes of a small vision transformer learn.</summary>
    public static TrainerOptions ToLearn(bool distilled) => new()
    {
        Steps = 150,
        Batch = 40,
        LearningRate = 3e-3,
        Objective = Objective.Sandwich,
        Distillation = distilled ? new() : null,
        RecomputeActivations = distilled,
    };

    /// <summary>Returns the options of routed steps, or of steps with everything else besides.</summary>
    public static TrainerOptions Routed(int batch, bool withMore) => new()
    {
        Steps = 100,
        Batch = batch,
        RoutedShare = 1,
        Distillation = withMore ? new() : null,
        StochasticDepth = withMore ? 0.5 : 0,
        RecomputeActivations = withMore,
    };

    /// <summary>Trains a new model, only up to a step if one is given.</summary>
    public static TModel Trained<TModel>(TrainingData data, TrainerOptions options, int? steps = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(1);
        var model = TModel.Create();
        using var trainer = new Trainer<TModel>(model, options);
        using var stop = new CancellationTokenSource();
        trainer.Fit(data, step => { if (step.Step == steps) stop.Cancel(); }, stop.Token);
        return model;
    }

    /// <summary>Checks that a run of 8 steps equals one that ends after 4 and is resumed. Returns its model.</summary>
    public static TModel AssertResumes<TModel>(TrainingData data, TrainerOptions options, string whole, string half)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var model = Trained<TModel>(data, options with { OutputFolder = whole });
        using var interrupted = Trained<TModel>(data, options with { OutputFolder = half }, 4);
        using var resumed = TModel.Create();
        using var trainer = new Trainer<TModel>(resumed, options with { OutputFolder = half });
        trainer.Resume(Path.Combine(half, "checkpoint.safetensors"));
        Assert.True(trainer.Fit(data).Finished);
        AssertSame(model, resumed);
        return model;
    }

    /// <summary>
    /// Checks that routed steps of a new model, alone and with everything else, leave no tensors, and neither do passes.
    /// </summary>
    public static void AssertLeaksNothing<TModel>(TrainingData data, int batch, params Func<TModel, Tensor>[] passes)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var model = TModel.Create();
        foreach (var more in (bool[])[false, true])
        {
            using var trainer = new Trainer<TModel>(model, Routed(batch, withMore: more));
            for (var step = 0; step < 5; step++) trainer.Step(data);
            var before = LiveTensors.Count();
            for (var step = 0; step < 20; step++) trainer.Step(data);
            Assert.Equal(before, LiveTensors.Count());
        }

        using var unrecorded = no_grad();
        Pass();
        var tensors = LiveTensors.Count();
        for (var i = 0; i < 10; i++) Pass();
        Assert.Equal(tensors, LiveTensors.Count());

        void Pass()
        {
            foreach (var pass in passes) pass(model).Dispose();
        }
    }

    /// <summary>Creates a model whose routers' scores weigh.</summary>
    public static TModel Drawn<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(1);
        var model = DrawnModel.New<TModel>();
        using var unrecorded = no_grad();
        foreach (var (name, weight) in model.named_parameters())
        {
            if (name.EndsWith("router.alpha", StringComparison.Ordinal)) weight.fill_(0.5);
            if (name.EndsWith("router.weight", StringComparison.Ordinal)) weight.normal_(0, 1);
        }

        return model;
    }

    /// <summary>Checks that two models have the same weights, bit for bit.</summary>
    public static void AssertSame(MatFormerModel expected, MatFormerModel actual)
    {
        foreach (var ((name, one), (_, other)) in expected.named_parameters().Zip(actual.named_parameters()))
            Assert.True(RoutingTests.Bits(one).SequenceEqual(RoutingTests.Bits(other)), name);
    }
}

using System.Diagnostics;
using MatFormer.Tests;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests.Training;

public sealed class TrainingTelemetryTests : IDisposable
{
    private const string Room = "MatFormer.Training";

    private readonly TemporaryFolder _folder = new();
    private readonly TextCorpus _corpus;
    private readonly TinyModel _model;

    public TrainingTelemetryTests()
    {
        manual_seed(1);
        _model = new TinyModel();
        _corpus = TextCorpus.Open(_folder.WriteTexts(), _folder["data"]);
    }

    public void Dispose()
    {
        _model.Dispose();
        _corpus.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void MetricsAreTheNumbersOfTheSteps()
    {
        using var listening = new Listening(Room);
        var steps = new List<StepResult>();
        using var trainer = new Trainer<TinyModel>(_model, new TrainerOptions
        {
            Steps = 7,
            Batch = 2,
            Accumulation = 3,
            Distillation = new(),
            Objective = Objective.Joint,
            EvaluateEvery = 3,
            EvaluationWindows = 2,
        });
        trainer.Fit(_corpus, steps.Add);
        (string, string) model = ("matformer.model", "TinyModel");
        Assert.Equal(Enumerable.Repeat((double)(2 * 3 * TinyModel.Spec.Context), 7), listening.Of("matformer.training.tokens", model));
        Assert.Equal(steps.Select(s => (double)s.Step), listening.Of("matformer.training.step", model));
        Assert.Equal(steps.Select(s => s.LearningRate), listening.Of("matformer.training.learning_rate", model));
        Assert.Equal(steps.Select(s => s.GradientNorm), listening.Of("matformer.training.gradient_norm", model));
        foreach (var (step, seconds) in steps.Zip(listening.Of("matformer.training.step.duration", model)))
            Assert.Equal(2 * 3 * TinyModel.Spec.Context, seconds * step.TokensPerSecond, 1e-6);
        foreach (var (i, name) in ((string[])["S", "M", "XL"]).Index())
        {
            (string, string) granularity = ("matformer.granularity", name);
            Assert.Equal(steps.Select(s => (double)s.Losses[i].Loss), listening.Of("matformer.training.loss", model, granularity));
            Assert.Equal(
                steps.Where(s => s.Step is 3 or 6 or 7).Select(s => (double)s.Validation[i].Loss),
                listening.Of("matformer.training.validation.loss", model, granularity));
            if (name != "XL")
                Assert.Equal(
                    steps.Select(s => (double)s.Divergences[i].Divergence), listening.Of("matformer.training.divergence", granularity));
        }

        Assert.Equal(
            [
                "matformer.training.divergence {nat}", "matformer.training.gradient_norm 1", "matformer.training.learning_rate 1",
                "matformer.training.loss {nat}", "matformer.training.step {step}", "matformer.training.step.duration s",
                "matformer.training.tokens {token}", "matformer.training.validation.loss {nat}",
            ],
            listening.Instruments);
    }

    [Fact]
    public void SkippedStepsAreCounted()
    {
        using var listening = new Listening(Room);
        using (no_grad()) ((Tensor)_model.named_parameters().First().Item2).fill_(float.NaN);
        using var trainer = new Trainer<TinyModel>(_model, new TrainerOptions { Steps = 9, Batch = 2, MaxSkippedSteps = 2 });
        Assert.Throws<TrainingException>(() => trainer.Fit(_corpus));
        Assert.Equal([1.0, 1], listening.Of("matformer.training.skipped_steps"));
        Assert.Equal(2, listening.Of("matformer.training.learning_rate").Count);
        Assert.Empty(listening.Of("matformer.training.gradient_norm"));
        var run = Assert.Single(listening.Activities);
        Assert.Equal(("train TinyModel", ActivityStatusCode.Error), (run.DisplayName, run.Status));
        Assert.Equal(typeof(TrainingException).FullName, run.GetTagItem("error.type"));
        Assert.StartsWith("In step 3 the loss of", run.StatusDescription, StringComparison.Ordinal);
    }

    [Fact]
    public void ARunIsAnActivityWithItsEvaluationsAndCheckpoints()
    {
        using var listening = new Listening(Room);
        var options = new TrainerOptions { Steps = 4, Batch = 2, EvaluateEvery = 2, CheckpointEvery = 3, OutputFolder = _folder["out"] };
        using var trainer = new Trainer<TinyModel>(_model, options);
        trainer.Fit(_corpus);
        Assert.Equal(
            ["evaluate TinyModel", "save TinyModel", "evaluate TinyModel", "save TinyModel", "train TinyModel"],
            listening.Activities.Select(a => a.DisplayName));
        var run = listening.Activities[^1];
        Assert.All(listening.Activities.SkipLast(1), a => Assert.Same(run, a.Parent));
        Assert.Equal((4L, true, "TinyModel"),
            (run.GetTagItem("matformer.training.steps"), run.GetTagItem("matformer.training.finished"), run.GetTagItem("matformer.model")));
        Assert.Null(Activity.Current);
    }

    [Fact]
    public void NothingIsAllocatedWhileNobodyListens()
    {
        var result = new StepResult(1, Objective.Joint, [("S", 1), ("XL", 2)], 1, 1, 1) { Validation = [("S", 1), ("XL", 2)] };
        Report();
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 100; i++) Report();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void Report()
        {
            TrainingTelemetry.Report("TinyModel", null, result, 100, 100);
            TrainingTelemetry.ReportValidation("TinyModel", null, result.Validation);
            Assert.Null(TrainingTelemetry.Start("train", "TinyModel", null));
        }
    }
}

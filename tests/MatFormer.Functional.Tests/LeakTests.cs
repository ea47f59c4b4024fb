using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

public sealed class LeakTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-leaks-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(Objective.Sampled, ScalarType.Float32)]
    [InlineData(Objective.Joint, ScalarType.BFloat16)]
    public void TrainingLeaksNothing(Objective objective, ScalarType type)
    {
        using var corpus = TestCorpus.Open(_folder);
        using var model = new OracleBytes { ComputeType = type };

        // Another run first: the JIT compiles hot code anew for a while, and heaps grow to their working size once per process.
        using (var warm = new Trainer<OracleBytes>(model, new TrainerOptions { Objective = objective, Steps = 2000, Batch = 4 }))
        {
            for (var step = 0; step < 2000; step++) warm.Step(corpus);
        }

        using var trainer = new Trainer<OracleBytes>(model, new TrainerOptions { Objective = objective, Steps = 1000, Batch = 4 });
        for (var step = 0; step < 50; step++) trainer.Step(corpus);

        // What leaks does so in every stretch of steps; what the rest of the process takes meanwhile it takes once.
        var tensors = Tensor.TotalCount;
        var growths = new List<double>();
        while (growths.Count < 2 && growths.All(growth => growth > 1.01))
        {
            var resident = Resident();
            for (var step = 0; step < 450; step++) trainer.Step(corpus);
            Assert.Equal(tensors, Tensor.TotalCount);
            growths.Add((double)Resident() / resident);
        }

        Assert.InRange(growths[^1], 0, 1.01);
    }

    // Every objective, and what distillation and recomputation add to it: tensors alone, in few steps.
    [Fact]
    public void NoObjectiveLeavesTensorsBehind()
    {
        using var corpus = TestCorpus.Open(_folder);
        using var model = new OracleBytes();
        foreach (var objective in Enum.GetValues<Objective>())
        {
            foreach (var distillation in (Distillation?[])[null, new()])
            {
                using var trainer = new Trainer<OracleBytes>(model, new TrainerOptions
                {
                    Objective = objective,
                    Distillation = distillation,
                    Steps = 100,
                    Batch = 4,
                    RecomputeActivations = distillation is not null,
                });
                for (var step = 0; step < 5; step++) trainer.Step(corpus);
                var tensors = Tensor.TotalCount;
                for (var step = 0; step < 20; step++) trainer.Step(corpus);
                Assert.True(tensors == Tensor.TotalCount, $"{objective}, {distillation}: {Tensor.TotalCount - tensors} tensors more");
            }
        }
    }

    private static long Resident()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        using var process = Process.GetCurrentProcess();
        return process.WorkingSet64;
    }
}

using System.Diagnostics;

namespace MatFormer;

/// <summary>Estimates how long training will take.</summary>
internal static class StepTime
{
    private static readonly TimeSpan s_warmUp = TimeSpan.FromSeconds(1);

    /// <summary>
    /// Measures the seconds that a step takes, on average over what the objective draws. The measured steps change the model, so discard
    /// the model afterwards.
    /// </summary>
    public static double Measure<TModel>(Trainer<TModel> trainer, TrainingData data, int repeats, CancellationToken cancellationToken)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var plans = new Planner<TModel>(trainer.Options).Typical().ToList();
        var times = new double[plans.Count <= TModel.Granularities.Count ? repeats : 1]; // with many plans, one measurement each suffices

        // First uses allocate memory, and the JIT recompiles hot code for a while.
        var warmth = Stopwatch.StartNew();
        do
        {
            cancellationToken.ThrowIfCancellationRequested();
            foreach (var (plan, _) in plans) trainer.Step(data, plan);
        }
        while (warmth.Elapsed < s_warmUp);

        double seconds = 0;
        foreach (var (plan, share) in plans)
        {
            for (var i = 0; i < times.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var watch = Stopwatch.StartNew();
                trainer.Step(data, plan);
                times[i] = watch.Elapsed.TotalSeconds;
            }

            // The median ignores slow outliers.
            seconds += share * times.Order().ElementAt(times.Length / 2);
        }

        return seconds;
    }
}

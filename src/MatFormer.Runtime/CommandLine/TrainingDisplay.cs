using System.Diagnostics;
using System.Globalization;
using Spectre.Console;

namespace MatFormer;

/// <summary>Shows how training goes: a live bar on a terminal, else a line every few seconds.</summary>
internal sealed class TrainingDisplay(TextWriter error)
{
    private static readonly TimeSpan LineInterval = TimeSpan.FromSeconds(5);
    private readonly Dictionary<string, double> _smoothed = new(StringComparer.Ordinal);
    private double _tokensPerSecond;

    /// <summary>Trains, and shows it.</summary>
    public TrainingResult Run(Func<Action<StepResult>, TrainingResult> train, long stepsDone, int steps)
    {
        if (!IsTerminal(error)) return RunInLines(train, stepsDone, steps);
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(error), Interactive = InteractionSupport.Yes });
        return console.Progress()
            .AutoClear(false)
            .HideCompleted(false)
            .Columns(new SpinnerColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn(), new TaskDescriptionColumn { Alignment = Justify.Left })
            .Start(context =>
            {
                var task = context.AddTask("training", maxValue: steps);
                task.Value = stepsDone;
                return train(result =>
                {
                    Smooth(result);
                    task.Value = result.Step;
                    task.Description = Markup.Escape(Line(result, steps));
                });
            });
    }

    /// <summary>True if a person watches, and not a file.</summary>
    public static bool IsTerminal(TextWriter writer) => writer == Console.Error && !Console.IsErrorRedirected;

    private TrainingResult RunInLines(Func<Action<StepResult>, TrainingResult> train, long stepsDone, int steps)
    {
        var watch = Stopwatch.StartNew();
        var shown = TimeSpan.Zero;
        return train(result =>
        {
            Smooth(result);
            if (result.Step < steps && watch.Elapsed - shown < LineInterval) return;
            shown = watch.Elapsed;
            var left = watch.Elapsed / (result.Step - stepsDone) * (steps - result.Step);
            error.WriteLine($"{Line(result, steps)}, {left:m\\:ss} left");
        });
    }

    // Single steps jump: means over about the last 20 of each granularity.
    private void Smooth(StepResult result)
    {
        foreach (var (name, loss) in result.Losses) _smoothed[name] = _smoothed.TryGetValue(name, out var mean) ? mean + (0.05 * (loss - mean)) : loss;
        _tokensPerSecond = _tokensPerSecond == 0 ? result.TokensPerSecond : _tokensPerSecond + (0.05 * (result.TokensPerSecond - _tokensPerSecond));
    }

    private string Line(StepResult result, int steps)
    {
        var losses = string.Join("  ", _smoothed.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Key} {p.Value / Math.Log(2):0.000}")));
        return string.Create(CultureInfo.InvariantCulture, $"step {result.Step}/{steps}  bits/byte {losses}  {_tokensPerSecond:n0} tokens/s");
    }
}

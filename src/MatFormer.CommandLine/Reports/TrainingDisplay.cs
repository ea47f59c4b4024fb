using System.Diagnostics;
using Spectre.Console;

namespace MatFormer;

/// <summary>Shows the progress of training: a live bar on a terminal, else a line every few seconds.</summary>
/// <param name="error">The writer that shows the progress.</param>
/// <param name="order">The granularities, narrowest first.</param>
/// <param name="unit">The unit in which losses are shown.</param>
internal sealed class TrainingDisplay(TextWriter error, IReadOnlyList<string> order, LossUnit unit)
{
    private static readonly TimeSpan LineInterval = TimeSpan.FromSeconds(5);
    private readonly Dictionary<string, Mean> _losses = new(StringComparer.Ordinal);
    private IReadOnlyList<(string Name, float Loss)> _validation = [];
    private Mean _tokensPerSecond;
    private Mean _bytes;

    /// <summary>Trains, and shows the progress.</summary>
    public TrainingResult Run(Func<Action<StepResult>, TrainingResult> train, long stepsDone, int steps)
    {
        if (!TerminalProgress.IsTerminal(error)) return RunInLines(train, stepsDone, steps);
        var (bars, room) = TerminalProgress.On(error);
        return bars.AutoClear(false)
            .HideCompleted(false)
            .Start(context =>
            {
                var task = context.AddTask("training", maxValue: steps);
                task.Value = stepsDone;
                return train(result =>
                {
                    Smooth(result);
                    task.Value = result.Step;
                    var line = Line(result, steps);
                    task.Description = Markup.Escape(line.Length <= room() ? line : line[..room()]);
                });
            });
    }

    private TrainingResult RunInLines(Func<Action<StepResult>, TrainingResult> train, long stepsDone, int steps)
    {
        var watch = Stopwatch.StartNew();
        var shown = TimeSpan.Zero;
        return train(result =>
        {
            Smooth(result);
            if (result.Validation.IsEmpty && result.Step < steps && watch.Elapsed - shown < LineInterval) return;
            shown = watch.Elapsed;
            var left = watch.Elapsed / (result.Step - stepsDone) * (steps - result.Step);
            error.WriteLine($"{Line(result, steps)}, {left:m\\:ss} left");
        });
    }

    private void Smooth(StepResult result)
    {
        foreach (var (name, loss) in result.Losses) _losses[name] = _losses.GetValueOrDefault(name).Add(loss);
        if (!result.Validation.IsEmpty) _validation = result.Validation;
        _tokensPerSecond = _tokensPerSecond.Add(result.TokensPerSecond);
        if (result.Communication is { } exchange) _bytes = _bytes.Add(exchange.Bytes);
    }

    private string Line(StepResult result, int steps)
    {
        var losses = Shown(order.Where(_losses.ContainsKey).Select(name => (name, _losses[name].Value)));
        var validation = _validation.Count == 0 ? string.Empty : $"  validation {Shown(_validation.Select(v => (v.Name, (double)v.Loss)))}";
        var sent = result.Communication is not null ? Output.Invariant($"  {_bytes.Value / 1e6:0.0} MB/step sent") : string.Empty;
        return Output.Invariant(
            $"step {result.Step}/{steps}  {unit.Name} {losses}{validation}  {_tokensPerSecond.Value:n0} tokens/s{sent}");
    }

    private string Shown(IEnumerable<(string Name, double Loss)> losses) =>
        string.Join("  ", losses.Select(loss => Output.Invariant($"{loss.Name} {loss.Loss * unit.PerNat:0.000}")));

    // Single steps are noisy, so this is the mean over about the last 20.
    private readonly record struct Mean(double Value, int Count)
    {
        public Mean Add(double value) => new(Value + ((value - Value) / Math.Min(Count + 1, 20)), Count + 1);
    }
}

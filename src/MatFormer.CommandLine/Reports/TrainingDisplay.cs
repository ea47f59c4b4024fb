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
    private const int BarWidth = 16;
    private readonly Dictionary<string, Mean> _losses = new(StringComparer.Ordinal);
    private IReadOnlyList<(string Name, float Loss)> _validation = [];
    private Mean _tokensPerSecond;

    /// <summary>Trains, and shows the progress.</summary>
    public TrainingResult Run(Func<Action<StepResult>, TrainingResult> train, long stepsDone, int steps)
    {
        if (!IsTerminal(error)) return RunInLines(train, stepsDone, steps);
        var console = AnsiConsole.Create(
            new AnsiConsoleSettings { Out = new TerminalOutput(error), Interactive = InteractionSupport.Yes });
        return console.Progress()
            .AutoClear(false)
            .HideCompleted(false)
            .Columns(
                new SpinnerColumn(),
                new ProgressBarColumn { Width = BarWidth },
                new RemainingTimeColumn(),
                new TaskDescriptionColumn { Alignment = Justify.Left })
            .Start(context =>
            {
                var task = context.AddTask("training", maxValue: steps);
                task.Value = stepsDone;
                return train(result =>
                {
                    Smooth(result);
                    task.Value = result.Step;
                    var line = Line(result, steps);
                    var room = Math.Max(20, console.Profile.Width - BarWidth - 16); // without the other columns; a longer line would wrap
                    task.Description = Markup.Escape(line.Length <= room ? line : line[..room]);
                });
            });
    }

    /// <summary>Returns true if the writer is a terminal, not a file.</summary>
    public static bool IsTerminal(TextWriter writer) =>
        (writer is ProgressWriter progress ? progress.Inner : writer) == Console.Error && !Console.IsErrorRedirected;

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
    }

    private string Line(StepResult result, int steps)
    {
        var losses = Shown(order.Where(_losses.ContainsKey).Select(name => (name, _losses[name].Value)));
        var validation = _validation.Count == 0 ? string.Empty : $"  validation {Shown(_validation.Select(v => (v.Name, (double)v.Loss)))}";
        return Output.Invariant($"step {result.Step}/{steps}  {unit.Name} {losses}{validation}  {_tokensPerSecond.Value:n0} tokens/s");
    }

    private string Shown(IEnumerable<(string Name, double Loss)> losses) =>
        string.Join("  ", losses.Select(loss => Output.Invariant($"{loss.Name} {loss.Loss * unit.PerNat:0.000}")));

    // A writer that is not Console.Error itself would not pass for a terminal.
    private sealed class TerminalOutput(TextWriter writer) : IAnsiConsoleOutput
    {
        private readonly AnsiConsoleOutput _terminal = new(Console.Error);

        public TextWriter Writer => writer;

        public bool IsTerminal => true;

        public int Width => _terminal.Width;

        public int Height => _terminal.Height;

        public void SetEncoding(System.Text.Encoding encoding) => _terminal.SetEncoding(encoding);
    }

    // Single steps are noisy, so this is the mean over about the last 20.
    private readonly record struct Mean(double Value, int Count)
    {
        public Mean Add(double value) => new(Value + ((value - Value) / Math.Min(Count + 1, 20)), Count + 1);
    }
}

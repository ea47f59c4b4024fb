using Spectre.Console;

namespace MatFormer;

/// <summary>Shows live bars on a terminal.</summary>
internal static class TerminalProgress
{
    private const int BarWidth = 16;

    /// <summary>Returns true if the writer is a terminal, not a file.</summary>
    public static bool IsTerminal(TextWriter writer) =>
        (writer is ProgressWriter progress ? progress.Inner : writer) == Console.Error && !Console.IsErrorRedirected;

    /// <summary>Returns bars on a terminal, and the number of characters that fit beside a bar. A longer description would wrap.</summary>
    public static (Progress Bars, Func<int> Room) On(TextWriter terminal)
    {
        var console = AnsiConsole.Create(
            new AnsiConsoleSettings { Out = new TerminalOutput(terminal), Interactive = InteractionSupport.Yes });
        var bars = console.Progress().Columns(
            new SpinnerColumn(),
            new ProgressBarColumn { Width = BarWidth },
            new RemainingTimeColumn(),
            new TaskDescriptionColumn { Alignment = Justify.Left });
        return (bars, () => Math.Max(20, console.Profile.Width - BarWidth - 16)); // 16: the other columns
    }

    /// <summary>Opens data, and shows what is prepared for it while it is prepared. A writer that is not a terminal gets nothing.</summary>
    public static T Open<T>(TextWriter error, Func<IProgress<PreparationProgress>?, T> open) => IsTerminal(error)
        ? On(error).Bars.AutoClear(true).Start(context => open(new Preparation(context)))
        : open(null);

    private sealed class Preparation(ProgressContext context) : IProgress<PreparationProgress>
    {
        private readonly Dictionary<string, ProgressTask> _tasks = new(StringComparer.Ordinal);

        public void Report(PreparationProgress value)
        {
            if (!_tasks.TryGetValue(value.Step, out var task))
                _tasks[value.Step] = task = context.AddTask(value.Step, maxValue: Math.Max(1, value.Total));
            task.Value = value.Done;
            task.Description = Markup.Escape(Output.Invariant($"{value.Step}  {value.Done / 1e6:n0}/{value.Total / 1e6:n0} MB"));
        }
    }

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
}

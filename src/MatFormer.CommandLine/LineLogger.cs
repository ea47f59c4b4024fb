using Microsoft.Extensions.Logging;

namespace MatFormer;

/// <summary>Writes each log entry as one line.</summary>
/// <param name="writer">The writer.</param>
/// <param name="least">The least important level that is written.</param>
/// <param name="prefix">The beginning of each line.</param>
internal sealed class LineLogger(TextWriter writer, LogLevel least = LogLevel.Information, string prefix = "") : ILogger
{
    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= least;

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        if (IsEnabled(logLevel)) writer.WriteLine(prefix + formatter(state, exception));
    }
}

using System.Text;

namespace MatFormer;

/// <summary>
/// Writes progress and messages to another writer. Text that cannot be written is lost: a full disk or a closed pipe behind standard error
/// must not end a run.
/// </summary>
internal sealed class ProgressWriter(TextWriter writer) : TextWriter
{
    /// <summary>The writer that gets the text.</summary>
    public TextWriter Inner => writer;

    /// <inheritdoc/>
    public override Encoding Encoding => writer.Encoding;

    /// <inheritdoc/>
    public override void Write(char value) => Try(value, static (its, value) => its.Write(value));

    /// <inheritdoc/>
    public override void Write(char[] buffer, int index, int count) =>
        Try((buffer, index, count), static (its, part) => its.Write(part.buffer, part.index, part.count));

    /// <inheritdoc/>
    public override void Write(string? value) => Try(value, static (its, value) => its.Write(value));

    /// <inheritdoc/>
    public override void WriteLine() => Try(0, static (its, _) => its.WriteLine());

    /// <inheritdoc/>
    public override void WriteLine(string? value) => Try(value, static (its, value) => its.WriteLine(value));

    /// <inheritdoc/>
    public override void Flush() => Try(0, static (its, _) => its.Flush());

    private void Try<T>(T value, Action<TextWriter, T> write)
    {
        try
        {
            write(writer, value);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) // the latter if standard error is closed
        {
            // There is nowhere left to say so.
        }
    }
}

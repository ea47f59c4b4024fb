using System.Globalization;
using System.Text.Json;

namespace MatFormer;

/// <summary>Describes why a text is not valid JSON.</summary>
internal static class JsonProblem
{
    /// <summary>Returns the problem and its line, without the place in the notation of System.Text.Json.</summary>
    /// <param name="exception">
    /// A <see cref="JsonException"/>, or the <see cref="InvalidOperationException"/> for a string that is not Unicode.
    /// </param>
    public static string Of(Exception exception)
    {
        if (exception is not JsonException json) return "a string is not valid Unicode";
        var problem = Problem(json);
        return json.LineNumber is { } line ? string.Create(CultureInfo.InvariantCulture, $"line {line + 1}: {problem}") : problem;
    }

    /// <summary>Returns the problem of a text of one line, and its place in the line.</summary>
    public static string InLine(JsonException exception) =>
        string.Create(CultureInfo.InvariantCulture, $"byte {(exception.BytePositionInLine ?? 0) + 1}: {Problem(exception)}");

    private static string Problem(JsonException exception) =>
        exception.Message.Split((string[])[" Path: ", " LineNumber: "], StringSplitOptions.None)[0].TrimEnd('.');
}

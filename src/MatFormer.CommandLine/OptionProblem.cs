using System.Text.Json;
using System.Text.RegularExpressions;

namespace MatFormer;

/// <summary>Describes what is wrong with an option of a library, in the words of the command line.</summary>
internal static partial class OptionProblem
{
    /// <summary>Returns the message of an exception. An option of a library that it begins with becomes that of the command line.</summary>
    public static string Of(ArgumentException exception) =>
        OfLibrary().Replace(ArgumentProblem.Of(exception), found => Typed(found.Groups[1].Value));

    private static string Typed(string name) =>
        "--" + JsonNamingPolicy.KebabCaseLower.ConvertName(name.Replace(".", string.Empty, StringComparison.Ordinal));

    // Such as "The training option RoutedShare is 2", or "Distillation.Temperature is 0".
    [GeneratedRegex(@"^The [a-z]+ option ([\w.]+)(?= )")]
    private static partial Regex OfLibrary();
}

using System.Text.RegularExpressions;

namespace MatFormer.CodeFixes.Tests;

/// <summary>Sources in which <c>[|old => new|]</c> stands for a change.</summary>
internal static partial class Marks
{
    /// <summary>Returns the source before and after the changes.</summary>
    public static (string Before, string After) Split(string marked) => (Change().Replace(marked, "$1"), Change().Replace(marked, "$2"));

    /// <summary>
    /// Returns the source before the changes, with the places of a diagnostic marked for the verifier, and the source after the changes.
    /// The diagnostic is where a change is, unless <c>{|MFD0001:Lm|}</c> marks other places.
    /// </summary>
    public static (string Before, string After) Split(string marked, string id) => Place().IsMatch(marked)
        ? (Change().Replace(marked, "$1"), Place().Replace(Change().Replace(marked, "$2"), "$1"))
        : (Change().Replace(marked, $"{{|{id}:$1|}}"), Change().Replace(marked, "$2"));

    [GeneratedRegex(@"\[\|(.*?) => (.*?)\|\]", RegexOptions.Singleline)]
    private static partial Regex Change();

    [GeneratedRegex(@"\{\|MFD\d+:(.*?)\|\}", RegexOptions.Singleline)]
    private static partial Regex Place();
}

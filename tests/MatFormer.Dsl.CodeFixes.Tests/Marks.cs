using System.Text.RegularExpressions;

namespace MatFormer.CodeFixes.Tests;

/// <summary>Source in which [|old => new|] stands for a change, and $$ for the cursor.</summary>
internal static partial class Marks
{
    public static (string Before, string After) Split(string marked) => (Change().Replace(marked, "$1"), Change().Replace(marked, "$2"));

    [GeneratedRegex(@"\[\|(.*?) => (.*?)\|\]", RegexOptions.Singleline)]
    private static partial Regex Change();
}

using System.Globalization;
using MatFormer.Generators.Model;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Writing;

/// <summary>Writes numbers and strings. The result is the same in every culture.</summary>
internal static class Literals
{
    /// <summary>Writes an integer as source code with grouped digits, such as <c>8_458_496</c>.</summary>
    public static string Of(long number) => Text(number).Replace(',', '_');

    /// <summary>Writes a double as source code, such as <c>1e-5</c> or <c>10000.0</c>.</summary>
    public static string Of(double number)
    {
        var text = number.ToString("R", CultureInfo.InvariantCulture);
        var exponent = text.IndexOf('E');
        if (exponent >= 0)
        {
            var power = int.Parse(text.Substring(exponent + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
            return text.Substring(0, exponent) + "e" + power.ToString(CultureInfo.InvariantCulture);
        }

        return text.Contains('.') ? text : text + ".0";
    }

    /// <summary>
    /// Writes a string as source code, in quotes. Escapes replace characters that do not print and text that <see cref="CodeFile"/> would
    /// interpret.
    /// </summary>
    public static string Of(string text) => string.Concat(SymbolDisplay.FormatLiteral(text, quote: true)
        .Replace("[Generated]", "\\u005bGenerated]")
        .Replace("//|", "//\\u007c")
        .Select(c => Prints(c) ? c.ToString() : "\\u" + ((int)c).ToString("x4", CultureInfo.InvariantCulture)));

    /// <summary>Writes an integer for prose, such as <c>8,458,496</c>.</summary>
    public static string Text(long number) => number.ToString("#,0", CultureInfo.InvariantCulture);

    /// <summary>Writes an integer as digits only, such as <c>8458496</c>.</summary>
    public static string Digits(long number) => number.ToString(CultureInfo.InvariantCulture);

    private static bool Prints(char c) => char.GetUnicodeCategory(c) is not (UnicodeCategory.Control or UnicodeCategory.Format
        or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.PrivateUse or UnicodeCategory.Surrogate
        or UnicodeCategory.OtherNotAssigned);
}

using System.Globalization;
using MatFormer.Generators.Model;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Writing;

/// <summary>The one place that writes numbers, the same in every culture.</summary>
internal static class Literals
{
    /// <summary>As source, digits in groups: <c>8_458_496</c>.</summary>
    public static string Of(long number) => Text(number).Replace(',', '_');

    /// <summary>As source: <c>1e-5</c>, <c>10000.0</c>.</summary>
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

    /// <summary>As source: in quotes, with escapes for what does not print, or would mean something to the writer of files.</summary>
    public static string Of(string text) => string.Concat(SymbolDisplay.FormatLiteral(text, quote: true)
        .Replace("[Generated]", "\\u005bGenerated]")
        .Replace("//|", "//\\u007c")
        .Select(c => Prints(c) ? c.ToString() : "\\u" + ((int)c).ToString("x4", CultureInfo.InvariantCulture)));

    /// <summary>As prose: <c>8,458,496</c>.</summary>
    public static string Text(long number) => number.ToString("#,0", CultureInfo.InvariantCulture);

    /// <summary>As digits alone: <c>8458496</c>.</summary>
    public static string Digits(long number) => number.ToString(CultureInfo.InvariantCulture);

    private static bool Prints(char c) => char.GetUnicodeCategory(c) is not (UnicodeCategory.Control or UnicodeCategory.Format
        or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.PrivateUse or UnicodeCategory.Surrogate
        or UnicodeCategory.OtherNotAssigned);
}

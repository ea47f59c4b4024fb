using System.Globalization;

namespace MatFormer;

/// <summary>Writes a number before a noun.</summary>
internal static class Counted
{
    /// <summary>Returns a text such as "1 file" or "1,234 files". Numbers are the same in every culture.</summary>
    /// <param name="number">The number.</param>
    /// <param name="noun">The noun of one.</param>
    /// <param name="plural">The noun of several; the noun of one and an s if null.</param>
    public static string Of(long number, string noun, string? plural = null) =>
        string.Create(CultureInfo.InvariantCulture, $"{number:n0} {(number == 1 ? noun : plural ?? noun + "s")}");
}

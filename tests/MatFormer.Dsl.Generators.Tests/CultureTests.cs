using System.Globalization;
using MatFormer.Generators.Tests.Harness;

namespace MatFormer.Generators.Tests;

/// <summary>Numbers and case are written in one culture, whatever the machine's is.</summary>
public sealed class CultureTests
{
    [Theory]
    [InlineData("fi-FI")]
    [InlineData("sv-SE")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public void Generated_code_and_messages_do_not_depend_on_the_culture(string name)
    {
        // Odd even where the machine has no data of that culture.
        var culture = (CultureInfo)CultureInfo.GetCultureInfo(name).Clone();
        culture.NumberFormat.NumberDecimalSeparator = ";";
        culture.NumberFormat.NumberGroupSeparator = "'";
        culture.NumberFormat.NegativeSign = "\u2212";
        Assert.Equal("\u22121;5", (-1.5).ToString(culture));

        Assert.Equal(Run(CultureInfo.InvariantCulture), Run(culture));
    }

    private static List<string> Run(CultureInfo culture)
    {
        var before = CultureInfo.CurrentCulture;
        try
        {
            CultureInfo.CurrentCulture = culture;
            return
            [
                .. Cases.All.Values.Append(Cases.DocsLm.Replace("Layers = 8", "Layers = -8", StringComparison.Ordinal))
                    .Append(Cases.Grouped.Replace("0.125", "0.3", StringComparison.Ordinal))
                    .Select(source => GeneratorRun.Of(source))
                    .SelectMany(run => run.Sources.OrderBy(s => s.Key, StringComparer.Ordinal).Select(s => s.Key + s.Value)
                        .Concat(run.Diagnostics.Select(d => d.GetMessage(CultureInfo.InvariantCulture)))),
            ];
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }
}

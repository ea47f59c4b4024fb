using System.Globalization;
using MatFormer.Generators.Tests.Fuzzing;
using MatFormer.Generators.Tests.Harness;

namespace MatFormer.Generators.Tests;

/// <summary>Generated code and messages are the same in every culture.</summary>
public sealed class CultureTests
{
    private static readonly IEnumerable<string> s_drawn = Enumerable.Range(0, 40).Select(Grammar.Declare);

    [Theory]
    [InlineData("fi-FI")]
    [InlineData("sv-SE")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    [InlineData("fa-IR")]
    [InlineData("de-DE")]
    [InlineData("hi-IN")]
    [InlineData("zh-CN")]
    public void GeneratedCodeAndMessagesDoNotDependOnTheCulture(string name)
    {
        // A machine without data for the culture gives the invariant one, so these make it unusual everywhere.
        var culture = (CultureInfo)CultureInfo.GetCultureInfo(name).Clone();
        culture.NumberFormat.NumberDecimalSeparator = ";";
        culture.NumberFormat.NumberGroupSeparator = "'";
        culture.NumberFormat.NegativeSign = "\u2212";
        Assert.Equal("\u22121;5", (-1.5).ToString(culture));

        Assert.Equal(Run(CultureInfo.InvariantCulture), Run(culture));
    }

    private static List<string> Run(CultureInfo culture)
    {
        var (before, beforeInterface) = (CultureInfo.CurrentCulture, CultureInfo.CurrentUICulture);
        try
        {
            (CultureInfo.CurrentCulture, CultureInfo.CurrentUICulture) = (culture, culture);
            return
            [
                .. Cases.All.Values.Append(Cases.DocsLm.Replace("Layers = 8", "Layers = -8", StringComparison.Ordinal))
                    .Append(Cases.Grouped.Replace("0.125", "0.3", StringComparison.Ordinal))
                    .Select(source => GeneratorRun.Of(source))
                    .Append(GeneratorRun.Of([.. s_drawn]))
                    .SelectMany(run => run.Sources.OrderBy(s => s.Key, StringComparer.Ordinal).Select(s => s.Key + s.Value)
                        .Concat(run.Diagnostics.Select(d => d.GetMessage(CultureInfo.InvariantCulture)).Order(StringComparer.Ordinal))),
            ];
        }
        finally
        {
            (CultureInfo.CurrentCulture, CultureInfo.CurrentUICulture) = (before, beforeInterface);
        }
    }
}

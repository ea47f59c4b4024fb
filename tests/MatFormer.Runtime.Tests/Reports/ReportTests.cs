using System.Xml.Linq;

namespace MatFormer.Runtime.Tests.Reports;

public sealed class ReportTests
{
    [Fact]
    public void TheCurveIsValidXmlWithAllPoints()
    {
        var svg = XDocument.Parse(SizeCurve.OfSizes("TinyModel", Data().Evaluation).ToSvg());
        XNamespace ns = "http://www.w3.org/2000/svg";
        Assert.Equal(2 + 1, svg.Descendants(ns + "circle").Count()); // one more is in the legend
        var titles = svg.Descendants(ns + "title").Select(t => t.Value).ToList();
        Assert.Contains("Phone<> (1*S 1*XL): 3,000 parameters, 1.450 bits per byte", titles);
        var labels = svg.Descendants(ns + "text").Select(t => t.Value).ToList();
        foreach (var label in new[] { "S", "XL", "Phone<>", "parameters, log scale",
            "bits per byte of validation text (lower is better)" }) Assert.Contains(label, labels);
        Assert.DoesNotContain(labels, l => l.StartsWith("bigram", StringComparison.Ordinal));
        Assert.Contains(
            XDocument.Parse(SizeCurve.OfSizes("TinyModel", Data(bigram: 1.6).Evaluation).ToSvg())
                .Descendants(ns + "text").Select(t => t.Value),
            l => l.StartsWith("bigram", StringComparison.Ordinal));
    }

    [Fact]
    public void ThePageIsSelfContainedAndEscaped()
    {
        var html = HtmlReport.Render(Data());
        Assert.DoesNotContain("http", html, StringComparison.Ordinal);
        Assert.DoesNotContain("<script", html, StringComparison.Ordinal);
        Assert.Contains("&lt;script&gt;\uFFFD", html, StringComparison.Ordinal);
        Assert.Contains("prefers-color-scheme:dark", html, StringComparison.Ordinal);
        Assert.Contains("width=device-width", html, StringComparison.Ordinal);

        // Apart from the doctype and void elements, the page is valid XML.
        var body = html[html.IndexOf("<body>", StringComparison.Ordinal)..].Replace("</html>", string.Empty, StringComparison.Ordinal);
        Assert.Equal(4, XDocument.Parse(body).Descendants("svg").Count()); // two charts, each for wide and narrow windows
    }

    [Fact]
    public void TheSweepIsShownByShape()
    {
        var data = Data();
        var sweep = data.Evaluation with { Rows = [.. data.Evaluation.Rows.Where(r => !r.Costs.IsGranularity)] };
        var html = HtmlReport.Render("TinyModel", "XL", data.Evaluation, MixSweep.Of(data.Evaluation, sweep), data.Facts);
        var body = XDocument.Parse(
            html[html.IndexOf("<body>", StringComparison.Ordinal)..].Replace("</html>", string.Empty, StringComparison.Ordinal));
        Assert.Equal(4, body.Descendants("svg").Count()); // two charts, each for wide and narrow windows
        var cells = body.Descendants("tr").Select(row => string.Join(' ', row.Elements().Select(cell => cell.Value))).ToList();
        Assert.Contains("increasing 1 -0.017 -0.017", cells); // a third of the way from 1.5 to 1.4
        Assert.Contains("1*S 1*XL increasing 6.0 k 1.450 -0.017 90.0%", cells);
    }

    [Fact]
    public void MarkdownIsEscapedAndLinksToItsCharts()
    {
        var chart = SizeCurve.OfSizes("TinyModel", Data().Evaluation);
        var page = new ReportPage("A * page").Text("snake_case <b>").Chart("size.svg", chart)
            .Table(["Name", "Value"], [["4*S", "a|b"]]).Note("small").Facts([("Seed", "1")]).Sample("S", "fast", "The ", "end\nof it");
        Assert.Equal(
            """
            # A \* page

            snake\_case \<b>

            ![Bits per byte of TinyModel over its size, for each granularity and profile](size.svg)

            | Name | Value |
            |---|---:|
            | 4\*S | a\|b |

            *small*

            - Seed: 1

            **S** fast

                The end
                of it

            """.ReplaceLineEndings("\n"),
            page.ToMarkdown());
        Assert.Equal([("size.svg", chart)], page.Charts);
        Assert.Throws<ArgumentException>(() => page.Table(["Name", "Value"], [["one"]]));
        Assert.Throws<InvalidOperationException>(() => (chart with { Series = [] }).ToSvg());
    }

    [Theory]
    [InlineData(1.02, 1.31, false, new[] { 1.05, 1.1, 1.15, 1.2, 1.25, 1.3 })]
    [InlineData(0, 800, false, new double[] { 0, 200, 400, 600, 800 })]
    [InlineData(2.6, 9.3, true, new double[] { 3, 4, 5, 6, 8 })]
    [InlineData(0.9, 110, true, new double[] { 1, 2, 5, 10, 20, 50, 100 })]
    public void AxisTicksAreRoundNumbers(double from, double to, bool log, double[] expected) =>
        Assert.Equal(expected, new Axis(from, to, 0, 100, log).Ticks);

    [Theory]
    [InlineData(0, "0")]
    [InlineData(345, "345")]
    [InlineData(12_345, "12.3 k")]
    [InlineData(99_949, "99.9 k")]
    [InlineData(99_950, "0.1 M")]
    [InlineData(7_012_345, "7.0 M")]
    public void LargeNumbersAreShort(long number, string text) => Assert.Equal(text, Output.Short(number));

    private static ReportData Data(double bigram = 3.7)
    {
        EvaluationRow Row(string name, bool granularity, long parameters, double bits) =>
            new(new ProfileCosts(
                name, granularity, granularity ? MixShape.Uniform : MixShape.Increasing, granularity ? "2*" + name : "1*S 1*XL",
                [new(8, 1), new(8, 1)], parameters, parameters, 2 * parameters, 64),
                bits, bits * Math.Log(2), new Consistency(0.9, 0.8, 0.02, 0.03));
        return new ReportData
        {
            Spec = TinyModel.Spec,
            Evaluation = new MatFormer.Evaluation(
                [Row("S", true, 2000, 1.5), Row("XL", true, 5000, 1.4), Row("Phone<>", false, 3000, 1.45)], bigram, 1000, 1000),
            Whole = "XL",
            Curves = [new TrainingCurve("S", [(1, 8), (50, 2), (100, 1.5)]), new TrainingCurve("XL", [(2, 8), (51, 1.9), (99, 1.4)])],
            Samples = [new Sample("S", "pro", "<script>\0", 12)],
            Slice = new SliceCheck("Phone<>", "phone.safetensors", 0, true),
            Facts = [("Seed", "1")],
        };
    }
}

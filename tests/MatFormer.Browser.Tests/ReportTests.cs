using Microsoft.Playwright;

namespace MatFormer.Browser.Tests;

public sealed class ReportTests(Chromium browser, Reports reports) : IClassFixture<Reports>
{
    public static TheoryData<int, ColorScheme> Windows => Checks.Windows;

    [Theory]
    [MemberData(nameof(Windows))]
    public async Task ReportsFitTheWindowAndCanBeRead(int width, ColorScheme scheme)
    {
        foreach (var name in (string[])["report", "eval", "plan", "full"])
        {
            var page = await browser.Open(new Uri(reports[name]).AbsoluteUri, width, scheme);
            await Checks.LooksRight(page, name, width, scheme);
            await page.Context.CloseAsync();
        }
    }

    [Theory]
    [InlineData(1280)]
    [InlineData(480)]
    public async Task ScreenReadersFindTheChartsAndTheCellsOfTables(int width)
    {
        var page = await browser.Open(new Uri(reports["report"]).AbsoluteUri, width, ColorScheme.Light);
        var charts = page.GetByRole(AriaRole.Img);
        var names = new List<string?>();
        foreach (var chart in await charts.AllAsync()) names.Add(await chart.GetAttributeAsync("aria-label"));
        Assert.Equal(
            ["Bits per byte of TinyLm over its size, for each granularity and profile", "Training loss of each granularity"], names);

        // The heading and a row for each of four sizes.
        Assert.Equal(5, await page.GetByRole(AriaRole.Row).CountAsync());
        Assert.Equal(9, await page.GetByRole(AriaRole.Columnheader).CountAsync());
        Assert.Equal(36, await page.GetByRole(AriaRole.Cell).CountAsync());
        await page.Context.CloseAsync();
    }
}

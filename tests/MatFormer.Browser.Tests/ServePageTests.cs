using System.Net.Http.Json;
using System.Text.Json;
using Microsoft.Playwright;
using TorchSharp;

namespace MatFormer.Browser.Tests;

/// <summary>The page of a server, without a mouse.</summary>
public sealed class ServePageTests(Chromium browser) : IAsyncLifetime
{
    private static readonly string[] s_sizes = ["auto", "S", "M", "XL", "Mixed"];
    private ModelServerHost _host = null!;

    public static TheoryData<int, ColorScheme> Windows => Checks.Windows;

    public async ValueTask InitializeAsync()
    {
        torch.manual_seed(11);
        using var model = new TinyLm();
        var server = ModelServer.Create<TinyLm>(
            DecodingEngine.Create(model, new DecodingOptions { Sequences = 4, Threads = 2 }),
            new ModelServerOptions { MaxTokens = int.MaxValue });
        _host = await ModelServerHost.StartAsync(server, new ListenOptions { Port = 0 });
    }

    public ValueTask DisposeAsync() => _host.DisposeAsync();

    [Theory]
    [MemberData(nameof(Windows))]
    public async Task ThePageFitsTheWindowAndCanBeRead(int width, ColorScheme scheme)
    {
        var page = await Open(width, scheme);
        await Checks.LooksRight(page, "page", width, scheme);
        await page.GetByLabel("Tokens").PressAsync("Enter");
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToHaveTextAsync("Done: 4 of 4 texts are complete.");
        await Checks.LooksRight(page, "page-done", width, scheme);
        await page.GetByLabel("Tokens").FillAsync("20");
        await page.GetByLabel("Top p").EvaluateAsync("e => { e.min = 0; e.value = 0 }"); // the server refuses it
        await page.GetByLabel("Tokens").PressAsync("Enter");
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToHaveTextAsync(
            "Failed: 0 of 4 texts are complete. 'top_p' is 0; it must be above 0, at most 1.");
        await Checks.LooksRight(page, "page-refused", width, scheme);
        await page.Context.CloseAsync();
    }

    [Fact]
    public async Task TabReachesEveryControlAndShowsWhereItIs()
    {
        var page = await Open();
        string[] controls =
        [
            "Text to continue", .. s_sizes, "Tokens", "Temperature", "Top p", "Seed", "Token, if the server asks for one", "Continue",
            "Stop",
        ];
        Assert.Equal(controls.Length, await page.Locator("a[href], button, input, select, textarea, [tabindex]").CountAsync());
        foreach (var control in controls)
        {
            // The first control has the focus when the page opens.
            if (control != controls[0]) await page.Keyboard.PressAsync("Tab");
            var focused = page.Locator(":focus-visible");
            await Assertions.Expect(focused).ToHaveAccessibleNameAsync(control);
            Assert.Equal("solid 3px", await focused.EvaluateAsync<string>(
                "e => getComputedStyle(e).outlineStyle + ' ' + getComputedStyle(e).outlineWidth"));
        }

        await page.Context.CloseAsync();
    }

    [Fact]
    public async Task APromptIsTypedSentAndAnsweredByKeyboard()
    {
        var page = await Open();
        var keyboard = page.Keyboard;
        await keyboard.PressAsync("Control+A");
        await keyboard.TypeAsync("The square of ");
        foreach (var size in s_sizes)
        {
            await keyboard.PressAsync("Tab");
            if (size != "XL") await keyboard.PressAsync("Space"); // auto was not ticked, the others were
        }

        await keyboard.PressAsync("Control+Enter");
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToHaveTextAsync("Done: 2 of 2 texts are complete.");
        var answer = page.GetByRole(AriaRole.Article, new PageGetByRoleOptions { Name = "XL", Exact = true }).Locator("pre");
        await Assertions.Expect(answer).ToHaveAttributeAsync("aria-live", "polite");
        await Assertions.Expect(answer).ToHaveAttributeAsync("aria-busy", "false");
        Assert.Equal(await Alone("TinyLm/XL", "The square of "), await answer.TextContentAsync());
        await page.Context.CloseAsync();
    }

    [Fact]
    public async Task TextArrivesWhileItIsWrittenUntilEscapeStopsIt()
    {
        var page = await Open();
        await page.GetByLabel("Tokens").FillAsync("1000000000");
        await page.GetByLabel("Tokens").PressAsync("Enter");
        var answers = page.Locator("pre[aria-busy=true]");
        await Assertions.Expect(answers).ToHaveCountAsync(4);
        for (var i = 0; i < 4; i++) await Assertions.Expect(answers.Nth(i)).Not.ToBeEmptyAsync();
        await page.GetByRole(AriaRole.Button, new PageGetByRoleOptions { Name = "Continue" }).FocusAsync();
        await page.Keyboard.PressAsync("Escape");
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToHaveTextAsync("Stopped: 0 of 4 texts are complete.");
        await Assertions.Expect(page.GetByText("stopped", new PageGetByTextOptions { Exact = true })).ToHaveCountAsync(4);
        await Assertions.Expect(page.Locator("pre[aria-busy=false]")).ToHaveCountAsync(4);
        await Assertions.Expect(page.Locator(":focus")).ToHaveAccessibleNameAsync("Continue");
        await page.Context.CloseAsync();
    }

    [Fact]
    public async Task WithoutASizeThePageSaysWhatToDo()
    {
        var page = await Open();
        foreach (var size in s_sizes) await page.GetByLabel(size, new PageGetByLabelOptions { Exact = true }).UncheckAsync();
        await page.Keyboard.PressAsync("Control+Enter");
        await Assertions.Expect(page.GetByRole(AriaRole.Status)).ToHaveTextAsync("Tick at least one size.");
        await page.Context.CloseAsync();
    }

    private async Task<IPage> Open(int width = 1280, ColorScheme scheme = ColorScheme.Light)
    {
        var page = await browser.Open(_host.Address.AbsoluteUri, width, scheme);
        await Assertions.Expect(page.GetByRole(AriaRole.Checkbox)).ToHaveCountAsync(s_sizes.Length);
        return page;
    }

    private async Task<string?> Alone(string model, string prompt)
    {
        using var client = new HttpClient { BaseAddress = _host.Address, Timeout = Timeout.InfiniteTimeSpan };
        using var answer = await client.PostAsJsonAsync(
            "/v1/completions", new { model, prompt, max_tokens = 120, temperature = 0.7, top_p = 1, seed = 1 });
        return JsonElement.Parse(await answer.Content.ReadAsStringAsync()).GetProperty("choices")[0].GetProperty("text").GetString();
    }
}

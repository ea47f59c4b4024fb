using Microsoft.Playwright;

namespace MatFormer.Browser.Tests;

/// <summary>
/// The browser of all tests. Where it is not installed, the tests are skipped with the reason. With <c>CI</c> set, they fail instead.
/// </summary>
public sealed class Chromium : IAsyncLifetime
{
    private const string PathVariable = "MATFORMER_CHROMIUM";
    private const string Missing = "This test needs Chromium. Install it (Debian and Ubuntu: 'apt-get install chromium'), or set "
        + PathVariable + " to the path of a Chromium or Chrome.";

    // A machine that runs other tests beside these may be slow.
    private const float Patience = 2 * 60 * 1000;

    // The tests also run as root, for which the sandbox does not work. They open no page but their own.
    private static readonly string[] s_options =
    [
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync",
    ];

    private IPlaywright? _playwright;
    private IBrowser? _browser;

    public async ValueTask InitializeAsync()
    {
        if (Find() is not { } path) return;
        Assertions.SetDefaultExpectTimeout(Patience);
        _playwright = await Playwright.CreateAsync();
        _browser = await _playwright.Chromium.LaunchAsync(
            new BrowserTypeLaunchOptions { ExecutablePath = path, Headless = true, Args = s_options, Timeout = Patience });
    }

    public async ValueTask DisposeAsync()
    {
        if (_browser is not null) await _browser.DisposeAsync();
        _playwright?.Dispose();
    }

    /// <summary>Opens a page in a window of the given width. The page closes together with its context.</summary>
    internal async Task<IPage> Open(string address, int width, ColorScheme scheme)
    {
        if (_browser is null)
        {
            if (Environment.GetEnvironmentVariable("CI") is { Length: > 0 }) Assert.Fail(Missing);
            Assert.Skip(Missing);
        }

        var context = await _browser.NewContextAsync(new BrowserNewContextOptions
        {
            ViewportSize = new ViewportSize { Width = width, Height = 900 },
            ColorScheme = scheme,
        });
        context.SetDefaultTimeout(Patience);
        var page = await context.NewPageAsync();
        await page.GotoAsync(address);
        return page;
    }

    private static string? Find() => Environment.GetEnvironmentVariable(PathVariable) is { Length: > 0 } path ? path
        : (from folder in (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(Path.PathSeparator)
           from name in (string[])["chromium", "chromium-browser", "google-chrome"]
           let file = Path.Combine(folder, name)
           where File.Exists(file)
           select file).FirstOrDefault();
}

using Microsoft.Playwright;

namespace MatFormer.Browser.Tests;

/// <summary>What holds of every page, at every width, in light and dark mode.</summary>
internal static class Checks
{
    /// <summary>The windows in which pages are looked at.</summary>
    public static TheoryData<int, ColorScheme> Windows
    {
        get
        {
            var windows = new TheoryData<int, ColorScheme>();
            foreach (var width in (int[])[1280, 480])
            {
                foreach (var scheme in (ColorScheme[])[ColorScheme.Light, ColorScheme.Dark]) windows.Add(width, scheme);
            }

            return windows;
        }
    }

    // Returns the elements that reach beyond the window, that hide a part of what they hold, or whose drawn text covers another text.
    private const string Cut = """
        () => {
          const found = [];
          const name = e => `${e.tagName} '${e.textContent.trim().slice(0, 40)}'`;
          if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
          for (const e of document.body.querySelectorAll('*')) {
            const box = e.getBoundingClientRect(), style = getComputedStyle(e);
            // The headings of a table are only for screen readers where its cells have them.
            if (box.width === 0 || e.closest('thead') && getComputedStyle(e.closest('thead')).clipPath !== 'none') continue;
            if (box.left < -0.5 || box.right > innerWidth + 0.5) found.push(`${name(e)} from ${box.left} to ${box.right}`);
            if (e.clientWidth > 0 && style.overflowX !== 'visible' && e.scrollWidth > e.clientWidth)
              found.push(`${name(e)} shows ${e.clientWidth} of ${e.scrollWidth}`);
          }
          for (const chart of document.querySelectorAll('svg')) {
            const frame = chart.getBoundingClientRect();
            const texts = [...chart.querySelectorAll('text')].map(text => ({ text, box: text.getBoundingClientRect() }));
            const boxes = texts.filter(t => t.box.width > 0);
            for (const { text, box } of boxes) {
              if (box.left < frame.left || box.right > frame.right || box.top < frame.top || box.bottom > frame.bottom)
                found.push(`${name(text)} leaves its chart`);
            }
            boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
              const x = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
              const y = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
              if (x > 2 && y > 4) found.push(`${name(a.text)} and ${name(b.text)} cover each other`);
            }));
          }
          return found;
        }
        """;

    // Returns the texts whose colour and background have a contrast below 4.5, which is what WCAG 2 asks for. Controls that can do nothing
    // now are exempt.
    private const string Pale = """
        () => {
          const parse = colour => {
            const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
            return [r, g, b, a];
          };
          const over = ([r, g, b, a], below) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a));
          const light = colour => colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
          const backgroundOf = e => {
            const colour = e ? parse(getComputedStyle(e).backgroundColor) : [255, 0, 255, 1]; // pages must have one of their own
            return colour[3] === 1 ? colour.slice(0, 3) : over(colour, backgroundOf(e.parentElement));
          };
          const opacityOf = e => e ? getComputedStyle(e).opacity * opacityOf(e.parentElement) : 1;
          const found = [];
          const check = (e, colour, text) => {
            const background = backgroundOf(e), [r, g, b, a] = parse(colour);
            const [low, high] = [light(over([r, g, b, a * opacityOf(e)], background)), light(background)].sort((x, y) => x - y);
            const contrast = (high + 0.05) / (low + 0.05);
            if (contrast < 4.5) found.push(`${contrast.toFixed(2)}: ${e.tagName} '${text.trim().slice(0, 40)}'`);
          };
          for (const e of document.body.querySelectorAll('*')) {
            if (e.getBoundingClientRect().width === 0 || e.closest('script, style, title, [aria-disabled=true]')) continue;
            const style = getComputedStyle(e), before = getComputedStyle(e, '::before');
            const text = e.value ?? [...e.childNodes].filter(n => n.nodeType === Node.TEXT_NODE).map(n => n.data).join('');
            if (text.trim()) check(e, e.closest('svg') ? style.fill : style.color, text);
            if (!['none', 'normal'].includes(before.content)) check(e, before.color, before.content);
          }
          return found;
        }
        """;

    /// <summary>
    /// Checks that nothing is cut off and that all text can be read. If MATFORMER_SCREENSHOTS names a folder, it gets a picture of the
    /// page.
    /// </summary>
    public static async Task LooksRight(IPage page, string name, int width, ColorScheme scheme)
    {
        if (Environment.GetEnvironmentVariable("MATFORMER_SCREENSHOTS") is { Length: > 0 } folder)
        {
            var file = Path.Combine(folder, $"{name}-{width}-{scheme}.png");
            await page.ScreenshotAsync(new PageScreenshotOptions { Path = file, FullPage = true });
        }

        Assert.Empty(await page.EvaluateAsync<string[]>(Cut));
        Assert.Empty(await page.EvaluateAsync<string[]>(Pale));
    }
}

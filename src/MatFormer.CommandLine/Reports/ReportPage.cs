using System.Collections.Immutable;
using System.Text;

namespace MatFormer;

/// <summary>
/// A page of text, tables and charts, as self-contained HTML or as Markdown with chart files beside it. All text is escaped, so that it is
/// shown literally.
/// </summary>
/// <example>
/// <code>
/// var page = new ReportPage("Sizes");
/// page.Heading("Parameters").Table(["name", "parameters"], [["S", "1,000"], ["XL", "4,000"]]);
/// File.WriteAllText("sizes.html", page.ToHtml());
/// </code>
/// </example>
public sealed class ReportPage
{
    private const string Style = """
        *{box-sizing:border-box}
        body{margin:0;background:var(--surface);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
        main{max-width:68rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
        h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;text-wrap:balance}h2{font-size:1.2rem;margin:2.75rem 0 .6rem}
        p{margin:.4rem 0 .8rem;max-width:48rem;overflow-wrap:anywhere}.quiet{color:var(--muted)}.scroll{overflow-x:auto;margin-bottom:.9rem}
        .wide svg,.narrow svg{display:block;width:100%;max-width:48rem;height:auto}.narrow{display:none}
        table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
        th{font-weight:600;text-align:right;vertical-align:bottom;border-bottom:2px solid var(--grid);padding:.35rem .6rem}
        td{text-align:right;border-bottom:1px solid var(--grid);padding:.35rem .6rem;white-space:nowrap}
        th.l,td.l{text-align:left}.w{white-space:normal;min-width:8rem}td.n{font-weight:600}
        figure{margin:0 0 1rem;border:1px solid var(--grid);border-radius:8px;padding:.8rem 1rem}
        figcaption{font-weight:600;margin-bottom:.35rem}figcaption span{font-weight:400}
        .pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(7.5rem,1fr));gap:.8rem}
        .pictures figure{margin:0;text-align:center;font-size:.85rem}.pictures img{width:5.5rem;height:5.5rem;image-rendering:pixelated}
        pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:.86rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
        dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.2rem;margin:0;font-size:.92rem}
        dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
        @media(max-width:52rem){thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}table,tbody{display:block}
        tr{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(13rem,100%),1fr));column-gap:1.25rem;padding:.5rem 0}
        tr{border-bottom:1px solid var(--grid)}td:empty{display:none}
        td,td.l{display:flex;justify-content:space-between;gap:.75rem;border:0;padding:.1rem 0;text-align:right}
        td.l{grid-column:1/-1;justify-content:start}
        td::before{content:attr(data-name);color:var(--muted);text-align:left;white-space:normal}td.n::before{content:none}.w{min-width:0}}
        @media(max-width:40rem){.wide{display:none}.narrow{display:block}main{padding-top:1.5rem}h1{font-size:1.5rem}}
        """;

    // Longer names are broken into lines.
    private const int LongName = 20;

    private readonly string _title;
    private readonly StringBuilder _html = new();
    private readonly StringBuilder _markdown = new();
    private readonly List<(string File, ScatterChart Chart)> _charts = [];

    /// <summary>Begins a page.</summary>
    public ReportPage(string title)
    {
        ArgumentException.ThrowIfNullOrEmpty(title);
        _title = title;
        _html.Append("<h1>").Append(Svg.Escape(title)).Append("</h1>\n");
        _markdown.Append("# ").Append(Plain(title)).Append('\n');
    }

    /// <summary>The charts of the page, with the file names that <see cref="ToMarkdown"/> links to. The caller writes the files.</summary>
    public IReadOnlyList<(string File, ScatterChart Chart)> Charts => _charts;

    /// <summary>Begins a section.</summary>
    public ReportPage Heading(string text)
    {
        _html.Append("<h2>").Append(Svg.Escape(text)).Append("</h2>\n");
        _markdown.Append("\n## ").Append(Plain(text)).Append('\n');
        return this;
    }

    /// <summary>Adds a paragraph.</summary>
    public ReportPage Text(string text)
    {
        _html.Append("<p>").Append(Svg.Escape(text)).Append("</p>\n");
        _markdown.Append('\n').Append(Plain(text)).Append('\n');
        return this;
    }

    /// <summary>Adds a paragraph that explains the preceding part of the page.</summary>
    public ReportPage Note(string text)
    {
        _html.Append("<p class=\"quiet\">").Append(Svg.Escape(text)).Append("</p>\n");
        _markdown.Append("\n*").Append(Plain(text)).Append("*\n");
        return this;
    }

    /// <summary>Adds a table.</summary>
    /// <param name="headings">One for each column.</param>
    /// <param name="rows">The rows, each with as many cells as there are headings.</param>
    /// <param name="names">The number of leading columns with names instead of numbers.</param>
    /// <exception cref="ArgumentException">A row has more or fewer cells than there are headings.</exception>
    public ReportPage Table(ImmutableArray<string> headings, IEnumerable<ImmutableArray<string>> rows, int names = 1)
    {
        ArgumentNullException.ThrowIfNull(rows);
        _html.Append("<div class=\"scroll\"><table>\n<thead><tr>");
        for (var i = 0; i < headings.Length; i++)
            _html.Append(i < names ? "<th class=\"l\">" : "<th>").Append(Svg.Escape(headings[i])).Append("</th>");
        _html.Append("</tr></thead>\n<tbody>\n");
        _markdown.Append('\n').Append(Row(headings)).Append("\n|")
            .Append(string.Concat(headings.Select((_, i) => i < names ? "---|" : "---:|"))).Append('\n');
        foreach (var row in rows)
        {
            if (row.Length != headings.Length)
                throw new ArgumentException($"A row has {row.Length} cells, but there are {headings.Length} headings.", nameof(rows));
            _html.Append("<tr>");
            for (var i = 0; i < row.Length; i++)
            {
                var wraps = row[i].Length > LongName ? " w" : null;
                _html.Append(i >= names ? "<td" : i == 0 ? $"<td class=\"l n{wraps}\"" : $"<td class=\"l{wraps}\"")
                    .Append($" data-name=\"{Svg.Escape(headings[i])}\">").Append(Svg.Escape(row[i])).Append("</td>");
            }

            _html.Append("</tr>\n");
            _markdown.Append(Row(row)).Append('\n');
        }

        _html.Append("</tbody></table></div>\n");
        return this;

        static string Row(ImmutableArray<string> cells) =>
            $"| {string.Join(" | ", cells.Select(c => Plain(c).Replace("|", "\\|", StringComparison.Ordinal)))} |";
    }

    /// <summary>Adds a chart.</summary>
    /// <param name="file">The name of the chart's file beside the Markdown.</param>
    /// <param name="chart">The chart.</param>
    public ReportPage Chart(string file, ScatterChart chart)
    {
        ArgumentException.ThrowIfNullOrEmpty(file);
        ArgumentNullException.ThrowIfNull(chart);
        _charts.Add((file, chart));
        _markdown.Append($"\n![{Plain(chart.Title)}]({file})\n");
        return Drawing(chart.Inline);
    }

    /// <summary>Adds text with a caption. Line breaks and spaces are kept.</summary>
    /// <param name="caption">The caption.</param>
    /// <param name="detail">A detail that follows the caption.</param>
    /// <param name="given">Text that was given, such as a prompt. It precedes the text in a quieter colour.</param>
    /// <param name="text">The text.</param>
    public ReportPage Sample(string caption, string detail, string given, string text)
    {
        _html.Append("<figure><figcaption>").Append(Svg.Escape(caption)).Append(" <span class=\"quiet\">").Append(Svg.Escape(detail))
            .Append("</span></figcaption><pre><span class=\"quiet\">").Append(Svg.Escape(given)).Append("</span>").Append(Svg.Escape(text))
            .Append("</pre></figure>\n");
        _markdown.Append($"\n**{Plain(caption)}** {Plain(detail)}\n\n")
            .Append(string.Join('\n', (given + text).Split('\n').Select(line => "    " + line))).Append('\n');
        return this;
    }

    /// <summary>Adds small PNG pictures with a caption each. Markdown has the captions only.</summary>
    internal ReportPage Pictures(IEnumerable<(byte[] Png, string Caption)> pictures)
    {
        _html.Append("<div class=\"pictures\">\n");
        _markdown.Append('\n');
        foreach (var (png, caption) in pictures)
        {
            _html.Append("<figure><img alt=\"\" src=\"data:image/png;base64,").Append(Convert.ToBase64String(png))
                .Append("\"><figcaption><span>").Append(Svg.Escape(caption)).Append("</span></figcaption></figure>\n");
            _markdown.Append("- ").Append(Plain(caption)).Append('\n');
        }

        _html.Append("</div>\n");
        return this;
    }

    /// <summary>Adds a list of names with their values.</summary>
    public ReportPage Facts(IEnumerable<(string Name, string Value)> facts)
    {
        ArgumentNullException.ThrowIfNull(facts);
        _html.Append("<dl>\n");
        _markdown.Append('\n');
        foreach (var (name, value) in facts)
        {
            _html.Append("<dt>").Append(Svg.Escape(name)).Append("</dt><dd>").Append(Svg.Escape(value)).Append("</dd>\n");
            _markdown.Append("- ").Append(Plain(name)).Append(": ").Append(Plain(value)).Append('\n');
        }

        _html.Append("</dl>\n");
        return this;
    }

    /// <summary>Returns an HTML page for light and dark mode, without scripts and external resources.</summary>
    public string ToHtml() =>
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
        + "content=\"width=device-width,initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n"
        + $"<title>{Svg.Escape(_title)}</title>\n<style>\n{Svg.Style}\n{Style}\n</style>\n</head>\n<body>\n<main>\n"
        + $"{_html}</main>\n</body>\n</html>\n";

    /// <summary>Returns Markdown that links to the files of <see cref="Charts"/> beside it.</summary>
    public string ToMarkdown() => _markdown.ToString();

    /// <summary>Adds an SVG to the HTML page, drawn for both widths. The style shows the one that fits the window.</summary>
    internal ReportPage Drawing(Func<double, string> draw)
    {
        _html.Append("<div class=\"wide\">").Append(draw(ChartParts.Wide)).Append("</div>\n")
            .Append("<div class=\"narrow\">").Append(draw(ChartParts.Narrow)).Append("</div>\n");
        return this;
    }

    private static string Plain(string text)
    {
        var plain = new StringBuilder(text.Length);
        foreach (var character in text)
        {
            if (character is '*' or '_' or '`' or '<' or '[' or '\\') plain.Append('\\');
            plain.Append(character == '\n' ? ' ' : character);
        }

        return plain.ToString();
    }
}

using System.Text;

namespace MatFormer;

/// <summary>Writes the report: one page that needs nothing else.</summary>
internal static class HtmlReport
{
    private const string Style = """
        *{box-sizing:border-box}
        body{margin:0;background:var(--surface);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
        main{max-width:52rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
        h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;text-wrap:balance}h2{font-size:1.2rem;margin:2.75rem 0 .6rem}
        p{margin:.4rem 0 .8rem}.quiet{color:var(--muted)}.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
        .scroll svg{display:block;width:100%;min-width:30rem;height:auto}
        table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
        th{font-weight:600;text-align:right;border-bottom:2px solid var(--grid);padding:.35rem .6rem;white-space:nowrap}
        td{text-align:right;border-bottom:1px solid var(--grid);padding:.35rem .6rem;white-space:nowrap}
        th.l,td.l{text-align:left}td.n{font-weight:600}
        .samples{display:grid;gap:1rem}figure{margin:0;border:1px solid var(--grid);border-radius:8px;padding:.8rem 1rem}
        figcaption{font-weight:600;margin-bottom:.35rem}figcaption span{font-weight:400}
        pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:.86rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
        dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.2rem;margin:0;font-size:.92rem}
        dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
        """;

    public static string Render(ReportData data)
    {
        var page = new StringBuilder();
        var name = Svg.Escape(data.Spec.Name);
        var rows = data.Evaluation.Rows;
        var smallest = rows[0].Costs;
        var whole = rows.Last(r => r.Costs.IsGranularity).Costs;
        page.Append("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
            + "content=\"width=device-width,initial-scale=1\">\n");
        page.Append("<meta name=\"color-scheme\" content=\"light dark\">\n<title>").Append(name)
            .Append(": one model, many sizes</title>\n<style>\n")
            .Append(Svg.Style).Append('\n').Append(Style).Append("\n</style>\n</head>\n<body>\n<main>\n");
        page.Append("<h1>").Append(name).Append(": one model, many sizes</h1>\n");
        page.Append(Output.Invariant($"<p class=\"quiet\">Trained once; every point below is cut from the same weights, from "
            + $"{Output.Millions(smallest.Parameters)} to {Output.Millions(whole.Parameters)} parameters, without training again.</p>\n"));

        page.Append("<h2>Accuracy over size</h2>\n<div class=\"scroll\">").Append(SizeCurve.Inline(data)).Append("</div>\n");
        page.Append(Output.Invariant($"<p class=\"quiet\">On {data.Evaluation.Bytes:n0} bytes of text that was not trained on. A bigram "
            + $"model of the same training text needs {data.Evaluation.BigramBitsPerByte:0.000} bits per byte.</p>\n"));

        page.Append("<h2>Granularities and profiles</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th class=\"l\">Name</th><th "
            + "class=\"l\">Layers</th><th>Parameters</th><th>FLOPs per token</th><th>Bits per byte</th><th>Agrees with ")
            .Append(Svg.Escape(data.Whole)).Append("</th></tr></thead>\n<tbody>\n");
        foreach (var row in rows)
        {
            page.Append("<tr><td class=\"l n\">").Append(Svg.Escape(row.Costs.Name)).Append("</td><td class=\"l\">")
                .Append(Svg.Escape(row.Costs.Pattern))
                .Append(Output.Invariant($"</td><td>{row.Costs.Parameters:n0}</td><td>{Output.Millions(row.Costs.FlopsPerToken)}"))
                .Append(Output.Invariant($"</td><td>{row.BitsPerByte:0.000}</td><td>"))
                .Append(row.Agreement is { } agreement ? Output.Invariant($"{agreement:0.0%}") : string.Empty).Append("</td></tr>\n");
        }

        page.Append("</tbody></table></div>\n<p class=\"quiet\">Agreement: the share of positions where both find the same next token the "
            + "likeliest.</p>\n");

        if (data.Curves.Count > 0)
        {
            page.Append("<h2>Training</h2>\n<div class=\"scroll\">").Append(TrainingChart.Inline(data.Curves)).Append("</div>\n");
            page.Append("<p class=\"quiet\">Smoothed over about 5% of the steps; the first steps lie above the frame.</p>\n");
        }

        page.Append("<h2>Extraction</h2>\n<p>").Append(Svg.Escape(data.Slice.Profile)).Append(" was extracted, saved to <code>")
            .Append(Svg.Escape(data.Slice.Path))
            .Append("</code> and loaded again. Its logits ")
            .Append(data.Slice.Equal ? "are the universal model’s own, bit for bit."
                : Output.Invariant($"differ from the universal model’s own by at most {data.Slice.Difference:0.###E+0}."))
            .Append("</p>\n");

        page.Append("<h2>The same prompt, several sizes</h2>\n<div class=\"samples\">\n");
        foreach (var sample in data.Samples)
        {
            page.Append("<figure><figcaption>").Append(Svg.Escape(sample.Profile))
                .Append(Output.Invariant($" <span class=\"quiet\">{sample.TokensPerSecond:n0} tokens per second</span></figcaption>"))
                .Append("<pre><span class=\"quiet\">")
                .Append(Svg.Escape(sample.Prompt)).Append("</span>").Append(Svg.Escape(sample.Text)).Append("</pre></figure>\n");
        }

        page.Append("</div>\n<h2>How it was made</h2>\n<dl>\n");
        foreach (var (fact, value) in data.Facts) page.Append("<dt>").Append(Svg.Escape(fact)).Append("</dt><dd>").Append(Svg.Escape(value))
            .Append("</dd>\n");
        page.Append("</dl>\n</main>\n</body>\n</html>\n");
        return page.ToString();
    }
}

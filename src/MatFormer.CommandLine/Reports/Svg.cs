using System.Globalization;
using System.Net;
using System.Text;

namespace MatFormer;

/// <summary>Builds the text of an SVG. Numbers are the same in every culture, and text is escaped.</summary>
internal sealed class Svg
{
    private readonly StringBuilder _text = new();

    /// <summary>Colours and fonts of all charts, for light and dark mode. Pages and separate SVG files share them.</summary>
    public const string Style = """
        :root{--surface:#fcfcfb;--ink:#1c1c1a;--muted:#6b6a64;--grid:#e6e5e0;--m0:#2a66c4;--m1:#c2541b;--m2:#2c8a57;--m3:#8b55bd;--m4:#8a7415;
        --s0:#8fbaf2;--s1:#6a9fe6;--s2:#4684d8;--s3:#2a66c4;--s4:#1c4c9c;--s5:#123572}
        @media(prefers-color-scheme:dark){:root{--surface:#1a1a19;--ink:#ecebe6;--muted:#a3a29a;--grid:#33332f;
        --m0:#79aaf2;--m1:#f08f58;--m2:#5fc48c;--m3:#bf93e6;--m4:#cdb550;--s0:#2f5ea8;--s1:#4579c8;--s2:#5f95e0;--s3:#82b0f0;--s4:#a9caf7;--s5:#d3e5fc}}
        svg{font:13px/1.3 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
        svg text{fill:var(--ink)}svg .quiet{fill:var(--muted)}svg .grid{stroke:var(--grid)}svg .axis{stroke:var(--muted)}
        svg .line{fill:none;stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}
        svg .m0{stroke:var(--m0)}svg .m1{stroke:var(--m1)}svg .m2{stroke:var(--m2)}svg .m3{stroke:var(--m3)}svg .m4{stroke:var(--m4)}
        svg .f0{fill:var(--m0)}svg .f1{fill:var(--m1)}svg .f2{fill:var(--m2)}svg .f3{fill:var(--m3)}svg .f4{fill:var(--m4)}
        svg .f0,svg .f1,svg .f2,svg .f3,svg .f4{stroke:var(--surface);stroke-width:1.5}
        svg .dash{stroke:var(--muted);stroke-width:1.5;stroke-dasharray:6 5}
        """;

    public static string Number(double value) => Math.Round(value, 2).ToString(CultureInfo.InvariantCulture);

    /// <summary>Escapes text for XML and HTML. Characters that they do not allow become U+FFFD.</summary>
    public static string Escape(string text)
    {
        var clean = new StringBuilder(text.Length);

        // Unpaired surrogates are enumerated as U+FFFD.
        foreach (var rune in text.EnumerateRunes())
        {
            var allowed = rune.Value is '\n' or '\t' or (>= 0x20 and not (>= 0x7F and <= 0x9F)) and not 0xFFFE and not 0xFFFF;
            clean.Append(allowed ? rune.ToString() : "\uFFFD");
        }

        return WebUtility.HtmlEncode(clean.ToString());
    }

    public Svg Add(string markup)
    {
        _text.Append(markup);
        return this;
    }

    public Svg Line(double x1, double y1, double x2, double y2, string style) =>
        Add($"<line class=\"{style}\" x1=\"{Number(x1)}\" y1=\"{Number(y1)}\" x2=\"{Number(x2)}\" y2=\"{Number(y2)}\"/>\n");

    public Svg Path(IEnumerable<(double X, double Y)> points, string attributes)
    {
        var path = string.Join(' ', points.Select((p, i) => $"{(i == 0 ? 'M' : 'L')}{Number(p.X)} {Number(p.Y)}"));
        return Add($"<path {attributes} d=\"{path}\"/>\n");
    }

    public Svg Text(double x, double y, string text, string anchor = "start", string style = "", string more = "") =>
        Add($"<text x=\"{Number(x)}\" y=\"{Number(y)}\" text-anchor=\"{anchor}\" class=\"{style}\"{more}>{Escape(text)}</text>\n");

    public override string ToString() => _text.ToString();
}

/// <summary>Maps values onto an axis, linear or logarithmic, with round ticks.</summary>
internal sealed class Axis
{
    private readonly double _from;
    private readonly double _to;
    private readonly double _start;
    private readonly double _end;
    private readonly bool _log;

    public Axis(double from, double to, double start, double end, bool log = false)
    {
        _log = log;
        (_from, _to) = (from, to > from ? to : from + 1);
        (_start, _end) = (start, end);
        Ticks = log ? LogTicks(_from, _to) : LinearTicks(_from, _to);
    }

    public IReadOnlyList<double> Ticks { get; }

    public double From => _from;

    public double To => _to;

    public double At(double value)
    {
        var share = _log ? Math.Log(value / _from) / Math.Log(_to / _from) : (value - _from) / (_to - _from);
        return _start + (share * (_end - _start));
    }

    private static List<double> LinearTicks(double from, double to)
    {
        var raw = (to - from) / 5;
        var power = Math.Pow(10, Math.Floor(Math.Log10(raw)));
        var step = power * (raw / power) switch { < 1.5 => 1, < 3.5 => 2, < 7.5 => 5, _ => 10 };
        var ticks = new List<double>();
        for (var i = (long)Math.Ceiling((from / step) - 1e-9); i * step <= to + (step * 1e-9); i++) ticks.Add(Math.Round(i * step, 10));
        return ticks;
    }

    private static List<double> LogTicks(double from, double to)
    {
        double[] fine = [1, 1.5, 2, 3, 4, 5, 6, 8];
        double[] coarse = [1, 2, 5];
        var wide = to / from > 20;
        var ticks = new List<double>();
        for (var power = Math.Pow(10, Math.Floor(Math.Log10(from))); power <= to; power *= 10)
            ticks.AddRange((wide ? coarse : fine).Select(f => Math.Round(f * power, 10)).Where(t => t >= from && t <= to));
        return ticks;
    }
}

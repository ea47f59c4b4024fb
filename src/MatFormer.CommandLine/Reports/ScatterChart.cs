using System.Collections.Immutable;
using System.Globalization;

namespace MatFormer;

/// <summary>A point of a chart.</summary>
/// <param name="X">The value on the horizontal axis.</param>
/// <param name="Y">The value on the vertical axis.</param>
/// <param name="Tip">The tooltip.</param>
/// <param name="Label">The text beside the point; empty for none.</param>
public sealed record ChartPoint(double X, double Y, string Tip = "", string Label = "");

/// <summary>Points that share a mark and an entry in the legend.</summary>
/// <param name="Name">The name in the legend.</param>
/// <param name="Points">The points. Those of a line are ordered from left to right.</param>
/// <param name="IsLine">True if a line joins them.</param>
public sealed record ChartSeries(string Name, ImmutableArray<ChartPoint> Points, bool IsLine = false);

/// <summary>A chart of points and lines over two axes, as an SVG for light and dark mode.</summary>
public sealed record ScatterChart
{
    private const double PlotHeight = 302;
    private const double Left = 56;
    private const double Right = 24;
    private const double Bottom = 54;
    private const double LegendRow = 22;
    private const int Marks = 5;

    /// <summary>A description of the chart for screen readers.</summary>
    public required string Title { get; init; }

    /// <summary>The title of the horizontal axis.</summary>
    public required string XTitle { get; init; }

    /// <summary>The title of the vertical axis.</summary>
    public required string YTitle { get; init; }

    /// <summary>The suffix of the numbers on the horizontal axis, such as <c> M</c>.</summary>
    public string XUnit { get; init; } = string.Empty;

    /// <summary>True for a logarithmic horizontal axis.</summary>
    public bool LogX { get; init; }

    /// <summary>A dashed horizontal line, which is left out if it would flatten the rest of the chart; null for none.</summary>
    public (double Y, string Label)? Reference { get; init; }

    /// <summary>The series. At most five can be told apart.</summary>
    public required ImmutableArray<ChartSeries> Series { get; init; }

    /// <summary>Returns the chart as an SVG file.</summary>
    /// <exception cref="InvalidOperationException">The chart has no points.</exception>
    public string ToSvg()
    {
        var (height, body) = Draw(ChartParts.Wide);
        return $"<svg xmlns=\"http://www.w3.org/2000/svg\" {Attributes(ChartParts.Wide, height)}>\n<style>{Svg.Style}</style>\n"
            + $"<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"var(--surface)\"/>\n{body}</svg>\n";
    }

    /// <summary>Returns the chart as a part of a page that includes <see cref="Svg.Style"/>.</summary>
    internal string Inline(double width)
    {
        var (height, body) = Draw(width);
        return $"<svg {Attributes(width, height)}>\n{body}</svg>\n";
    }

    private string Attributes(double width, double height) =>
        $"viewBox=\"0 0 {Svg.Number(width)} {Svg.Number(height)}\" role=\"img\" aria-label=\"{Svg.Escape(Title)}\"";

    private (double Height, string Body) Draw(double width)
    {
        var points = Series.SelectMany(s => s.Points).ToList();
        if (points.Count == 0) throw new InvalidOperationException($"The chart '{Title}' has no points to show.");
        var legend = new Svg();
        var title = ChartParts.Lines(YTitle, width);
        var top = Legend(legend, width) + 10 + ChartParts.Above(title);
        var right = width - Right;
        var (lowest, highest) = (points.Min(p => p.Y), points.Max(p => p.Y));
        var range = Math.Max(highest - lowest, 0.02);
        var (low, high) = (lowest - (0.2 * range), highest + (0.2 * range));
        var reference = Reference is { } given && given.Y >= low - range && given.Y <= high + range ? Reference : null;
        if (reference is { } shown) (low, high) = (Math.Min(low, shown.Y - (0.1 * range)), Math.Max(high, shown.Y + (0.1 * range)));
        var (least, most) = (points.Min(p => p.X), points.Max(p => p.X));
        var margin = 0.05 * (most - least);
        var bottom = top + PlotHeight;
        var x = LogX ? new Axis(least / 1.1, most * 1.1, Left, right, log: true)
            : new Axis(least - margin, most + margin, Left, right);
        var y = new Axis(low, high, bottom, top);
        var svg = new Svg();
        ChartParts.Frame(svg, x, y, right, bottom, t => t.ToString(CultureInfo.InvariantCulture) + XUnit, XTitle, title);
        var labels = new LabelPlacer(Left, top, right, bottom);
        if (reference is { } line)
        {
            var at = y.At(line.Y);
            svg.Line(Left, at, right, at, "dash");
            svg.Text(right, at - 6, line.Label, "end", "quiet");
            labels.Block(Left, at - 2, right, at + 2);
            labels.Block(right - (ChartParts.CharacterWidth * line.Label.Length), at - 18, right, at);
        }

        foreach (var point in points) labels.Block(x.At(point.X), y.At(point.Y), 7);
        for (var i = 0; i < Series.Length; i++)
        {
            if (!Series[i].IsLine) continue;
            var joined = Series[i].Points.Select(p => (X: x.At(p.X), Y: y.At(p.Y))).ToList();
            svg.Path(joined, $"class=\"line m{i % Marks}\"");
            foreach (var (from, to) in joined.Zip(joined.Skip(1)))
            {
                // Labels must not cover the line either.
                for (var t = 0.0; t <= 1; t += 0.05) labels.Block((from.X * (1 - t)) + (to.X * t), (from.Y * (1 - t)) + (to.Y * t), 2);
            }
        }

        for (var i = 0; i < Series.Length; i++)
        {
            foreach (var point in Series[i].Points)
            {
                var (px, py) = (x.At(point.X), y.At(point.Y));
                Mark(svg, i, px, py, 5.5, point.Tip);
                if (point.Label.Length == 0) continue;
                if (labels.Place(px, py, point.Label) is not var (lx, ly, anchor)) continue;
                svg.Text(lx, ly, point.Label, anchor, string.Empty, i == 0 ? " font-weight=\"600\"" : string.Empty);
            }
        }

        return (bottom + Bottom, legend.ToString() + svg);
    }

    // Draws rows of marks and names, and returns where they end.
    private double Legend(Svg svg, double width)
    {
        var (at, row) = (ChartParts.Edge, 18.0);
        for (var i = 0; i < Series.Length; i++)
        {
            var entry = 30 + (ChartParts.CharacterWidth * Series[i].Name.Length) + 18;
            if (at > ChartParts.Edge && at + entry > width) (at, row) = (ChartParts.Edge, row + LegendRow);
            if (Series[i].IsLine) svg.Line(at, row, at + 22, row, $"line m{i % Marks}");
            Mark(svg, i, at + 11, row, 5, string.Empty);
            svg.Text(at + 30, row + 4, Series[i].Name);
            at += entry;
        }

        return row;
    }

    private static void Mark(Svg svg, int series, double x, double y, double size, string tip)
    {
        var title = tip.Length == 0 ? string.Empty : $"<title>{Svg.Escape(tip)}</title>";
        var wide = Svg.Number(size * 1.25);
        var shape = (series % Marks) switch
        {
            0 => $"<circle cx=\"{Svg.Number(x)}\" cy=\"{Svg.Number(y)}\" r=\"{Svg.Number(size)}\"",
            1 => $"<path d=\"M{Svg.Number(x)} {Svg.Number(y - (size * 1.25))}l{wide} {wide}l-{wide} {wide}l-{wide}-{wide}z\"",
            2 => $"<path d=\"M{Svg.Number(x)} {Svg.Number(y - size)}l{wide} {Svg.Number(size * 2)}h-{Svg.Number(size * 2.5)}z\"",
            3 => $"<path d=\"M{Svg.Number(x)} {Svg.Number(y + size)}l{wide}-{Svg.Number(size * 2)}h-{Svg.Number(size * 2.5)}z\"",
            _ => $"<path d=\"M{Svg.Number(x - size)} {Svg.Number(y - size)}h{Svg.Number(2 * size)}v{Svg.Number(2 * size)}"
                + $"h-{Svg.Number(2 * size)}z\"",
        };
        svg.Add($"{shape} class=\"f{series % Marks}\">{title}</{(series % Marks == 0 ? "circle" : "path")}>\n");
    }
}

/// <summary>Finds room for labels beside points.</summary>
internal sealed class LabelPlacer(double left, double top, double right, double bottom)
{
    private readonly List<(double X1, double Y1, double X2, double Y2)> _taken = [];

    /// <summary>Keeps labels off a point.</summary>
    public void Block(double x, double y, double radius) => Block(x - radius, y - radius, x + radius, y + radius);

    /// <summary>Keeps labels off a rectangle.</summary>
    public void Block(double x1, double y1, double x2, double y2) => _taken.Add((x1, y1, x2, y2));

    /// <summary>
    /// Returns where the text of a label goes: the first free place beside, above or below the point. Returns null if there is none. The
    /// tooltip still names the point.
    /// </summary>
    public (double X, double Y, string Anchor)? Place(double x, double y, string label)
    {
        var width = (ChartParts.CharacterWidth * label.Length) + 4;
        (double X, double Y, string Anchor)[] candidates =
        [
            (x + 11, y + 4, "start"), (x, y - 13, "middle"), (x, y + 22, "middle"), (x - 11, y + 4, "end"), (x + 9, y - 10, "start"),
            (x + 9, y + 18, "start"), (x - 9, y - 10, "end"), (x - 9, y + 18, "end"), (x, y - 28, "middle"), (x, y + 37, "middle"),
        ];
        foreach (var candidate in candidates)
        {
            var box = Box(candidate, width);
            if (box.X1 < left || box.X2 > right || box.Y1 < top || box.Y2 > bottom
                || _taken.Any(t => t.X1 < box.X2 && box.X1 < t.X2 && t.Y1 < box.Y2 && box.Y1 < t.Y2)) continue;
            _taken.Add(box);
            return candidate;
        }

        return null;
    }

    private static (double X1, double Y1, double X2, double Y2) Box((double X, double Y, string Anchor) at, double width)
    {
        var x = at.Anchor switch { "start" => at.X, "end" => at.X - width, _ => at.X - (width / 2) };
        return (x, at.Y - 12, x + width, at.Y + 3);
    }
}

/// <summary>Parts that all charts share.</summary>
internal static class ChartParts
{
    /// <summary>The width of a chart in files and on wide pages.</summary>
    public const double Wide = 680;

    /// <summary>The width of a chart on the page of a telephone. Its letters have the same size.</summary>
    public const double Narrow = 440;

    /// <summary>Where the legend and the title of the vertical axis begin.</summary>
    public const double Edge = 8;

    /// <summary>The room for a letter of <see cref="Svg.Style"/>.</summary>
    public const double CharacterWidth = 7.2;

    private const double LineHeight = 17;

    /// <summary>Breaks a title into lines that fit the width of a chart.</summary>
    public static List<string> Lines(string title, double width)
    {
        var most = (width - (2 * Edge)) / CharacterWidth;
        var lines = new List<string>();
        foreach (var word in title.Split(' '))
        {
            if (lines.Count > 0 && lines[^1].Length + 1 + word.Length <= most) lines[^1] += " " + word;
            else lines.Add(word);
        }

        return lines;
    }

    /// <summary>Returns the height that the title of the vertical axis needs above the plot.</summary>
    public static double Above(List<string> title) => 14 + (LineHeight * title.Count);

    /// <summary>Draws the grid, the ticks and the titles of both axes. That of the vertical axis is above the plot.</summary>
    public static void Frame(
        Svg svg, Axis x, Axis y, double right, double bottom, Func<double, string> formatX, string titleX, List<string> titleY)
    {
        var left = x.At(x.From);
        var top = y.At(y.To);
        var digits = y.Ticks.Count > 1 ? Math.Clamp((int)Math.Ceiling(-Math.Log10(y.Ticks[1] - y.Ticks[0]) - 1e-9), 0, 4) : 2;
        foreach (var tick in y.Ticks)
        {
            svg.Line(left, y.At(tick), right, y.At(tick), "grid");
            svg.Text(left - 8, y.At(tick) + 4,
                tick.ToString("F" + digits.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture), "end", "quiet");
        }

        svg.Line(left, bottom, right, bottom, "axis");
        var end = double.NegativeInfinity;
        foreach (var tick in x.Ticks)
        {
            svg.Line(x.At(tick), bottom, x.At(tick), bottom + 5, "axis");
            var (text, at) = (formatX(tick), x.At(tick));
            var half = CharacterWidth * text.Length / 2;
            if (at - half < end) continue; // it would touch the number before it
            svg.Text(at, bottom + 20, text, "middle", "quiet");
            end = at + half;
        }

        svg.Text((left + right) / 2, bottom + 42, titleX, "middle", "quiet");
        for (var i = 0; i < titleY.Count; i++)
            svg.Text(Edge, top - 12 - (LineHeight * (titleY.Count - 1 - i)), titleY[i], style: "quiet");
    }
}

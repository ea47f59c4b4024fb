using System.Globalization;

namespace MatFormer;

/// <summary>Draws accuracy over size: granularities as a line, profiles beside it.</summary>
internal static class SizeCurve
{
    private const double Width = 680;
    private const double Height = 400;
    private const double Left = 64;
    private const double Right = 24;
    private const double Top = 44;
    private const double Bottom = 54;

    /// <summary>A file of its own.</summary>
    public static string Standalone(ReportData data) =>
        $"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Svg.Number(Width)} {Svg.Number(Height)}\" role=\"img\" "
            + $"aria-label=\"{Label(data)}\">\n"
        + $"<style>{Svg.Style}</style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"var(--surface)\"/>\n{Body(data)}</svg>\n";

    /// <summary>A part of a page that has <see cref="Svg.Style"/>.</summary>
    public static string Inline(ReportData data) =>
        $"<svg viewBox=\"0 0 {Svg.Number(Width)} {Svg.Number(Height)}\" role=\"img\" aria-label=\"{Label(data)}\">\n{Body(data)}</svg>\n";

    private static string Label(ReportData data) => Svg.Escape($"Bits per byte of {data.Spec.Name} over its size, for each granularity and "
        + "profile");

    private static string Body(ReportData data)
    {
        var rows = data.Evaluation.Rows;
        var sizes = rows.Select(r => r.Costs.Parameters / 1e6).ToList();
        var bits = rows.Select(r => r.BitsPerByte).ToList();
        var bigram = data.Evaluation.BigramBitsPerByte;
        var range = Math.Max(bits.Max() - bits.Min(), 0.02);
        var low = bits.Min() - (0.2 * range);
        var high = bits.Max() + (0.2 * range);

        // Shown where it does not press the rest flat.
        var showBigram = bigram >= low - range && bigram <= high + range;
        if (showBigram) (low, high) = (Math.Min(low, bigram - (0.1 * range)), Math.Max(high, bigram + (0.1 * range)));
        var x = new Axis(sizes.Min() / 1.1, sizes.Max() * 1.1, Left, Width - Right, log: true);
        var y = new Axis(low, high, Height - Bottom, Top);
        var svg = new Svg();
        ChartParts.Frame(svg, x, y, Width - Right, Height - Bottom, t => t.ToString(CultureInfo.InvariantCulture) + " M",
            "parameters, log scale", "bits per byte of validation text (lower is better)");
        if (showBigram)
        {
            svg.Line(Left, y.At(bigram), Width - Right, y.At(bigram), "dash");
            svg.Text(Width - Right, y.At(bigram) - 6, Output.Invariant($"bigram model {bigram:0.000}"), "end", "quiet");
        }

        var granularities = rows.Where(r => r.Costs.IsGranularity).ToList();
        svg.Path(granularities.Select(r => (x.At(r.Costs.Parameters / 1e6), y.At(r.BitsPerByte))), "class=\"line a\"");
        var labels = new LabelPlacer(Left, Top, Width - Right, Height - Bottom);
        foreach (var row in rows) labels.Block(x.At(row.Costs.Parameters / 1e6), y.At(row.BitsPerByte), 7);
        for (var i = 1; i < granularities.Count; i++)
        {
            // The line is in the way of labels, too.
            for (var t = 0.0; t <= 1; t += 0.05)
            {
                labels.Block(
                    x.At(granularities[i - 1].Costs.Parameters / 1e6) * (1 - t) + (x.At(granularities[i].Costs.Parameters / 1e6) * t),
                    (y.At(granularities[i - 1].BitsPerByte) * (1 - t)) + (y.At(granularities[i].BitsPerByte) * t),
                    2);
            }
        }

        foreach (var row in rows.OrderByDescending(r => r.Costs.IsGranularity))
        {
            var (px, py) = (x.At(row.Costs.Parameters / 1e6), y.At(row.BitsPerByte));
            var size = Output.Invariant($"{row.Costs.Parameters:n0} parameters, {row.BitsPerByte:0.000} bits per byte");
            var tip = $"<title>{Svg.Escape($"{row.Costs.Name} ({row.Costs.Pattern}): {size}")}</title>";
            svg.Add(row.Costs.IsGranularity
                ? $"<circle class=\"af\" cx=\"{Svg.Number(px)}\" cy=\"{Svg.Number(py)}\" r=\"5.5\">{tip}</circle>\n"
                : $"<path class=\"bf\" d=\"M{Svg.Number(px)} {Svg.Number(py - 7)}l7 7l-7 7l-7-7z\">{tip}</path>\n");
            var (lx, ly, anchor) = labels.Place(px, py, row.Costs.Name);
            svg.Text(lx, ly, row.Costs.Name, anchor, string.Empty, row.Costs.IsGranularity ? " font-weight=\"600\"" : string.Empty);
        }

        // The legend.
        svg.Line(Left, 18, Left + 22, 18, "line a").Add($"<circle class=\"af\" cx=\"{Svg.Number(Left + 11)}\" cy=\"18\" r=\"5\"/>\n")
            .Text(Left + 30, 22, "granularities");
        if (rows.Any(r => !r.Costs.IsGranularity))
            svg.Add($"<path class=\"bf\" d=\"M{Svg.Number(Left + 140)} 11.5l6.5 6.5l-6.5 6.5l-6.5-6.5z\"/>\n")
                .Text(Left + 154, 22, "Mix'n'Match profiles, cut from the same weights");
        return svg.ToString();
    }
}

/// <summary>Finds room for labels beside points.</summary>
internal sealed class LabelPlacer(double left, double top, double right, double bottom)
{
    private readonly List<(double X1, double Y1, double X2, double Y2)> _taken = [];

    /// <summary>Keeps labels off a point.</summary>
    public void Block(double x, double y, double radius) => _taken.Add((x - radius, y - radius, x + radius, y + radius));

    /// <summary>Where the text of a label goes: above, below or beside the point, the first that is free; else above.</summary>
    public (double X, double Y, string Anchor) Place(double x, double y, string label)
    {
        var width = (7.2 * label.Length) + 4;
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

        _taken.Add(Box(candidates[1], width));
        return candidates[1];
    }

    private static (double X1, double Y1, double X2, double Y2) Box((double X, double Y, string Anchor) at, double width)
    {
        var x = at.Anchor switch { "start" => at.X, "end" => at.X - width, _ => at.X - (width / 2) };
        return (x, at.Y - 12, x + width, at.Y + 3);
    }
}

/// <summary>What all charts have.</summary>
internal static class ChartParts
{
    /// <summary>Grid, ticks and the titles of both axes.</summary>
    public static void Frame(
        Svg svg, Axis x, Axis y, double right, double bottom, Func<double, string> formatX, string titleX, string titleY)
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
        foreach (var tick in x.Ticks)
        {
            svg.Line(x.At(tick), bottom, x.At(tick), bottom + 5, "axis");
            svg.Text(x.At(tick), bottom + 20, formatX(tick), "middle", "quiet");
        }

        svg.Text((left + right) / 2, bottom + 42, titleX, "middle", "quiet");
        var middle = (top + bottom) / 2;
        svg.Text(16, middle, titleY, "middle", "quiet", $" transform=\"rotate(-90 16 {Svg.Number(middle)})\"");
    }
}

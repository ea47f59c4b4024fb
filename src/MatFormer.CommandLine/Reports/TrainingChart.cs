namespace MatFormer;

/// <summary>Draws the training loss of each granularity over the steps.</summary>
internal static class TrainingChart
{
    private const double PlotHeight = 286;
    private const double Left = 56;
    private const double Right = 64;
    private const double Bottom = 54;
    private const int Shades = 6;

    /// <summary>Returns a part of a page that includes <see cref="Svg.Style"/>; empty if there are no curves.</summary>
    public static string Inline(IReadOnlyList<TrainingCurve> curves, string unit, double width)
    {
        if (curves.Count == 0) return string.Empty;
        var last = curves.Max(c => c.Points[^1].Step);
        var low = curves.Min(c => c.Points.Min(p => p.Loss));

        // The losses of the first steps fall from 8 bits. They are cut off, so that the rest can be told apart.
        var settled = curves.Select(c => c.Points.FirstOrDefault(p => p.Step >= 0.12 * last).Loss)
            .Where(b => b > 0).DefaultIfEmpty(8).Max();
        var high = Math.Max(settled, low + 0.1);
        var title = ChartParts.Lines(unit, width);
        var top = ChartParts.Above(title);
        var (right, bottom) = (width - Right, top + PlotHeight);
        var x = new Axis(0, last, Left, right);
        var y = new Axis(low - (0.06 * (high - low)), high, bottom, top);
        var svg = new Svg();
        svg.Add($"<svg viewBox=\"0 0 {Svg.Number(width)} {Svg.Number(bottom + Bottom)}\" role=\"img\" aria-label=\"Training loss of each "
            + "granularity\">\n");
        var plot = $"plot{Svg.Number(width)}"; // the page has the chart in two widths
        svg.Add($"<clipPath id=\"{plot}\"><rect x=\"{Svg.Number(Left)}\" y=\"{Svg.Number(top)}\" "
            + $"width=\"{Svg.Number(right - Left)}\" height=\"{Svg.Number(PlotHeight)}\"/></clipPath>\n");
        ChartParts.Frame(svg, x, y, right, bottom, t => Output.Invariant($"{t:n0}"), "step", title);
        var ends = new List<(double Y, string Name, int Shade)>();
        for (var i = 0; i < curves.Count; i++)
        {
            var shade = curves.Count == 1 ? 3 : i * (Shades - 1) / (curves.Count - 1);
            svg.Path(curves[i].Points.Select(p => (x.At(p.Step), y.At(p.Loss))),
                $"class=\"line\" stroke=\"var(--s{shade})\" clip-path=\"url(#{plot})\"");
            ends.Add((y.At(curves[i].Points[^1].Loss), curves[i].Granularity, shade));
        }

        // The names stand at the ends of the lines, without overlap.
        ends.Sort((a, b) => a.Y.CompareTo(b.Y));
        var next = top;
        for (var i = 0; i < ends.Count; i++)
        {
            var room = bottom - ((ends.Count - 1 - i) * 16);
            var at = Math.Max(next, Math.Min(ends[i].Y, room));
            svg.Text(right + 20, at + 4, ends[i].Name);
            var fill = $"fill=\"var(--s{ends[i].Shade})\"";
            svg.Add($"<circle cx=\"{Svg.Number(right + 11)}\" cy=\"{Svg.Number(at)}\" r=\"4.5\" {fill}/>\n");
            next = at + 16;
        }

        return svg.Add("</svg>\n").ToString();
    }
}

using System.Collections.Immutable;
using System.Text.Json;
using Spectre.Console;

namespace MatFormer;

/// <summary>Shows an evaluation on images as a table, a JSON document and a page.</summary>
internal static class ImageOutput
{
    private const int ShownConfusions = 16;

    public static void Table(TextWriter writer, ImageEvaluation evaluation, string whole)
    {
        string[] consistency = evaluation.Rows.All(r => r.Agreement is null) ? [] : ["agrees with " + whole, $"KL({whole}||.)"];
        string[] nested = IsNested(evaluation) ? ["dimensions"] : [];
        var table = Output.NewTable(
            ["", "layers", "parameters", "FLOPs/image", "us/image", .. nested, "accuracy", "nats/image", .. consistency]);
        foreach (var row in evaluation.Rows) table.AddRow(Cells(row, IsNested(evaluation))[..table.Columns.Count].Select(Output.Cell));
        Output.Print(writer, table);
    }

    public static void WriteEvaluation(Utf8JsonWriter json, ImageEvaluation evaluation)
    {
        json.WriteNumber("validation_images", evaluation.Images);
        Output.WriteObjects(json, "results", evaluation.Rows, row => WriteRow(json, row));
    }

    public static void WriteRow(Utf8JsonWriter json, ImageRow row)
    {
        Output.WriteCosts(json, row.Costs, "image");
        json.WriteNumber("dimension", row.Dimension);
        json.WriteNumber("accuracy", row.Accuracy);
        json.WriteNumber("nats_per_image", row.NatsPerImage);
        if (row.Agreement is { } agreement) json.WriteNumber("agreement", agreement);
        if (row.Divergence is { } divergence) json.WriteNumber("divergence", divergence);
        json.WriteNumber("microseconds_per_image", row.MicrosecondsPerImage);
    }

    /// <summary>Returns a chart of errors over FLOPs, with a line for each dimension and grid of compressed tokens.</summary>
    public static ScatterChart Chart(ModelSpec spec, ImageEvaluation evaluation)
    {
        var mixes = evaluation.Whole.Where(r => !r.Costs.IsGranularity && r.Costs.Budget is null);
        var routed = evaluation.Whole.Where(r => r.Costs.Budget is not null);
        var lines = evaluation.Rows.Where(r => r.Costs.IsGranularity).GroupBy(r => (r.Dimension, r.Costs.Grid));
        var series = lines.Select(rows => new ChartSeries(
            "granularities" + (rows.Key.Grid is { } grid ? Output.Invariant($", {grid} x {grid} compressed tokens") : string.Empty)
                + (IsNested(evaluation) ? Output.Invariant($", {rows.Key.Dimension} dimensions") : string.Empty),
            [.. rows.Select(Point)], IsLine: true)).ToList();
        if (mixes.Any()) series.Add(new("Mix'n'Match profiles, cut from the same weights", [.. mixes.Select(Point)]));
        if (routed.Any()) series.Add(new("tokens routed at a budget", [.. routed.Select(Point)], IsLine: true));
        return new ScatterChart
        {
            Title = $"Errors of {spec.Name} over its compute, for each granularity and profile",
            XTitle = "MFLOPs per image",
            YTitle = "misclassified images, % (lower is better)",
            Series = [.. series],
        };

        static ChartPoint Point(ImageRow row) => new(
            row.Costs.Flops / 1e6, 100 * (1 - row.Accuracy),
            Output.Invariant($"{row.Costs.Name} ({row.Costs.Layout}), {row.Dimension} dimensions: {Output.Short(row.Costs.Flops)} FLOPs, ")
                + Output.Invariant($"accuracy {row.Accuracy:0.00%}"),
            row.Costs.Name);
    }

    /// <summary>Returns the page of an evaluation. The page of a demo also shows training and extraction.</summary>
    public static string Page(
        ModelSpec spec, string whole, ImageEvaluation evaluation, MixSweep? sweep, ImageSet images, IReadOnlyList<TrainingCurve> curves,
        SliceCheck? slice, IEnumerable<(string Name, string Value)> facts)
    {
        var sizes = evaluation.Rows.Where(r => r.Costs.IsGranularity).Select(r => r.Costs).ToList();
        var (smallest, largest) = (sizes.MinBy(costs => costs.Flops) ?? evaluation.Rows[0].Costs, sizes.MaxBy(costs => costs.Flops));
        var page = new ReportPage($"{spec.Name}: one model, many sizes");
        if (largest is not null)
        {
            page.Note($"Trained once; every point below is cut from the same weights, from {Output.Short(smallest.Flops)} to "
                + $"{Output.Short(largest.Flops)} FLOPs per image, without training again.");
        }

        page.Heading("Errors over compute").Chart("curve.svg", Chart(spec, evaluation));
        page.Note(Output.Invariant($"On {evaluation.Images:n0} held-out images."));
        page.Heading("Granularities and profiles");
        string[] nested = IsNested(evaluation) ? ["Dimensions"] : [];
        page.Table(
            [
                "Name", "Layers", "Parameters", "FLOPs per image", "µs per image", .. nested, "Accuracy", "Nats per image",
                "Agrees with " + whole, $"KL({whole}‖·)",
            ],
            evaluation.Rows.Select(row => Cells(row, IsNested(evaluation)).ToImmutableArray()), names: 2);
        if (IsNested(evaluation)) page.Note("Dimensions is how many leading numbers of the embedding the classifier sees.");
        page.Note("Agreement is the share of images for which both predict the same class. Time is that of a forward pass over a batch "
            + "of images on this machine, divided by the number of images.");
        sweep?.AddTo(page, spec.Name, whole);
        if (evaluation.Confusions.Length > 0)
        {
            page.Heading($"What {(largest is null ? smallest.Name : whole)} misclassifies");
            page.Note(Output.Invariant(
                $"{evaluation.Confusions.Length:n0} of {evaluation.Images:n0} images are misclassified; the most confident are shown."));
            page.Pictures(evaluation.Confusions.Take(ShownConfusions).Select(c => (
                Png.Encode(images.Pixels(c.Image), images.Channels, images.Height, images.Width),
                Output.Invariant($"{images.Classes[c.Label]}, classified as {images.Classes[c.Taken]} ({c.Probability:0%})"))));
        }

        if (curves.Count > 0)
        {
            page.Heading("Training").Drawing(width => TrainingChart.Inline(curves, "nats per image, as trained", width));
            page.Note("The curves are smoothed over about 5% of the steps. The first steps lie above the frame.");
        }

        if (slice is not null) page.Heading("Extraction").Text(HtmlReport.Describe(slice));
        return page.Heading("How it was made").Facts(facts).ToHtml();
    }

    private static bool IsNested(ImageEvaluation evaluation) => evaluation.Rows[0].Dimension != evaluation.Rows[^1].Dimension;

    private static string[] Cells(ImageRow row, bool isNested) =>
    [
        row.Costs.Name, row.Costs.Layout, Output.Count(row.Costs.Parameters), Output.Short(row.Costs.Flops),
        Output.Invariant($"{row.MicrosecondsPerImage:0.0}"), .. isNested ? (string[])[Output.Invariant($"{row.Dimension}")] : [],
        Output.Invariant($"{row.Accuracy:0.00%}"), Output.Invariant($"{row.NatsPerImage:0.0000}"),
        row.Agreement is { } agreement ? Output.Invariant($"{agreement:0.00%}") : string.Empty,
        Output.Nats(row.Divergence),
    ];
}

using System.Collections.Immutable;
using System.Text.Json;
using Spectre.Console;

namespace MatFormer;

/// <summary>How an evaluation on images is shown: as a table, a document and a page.</summary>
internal static class ImageOutput
{
    private const int ShownConfusions = 16;

    public static void Table(TextWriter writer, ImageEvaluation evaluation, string whole)
    {
        string[] consistency = evaluation.Rows.All(r => r.Agreement is null) ? [] : ["agrees with " + whole, $"KL({whole}||.)"];
        var table = Output.NewTable(["", "layers", "parameters", "FLOPs/image", "us/image", "accuracy", "nats/image", .. consistency]);
        foreach (var row in evaluation.Rows) table.AddRow(Cells(row)[..table.Columns.Count].Select(Output.Cell));
        Output.Print(writer, table);
    }

    public static void WriteEvaluation(Utf8JsonWriter json, ImageEvaluation evaluation)
    {
        json.WriteNumber("validation_images", evaluation.Images);
        json.WriteStartArray("results");
        foreach (var row in evaluation.Rows)
        {
            json.WriteStartObject();
            Output.WriteCosts(json, row.Costs, "image");
            json.WriteNumber("accuracy", row.Accuracy);
            json.WriteNumber("nats_per_image", row.NatsPerImage);
            if (row.Agreement is { } agreement) json.WriteNumber("agreement", agreement);
            if (row.Divergence is { } divergence) json.WriteNumber("divergence", divergence);
            json.WriteNumber("microseconds_per_image", row.MicrosecondsPerImage);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    /// <summary>Accuracy over FLOPs.</summary>
    public static ScatterChart Chart(ModelSpec spec, ImageEvaluation evaluation)
    {
        var (uniform, mixes) = (evaluation.Rows.Where(r => r.Costs.IsGranularity), evaluation.Rows.Where(r => !r.Costs.IsGranularity));
        var series = new List<ChartSeries> { new("granularities", [.. uniform.Select(Point)], IsLine: true) };
        if (mixes.Any()) series.Add(new("Mix'n'Match profiles, cut from the same weights", [.. mixes.Select(Point)]));
        return new ScatterChart
        {
            Title = $"Errors of {spec.Name} over its compute, for each granularity and profile",
            XTitle = "MFLOPs per image",
            YTitle = "images taken for another, % (lower is better)",
            Series = [.. series],
        };

        static ChartPoint Point(ImageRow row) => new(
            row.Costs.Flops / 1e6, 100 * (1 - row.Accuracy),
            Output.Invariant($"{row.Costs.Name} ({row.Costs.Pattern}): {row.Costs.Flops / 1e6:0.0} MFLOPs, accuracy {row.Accuracy:0.00%}"),
            row.Costs.Name);
    }

    /// <summary>The page of an evaluation; of a demo with its training and what it extracted.</summary>
    public static string Page(
        ModelSpec spec, string whole, ImageEvaluation evaluation, ImageSet images, IReadOnlyList<TrainingCurve> curves, SliceCheck? slice,
        IEnumerable<(string Name, string Value)> facts)
    {
        var (smallest, largest) = (evaluation.Rows[0].Costs, evaluation.Rows.LastOrDefault(r => r.Costs.IsGranularity)?.Costs);
        var page = new ReportPage($"{spec.Name}: one model, many sizes");
        if (largest is not null)
        {
            page.Note($"Trained once; every point below is cut from the same weights, from {Output.Millions(smallest.Flops)} to "
                + $"{Output.Millions(largest.Flops)} FLOPs an image, without training again.");
        }

        page.Heading("Errors over compute").Chart("curve.svg", Chart(spec, evaluation));
        page.Note(Output.Invariant($"On {evaluation.Images:n0} images that were not trained on."));
        page.Heading("Granularities and profiles");
        page.Table(
            ["Name", "Layers", "Parameters", "FLOPs per image", "µs per image", "Accuracy", "Nats per image", "Agrees with " + whole,
                $"KL({whole}‖·)"],
            evaluation.Rows.Select(row => Cells(row).ToImmutableArray()), names: 2);
        page.Note("Agreement: the share of images of which both say the same. Time: of a forward pass over a batch of images, on this machine.");
        if (evaluation.Confusions.Length > 0)
        {
            page.Heading($"What {(largest is null ? smallest.Name : whole)} takes for another");
            page.Note(Output.Invariant($"{evaluation.Confusions.Length:n0} of {evaluation.Images:n0} images; those of which it is surest."));
            page.Pictures(evaluation.Confusions.Take(ShownConfusions).Select(c => (
                Png.Encode(images.Pixels(c.Image), images.Channels, images.Height, images.Width),
                Output.Invariant($"{images.Classes[c.Label]}, taken for {images.Classes[c.Taken]} ({c.Probability:0%})"))));
        }

        if (curves.Count > 0)
        {
            page.Heading("Training").Drawing(TrainingChart.Inline(curves, "nats per image, as trained"));
            page.Note("Smoothed over about 5% of the steps; the first steps lie above the frame.");
        }

        if (slice is not null) page.Heading("Extraction").Text(HtmlReport.Describe(slice));
        return page.Heading("How it was made").Facts(facts).ToHtml();
    }

    private static string[] Cells(ImageRow row) =>
    [
        row.Costs.Name, row.Costs.Pattern, Output.Count(row.Costs.Parameters), Output.Millions(row.Costs.Flops),
        Output.Invariant($"{row.MicrosecondsPerImage:0.0}"), Output.Invariant($"{row.Accuracy:0.00%}"),
        Output.Invariant($"{row.NatsPerImage:0.0000}"), row.Agreement is { } agreement ? Output.Invariant($"{agreement:0.00%}") : string.Empty,
        Output.Nats(row.Divergence),
    ];
}

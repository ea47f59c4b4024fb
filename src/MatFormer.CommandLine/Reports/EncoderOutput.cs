using System.Collections.Immutable;
using System.Text.Json;
using Spectre.Console;

namespace MatFormer;

/// <summary>Shows an evaluation of retrieval as a table, a JSON document and a page.</summary>
internal static class EncoderOutput
{
    private const int ShownCharacters = 110;

    private static readonly string[] s_headings =
        ["", "layers", "parameters", "FLOPs/text", "us/query", "dimensions", "recall@1", "recall@10", "MRR@10", "same type"];

    public static void Table(TextWriter writer, ImmutableArray<(string Granularity, double Loss)> losses, int batch)
    {
        var table = Output.NewTable("", Output.Invariant($"nats per choice among {batch}"));
        foreach (var (granularity, loss) in losses) table.AddRow(Output.Cell(granularity), Output.Cell(Output.Invariant($"{loss:0.000}")));
        Output.Print(writer, table);
    }

    public static void Table(
        TextWriter writer, RetrievalEvaluation evaluation, (RetrievalEvaluation Own, RetrievalEvaluation Foreign)? alone)
    {
        var hasGroups = evaluation.Rows[0].GroupAccuracy is not null;
        var table = Output.NewTable(hasGroups ? s_headings : s_headings[..^1]);
        foreach (var cells in Rows(evaluation, alone)) table.AddRow(cells[..table.Columns.Count].Select(Output.Cell));
        Output.Print(writer, table);
        writer.WriteLine(About(evaluation));
        if (evaluation.Escalation is { } escalation) writer.WriteLine(Describe(escalation));
    }

    public static void WriteEvaluation(
        Utf8JsonWriter json, RetrievalEvaluation evaluation, (RetrievalEvaluation Own, RetrievalEvaluation Foreign)? alone)
    {
        json.WriteNumber("queries", evaluation.Queries);
        json.WriteNumber("documents", evaluation.Documents);
        json.WriteNumber("recall_at_10_by_chance", evaluation.ChanceAt10);
        WriteRows("results", evaluation);
        if (alone is var (own, foreign))
        {
            WriteRows("alone_on_its_own_index", own);
            WriteRows("alone_on_this_index", foreign);
        }

        if (evaluation.Escalation is not { } escalation) return;
        json.WriteStartObject("escalation");
        json.WriteStartArray("profiles");
        foreach (var name in escalation.Encoders) json.WriteStringValue(name);
        json.WriteEndArray();
        json.WriteStartArray("thresholds");
        foreach (var threshold in escalation.Thresholds) json.WriteNumberValue(threshold);
        json.WriteEndArray();
        WriteMeasured(json, escalation);
        json.WriteEndObject();

        void WriteRows(string name, RetrievalEvaluation rows) => Output.WriteObjects(json, name, rows.Rows, row =>
        {
            Output.WriteCosts(json, row.Costs, "text");
            json.WriteNumber("dimension", row.Dimension);
            Write(json, "recall_at_1", row.RecallAt1);
            Write(json, "recall_at_10", row.RecallAt10);
            Write(json, "mrr_at_10", row.ReciprocalRank);
            if (row.GroupAccuracy is { } accuracy) Write(json, "nearest_neighbour_accuracy", accuracy);
            json.WriteNumber("microseconds_per_query", row.MicrosecondsPerQuery);
        });
    }

    /// <summary>Writes how cheap first was calibrated, and its results on queries that it was not calibrated on.</summary>
    public static void WriteMeasured(Utf8JsonWriter json, EscalationRow escalation)
    {
        json.WriteNumber("tolerance", escalation.Tolerance);
        json.WriteStartArray("answered");
        foreach (var count in escalation.Answered) json.WriteNumberValue(count);
        json.WriteEndArray();
        Write(json, "recall_at_10", escalation.RecallAt10);
        Write(json, "recall_at_10_of_the_last", escalation.LastRecallAt10);
        json.WriteNumber("compute_share", escalation.ComputeShare);
    }

    private static void Write(Utf8JsonWriter json, string name, RetrievalMeasure measure)
    {
        json.WriteNumber(name, measure.Value);
        json.WriteNumber(name + "_low", measure.Low);
        json.WriteNumber(name + "_high", measure.High);
    }

    /// <summary>Returns a chart of missed documents over FLOPs, with lines for each dimension.</summary>
    public static ScatterChart Chart(ModelSpec spec, RetrievalEvaluation evaluation)
    {
        var isUniversal = evaluation.Rows.Any(row => row.Costs.IsGranularity);
        return new ScatterChart
        {
            Title = $"Queries of {spec.Name} that do not find their document, over their compute",
            XTitle = "MFLOPs per text",
            YTitle = "queries whose document is not among the first 10, % (lower is better)",
            Series =
            [
                .. evaluation.Rows.Where(row => row.Costs.IsGranularity || !isUniversal).GroupBy(row => row.Dimension)
                    .Select(rows => new ChartSeries(Output.Invariant($"{rows.Key} dimensions"), [.. rows.Select(Point)], IsLine: true)),
                .. evaluation.Rows.Where(row => row.Costs.Budget is not null).GroupBy(row => row.Dimension)
                    .Select(rows => new ChartSeries(
                        Output.Invariant($"tokens routed at a budget, {rows.Key} dimensions"), [.. rows.Select(Point)], IsLine: true)),
            ],
        };

        static ChartPoint Point(RetrievalRow row) => new(
            row.Costs.Flops / 1e6, 100 * (1 - row.RecallAt10.Value),
            Output.Invariant($"{row.Costs.Name}, {row.Dimension} dimensions: {Output.Short(row.Costs.Flops)} FLOPs, recall@10 "
                + $"{row.RecallAt10.Value:0.0%}"),
            row.Costs.Name);
    }

    /// <summary>Returns the page of an evaluation. The page of a demo also shows training and extraction.</summary>
    public static string Page(
        ModelSpec spec, string whole, RetrievalEvaluation evaluation, (RetrievalEvaluation Own, RetrievalEvaluation Foreign)? alone,
        IReadOnlyList<TrainingCurve> curves, SliceCheck? slice, IEnumerable<(string Name, string Value)> facts)
    {
        var page = new ReportPage($"{spec.Name}: one index, queries of many sizes");
        page.Note($"Trained once. {whole} embedded the documents; every point below is for queries of one profile, cut to one dimension.");
        page.Heading("Missed documents over compute").Chart("curve.svg", Chart(spec, evaluation));
        page.Note(About(evaluation));
        page.Heading("Profiles and dimensions");
        page.Table(
            [
                "Name", "Layers", "Parameters", "FLOPs per text", "µs per query", "Dimensions", "Recall@1", "Recall@10", "MRR@10",
                "Same type",
            ],
            Rows(evaluation, alone).Select(row => row.ToImmutableArray()), names: 2);
        page.Note("FLOPs are those of a text as long as the context. Time is that of embedding one query of a batch of 256 on this "
            + "machine, tokenization included. Same type is the share of queries whose first hit has the same type as their document.");
        if (evaluation.Escalation is { } escalation) page.Heading("Cheap first").Text(Describe(escalation));
        if (curves.Count > 0)
        {
            page.Heading("Training").Drawing(width => TrainingChart.Inline(curves, "nats per choice among the batch, as trained", width));
            page.Note("The curves are smoothed over about 5% of the steps. The first steps lie above the frame.");
        }

        if (slice is not null) page.Heading("Extraction").Text(HtmlReport.Describe(slice, "embeddings"));
        return page.Heading("How it was made").Facts(facts).ToHtml();
    }

    /// <summary>Returns the beginning of a text as one line.</summary>
    public static string Shortened(string text)
    {
        var line = text.ReplaceLineEndings(" ");
        return line.Length <= ShownCharacters ? line : line[..line.LastIndexOf(' ', ShownCharacters, ShownCharacters)] + " ...";
    }

    private static string About(RetrievalEvaluation evaluation)
    {
        var widest = evaluation.Rows[^1].RecallAt10;
        return Output.Invariant(
            $"{Counted.Of(evaluation.Queries, "held-out query", "held-out queries")} over {evaluation.Documents:n0} documents; "
            + $"recall@10 by chance is "
            + $"{evaluation.ChanceAt10:0.00%}. Shares have a 95% confidence interval of ±{(widest.High - widest.Low) / 2:0.0%}.");
    }

    private static string Describe(EscalationRow escalation)
    {
        var answered = string.Join(
            ", ", escalation.Encoders.Zip(escalation.Answered, (name, count) => Output.Invariant($"{name} {count:n0}")));
        return Output.Invariant(
            $"Cheap first, calibrated on one half of the queries to lose at most {escalation.Tolerance:0.0##%}: on the other half "
            + $"recall@10 is {escalation.RecallAt10.Value:0.0%} at {escalation.ComputeShare:0%} of {escalation.Encoders[^1]}'s compute, "
            + $"which alone has {escalation.LastRecallAt10.Value:0.0%}; answered by {answered}.");
    }

    private static IEnumerable<string[]> Rows(
        RetrievalEvaluation evaluation, (RetrievalEvaluation Own, RetrievalEvaluation Foreign)? alone)
    {
        foreach (var row in evaluation.Rows) yield return Cells(row, row.Costs.Name);
        if (alone is not var (own, foreign)) yield break;
        foreach (var row in own.Rows) yield return Cells(row, $"{row.Costs.Name} alone, on its own index");
        foreach (var row in foreign.Rows) yield return Cells(row, $"{row.Costs.Name} alone, on this index");
    }

    private static string[] Cells(RetrievalRow row, string name) =>
    [
        name, row.Costs.Layout, Output.Count(row.Costs.Parameters), Output.Short(row.Costs.Flops),
        Output.Invariant($"{row.MicrosecondsPerQuery:0}"), Output.Invariant($"{row.Dimension}"), Output.Percent(row.RecallAt1.Value),
        Output.Percent(row.RecallAt10.Value), Output.Invariant($"{row.ReciprocalRank.Value:0.000}"),
        Output.Percent(row.GroupAccuracy?.Value),
    ];
}

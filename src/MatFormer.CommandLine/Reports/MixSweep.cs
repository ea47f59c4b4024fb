using System.Collections.Immutable;
using System.Text.Json;
using Spectre.Console;

namespace MatFormer;

/// <summary>A mix or a granularity in a sweep.</summary>
/// <param name="Costs">The profile with its costs.</param>
/// <param name="Loss">The loss, in the unit of <see cref="LossWords"/>.</param>
/// <param name="Agreement">The share of predictions that equal those of the whole model; null if not measured.</param>
/// <param name="Write">Writes all measurements as JSON properties.</param>
internal sealed record SweptMix(ProfileCosts Costs, double Loss, double? Agreement, Action<Utf8JsonWriter> Write);

/// <summary>The losses of mixes of every shape over compute, compared with the line through the granularities.</summary>
/// <param name="Kind">The kind of model.</param>
/// <param name="Unit">The unit that FLOPs are given for, such as token.</param>
/// <param name="Granularities">The granularities, which make the line, and the declared profiles.</param>
/// <param name="Mixes">The measured mixes and, beside them, routed passes.</param>
internal sealed record MixSweep(ModelKind Kind, string Unit, ImmutableArray<SweptMix> Granularities, ImmutableArray<SweptMix> Mixes)
{
    private LossWords Words => LossWords.Of(Kind);

    private bool HasAgreement => Mixes.Any(mix => mix.Agreement is not null);

    // From the cheapest to the most expensive.
    private IEnumerable<SweptMix> ByFlops => Mixes.OrderBy(m => m.Costs.Flops).ThenBy(m => m.Costs.Shape).ThenBy(m => m.Loss);

    // How far the mixes of each shape lie above the line.
    private IEnumerable<(MixShape Shape, int Count, double Mean, double Worst)> ByShape =>
        from mix in Mixes
        let excess = ExcessOf(mix)
        where excess is not null
        group excess.Value by mix.Costs.Shape into shape
        orderby shape.Key
        select (shape.Key, shape.Count(), shape.Average(), shape.Max());

    public static MixSweep Of(Evaluation evaluation, Evaluation sweep)
    {
        var measured = evaluation.Rows.Where(row => row.Costs.Budget is null);
        return new(ModelKind.LanguageModel, "token", [.. measured.Select(Of)], [.. sweep.Rows.Select(Of)]);

        static SweptMix Of(EvaluationRow row) =>
            new(row.Costs, row.BitsPerByte, row.Consistency?.Agreement, json => Output.WriteRow(json, row));
    }

    public static MixSweep Of(ImageEvaluation evaluation, ImageEvaluation sweep)
    {
        var measured = evaluation.Whole.Where(row => row.Costs.Grid == sweep.Rows[0].Costs.Grid)
            .ToLookup(row => row.Costs.Budget is not null);
        return new(
            ModelKind.VisionTransformer, "image", [.. measured[false].Select(Of)],
            [.. sweep.Whole.Concat(measured[true]).Select(Of)]);

        static SweptMix Of(ImageRow row) => new(row.Costs, row.NatsPerImage, row.Agreement, json => ImageOutput.WriteRow(json, row));
    }

    public static MixSweep Of(
        IEnumerable<(ProfileCosts Costs, double Loss)> granularities, IEnumerable<(ProfileCosts Costs, double Loss)> mixes)
    {
        return new(ModelKind.TextEncoder, "text", [.. granularities.Select(Of)], [.. mixes.Select(Of)]);

        static SweptMix Of((ProfileCosts Costs, double Loss) mix) => new(mix.Costs, mix.Loss, null, json =>
        {
            Output.WriteCosts(json, mix.Costs, "text");
            json.WriteNumber(LossWords.Of(ModelKind.TextEncoder).Key, mix.Loss);
        });
    }

    /// <summary>Prints the mixes by their compute, and a summary of each shape.</summary>
    public void Table(TextWriter writer, string whole)
    {
        string[] agreement = HasAgreement ? ["agrees with " + whole] : [];
        var table = Output.NewTable(["layers", "shape", "FLOPs/" + Unit, Words.Short, "above the line", .. agreement]);
        foreach (var mix in ByFlops) table.AddRow(Cells(mix).Select(Output.Cell));
        Output.Print(writer, table);
        foreach (var (shape, count, mean, worst) in ByShape)
        {
            var what = shape == MixShape.Routed ? "budgets" : "mixes";
            writer.WriteLine(Output.Invariant($"{NameOf(shape)}: {count} {what}, {Output.Signed(mean)} {Words.Spoken} above the line ")
                + Output.Invariant($"through the granularities on average, {Output.Signed(worst)} at worst"));
        }
    }

    public void Write(Utf8JsonWriter json) => Output.WriteObjects(json, "sweep", ByFlops, mix =>
    {
        json.WriteString("shape", NameOf(mix.Costs.Shape));
        mix.Write(json);
        if (ExcessOf(mix) is { } excess) json.WriteNumber(Words.Key + "_above_line", excess);
    });

    /// <summary>Adds a chart and tables to a page.</summary>
    public void AddTo(ReportPage page, string model, string whole)
    {
        page.Heading("Mix'n'Match").Chart("sweep.svg", Chart(model));
        page.Note($"The mixes between the granularities, by the order of their layers, over the FLOPs of a forward pass per {Unit}.");
        page.Table(
            ["Shape", "Mixes", Words.Heading + " above the line, mean", "worst"],
            ByShape.Select(s => (ImmutableArray<string>)
                [NameOf(s.Shape), Output.Count(s.Count), Output.Signed(s.Mean), Output.Signed(s.Worst)]));
        page.Note("The line joins the granularities. A mix below the line (negative) is better than the granularities predict.");
        string[] agreement = HasAgreement ? ["Agrees with " + whole] : [];
        page.Table(
            ["Layers", "Shape", "FLOPs per " + Unit, Words.Heading, "Above the line", .. agreement],
            ByFlops.Select(m => Cells(m).ToImmutableArray()), names: 2);
    }

    private ScatterChart Chart(string model)
    {
        var line = Granularities.Where(m => m.Costs.IsGranularity);
        return new ScatterChart
        {
            Title = $"{Words.Heading} of {model} over its compute, for mixes of each shape",
            XTitle = "MFLOPs per " + Unit,
            YTitle = Words.Spoken + " of validation data (lower is better)",
            Series =
            [
                new ChartSeries("granularities", [.. line.Select(m => Point(m, m.Costs.Name))], IsLine: true),
                .. Mixes.GroupBy(m => m.Costs.Shape).OrderBy(g => g.Key).Select(
                    g => new ChartSeries(NameOf(g.Key), [.. g.Select(m => Point(m, string.Empty))])),
            ],
        };

        ChartPoint Point(SweptMix mix, string label) => new(
            mix.Costs.Flops / 1e6, mix.Loss,
            Output.Invariant($"{mix.Costs.Name} ({mix.Costs.Layout}): {mix.Costs.Parameters:n0} parameters, ")
                + Output.Invariant($"{mix.Loss:0.000} {Words.Spoken}"), label);
    }

    private double? ExcessOf(SweptMix mix) => MatFormer.Mixes.Excess(Granularities.Select(m => (m.Costs, m.Loss)), mix.Costs, mix.Loss);

    private string[] Cells(SweptMix mix) =>
    [
        mix.Costs.Budget is null ? mix.Costs.Layout : mix.Costs.Name, NameOf(mix.Costs.Shape), Output.Short(mix.Costs.Flops),
        Output.Invariant($"{mix.Loss:0.000}"),
        Output.Signed(ExcessOf(mix)), .. HasAgreement ? (string[])[Output.Percent(mix.Agreement)] : [],
    ];

    private static string NameOf(MixShape shape) => shape.ToString().ToLowerInvariant();
}

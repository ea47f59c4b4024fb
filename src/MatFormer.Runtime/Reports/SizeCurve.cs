using System.Collections.Immutable;

namespace MatFormer;

/// <summary>Accuracy over size or cost.</summary>
internal static class SizeCurve
{
    /// <summary>Bits per byte over parameters: granularities as a line, profiles beside it.</summary>
    public static ScatterChart OfSizes(string model, Evaluation evaluation)
    {
        var rows = evaluation.Rows;
        return new ScatterChart
        {
            Title = $"Bits per byte of {model} over its size, for each granularity and profile",
            XTitle = "parameters, log scale",
            YTitle = "bits per byte of validation text (lower is better)",
            XUnit = " M",
            LogX = true,
            Reference = (evaluation.BigramBitsPerByte, Output.Invariant($"bigram model {evaluation.BigramBitsPerByte:0.000}")),
            Series = WithoutEmpty(
                new ChartSeries("granularities", [.. rows.Where(r => r.Costs.IsGranularity).Select(Point)], IsLine: true),
                new ChartSeries(
                    "Mix'n'Match profiles, cut from the same weights", [.. rows.Where(r => !r.Costs.IsGranularity).Select(Point)])),
        };

        static ChartPoint Point(EvaluationRow row) => new(row.Costs.Parameters / 1e6, row.BitsPerByte, TipOf(row), row.Costs.Name);
    }

    /// <summary>Bits per byte over FLOPs: granularities as a line, the mixes of a sweep by their shape.</summary>
    public static ScatterChart OfSweep(string model, Evaluation evaluation, Evaluation sweep)
    {
        return new ScatterChart
        {
            Title = $"Bits per byte of {model} over its compute, for mixes of each shape",
            XTitle = "MFLOPs per token",
            YTitle = "bits per byte of validation text (lower is better)",
            Series = WithoutEmpty(
            [
                new ChartSeries(
                    "granularities", [.. evaluation.Rows.Where(r => r.Costs.IsGranularity).Select(r => Point(r, r.Costs.Name))], IsLine: true),
                .. sweep.Rows.GroupBy(r => r.Costs.Shape).OrderBy(g => g.Key).Select(
                    g => new ChartSeries(Output.NameOf(g.Key), [.. g.Select(r => Point(r, string.Empty))])),
            ]),
        };

        static ChartPoint Point(EvaluationRow row, string label) =>
            new(row.Costs.Flops / 1e6, row.BitsPerByte, TipOf(row), label);
    }

    private static ImmutableArray<ChartSeries> WithoutEmpty(params ReadOnlySpan<ChartSeries> series)
    {
        var kept = new List<ChartSeries>();
        foreach (var one in series)
        {
            if (one.Points.Length > 0) kept.Add(one);
        }

        return [.. kept];
    }

    private static string TipOf(EvaluationRow row) => Output.Invariant(
        $"{row.Costs.Name} ({row.Costs.Pattern}): {row.Costs.Parameters:n0} parameters, {row.BitsPerByte:0.000} bits per byte");
}

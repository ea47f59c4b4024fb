using System.Collections.Immutable;

namespace MatFormer;

/// <summary>Makes charts of accuracy over size.</summary>
internal static class SizeCurve
{
    /// <summary>Returns a chart of bits per byte over parameters, with a line for the granularities and points for the profiles.</summary>
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
                    "Mix'n'Match profiles, cut from the same weights",
                    [.. rows.Where(r => !r.Costs.IsGranularity && r.Costs.Budget is null).Select(Point)])),
        };

        static ChartPoint Point(EvaluationRow row) => new(row.Costs.Parameters / 1e6, row.BitsPerByte, TipOf(row), row.Costs.Name);
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
        $"{row.Costs.Name} ({row.Costs.Layout}): {row.Costs.Parameters:n0} parameters, {row.BitsPerByte:0.000} bits per byte");
}

using System.Collections.Immutable;

namespace MatFormer;

/// <summary>Writes the reports as self-contained pages.</summary>
internal static class HtmlReport
{
    /// <summary>Returns the page of a demo: sizes, training, extraction and samples.</summary>
    public static string Render(ReportData data)
    {
        var rows = data.Evaluation.Rows;
        var smallest = rows[0].Costs;
        var whole = rows.Last(r => r.Costs.IsGranularity).Costs;
        var page = new ReportPage($"{data.Spec.Name}: one model, many sizes");
        page.Note($"Trained once; every point below is cut from the same weights, from {Output.Short(smallest.Parameters)} to "
            + $"{Output.Short(whole.Parameters)} parameters, without training again.");
        page.Heading("Accuracy over size").Chart("curve.svg", SizeCurve.OfSizes(data.Spec.Name, data.Evaluation));
        Sizes(page, data.Evaluation, data.Whole);
        if (data.Curves.Count > 0)
        {
            page.Heading("Training").Drawing(width => TrainingChart.Inline(data.Curves, "bits per byte of training text", width));
            page.Note("The curves are smoothed over about 5% of the steps. The first steps lie above the frame.");
        }

        page.Heading("Extraction").Text(Describe(data.Slice));
        page.Heading("The same prompt, several sizes");
        foreach (var sample in data.Samples)
            page.Sample(sample.Profile, Output.Invariant($"{sample.TokensPerSecond:n0} tokens per second"), sample.Prompt, sample.Text);
        return page.Heading("How it was made").Facts(data.Facts).ToHtml();
    }

    /// <summary>Describes the result of an extraction.</summary>
    public static string Describe(SliceCheck slice, string what = "logits")
    {
        var difference = slice.Equal ? "equal those of the universal model, bit for bit."
            : Output.Invariant($"differ from those of the universal model by at most {slice.Difference:0.###E+0}.");
        return $"{slice.Profile} was extracted, saved to {slice.Path} and loaded again. Its {what} {difference}";
    }

    /// <summary>Returns the page of an evaluation, with the sweep of mixes if there was one.</summary>
    public static string Render(
        string model, string whole, Evaluation evaluation, MixSweep? sweep, IEnumerable<(string Name, string Value)> facts)
    {
        var page = new ReportPage($"{model}: how good its sizes are");
        page.Heading("Accuracy over size").Chart("curve.svg", SizeCurve.OfSizes(model, evaluation));
        Sizes(page, evaluation, whole);
        sweep?.AddTo(page, model, whole);
        return page.Heading("How it was made").Facts(facts).ToHtml();
    }

    private static void Sizes(ReportPage page, Evaluation evaluation, string whole)
    {
        page.Note(Output.Invariant($"On {evaluation.Bytes:n0} bytes of held-out text. A bigram model of the same training "
            + $"text needs {evaluation.BigramBitsPerByte:0.000} bits per byte."));
        page.Heading("Granularities and profiles");
        page.Table(
            ["Name", "Layers", "Parameters", "FLOPs per token", "Bits per byte", "Agrees with " + whole, $"on {whole}'s text",
                $"KL(·‖{whole})", $"KL({whole}‖·)"],
            evaluation.Rows.Select(row => (ImmutableArray<string>)
                [row.Costs.Name, row.Costs.Layout, Output.Count(row.Costs.Parameters), Output.Short(row.Costs.Flops),
                    Output.Invariant($"{row.BitsPerByte:0.000}"), Output.Percent(row.Consistency?.Agreement),
                    Output.Percent(row.Consistency?.GeneratedAgreement), Output.Nats(row.Consistency?.Divergence),
                    Output.Nats(row.Consistency?.ReverseDivergence)]),
            names: 2);
        page.Note($"Agreement is the share of positions where both have the same most likely next token, in the validation text and in "
            + $"text that {whole} generates. KL is the divergence of the distributions of the next token, in nats.");
    }
}

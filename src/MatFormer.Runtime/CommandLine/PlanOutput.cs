using System.Collections.Immutable;
using System.Text.Json;
using Spectre.Console;

namespace MatFormer;

/// <summary>What the plan command prints and writes.</summary>
internal static class PlanOutput
{
    private static readonly string[] s_headings =
        ["", "layers", "ms/token", "predicted", "bits/byte", "predicted", "memory", "parameters", "FLOPs/token", ""];

    public static void Table(TextWriter writer, Plan plan, PlanBudget budget)
    {
        var table = Output.NewTable(s_headings);
        foreach (var mix in plan.Mixes) table.AddRow(Cells(mix, plan, budget).Select(Output.Cell));
        Output.Print(writer, table);
    }

    // What a quiet machine stays well below.
    private const double BusyError = 0.15;

    /// <summary>What to paste into the declaration; null for a mix that has a name there.</summary>
    public static string? Declaration(string name, PlannedMix mix) =>
        mix.Name == mix.Pattern ? $"[Profile(\"{name}\", \"{mix.Pattern}\")]" : null;

    /// <summary>What was done, and how far off predictions are.</summary>
    public static string Summary(Plan plan, string conditions) =>
        Output.Invariant($"Of {plan.Searched:n0} mixes whose layers only widen{(plan.IsEvolved ? ", and others" : string.Empty)}, ")
        + Output.Invariant($"{plan.FrontierCount} are on the frontier, marked *, ")
        + Output.Invariant($"and {plan.Mixes.Count(m => m.IsOnFrontier)} of these were measured. ")
        + Output.Invariant($"Predictions are off by {plan.LatencyError:0.0%} in time and {plan.LossError:0.0000} bits per byte ")
        + "on average. "
        + Output.Invariant($"Timed here: {conditions}; evaluated on {plan.ValidationTokens:n0} tokens.")
        + (plan.LatencyError > BusyError ? " Times changed while they were taken: when the machine is less busy, plan again." : string.Empty);

    /// <summary>A page of it all.</summary>
    public static string Page(
        string model, Plan plan, PlanBudget budget, string? declaration, string conditions, IEnumerable<(string Name, string Value)> facts)
    {
        var page = new ReportPage($"{model}: what this machine should run");
        if (declaration is not null) page.Text($"The best mix that fits: {declaration}");
        page.Heading("Accuracy over time").Chart("plan.svg", Chart(model, plan));
        page.Note(Output.Invariant(
            $"On {plan.ValidationBytes:n0} bytes of text that was not trained on, one token at a time after {plan.CacheTokens} others."));
        page.Table(
            ["Name", "Layers", "ms per token", "predicted", "Bits per byte", "predicted", "Memory", "Parameters", "FLOPs per token", ""],
            plan.Mixes.Select(m => Cells(m, plan, budget).ToImmutableArray()), names: 2);
        page.Note(Summary(plan, conditions));
        return page.Heading("How it was made").Facts(facts).ToHtml();
    }

    public static void WritePlan(Utf8JsonWriter json, Plan plan, PlanBudget budget)
    {
        json.WriteNumber("cache_tokens", plan.CacheTokens);
        json.WriteNumber("validation_tokens", plan.ValidationTokens);
        json.WriteNumber("validation_bytes", plan.ValidationBytes);
        json.WriteStartObject("budget");
        if (budget.MaxMillisecondsPerToken is { } milliseconds) json.WriteNumber("ms_per_token", milliseconds);
        if (budget.MaxMemoryBytes is { } memory) json.WriteNumber("memory_bytes", memory);
        if (budget.MaxParameters is { } parameters) json.WriteNumber("parameters", parameters);
        if (budget.MaxFlopsPerToken is { } flops) json.WriteNumber("flops_per_token", flops);
        json.WriteEndObject();
        json.WriteNumber("increasing_mixes", plan.Searched);
        json.WriteNumber("frontier_mixes", plan.FrontierCount);
        json.WriteNumber("mean_relative_error_of_ms_per_token", plan.LatencyError);
        json.WriteNumber("mean_error_of_bits_per_byte", plan.LossError);
        json.WriteStartArray("mixes");
        foreach (var mix in plan.Mixes)
        {
            json.WriteStartObject();
            WriteMix(json, mix);
            json.WriteBoolean("on_frontier", mix.IsOnFrontier);
            json.WriteBoolean("fits", budget.Admits(mix.Measured));
            json.WriteEndObject();
        }

        json.WriteEndArray();
        if (plan.Best is null) return;
        json.WriteStartObject("best");
        WriteMix(json, plan.Best);
        json.WriteEndObject();
    }

    private static void WriteMix(Utf8JsonWriter json, PlannedMix mix)
    {
        json.WriteString("name", mix.Name);
        json.WriteString("pattern", mix.Pattern);
        json.WriteNumber("ms_per_token", mix.Measured.MillisecondsPerToken);
        json.WriteNumber("predicted_ms_per_token", mix.Predicted.MillisecondsPerToken);
        json.WriteNumber("bits_per_byte", mix.Measured.BitsPerByte);
        json.WriteNumber("predicted_bits_per_byte", mix.Predicted.BitsPerByte);
        json.WriteNumber("memory_bytes", mix.Measured.MemoryBytes);
        json.WriteNumber("parameters", mix.Measured.Parameters);
        json.WriteNumber("flops_per_token", mix.Measured.FlopsPerToken);
    }

    private static string[] Cells(PlannedMix mix, Plan plan, PlanBudget budget) =>
    [
        (mix.IsOnFrontier ? "* " : string.Empty) + (mix.Name == mix.Pattern ? string.Empty : mix.Name), mix.Pattern,
        Output.Invariant($"{mix.Measured.MillisecondsPerToken:0.000}"), Output.Invariant($"{mix.Predicted.MillisecondsPerToken:0.000}"),
        Output.Invariant($"{mix.Measured.BitsPerByte:0.0000}"), Output.Invariant($"{mix.Predicted.BitsPerByte:0.0000}"),
        ByteSize.Format(mix.Measured.MemoryBytes), Output.Count(mix.Measured.Parameters), Output.Millions(mix.Measured.FlopsPerToken),
        mix == plan.Best ? "best" : budget.Admits(mix.Measured) ? string.Empty : "too much",
    ];

    private static ScatterChart Chart(string model, Plan plan)
    {
        var (frontier, known) = (plan.Mixes.Where(m => m.IsOnFrontier), plan.Mixes.Where(m => m.Name != m.Pattern).ToList());
        return new ScatterChart
        {
            Title = $"Bits per byte of {model} over the time of a token",
            XTitle = "milliseconds per token",
            YTitle = "bits per byte of validation text (lower is better)",
            Series =
            [
                new ChartSeries(
                    "the frontier, measured",
                    [.. frontier.Select(m => Point(m, m.Measured, m == plan.Best ? "best" : string.Empty))]),
                new ChartSeries(
                    "as predicted",
                    [.. frontier.OrderBy(m => m.Predicted.MillisecondsPerToken).Select(m => Point(m, m.Predicted, string.Empty))],
                    IsLine: true),
                new ChartSeries("granularities and profiles, measured", [.. known.Select(m => Point(m, m.Measured, m.Name))]),
            ],
        };

        static ChartPoint Point(PlannedMix mix, MixCost cost, string label) => new(
            cost.MillisecondsPerToken, cost.BitsPerByte,
            Output.Invariant($"{mix.Pattern}: {cost.MillisecondsPerToken:0.000} ms, {cost.BitsPerByte:0.0000} bits per byte"), label);
    }
}

using System.Collections.Immutable;
using System.Text.Json;
using Spectre.Console;

namespace MatFormer;

/// <summary>Prints and writes the results of the command plan.</summary>
internal static class PlanOutput
{
    public static void Table(TextWriter writer, ModelSpec spec, Plan plan, PlanBudget budget)
    {
        var table = Output.NewTable(
            "", "layers", "ms/" + spec.Unit, "predicted", LossOf(spec).Short, "predicted", "memory", "parameters", "FLOPs/" + spec.Unit,
            string.Empty);
        foreach (var mix in plan.Mixes) table.AddRow(Cells(spec, mix, plan, budget).Select(Output.Cell));
        Output.Print(writer, table);
    }

    // On an idle machine, the mean relative error of time predictions stays well below this.
    private const double BusyError = 0.15;

    /// <summary>Returns the attribute to paste into the declaration, or null for a mix that is declared already.</summary>
    public static string? Declaration(string name, PlannedMix mix) =>
        mix.Name == mix.Pattern ? $"[Profile(\"{name}\", \"{mix.Pattern}\")]" : null;

    /// <summary>Describes the search, and how far predictions are off.</summary>
    public static string Summary(ModelSpec spec, Plan plan, string conditions) =>
        Output.Invariant($"Of {plan.Searched:n0} increasing mixes{(plan.IsEvolved ? ", and evolved ones" : string.Empty)}, ")
        + Output.Invariant($"{plan.FrontierCount} are on the frontier, marked *, ")
        + Output.Invariant($"and {plan.Mixes.Count(m => m.IsOnFrontier)} of these were measured. ")
        + Output.Invariant($"Predictions are off by {plan.LatencyError:0.0%} in time and {plan.LossError:0.0000} {LossOf(spec).Spoken} ")
        + "on average. "
        + Output.Invariant($"Timed here: {conditions}; evaluated on {Evaluated(spec, plan)}.")
        + Learned(spec, plan)
        + (plan.LatencyError > BusyError ? " Times varied during the measurement; plan again when the machine is less busy."
            : string.Empty);

    // Compares the learned mix with what was found for the same budget without learning.
    private static string Learned(ModelSpec spec, Plan plan)
    {
        if (plan.Mixes.FirstOrDefault(m => m.IsLearned) is not { } learned) return string.Empty;
        var text = Output.Invariant($" The learned mix, {learned.Pattern}, has {learned.Measured.Loss:0.0000} {LossOf(spec).Spoken}");
        if (plan.Mixes.FirstOrDefault(m => m.IsSolved) is not { } solved) return text + ".";
        return text + Output.Invariant(
            $"; the mix that the compiler solves the budget to, {solved.Pattern}, has {solved.Measured.Loss:0.0000}.");
    }

    /// <summary>Returns the page of a plan.</summary>
    public static string Page(
        ModelSpec spec, Plan plan, PlanBudget budget, string? declaration, string conditions,
        IEnumerable<(string Name, string Value)> facts)
    {
        var page = new ReportPage($"{spec.Name}: what this machine should run");
        if (declaration is not null) page.Text($"The best mix within the budgets: {declaration}");
        page.Heading("Accuracy over time").Chart("plan.svg", Chart(spec, plan));
        page.Note(spec.Kind == ModelKind.LanguageModel
            ? Output.Invariant(
                $"On {plan.ValidationBytes:n0} bytes of held-out text, one token at a time after {Counted.Of(plan.CacheTokens, "other")}.")
            : $"On {Evaluated(spec, plan)} that were held out, one {spec.Unit} at a time.");
        page.Table(
            [
                "Name", "Layers", "ms per " + spec.Unit, "predicted", LossOf(spec).Heading, "predicted", "Memory",
                "Parameters", "FLOPs per " + spec.Unit, "",
            ],
            plan.Mixes.Select(m => Cells(spec, m, plan, budget).ToImmutableArray()), names: 2);
        page.Note(Summary(spec, plan, conditions));
        return page.Heading("How it was made").Facts(facts).ToHtml();
    }

    public static void WritePlan(Utf8JsonWriter json, ModelSpec spec, Plan plan, PlanBudget budget)
    {
        if (spec.Kind == ModelKind.LanguageModel)
        {
            json.WriteNumber("cache_tokens", plan.CacheTokens);
            json.WriteNumber("validation_tokens", plan.ValidationTokens);
            json.WriteNumber("validation_bytes", plan.ValidationBytes);
        }
        else
        {
            if (spec.Image is null) json.WriteNumber("text_tokens", plan.CacheTokens);
            json.WriteNumber(spec.Image is null ? "validation_pairs" : "validation_images", plan.ValidationExamples);
        }

        json.WriteStartObject("budget");
        if (budget.MaxMilliseconds is { } milliseconds) json.WriteNumber("ms_per_" + spec.Unit, milliseconds);
        if (budget.MaxMemoryBytes is { } memory) json.WriteNumber("memory_bytes", memory);
        if (budget.MaxParameters is { } parameters) json.WriteNumber("parameters", parameters);
        if (budget.MaxFlops is { } flops) json.WriteNumber("flops_per_" + spec.Unit, flops);
        json.WriteEndObject();
        json.WriteNumber("increasing_mixes", plan.Searched);
        json.WriteNumber("frontier_mixes", plan.FrontierCount);
        json.WriteNumber("mean_relative_error_of_ms_per_" + spec.Unit, plan.LatencyError);
        json.WriteNumber("mean_error_of_" + LossOf(spec).Key, plan.LossError);
        Output.WriteObjects(json, "mixes", plan.Mixes, mix =>
        {
            WriteMix(json, spec, mix);
            json.WriteBoolean("on_frontier", mix.IsOnFrontier);
            json.WriteBoolean("fits", budget.Admits(mix.Measured));
            if (mix.IsLearned) json.WriteBoolean("is_learned", true);
            if (mix.IsSolved) json.WriteBoolean("is_solved", true);
        });
        if (plan.Best is null) return;
        json.WriteStartObject("best");
        WriteMix(json, spec, plan.Best);
        json.WriteEndObject();
    }

    private static void WriteMix(Utf8JsonWriter json, ModelSpec spec, PlannedMix mix)
    {
        json.WriteString("name", mix.Name);
        json.WriteString("pattern", mix.Pattern);
        if (spec.ElasticWidth) json.WriteNumber("width", spec.WidthOf(mix.Layers.AsSpan()));
        json.WriteNumber("ms_per_" + spec.Unit, mix.Measured.Milliseconds);
        if (mix.Budget is { } budget) json.WriteNumber("budget", budget);
        else json.WriteNumber("predicted_ms_per_" + spec.Unit, mix.Predicted.Milliseconds);
        json.WriteNumber(LossOf(spec).Key, mix.Measured.Loss);
        if (mix.Budget is null) json.WriteNumber("predicted_" + LossOf(spec).Key, mix.Predicted.Loss);
        json.WriteNumber("memory_bytes", mix.Measured.MemoryBytes);
        json.WriteNumber("parameters", mix.Measured.Parameters);
        json.WriteNumber("flops_per_" + spec.Unit, mix.Measured.Flops);
    }

    private static LossWords LossOf(ModelSpec spec) => LossWords.Of(spec.Kind);

    private static string Evaluated(ModelSpec spec, Plan plan) => spec.Kind switch
    {
        ModelKind.LanguageModel => Counted.Of(plan.ValidationTokens, "token"),
        ModelKind.VisionTransformer => Counted.Of(plan.ValidationExamples, "image"),
        _ => Counted.Of(plan.ValidationExamples, "pair"),
    };

    private static string LayoutOf(ModelSpec spec, PlannedMix mix) =>
        ProfileCosts.LayoutOf(mix.Pattern, spec.ElasticWidth ? spec.WidthOf(mix.Layers.AsSpan()) : null);

    private static string[] Cells(ModelSpec spec, PlannedMix mix, Plan plan, PlanBudget budget) =>
    [
        (mix.IsOnFrontier ? "* " : string.Empty) + (mix.Name == mix.Pattern ? string.Empty : mix.Name), LayoutOf(spec, mix),
        Output.Invariant($"{mix.Measured.Milliseconds:0.000}"), Predicted(mix, Output.Invariant($"{mix.Predicted.Milliseconds:0.000}")),
        Output.Invariant($"{mix.Measured.Loss:0.0000}"), Predicted(mix, Output.Invariant($"{mix.Predicted.Loss:0.0000}")),
        ByteSize.Format(mix.Measured.MemoryBytes), Output.Count(mix.Measured.Parameters), Output.Short(mix.Measured.Flops),
        string.Join(", ", Remarks(mix, plan, budget)),
    ];

    // Nothing is predicted of a routed pass.
    private static string Predicted(PlannedMix mix, string text) => mix.Budget is null ? text : string.Empty;

    private static IEnumerable<string> Remarks(PlannedMix mix, Plan plan, PlanBudget budget)
    {
        if (mix == plan.Best) yield return "best";
        if (mix.IsLearned) yield return "learned";
        if (mix.IsSolved) yield return "the compiler's";
        if (!budget.Admits(mix.Measured)) yield return "over budget";
    }

    private static ScatterChart Chart(ModelSpec spec, Plan plan)
    {
        var frontier = plan.Mixes.Where(m => m.IsOnFrontier);
        var known = plan.Mixes.Where(m => m.Name != m.Pattern).ToLookup(m => m.Budget is null);
        return new ScatterChart
        {
            Title = $"{spec.Name}: {LossOf(spec).Spoken} over the time of {(spec.Image is null ? "a" : "an")} {spec.Unit}",
            XTitle = "milliseconds per " + spec.Unit,
            YTitle = LossOf(spec).Spoken + " of validation data (lower is better)",
            Series =
            [
                new ChartSeries(
                    "the frontier, measured",
                    [.. frontier.Select(m => Point(m, m.Measured, m == plan.Best ? "best" : string.Empty))]),
                new ChartSeries(
                    "predicted",
                    [.. frontier.OrderBy(m => m.Predicted.Milliseconds).Select(m => Point(m, m.Predicted, string.Empty))],
                    IsLine: true),
                new ChartSeries("granularities and profiles, measured", [.. known[true].Select(m => Point(m, m.Measured, m.Name))]),
                .. known[false].Any()
                    ? (ChartSeries[])[new("tokens routed at a budget", [.. known[false].Select(m => Point(m, m.Measured, m.Name))])] : [],
            ],
        };

        ChartPoint Point(PlannedMix mix, MixCost cost, string label) => new(
            cost.Milliseconds, cost.Loss,
            $"{(mix.Budget is null ? mix.Pattern : mix.Name)}: "
                + Output.Invariant($"{cost.Milliseconds:0.000} ms, {cost.Loss:0.0000} {LossOf(spec).Spoken}"),
            label);
    }
}

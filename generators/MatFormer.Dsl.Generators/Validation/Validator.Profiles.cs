using System.Globalization;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Parts;

namespace MatFormer.Generators.Validation;

/// <content>Profiles: patterns, widths, and budgets to solve.</content>
internal sealed partial class Validator
{
    private IEnumerable<ProfileSpec> CheckProfiles(ModelSpec spec)
    {
        var costs = new Lazy<Costs>(() => Costs.Of(spec));
        foreach (var profile in _declaration.Profiles)
        {
            if (CheckProfile(profile, spec, costs) is { } good) yield return good;
        }

        if (_declaration.Grid is not { Count.Value: >= 1 and <= ProfileGridDeclaration.MaxCount } grid) yield break;
        var mixes = new BudgetSolver(spec).Grid(costs.Value, grid.Count.Value);
        if (mixes.Count < grid.Count.Value)
        {
            var (narrowest, widest) = (spec.Granularities[0].Name, spec.Widest.Name);
            var at = grid.Count.At.ReplacedBy(mixes.Count > 0 ? Text(mixes.Count) : null);
            Report(Descriptors.GridTooFine, at, Text(grid.Count.Value), Text(mixes.Count), narrowest, widest);
            yield break;
        }

        foreach (var (name, i) in grid.Names.Select((name, i) => (name, i)))
            yield return new ProfileSpec(name, mixes[i], "place " + Text(i + 1) + " of " + Text(grid.Count.Value) + " on an even spread of FLOPs");
    }

    private ProfileSpec? CheckProfile(ProfileDeclaration profile, ModelSpec spec, Lazy<Costs> costs)
    {
        var name = profile.Name.Value;
        CheckDefined(profile.WeightType);
        if (profile.WeightType is { } type && profile.MaxWeightBytes is null)
            Report(Descriptors.WeightTypeOfNothing, type.At, nameof(ProfileAttribute.WeightType), nameof(ProfileAttribute.MaxWeightBytes));
        var others = FlopBudgets(profile).Where(flops => flops.Most is not null && flops.Kind != spec.Kind).ToList();
        foreach (var (property, most, kind, attribute) in others)
        {
            var own = FlopBudgets(profile).First(flops => flops.Kind == spec.Kind).Property;
            Report(Descriptors.NotOfThisModel, most!.At, property, attribute, Attribute, "write " + own);
        }

        if (others.Count > 0) return null;
        var budgets = BudgetsOf(profile, spec, costs);
        var shapes = new List<string>();
        if (profile.Pattern is not null) shapes.Add("a pattern");
        if (profile.Widths is not null) shapes.Add("widths");
        if (budgets.Count > 0) shapes.Add("a budget");
        if (shapes.Count != 1)
        {
            var has = shapes.Count == 0 ? "none of them" : string.Join(" and ", shapes);
            var example = Text(spec.Layers) + "*" + spec.Granularities[0].Name;
            Report(Descriptors.ProfileShape, budgets.FirstOrDefault()?.At ?? profile.Name.At, name, has, example);
            return null;
        }

        if (profile.Pattern is not null)
            return CheckPattern(name, profile.Pattern, spec) is { } choices ? new ProfileSpec(name, choices, "") : null;
        return profile.Widths is { } widths ? CheckWidths(name, widths, profile.WidthsAt!, spec) : SolveBudgets(name, budgets, spec);
    }

    private sealed record Budget(string Property, LocationInfo At, Func<LayerSlice[], long> Cost, long Most, string Given, string Unit, double Scale);

    // Each kind of model has one.
    private static IEnumerable<(string Property, Located<long>? Most, ModelKind Kind, string Attribute)> FlopBudgets(ProfileDeclaration profile) =>
    [
        (nameof(ProfileAttribute.MaxFlopsPerToken), profile.MaxFlopsPerToken, ModelKind.LanguageModel, "[MatLM]"),
        (nameof(ProfileAttribute.MaxFlopsPerImage), profile.MaxFlopsPerImage, ModelKind.VisionTransformer, "[MatViT]"),
        (nameof(ProfileAttribute.MaxFlopsPerText), profile.MaxFlopsPerText, ModelKind.TextEncoder, "[MatEncoder]"),
    ];

    private List<Budget> BudgetsOf(ProfileDeclaration profile, ModelSpec spec, Lazy<Costs> costs)
    {
        var budgets = new List<Budget>();
        Add(nameof(ProfileAttribute.MaxParameters), profile.MaxParameters, layers => costs.Value.ParameterCount(layers), "parameters");
        Add(
            nameof(ProfileAttribute.MaxNonEmbeddingParameters),
            profile.MaxNonEmbeddingParameters,
            layers => costs.Value.NonEmbeddingParameterCount(layers),
            "parameters without embeddings");
        foreach (var flops in FlopBudgets(profile))
            Add(flops.Property, flops.Most, layers => costs.Value.Flops(layers), "FLOPs per " + spec.Unit);
        var type = profile.WeightType?.Value ?? WeightType.Float32;
        Add(
            nameof(ProfileAttribute.MaxWeightBytes),
            profile.MaxWeightBytes,
            layers => costs.Value.WeightBytes(layers, type),
            "bytes of " + type + " weights");
        if (profile.FeedForwardShare is { } share)
        {
            var all = spec.Blocks.Sum(b => (long)b.HiddenWidth);
            if (share.Value is not (> 0 and <= 1))
                Report(Descriptors.ShareOutOfRange, share.At, nameof(ProfileAttribute.FeedForwardShare), Text(share.Value));

            // A share such as 0.3 is not exact in binary.
            var most = share.Value is > 0 and <= 1 ? (long)Math.Floor((share.Value * all) + (1e-9 * all)) : all;
            budgets.Add(new Budget(
                nameof(ProfileAttribute.FeedForwardShare),
                share.At,
                layers => layers.Sum(l => (long)l.HiddenWidth),
                most,
                Text(share.Value),
                "of the hidden units",
                all));
        }

        return budgets;

        void Add(string property, Located<long>? most, Func<LayerSlice[], long> cost, string unit)
        {
            if (most is not null) budgets.Add(new Budget(property, most.At, cost, most.Value, Prose(most.Value), unit, 1));
        }
    }

    private ProfileSpec? SolveBudgets(string name, List<Budget> budgets, ModelSpec spec)
    {
        var isGood = true;
        var smallest = spec.LayersOf(Enumerable.Repeat(0, spec.Layers).ToList());
        foreach (var budget in budgets)
        {
            var least = budget.Cost(smallest);
            if (least <= budget.Most) continue;
            isGood = false;
            var needed = budget.Scale == 1 ? Text(least) : Text(least / budget.Scale);
            var given = budget.Scale == 1 ? Text(budget.Most) : budget.Given;
            Report(Descriptors.BudgetTooSmall, budget.At.ReplacedBy(needed), ModelName, given, budget.Unit, needed, budget.Property);
        }

        if (!isGood) return null;
        var solved = new BudgetSolver(spec).Solve(budgets.ConvertAll(b => (b.Cost, b.Most)))!.Value;
        var whole = spec.LayersOf(Enumerable.Repeat(spec.Granularities.Count - 1, spec.Layers).ToList());
        if (budgets.All(b => b.Cost(whole) < b.Most && b.Scale == 1))
        {
            var budget = budgets[0];
            var (most, all) = (Text(budget.Most), Text(budget.Cost(whole)));
            Report(Descriptors.BudgetTooLarge, budget.At, name, most, budget.Unit, ModelName, all, budget.Property, spec.Widest.Name);
        }

        var within = string.Join(" and ", budgets.Select(b => b.Given + " " + b.Unit));
        return new ProfileSpec(name, solved, "the largest within " + within);
    }

    private ProfileSpec? CheckWidths(string name, EquatableArray<Located<int>> widths, LocationInfo at, ModelSpec spec)
    {
        if (widths.Count != spec.Layers)
        {
            var filled = widths.Count == 0 ? null : string.Join(", ", Fill(widths.Select(w => Text(w.Value)).ToList(), spec.Layers));
            ReportLength(at.ReplacedBy(filled), name, Count(widths.Count, "width"), spec, "write a width for each layer");
            return null;
        }

        var choices = new int[widths.Count];
        for (var layer = 0; layer < choices.Length; layer++)
        {
            var width = widths[layer];
            var fitting = Enumerable.Range(0, spec.Granularities.Count)
                .Where(g => spec.Granularities[g].Layers[layer].HiddenWidth == width.Value)
                .ToList();
            var alike = fitting.Select(g => spec.Granularities[g].Layers[layer]).Distinct().Count();
            if (alike != 1)
            {
                if (alike == 0)
                {
                    var all = Choices(spec.Granularities.Select(g => Text(g.Layers[layer].HiddenWidth)).Distinct());
                    var nearest = spec.Granularities.Select(g => g.Layers[layer].HiddenWidth).OrderBy(w => Math.Abs((long)w - width.Value)).First();
                    Report(Descriptors.WidthIsNoGranularity, width.At.ReplacedBy(Text(nearest)), Text(width.Value), ModelName, all, OfLayer(layer));
                }
                else
                {
                    var several = string.Join(" and ", fitting.Select(g => spec.Granularities[g].Name));
                    Report(Descriptors.WidthIsAmbiguous, width.At, Text(width.Value), several);
                }

                return null;
            }

            choices[layer] = layer > 0 && fitting.Contains(choices[layer - 1]) ? choices[layer - 1] : fitting[0];
        }

        return new ProfileSpec(name, choices.ToEquatableArray(), "");
    }

    private EquatableArray<int>? CheckPattern(string name, LocatedText pattern, ModelSpec spec)
    {
        var choices = new List<int>();
        long layers = 0;
        foreach (var (start, term) in Terms(pattern.Value))
        {
            var star = term.IndexOf('*');
            var count = star < 0 ? 1 : ParseNumber(term.Substring(0, star)) ?? 0;
            var granularity = term.Substring(star + 1);
            if (count == 0 || granularity.Length == 0 || granularity.Contains('*'))
            {
                Report(Descriptors.MalformedPattern, pattern.Slice(start, term.Length), term, "2*" + spec.Granularities[0].Name);
                return null;
            }

            var choice = spec.Granularities.ToList().FindIndex(g => g.Name == granularity);
            if (choice < 0 && granularity != Pattern.Skip)
            {
                var at = pattern.Slice(start + star + 1, granularity.Length);
                var names = spec.Granularities.Select(g => g.Name).ToList();
                var nearest = pattern.Characters is null || granularity.Length > MaxName ? null : EditDistance.Nearest(granularity, names);
                Report(Descriptors.UnknownGranularity, at.ReplacedBy(nearest), granularity, ModelName, Choices(names));
                return null;
            }

            layers += count;
            choices.AddRange(Enumerable.Repeat(choice, (int)Math.Min(count, Math.Max(0, spec.Layers - choices.Count))));
        }

        if (layers != spec.Layers)
        {
            var missing = spec.Layers - layers;
            var remedy = missing > 0 ? "add " + Count(missing, "layer") : "remove " + Count(-missing, "layer");
            var filled = pattern.Characters is null || layers == 0 ? null : Pattern.Format(spec, Fill(choices, spec.Layers));
            ReportLength((pattern.Characters ?? pattern.At).ReplacedBy(filled), name, Count(layers, "layer"), spec, remedy);
            return null;
        }

        if (choices.Any(choice => choice != ProfileSpec.Skip)) return choices.ToEquatableArray();
        Report(Descriptors.AllLayersSkipped, pattern.Characters ?? pattern.At, name, "1*" + spec.Granularities[0].Name);
        return null;
    }

    // Repeats the last item, or cuts.
    private static List<T> Fill<T>(IReadOnlyList<T> items, int count) =>
        [.. items.Take(count), .. Enumerable.Repeat(items[items.Count - 1], Math.Max(0, count - items.Count))];

    private void ReportLength(Remedy at, string profile, string given, ModelSpec spec, string remedy) =>
        Report(Descriptors.WrongLength, at, profile, given, ModelName, Count(spec.Layers, "layer"), remedy);

    private static int? ParseNumber(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    // Runs of characters that are no white space.
    private static IEnumerable<(int Start, string Term)> Terms(string pattern)
    {
        for (var start = 0; start < pattern.Length; start++)
        {
            if (char.IsWhiteSpace(pattern[start])) continue;
            var end = start;
            while (end < pattern.Length && !char.IsWhiteSpace(pattern[end])) end++;
            yield return (start, pattern.Substring(start, end - start));
            start = end;
        }
    }

    private static string Prose(long number) => number.ToString("#,0", CultureInfo.InvariantCulture);
}

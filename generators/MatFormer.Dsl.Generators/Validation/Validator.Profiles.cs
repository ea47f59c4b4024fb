using System.Globalization;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Parts;

namespace MatFormer.Generators.Validation;

/// <content>Profiles, which are patterns, widths or budgets.</content>
internal sealed partial class Validator
{
    // Checks what can be checked before the model is known. Returns the choices of patterns by the index of the profile, and null for a
    // profile that is wrong.
    private Dictionary<int, EquatableArray<int>?> CheckShapes()
    {
        var granularities = _declaration.Granularities.Select(g => g.Name.Value).Distinct().ToList();
        var layers = _declaration.Model.Layers!.Value;
        var choices = new Dictionary<int, EquatableArray<int>?>();
        for (var i = 0; i < _declaration.Profiles.Count; i++)
        {
            var profile = _declaration.Profiles[i];
            if (!CheckShape(profile, layers, granularities)) choices[i] = null;
            else if (profile.Pattern is { } pattern && granularities.Count >= 2)
                choices[i] = CheckPattern(profile.Name.Value, pattern, layers, granularities);
        }

        return choices;
    }

    private IEnumerable<ProfileSpec> CheckProfiles(ModelSpec spec, Dictionary<int, EquatableArray<int>?> patterns)
    {
        var costs = new Lazy<Costs>(() => Costs.Of(spec));
        for (var i = 0; i < _declaration.Profiles.Count; i++)
        {
            var profile = _declaration.Profiles[i];
            var name = profile.Name.Value;
            var good = patterns.TryGetValue(i, out var pattern) ? pattern is { } choices ? new ProfileSpec(name, choices, "") : null
                : profile.Widths is { } widths ? CheckWidths(name, widths, spec)
                : SolveBudgets(profile, spec, costs);
            var at = profile.Pattern?.Characters ?? profile.Pattern?.At ?? profile.WidthsAt ?? profile.Name.At;
            if (good is not null && IsOfOneWidth(good, at, spec)) yield return good with { Bits = profile.Bits?.Value ?? good.Bits };
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
        {
            var origin = "place " + Text(i + 1) + " of " + Text(grid.Count.Value) + " on an even spread of FLOPs";
            yield return new ProfileSpec(name, mixes[i], origin);
        }
    }

    // All layers of a profile add to the same residual stream.
    private bool IsOfOneWidth(ProfileSpec profile, LocationInfo at, ModelSpec spec)
    {
        var kept = profile.Choices.Where(choice => choice != ProfileSpec.Skip).ToList();
        var other = kept.FindIndex(choice => WidthOf(choice) != WidthOf(kept[0]));
        if (other < 0) return true;
        Report(
            Descriptors.ProfileMixesStreams, at, profile.Name, spec.Granularities[kept[0]].Name, Text(WidthOf(kept[0])),
            spec.Granularities[kept[other]].Name, Text(WidthOf(kept[other])));
        return false;

        int WidthOf(int choice) => spec.WidthOf(spec.Granularities[choice].Layers);
    }

    // A profile is a pattern, widths, or budgets that apply to this kind of model.
    private bool CheckShape(ProfileDeclaration profile, int layers, List<string> granularities)
    {
        var name = profile.Name.Value;
        CheckDefined(profile.WeightType);
        if (profile.WeightType is { } type && profile.MaxWeightBytes is null)
            Report(Descriptors.WeightTypeOfNothing, type.At, nameof(ProfileAttribute.WeightType), nameof(ProfileAttribute.MaxWeightBytes));
        CheckBits(profile);
        if (profile.FeedForwardShare is { Value: not (> 0 and <= 1) } share)
            Report(Descriptors.ShareOutOfRange, share.At, nameof(ProfileAttribute.FeedForwardShare), Text(share.Value));
        var others = FlopBudgets(profile).Where(flops => flops.Most is not null && flops.Kind != _declaration.Model.Kind).ToList();
        foreach (var (property, most, kind, attribute) in others)
        {
            var own = FlopBudgets(profile).First(flops => flops.Kind == _declaration.Model.Kind).Property;
            Report(Descriptors.NotOfThisModel, most!.At, property, attribute, Attribute, "write " + own);
        }

        if (others.Count > 0) return false;
        var budget = BudgetAt(profile);
        var shapes = new List<string>();
        if (profile.Pattern is not null) shapes.Add("a pattern");
        if (profile.Widths is not null) shapes.Add("widths");
        if (budget is not null) shapes.Add("a budget");
        if (shapes.Count == 1) return profile.Widths is not { } widths || CheckLength(name, widths, profile.WidthsAt!, layers);
        var has = shapes.Count == 0 ? "no pattern, no widths and no budget" : string.Join(" and ", shapes);
        var example = Text(layers) + "*" + (granularities.Count > 0 ? granularities[0] : "S");
        Report(Descriptors.ProfileShape, budget ?? profile.Name.At, name, has, example);
        return false;
    }

    // Returns the place of the first budget in the order of BudgetsOf, or null.
    private static LocationInfo? BudgetAt(ProfileDeclaration profile) =>
        profile.MaxParameters?.At
        ?? profile.MaxNonEmbeddingParameters?.At
        ?? FlopBudgets(profile).Select(flops => flops.Most?.At).FirstOrDefault(at => at is not null)
        ?? profile.MaxWeightBytes?.At
        ?? profile.FeedForwardShare?.At;

    private sealed record Budget(
        string Property, LocationInfo At, Func<LayerSlice[], long> Cost, long Most, string Given, string Unit, double Scale);

    // Each kind of model has its own budget of FLOPs.
    private static IEnumerable<(string Property, Located<long>? Most, ModelKind Kind, string Attribute)> FlopBudgets(
        ProfileDeclaration profile) =>
    [
        (nameof(ProfileAttribute.MaxFlopsPerToken), profile.MaxFlopsPerToken, ModelKind.LanguageModel, "[MatLM]"),
        (nameof(ProfileAttribute.MaxFlopsPerImage), profile.MaxFlopsPerImage, ModelKind.VisionTransformer, "[MatViT]"),
        (nameof(ProfileAttribute.MaxFlopsPerText), profile.MaxFlopsPerText, ModelKind.TextEncoder, "[MatEncoder]"),
    ];

    private List<Budget> BudgetsOf(ProfileDeclaration profile, ModelSpec spec, Lazy<Costs> costs, int bits)
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
            layers => bits > 0 ? costs.Value.WeightBytes(layers, bits) : costs.Value.WeightBytes(layers, type),
            bits > 0 ? "bytes of " + Text(bits) + "-bit weights" : "bytes of " + type + " weights");
        if (profile.FeedForwardShare is { } share)
        {
            var all = spec.Blocks.Sum(b => (long)b.HiddenWidth);

            // A share such as 0.3 is not exact in binary, so a rounding error is tolerated.
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

    // If fewer bits than possible were chosen, so that the whole model fits, then a budget above the whole model is no mistake.
    private ProfileSpec? SolveBudgets(string name, List<Budget> budgets, ModelSpec spec, bool choseBits)
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
        if (!choseBits && budgets.All(b => b.Cost(whole) < b.Most && b.Scale == 1))
        {
            var budget = budgets[0];
            var (most, all) = (Text(budget.Most), Text(budget.Cost(whole)));
            Report(Descriptors.BudgetTooLarge, budget.At, name, most, budget.Unit, ModelName, all, budget.Property, spec.Widest.Name);
        }

        var within = string.Join(" and ", budgets.Select(b => b.Given + " " + b.Unit));
        return new ProfileSpec(name, solved, "the largest within " + within);
    }

    private bool CheckLength(string name, EquatableArray<Located<int>> widths, LocationInfo at, int layers)
    {
        if (widths.Count == layers) return true;
        var filled = widths.Count == 0 ? null : string.Join(", ", Fill(widths.Select(w => Text(w.Value)).ToList(), layers));
        ReportLength(at.ReplacedBy(filled), name, Count(widths.Count, "width"), layers, "write a width for each layer");
        return false;
    }

    private ProfileSpec? CheckWidths(string name, EquatableArray<Located<int>> widths, ModelSpec spec)
    {
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
                    var nearest = spec.Granularities
                        .Select(g => g.Layers[layer].HiddenWidth)
                        .OrderBy(w => Math.Abs((long)w - width.Value))
                        .First();
                    var at = width.At.ReplacedBy(Text(nearest));
                    Report(Descriptors.WidthIsNoGranularity, at, Text(width.Value), ModelName, all, OfLayer(layer));
                }
                else
                {
                    var several = string.Join(" and ", fitting.Select(g => spec.Granularities[g].Name));
                    var what = spec.ElasticWidth ? "Heads or Width" : "heads";
                    Report(Descriptors.WidthIsAmbiguous, width.At, Text(width.Value), several, what);
                }

                return null;
            }

            choices[layer] = layer > 0 && fitting.Contains(choices[layer - 1]) ? choices[layer - 1] : fitting[0];
        }

        return new ProfileSpec(name, choices.ToEquatableArray(), "");
    }

    private EquatableArray<int>? CheckPattern(string name, LocatedText pattern, int layerCount, List<string> granularities)
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
                Report(Descriptors.MalformedPattern, pattern.Slice(start, term.Length), term, "2*" + granularities[0]);
                return null;
            }

            var choice = granularities.IndexOf(granularity);
            if (choice < 0 && granularity != Pattern.Skip)
            {
                var at = pattern.Slice(start + star + 1, granularity.Length);
                var nearest = pattern.Characters is null || granularity.Length > MaxName
                    ? null
                    : EditDistance.Nearest(granularity, granularities);
                Report(Descriptors.UnknownGranularity, at.ReplacedBy(nearest), granularity, ModelName, Choices(granularities));
                return null;
            }

            layers += count;
            choices.AddRange(Enumerable.Repeat(choice, (int)Math.Min(count, Math.Max(0, layerCount - choices.Count))));
        }

        if (layers != layerCount)
        {
            var missing = layerCount - layers;
            var remedy = missing > 0 ? "add " + Count(missing, "layer") : "remove " + Count(-missing, "layer");
            var filled = pattern.Characters is null || layers == 0 ? null : Pattern.Format(granularities, Fill(choices, layerCount));
            ReportLength((pattern.Characters ?? pattern.At).ReplacedBy(filled), name, Count(layers, "layer"), layerCount, remedy);
            return null;
        }

        if (choices.Any(choice => choice != ProfileSpec.Skip)) return choices.ToEquatableArray();
        Report(Descriptors.AllLayersSkipped, pattern.Characters ?? pattern.At, name, "1*" + granularities[0]);
        return null;
    }

    // Repeats the last item, or removes items from the end.
    private static List<T> Fill<T>(IReadOnlyList<T> items, int count) =>
        [.. items.Take(count), .. Enumerable.Repeat(items[items.Count - 1], Math.Max(0, count - items.Count))];

    private void ReportLength(Remedy at, string profile, string given, int layers, string remedy) =>
        Report(Descriptors.WrongLength, at, profile, given, ModelName, Count(layers, "layer"), remedy);

    private static int? ParseNumber(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    // Returns runs of characters that are not white space.
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

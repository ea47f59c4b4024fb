using System.Globalization;
using MatFormer.Generators.Emission;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Validation;

/// <summary>Judges a declaration: a model to emit, or mistakes with their places.</summary>
internal sealed class Validator
{
    // Far above any model, and low enough that no count overflows 64 bits.
    private const int MaxLayers = 4096;
    private const int MaxWidth = 1 << 20;
    private const int MaxTokens = 1 << 24;

    // Of a granularity or a profile: also a file's name.
    private const int MaxName = 64;

    private readonly Declaration _declaration;
    private readonly List<DiagnosticInfo> _diagnostics = [];

    private Validator(Declaration declaration) => _declaration = declaration;

    private string ModelName => _declaration.Type.Name;

    public static Checked Check(Declaration declaration) => new Validator(declaration).Check();

    private Checked Check()
    {
        if (_declaration.Problems.Count > 0) return new Checked(null, _declaration.Problems);
        if (Names.Generated.Contains(ModelName) || _declaration.TakenNames.Contains(ModelName))
        {
            Report(Descriptors.ClassNameTaken, _declaration.NameAt, ModelName);
            return new Checked(null, _diagnostics.ToEquatableArray());
        }

        // The compiler has spoken already; what the attributes lack would be said twice.
        if (!_declaration.IsComplete) return new Checked(Skeleton("an attribute has an error"), default);

        var spec = CheckModel();
        if (_diagnostics.Count == 0 && spec is not null) return new Checked(new Output.Whole(spec), default);
        var first = _diagnostics[0].ToDiagnostic().GetMessage(CultureInfo.InvariantCulture);
        return new Checked(Skeleton(_diagnostics[0].Descriptor.Id + ": " + first), _diagnostics.ToEquatableArray());
    }

    private ModelSpec? CheckModel()
    {
        CheckNames();
        var model = _declaration.MatLM;
        var sizesAreGood = CheckSize(nameof(MatLMAttribute.Layers), model.Layers, MaxLayers)
            & CheckSize(nameof(MatLMAttribute.Width), model.Width, MaxWidth)
            & CheckSize(nameof(MatLMAttribute.Heads), model.Heads, MaxWidth)
            & CheckSize(nameof(MatLMAttribute.Context), model.Context, MaxTokens)
            & CheckSize(nameof(MatLMAttribute.Vocabulary), model.Vocabulary, MaxTokens);
        var attention = CheckAttention();
        var hidden = CheckFeedForward();
        CheckNormAndPosition();
        var granularities = CheckGranularities(hidden);
        if (!sizesAreGood || attention is null || hidden is null || granularities is null) return null;

        var spec = new ModelSpec(
            _declaration.Type,
            model.Layers!.Value,
            model.Width!.Value,
            model.Heads!.Value,
            attention.Value.KeyValueHeads,
            attention.Value.HeadWidth,
            model.Context!.Value,
            model.Vocabulary!.Value,
            hidden.Value,
            _declaration.FeedForward!.Activation.Value,
            _declaration.FeedForward.Bias,
            _declaration.Norm?.Kind.Value ?? NormKind.Rms,
            _declaration.Norm?.Epsilon?.Value ?? 1e-5,
            _declaration.Position?.Value ?? PositionKind.Rotary,
            _declaration.Attention?.RotaryBase?.Value ?? 10000,
            _declaration.Attention?.QkNorm ?? false,
            _declaration.Tied,
            granularities.ToEquatableArray(),
            default);
        return spec with { Profiles = _declaration.Profiles.Select(p => CheckProfile(p, spec)).OfType<ProfileSpec>().ToEquatableArray() };
    }

    private void CheckNames()
    {
        // Files differ in more than case.
        var seen = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (var (name, kind) in _declaration.Granularities.Select(g => (g.Name, "granularity"))
            .Concat(_declaration.Profiles.Select(p => (p.Name, "profile"))))
        {
            if (!IsIdentifier(name.Value))
                Report(Descriptors.InvalidName, name.At, name.Value, kind == "profile" ? "Phone" : "S");
            else if (IsTaken(name.Value))
                Report(Descriptors.NameTaken, name.At, name.Value, ModelName);
            else if (seen.TryGetValue(name.Value, out var first))
                Report(Descriptors.DuplicateName, name.At, name.Value, first, ModelName);
            else
                seen.Add(name.Value, kind);
        }
    }

    private bool IsTaken(string name) => name == ModelName || Names.Generated.Contains(name) || _declaration.TakenNames.Contains(name);

    // Characters of category Format may stand in an identifier but are no part of it.
    private static bool IsIdentifier(string name) =>
        SyntaxFacts.IsValidIdentifier(name)
        && name.Length <= MaxName
        && !name.Any(c => char.GetUnicodeCategory(c) == UnicodeCategory.Format)
        && SyntaxFacts.GetKeywordKind(name) == SyntaxKind.None
        && SyntaxFacts.GetContextualKeywordKind(name) == SyntaxKind.None;

    private bool CheckSize(string name, Located<int>? size, int max)
    {
        if (size?.Value >= 1 && size.Value <= max) return true;
        var at = size?.At.ReplacedBy(Text(size.Value > max ? max : Math.Max(1, Math.Min(max, -(long)size.Value)))) ?? _declaration.MatLM.At;
        Report(Descriptors.SizeOutOfRange, at, name, size is null ? "missing" : Text(size.Value), Text(max));
        return false;
    }

    private void CheckPositive(string name, Located<double>? value, double above)
    {
        if (value is null || (value.Value > above && !double.IsInfinity(value.Value))) return;
        Report(Descriptors.NotPositive, value.At, name, Text(value.Value), Text(above));
    }

    private void CheckDefined<T>(Located<T>? value)
        where T : struct, Enum
    {
        if (value is null || Enum.IsDefined(typeof(T), value.Value)) return;
        Report(Descriptors.UndefinedValue, value.At, typeof(T).Name, value.Value.ToString(), Choices(Enum.GetNames(typeof(T))));
    }

    private (int KeyValueHeads, int HeadWidth)? CheckAttention()
    {
        var (heads, width, attention) = (_declaration.MatLM.Heads, _declaration.MatLM.Width, _declaration.Attention);
        var isGood = true;
        if (attention?.KeyValueHeads is { } given) isGood &= CheckSize(nameof(AttentionAttribute.KeyValueHeads), given, MaxWidth);
        if (attention?.HeadWidth is { } wide) isGood &= CheckSize(nameof(AttentionAttribute.HeadWidth), wide, MaxWidth);
        CheckPositive(nameof(AttentionAttribute.RotaryBase), attention?.RotaryBase, 1);
        if (!isGood || heads?.Value is not (>= 1 and <= MaxWidth) || width?.Value is not (>= 1 and <= MaxWidth)) return null;

        if (attention?.HeadWidth is null && width.Value % heads.Value != 0)
        {
            var nearest = NearestDivisor(width.Value, heads.Value);
            var at = heads.At.ReplacedBy(Text(nearest));
            Report(Descriptors.HeadsDoNotDivideWidth, at, Text(heads.Value), Text(width.Value), Text(nearest));
            return null;
        }

        var keyValueHeads = attention?.KeyValueHeads?.Value ?? heads.Value;
        if (heads.Value % keyValueHeads != 0)
        {
            var nearest = NearestDivisor(heads.Value, keyValueHeads);
            var at = attention!.KeyValueHeads!.At.ReplacedBy(Text(nearest));
            Report(Descriptors.KeyValueHeadsDoNotDivideHeads, at, Text(keyValueHeads), Text(heads.Value), Text(nearest));
            return null;
        }

        var headWidth = attention?.HeadWidth?.Value ?? width.Value / heads.Value;
        if ((long)headWidth * heads.Value > MaxWidth)
        {
            var most = Text(MaxWidth / heads.Value);
            var at = attention!.HeadWidth!.At.ReplacedBy(most);
            Report(Descriptors.SizeOutOfRange, at, nameof(AttentionAttribute.HeadWidth), Text(headWidth), most);
            return null;
        }

        if (_declaration.Position?.Value is null or PositionKind.Rotary && headWidth % 2 != 0)
        {
            var at = attention?.HeadWidth?.At.ReplacedBy(Text(headWidth + 1))
                ?? heads.At.ReplacedBy(width.Value % 2 == 0 ? Text(NearestDivisor(width.Value / 2, heads.Value)) : null);
            Report(Descriptors.OddHeadWidth, at, Text(headWidth));
            return null;
        }

        return (keyValueHeads, headWidth);
    }

    private int? CheckFeedForward()
    {
        if (_declaration.FeedForward is not { } feedForward)
        {
            var usual = _declaration.MatLM.Width?.Value is { } width and >= 1 and <= MaxWidth / 4 ? 4 * width : 1024;
            Report(Descriptors.NoFeedForward, _declaration.NameAt, ModelName, Text(usual));
            return null;
        }

        CheckDefined(feedForward.Activation);
        return CheckSize("The feed-forward's width", feedForward.Width, MaxWidth) ? feedForward.Width.Value : null;
    }

    private void CheckNormAndPosition()
    {
        CheckDefined(_declaration.Norm?.Kind);
        CheckDefined(_declaration.Position);
        CheckPositive(nameof(NormAttribute.Epsilon), _declaration.Norm?.Epsilon, 0);
    }

    // Null if a width is wrong; the profiles, which would only repeat it, are not looked at then.
    private List<GranularitySpec>? CheckGranularities(int? hidden)
    {
        var declared = _declaration.Granularities;
        if (declared.Count < 2)
        {
            var whole = hidden is null ? "..." : Text(hidden.Value);
            var narrow = hidden is null ? "..." : Text(Math.Max(1, hidden.Value / 8));
            var example = "[Granularity(\"S\", " + narrow + "), Granularity(\"XL\", " + whole + ")]";
            Report(Descriptors.TooFewGranularities, _declaration.NameAt, ModelName, declared.Count == 0 ? "none" : "one", example);
            return null;
        }

        if (hidden is null) return null;
        var granularities = new List<GranularitySpec>();
        foreach (var granularity in declared)
        {
            if (CheckWidth(granularity, hidden.Value) is not { } width) return null;
            var at = granularity.Width?.At ?? granularity.Fraction!.At;
            var name = granularity.Name.Value;
            if (width > hidden)
            {
                var remedy = granularities.Count == declared.Count - 1 ? Text(hidden.Value) : null;
                Report(Descriptors.GranularityTooWide, at.ReplacedBy(remedy), name, Text(width), Text(hidden.Value));
                return null;
            }

            if (granularities.LastOrDefault() is { } before && width <= before.Width)
            {
                Report(Descriptors.GranularitiesNotIncreasing, at, name, Text(width), before.Name, Text(before.Width));
                return null;
            }

            granularities.Add(new GranularitySpec(name, width));
        }

        var last = declared[declared.Count - 1];
        var widest = granularities[granularities.Count - 1];
        if (widest.Width != hidden)
        {
            var at = last.Width?.At.ReplacedBy(Text(hidden.Value)) ?? last.Fraction!.At.ReplacedBy("1.0");
            Report(Descriptors.WidestIsNotWhole, at, widest.Name, Text(widest.Width), Text(hidden.Value));
            return null;
        }

        return granularities;
    }

    private int? CheckWidth(GranularityDeclaration granularity, int hidden)
    {
        if (granularity.Width is { } width)
            return CheckSize("The width of '" + granularity.Name.Value + "'", width, MaxWidth) ? width.Value : null;

        // A fraction such as 0.1 is not exact in binary; a width that is whole but for that is meant.
        var fraction = granularity.Fraction!;
        var exact = fraction.Value * hidden;
        var nearest = Math.Round(exact);
        if (exact > 0 && nearest >= 1 && nearest <= hidden && Math.Abs(exact - nearest) <= 1e-9 * hidden) return (int)nearest;

        // With a point: without one, it would be a width.
        var suggested = double.IsNaN(exact) ? hidden : Math.Min(hidden, Math.Max(1, nearest));
        var suggestedFraction = suggested == hidden ? "1.0" : Text(suggested / hidden);
        Report(
            Descriptors.FractionNotWhole,
            fraction.At.ReplacedBy(suggestedFraction),
            granularity.Name.Value,
            Text(fraction.Value),
            Text(hidden),
            Text(exact),
            suggestedFraction,
            Text(suggested));
        return null;
    }

    private ProfileSpec? CheckProfile(ProfileDeclaration profile, ModelSpec spec)
    {
        var name = profile.Name.Value;
        var shapes = new List<string>();
        if (profile.Pattern is not null) shapes.Add("a pattern");
        if (profile.Widths is not null) shapes.Add("widths");
        if (profile.MaxParameters is not null) shapes.Add("a budget");
        if (shapes.Count != 1)
        {
            var has = shapes.Count == 0 ? "none of them" : string.Join(" and ", shapes);
            var example = Text(spec.Layers) + "*" + spec.Granularities[0].Name;
            Report(Descriptors.ProfileShape, profile.MaxParameters?.At ?? profile.Name.At, name, has, example);
            return null;
        }

        if (profile.Pattern is not null) return CheckPattern(name, profile.Pattern, spec);
        if (profile.Widths is { } widths) return CheckWidths(name, widths, profile.WidthsAt!, spec);

        var budget = profile.MaxParameters!;
        var costs = Costs.Of(spec);
        if (BudgetSolver.Solve(costs, spec.Layers, spec.Granularities, budget.Value) is { } solved)
            return new ProfileSpec(name, solved, budget.Value);
        var smallest = costs.ParameterCount(spec.GranularityProfiles.First().Widths);
        Report(Descriptors.BudgetTooSmall, budget.At.ReplacedBy(Text(smallest)), ModelName, Text(budget.Value), Text(smallest));
        return null;
    }

    private ProfileSpec? CheckWidths(string name, EquatableArray<Located<int>> widths, LocationInfo at, ModelSpec spec)
    {
        if (widths.Count != spec.Layers)
        {
            var filled = widths.Count == 0 ? null : string.Join(", ", Fill(widths.Select(w => Text(w.Value)).ToList(), spec.Layers));
            ReportLength(at.ReplacedBy(filled), name, Count(widths.Count, "width"), spec, "write a width for each layer");
            return null;
        }

        var wrong = widths.FirstOrDefault(width => spec.Granularities.All(g => g.Width != width.Value));
        if (wrong is null) return new ProfileSpec(name, widths.Select(w => w.Value).ToEquatableArray(), 0);
        var choices = Choices(spec.Granularities.Select(g => Text(g.Width)));
        var nearest = spec.Granularities.OrderBy(g => Math.Abs((long)g.Width - wrong.Value)).First();
        Report(Descriptors.WidthIsNoGranularity, wrong.At.ReplacedBy(Text(nearest.Width)), Text(wrong.Value), ModelName, choices);
        return null;
    }

    private ProfileSpec? CheckPattern(string name, LocatedText pattern, ModelSpec spec)
    {
        var widths = new List<int>();
        long layers = 0;
        foreach (var (start, term) in Terms(pattern.Value))
        {
            var star = term.IndexOf('*');
            var count = star < 0 ? 1 : ParseCount(term.Substring(0, star));
            var granularity = term.Substring(star + 1);
            if (count == 0 || granularity.Length == 0 || granularity.Contains('*'))
            {
                Report(Descriptors.MalformedPattern, pattern.Slice(start, term.Length), term, "2*" + spec.Granularities[0].Name);
                return null;
            }

            if (spec.Granularities.FirstOrDefault(g => g.Name == granularity) is not { } known)
            {
                var at = pattern.Slice(start + star + 1, granularity.Length);
                var nearest = pattern.Characters is null ? null : EditDistance.Nearest(granularity, spec.Granularities.Select(g => g.Name));
                var choices = Choices(spec.Granularities.Select(g => g.Name));
                Report(Descriptors.UnknownGranularity, at.ReplacedBy(nearest), granularity, ModelName, choices);
                return null;
            }

            layers += count;
            widths.AddRange(Enumerable.Repeat(known.Width, (int)Math.Min(count, Math.Max(0, spec.Layers - widths.Count))));
        }

        if (layers == spec.Layers) return new ProfileSpec(name, widths.ToEquatableArray(), 0);
        var missing = spec.Layers - layers;
        var remedy = missing > 0 ? "add " + Count(missing, "layer") : "remove " + Count(-missing, "layer");
        var filled = pattern.Characters is null || layers == 0 ? null : Pattern.Format(spec, Fill(widths, spec.Layers));
        ReportLength((pattern.Characters ?? pattern.At).ReplacedBy(filled), name, Count(layers, "layer"), spec, remedy);
        return null;
    }

    // Repeats the last item, or cuts.
    private static List<T> Fill<T>(IReadOnlyList<T> items, int count) =>
        [.. items.Take(count), .. Enumerable.Repeat(items[items.Count - 1], Math.Max(0, count - items.Count))];

    private void ReportLength(Remedy at, string profile, string given, ModelSpec spec, string remedy) =>
        Report(Descriptors.WrongLength, at, profile, given, ModelName, Count(spec.Layers, "layer"), remedy);

    // 0 if it is no count.
    private static int ParseCount(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var count) ? count : 0;

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

    private Output.Skeleton Skeleton(string reason)
    {
        var seen = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
        var names = _declaration.Granularities.Select(g => g.Name.Value).Concat(_declaration.Profiles.Select(p => p.Name.Value));
        return new Output.Skeleton(_declaration.Type, reason, names.Where(IsUsable).ToEquatableArray());

        bool IsUsable(string name) => IsIdentifier(name) && !IsTaken(name) && seen.Add(name);
    }

    private void Report(DiagnosticDescriptor descriptor, Remedy at, params string[] arguments) =>
        _diagnostics.Add(new DiagnosticInfo(descriptor, at, arguments));

    // The divisor nearest to what was written, the larger of two.
    private static int NearestDivisor(int number, int near)
    {
        for (var distance = 1; distance < number; distance++)
        {
            if (near + distance <= number && number % (near + distance) == 0) return near + distance;
            if (near - distance >= 1 && number % (near - distance) == 0) return near - distance;
        }

        return number;
    }

    private static string Choices(IEnumerable<string> names) => string.Join(", ", names);

    private static string Count(long number, string thing) => Text(number) + " " + thing + (number == 1 ? "" : "s");

    private static string Text(IFormattable number) => number.ToString(null, CultureInfo.InvariantCulture);
}

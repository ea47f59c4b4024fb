using System.Collections.Frozen;
using System.Globalization;

namespace MatFormer;

/// <summary>The filters that templates may use.</summary>
internal static class JinjaFilters
{
    private static readonly JinjaSignature s_none = new([]);
    private static readonly JinjaSignature s_default = new(["default_value", "boolean"]);
    private static readonly JinjaSignature s_open = new([], IsOpen: true);

    public static FrozenDictionary<string, JinjaSignature> All { get; } = new Dictionary<string, JinjaSignature>(StringComparer.Ordinal)
    {
        ["trim"] = new(["chars"]),
        ["length"] = s_none,
        ["count"] = s_none,
        ["tojson"] = new(["ensure_ascii", "indent", "separators", "sort_keys"]),
        ["join"] = new(["d", "attribute"]),
        ["upper"] = s_none,
        ["lower"] = s_none,
        ["capitalize"] = s_none,
        ["title"] = s_none,
        ["first"] = s_none,
        ["last"] = s_none,
        ["list"] = s_none,
        ["reverse"] = s_none,
        ["string"] = s_none,
        ["safe"] = s_none,
        ["default"] = s_default,
        ["d"] = s_default,
        ["replace"] = new(["old", "new", "count"], 2),
        ["items"] = s_none,
        ["dictsort"] = s_none,
        ["int"] = new(["default"]),
        ["float"] = new(["default"]),
        ["abs"] = s_none,
        ["map"] = s_open,
        ["select"] = s_open,
        ["reject"] = s_open,
        ["selectattr"] = s_open,
        ["rejectattr"] = s_open,
    }.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>Checks the filters and tests that the arguments of a filter name.</summary>
    public static void CheckNames(string name, JinjaArguments arguments, int line)
    {
        if (!All[name].IsOpen) return;
        var at = name is "selectattr" or "rejectattr" ? 1 : 0;
        var named = arguments.Positional.Length > at ? arguments.Positional[at] : null;
        if (name == "map")
        {
            if (named is null)
            {
                var unknown = arguments.Named.FirstOrDefault(n => n.Name is not ("attribute" or "default")).Name;
                if (unknown is not null) throw new JinjaException($"the argument '{unknown}' of the filter 'map' is not supported", line);
                if (!arguments.Named.Any(n => n.Name == "attribute"))
                    throw new JinjaException("the filter 'map' needs the name of a filter, or an attribute", line);
                return;
            }

            if (named is not JinjaConstant { Value: string filter } || !All.TryGetValue(filter, out var signature) || signature.IsOpen)
                throw new JinjaException("the filter 'map' names a filter that is not supported", line);
            signature.Check("filter", filter, Rest(arguments, 1), line);
            return;
        }

        if (arguments.Named.Length > 0)
            throw new JinjaException($"the argument '{arguments.Named[0].Name}' of the filter '{name}' is not supported", line);
        if (at == 1 && arguments.Positional.Length == 0) throw new JinjaException($"the filter '{name}' lacks an attribute", line);
        if (named is null) return;
        if (named is not JinjaConstant { Value: string test })
            throw new JinjaException($"the filter '{name}' names a test that is not supported", line);
        JinjaTests.Check(test, Rest(arguments, at + 1), line);
    }

    public static object? Apply(
        string name, object? value, object?[] arguments, IReadOnlyList<(string Name, object? Value)> named, JinjaValues values)
    {
        var work = values.Work;
        switch (name)
        {
            case "trim":
                var text = Text();
                var characters = Given(0) is { } its ? JinjaValues.RequireText(its, "the argument of 'trim'") : null;
                if (characters is not null) work.Spend((long)text.Length * characters.Length);
                return JinjaText.Trim(text, characters, start: true, end: true);
            case "length" or "count": return values.Length(value);
            case "tojson":
                return new JinjaJson(work, JinjaValues.IsTrue(Given(0)), Given(1), Given(2), JinjaValues.IsTrue(Given(3))).Write(value);
            case "join":
                var items = values.Iterate(value).AsEnumerable();
                if (Given(1) is { } attribute) items = items.Select(i => Member(i, attribute, values));
                var separator = values.Text(Given(0) ?? string.Empty);
                var parts = items.Select(values.Text).ToList();
                work.SpendText(parts.Sum(p => (long)p.Length + separator.Length));
                return string.Join(separator, parts);
            case "upper": return Text().ToUpperInvariant();
            case "lower": return Text().ToLowerInvariant();
            case "capitalize": return JinjaText.Capitalize(Text());
            case "title": return JinjaText.TitleWords(Text());
            case "string": return values.Text(value);
            case "safe": return value;
            case "first" or "last":
                var all = values.Iterate(value);
                return all.Count == 0 ? new JinjaUndefined($"'{name}' of nothing") : all[name == "first" ? 0 : ^1];
            case "list": return new List<object?>(values.Iterate(value));
            case "reverse":
                List<object?> reversed = [.. values.Iterate(value).AsEnumerable().Reverse()];
                return value is string ? string.Concat(reversed) : reversed;
            case "default" or "d":
                var isGiven = value is not JinjaUndefined && (!JinjaValues.IsTrue(Given(1)) || JinjaValues.IsTrue(value));
                return isGiven ? value : arguments[0] == JinjaSignature.Missing ? string.Empty : arguments[0];
            case "replace":
                return JinjaMethods.Replace(
                    Text(), values.Text(arguments[0]), values.Text(arguments[1]),
                    Given(2) is { } most ? JinjaValues.RequireInteger(most, "the count of 'replace'") : -1, values);
            case "items":
                return value switch
                {
                    JinjaUndefined => new List<object?>(),
                    JinjaDict dict => JinjaMethods.Items(dict, values),
                    _ => throw new JinjaException($"'items' needs a dict, not {JinjaValues.TypeOf(value)}"),
                };
            case "dictsort":
                if (value is not JinjaDict unsorted) throw new JinjaException($"'dictsort' needs a dict, not {JinjaValues.TypeOf(value)}");
                work.SpendList(unsorted.Count);
                return values.Sorted(JinjaMethods.Items(unsorted, values), i => Folded(((JinjaTuple)i!).Items[0]));
            case "int": return Integer(value, arguments[0]);
            case "float":
                return NumberIn(value) ?? (arguments[0] == JinjaSignature.Missing ? 0.0 : arguments[0]);
            case "abs":
                if (JinjaValues.NumberOf(value) is not { } number)
                    throw new JinjaException($"'abs' needs a number, not {JinjaValues.TypeOf(value)}");
                return number < 0 ? values.Negate(value) : value is bool ? (long)number : value;
            default: return OverItems(name, value, arguments, named, values);
        }

        object? Given(int i) => arguments[i] == JinjaSignature.Missing ? null : arguments[i];

        string Text()
        {
            var its = values.Text(value);
            work.SpendText(its.Length);
            return its;
        }

        static object? Folded(object? key) => key is string its ? its.ToLowerInvariant() : key;
    }

    // map, select, reject, selectattr and rejectattr.
    private static List<object?> OverItems(
        string name, object? value, object?[] arguments, IReadOnlyList<(string Name, object? Value)> named, JinjaValues values)
    {
        List<object?> items = JinjaValues.IsTrue(value) ? values.Iterate(value) : []; // none counts as nothing
        if (name == "map" && arguments.Length == 0)
        {
            var attribute = named.First(n => n.Name == "attribute").Value;
            var otherwise = named.FirstOrDefault(n => n.Name == "default").Value;
            return [.. items.Select(i => Member(i, attribute, values, otherwise))];
        }

        if (name == "map")
        {
            var filter = (string)arguments[0]!;
            var bound = All[filter].Bind(arguments[1..], [.. named]);
            return [.. items.Select(i => Apply(filter, i, bound, [], values))];
        }

        var at = name is "selectattr" or "rejectattr" ? 1 : 0;
        var wanted = name is "select" or "selectattr";
        return [.. items.Where(item => Holds(at == 1 ? Member(item, arguments[0], values) : item) == wanted)];

        bool Holds(object? its) => arguments.Length == at ? JinjaValues.IsTrue(its)
            : JinjaTests.Holds((string)arguments[at]!, its, arguments[(at + 1)..], values);
    }

    private static JinjaArguments Rest(JinjaArguments arguments, int from) => arguments with { Positional = arguments.Positional[from..] };

    // The attribute of an item: names and places with dots between them. The default stands for each part that is missing.
    private static object? Member(object? item, object? attribute, JinjaValues values, object? otherwise = null)
    {
        var parts = JinjaValues.IntegerOf(attribute) is { } at ? [at]
            : JinjaValues.RequireText(attribute, "an attribute").Split('.').Select(
                object (part) => long.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var place) ? place : part);
        foreach (var part in parts)
        {
            item = values.Item(item, part);
            if (item is JinjaUndefined && otherwise is not null) item = otherwise;
        }

        return item;
    }

    private static object? Integer(object? value, object? otherwise)
    {
        if (JinjaValues.IntegerOf(value) is { } whole) return whole;
        if (value is string text
            && long.TryParse(Stripped(text), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number))
        {
            return number;
        }

        if (NumberIn(value) is { } real && Math.Abs(real) < long.MaxValue) return (long)real;
        return otherwise == JinjaSignature.Missing ? 0L : otherwise;
    }

    private static double? NumberIn(object? value)
    {
        const NumberStyles Styles = NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent;
        if (JinjaValues.NumberOf(value) is { } its) return its;
        if (value is not string text) return null;
        return double.TryParse(Stripped(text), Styles, CultureInfo.InvariantCulture, out var number) ? number : null;
    }

    private static string Stripped(string text) => JinjaText.Trim(text, null, start: true, end: true);
}

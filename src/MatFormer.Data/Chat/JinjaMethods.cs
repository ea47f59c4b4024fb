using System.Collections.Frozen;

namespace MatFormer;

/// <summary>The methods of strings, lists and dicts that templates may call.</summary>
internal static class JinjaMethods
{
    private static readonly JinjaSignature s_none = new([]);
    private static readonly JinjaSignature s_characters = new(["chars"]);
    private static readonly JinjaSignature s_split = new(["sep", "maxsplit"]);
    private static readonly JinjaSignature s_one = new(["value"], 1);

    public static FrozenDictionary<string, JinjaSignature> All { get; } = new Dictionary<string, JinjaSignature>(StringComparer.Ordinal)
    {
        ["strip"] = s_characters,
        ["lstrip"] = s_characters,
        ["rstrip"] = s_characters,
        ["split"] = s_split,
        ["rsplit"] = s_split,
        ["splitlines"] = new(["keepends"]),
        ["startswith"] = s_one,
        ["endswith"] = s_one,
        ["removeprefix"] = s_one,
        ["removesuffix"] = s_one,
        ["find"] = s_one,
        ["rfind"] = s_one,
        ["index"] = s_one,
        ["count"] = s_one,
        ["replace"] = new(["old", "new", "count"], 2),
        ["join"] = s_one,
        ["upper"] = s_none,
        ["lower"] = s_none,
        ["capitalize"] = s_none,
        ["title"] = s_none,
        ["isdigit"] = s_none,
        ["isspace"] = s_none,
        ["items"] = s_none,
        ["keys"] = s_none,
        ["values"] = s_none,
        ["get"] = new(["key", "default"], 1),
    }.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>Returns what a method returns, or throws if the target has no such method.</summary>
    public static object? Call(object? target, string name, object?[] arguments, JinjaValues values)
    {
        JinjaValues.Require(target);
        foreach (var argument in arguments) JinjaValues.Require(argument);
        return target switch
        {
            string text => OfText(text, name, arguments, values),
            JinjaDict dict => OfDict(dict, name, arguments, values),
            List<object?> list when name is "index" or "count" => OfList(list, name, arguments[0], values),
            JinjaTuple tuple when name is "index" or "count" => OfList(tuple.Items, name, arguments[0], values),
            _ => throw Lacks(target, name),
        };
    }

    public static string Replace(string text, string old, string replacement, long most, JinjaValues values)
    {
        values.Work.SpendSearch(text.Length, old.Length);
        if (old.Length > 0 && most < 0)
        {
            values.Work.SpendText(text.Length + ((long)text.AsSpan().Count(old) * (replacement.Length - old.Length)));
            return text.Replace(old, replacement, StringComparison.Ordinal);
        }

        var parts = old.Length == 0 ? Between() : Split(text, old, most, fromEnd: false, values);
        values.Work.SpendText(text.Length + ((long)(parts.Count - 1) * replacement.Length));
        return string.Join(replacement, parts);

        // An empty text is found before and after each character.
        List<object?> Between()
        {
            List<object?> all = [string.Empty, .. values.Characters(text), string.Empty];
            if (most < 0 || most >= all.Count - 1) return all;
            var rest = string.Concat(all.Skip((int)most));
            return [.. all.Take((int)most), rest];
        }
    }

    private static object? OfText(string text, string name, object?[] arguments, JinjaValues values)
    {
        values.Work.Spend(text.Length);
        switch (name)
        {
            case "strip" or "lstrip" or "rstrip":
                var characters = arguments[0] is null || arguments[0] == JinjaSignature.Missing ? null : Text(0);
                if (characters is not null) values.Work.Spend((long)text.Length * characters.Length);
                return JinjaText.Trim(text, characters, start: name != "rstrip", end: name != "lstrip");
            case "split" or "rsplit":
                var most = arguments[1] == JinjaSignature.Missing ? -1 : Integer(1);
                if (arguments[0] is not null && arguments[0] != JinjaSignature.Missing)
                {
                    if (Text(0).Length == 0) throw new JinjaException($"the separator of '{name}' is empty");
                    return Split(text, Text(0), most, fromEnd: name == "rsplit", values);
                }

                values.Work.SpendText(text.Length);
                return JinjaText.Split(text, most, fromEnd: name == "rsplit");
            case "splitlines":
                values.Work.SpendText(text.Length);
                return JinjaText.Lines(text, arguments[0] != JinjaSignature.Missing && JinjaValues.IsTrue(arguments[0]));
            case "startswith" or "endswith":
                return arguments[0] is JinjaTuple several
                    ? several.Items.Any(s => Begins(JinjaValues.RequireText(s, $"an argument of '{name}'")))
                    : Begins(Text(0));
            case "removeprefix": return text.StartsWith(Text(0), StringComparison.Ordinal) ? text[Text(0).Length..] : text;
            case "removesuffix": return text.EndsWith(Text(0), StringComparison.Ordinal) ? text[..^Text(0).Length] : text;
            case "find" or "rfind" or "index":
                values.Work.SpendSearch(text.Length, Text(0).Length);
                var found = name == "rfind" ? text.AsSpan().LastIndexOf(Text(0)) : text.IndexOf(Text(0), StringComparison.Ordinal);
                if (found < 0 && name == "index") throw new JinjaException($"the text of '{name}' is not found");
                return found < 0 ? -1L : JinjaText.Length(text[..found]);
            case "count":
                values.Work.SpendSearch(text.Length, Text(0).Length);
                return Text(0).Length == 0 ? JinjaText.Length(text) + 1L : (long)text.AsSpan().Count(Text(0));
            case "replace":
                return Replace(text, Text(0), Text(1), arguments[2] == JinjaSignature.Missing ? -1 : Integer(2), values);
            case "join": return Join(text, values.Iterate(arguments[0]), values);
            case "upper": return text.ToUpperInvariant();
            case "lower": return text.ToLowerInvariant();
            case "capitalize": return JinjaText.Capitalize(text);
            case "title": return JinjaText.Title(text);
            case "isdigit": return text.Length > 0 && text.All(char.IsDigit);
            case "isspace": return text.Length > 0 && text.All(JinjaText.IsSpace);
            default: throw Lacks(text, name);
        }

        string Text(int i) => JinjaValues.RequireText(arguments[i], $"an argument of '{name}'");

        long Integer(int i) => JinjaValues.RequireInteger(arguments[i], $"an argument of '{name}'");

        bool Begins(string part) =>
            name == "startswith" ? text.StartsWith(part, StringComparison.Ordinal) : text.EndsWith(part, StringComparison.Ordinal);
    }

    private static List<object?> Split(string text, string separator, long most, bool fromEnd, JinjaValues values)
    {
        values.Work.SpendSearch(text.Length, separator.Length);
        values.Work.SpendList(text.AsSpan().Count(separator) + 1);
        return JinjaText.Split(text, separator, most, fromEnd);
    }

    private static string Join(string separator, List<object?> items, JinjaValues values)
    {
        var texts = items.Select(i => JinjaValues.RequireText(i, "an item of 'join'")).ToList();
        values.Work.SpendText(texts.Sum(t => (long)t.Length + separator.Length));
        return string.Join(separator, texts);
    }

    private static object? OfDict(JinjaDict dict, string name, object?[] arguments, JinjaValues values)
    {
        switch (name)
        {
            case "items": return Items(dict, values);
            case "keys": return values.Iterate(dict);
            case "values":
                values.Work.SpendList(dict.Count);
                return new List<object?>(dict.Values);
            case "get":
                if (arguments[0] is { } key && dict.TryGetValue(key, out var found)) return found;
                return arguments[1] == JinjaSignature.Missing ? null : arguments[1];
            default: throw Lacks(dict, name);
        }
    }

    public static List<object?> Items(JinjaDict dict, JinjaValues values)
    {
        values.Work.SpendList(dict.Count * 3L);
        return [.. dict.Select(e => new JinjaTuple([e.Key, e.Value]))];
    }

    private static object OfList(List<object?> list, string name, object? item, JinjaValues values)
    {
        if (name == "count") return (long)list.Count(i => values.AreEqual(i, item));
        var at = list.FindIndex(i => values.AreEqual(i, item));
        return at < 0 ? throw new JinjaException("the item of 'index' is not found") : (long)at;
    }

    private static JinjaException Lacks(object? target, string name) => new($"{JinjaValues.TypeOf(target)} has no method '{name}'");
}

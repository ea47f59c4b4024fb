using System.Collections.Frozen;

namespace MatFormer;

/// <summary>The tests that templates may use, after <c>is</c> or in filters.</summary>
internal static class JinjaTests
{
    // The tests and the numbers of their arguments.
    private static readonly FrozenDictionary<string, int> s_all = new Dictionary<string, int>(StringComparer.Ordinal)
    {
        ["defined"] = 0,
        ["undefined"] = 0,
        ["none"] = 0,
        ["string"] = 0,
        ["mapping"] = 0,
        ["iterable"] = 0,
        ["sequence"] = 0,
        ["number"] = 0,
        ["integer"] = 0,
        ["float"] = 0,
        ["boolean"] = 0,
        ["true"] = 0,
        ["false"] = 0,
        ["even"] = 0,
        ["odd"] = 0,
        ["callable"] = 0,
        ["divisibleby"] = 1,
        ["equalto"] = 1,
        ["eq"] = 1,
        ["=="] = 1,
        ["ne"] = 1,
        ["!="] = 1,
        ["lt"] = 1,
        ["<"] = 1,
        ["le"] = 1,
        ["<="] = 1,
        ["gt"] = 1,
        [">"] = 1,
        ["ge"] = 1,
        [">="] = 1,
        ["in"] = 1,
    }.ToFrozenDictionary(StringComparer.Ordinal);

    public static void Check(string name, JinjaArguments arguments, int line)
    {
        if (!s_all.TryGetValue(name, out var count)) throw new JinjaException($"the test '{name}' is not supported", line);
        if (arguments.Named.Length > 0 || arguments.Positional.Length != count)
            throw new JinjaException($"the test '{name}' needs {(count == 0 ? "no argument" : "one argument")}", line);
    }

    public static bool Holds(string name, object? value, object?[] arguments, JinjaValues values)
    {
        switch (name)
        {
            case "defined": return value is not JinjaUndefined;
            case "undefined": return value is JinjaUndefined;
            case "none": return value is null;
            case "string": return value is string;
            case "mapping": return value is JinjaDict;
            case "iterable": return value is string or List<object?> or JinjaTuple or JinjaDict or JinjaUndefined;
            case "sequence": return value is string or List<object?> or JinjaTuple or JinjaDict or JinjaUndefined;
            case "number": return value is bool or long or double;
            case "integer": return value is long;
            case "float": return value is double;
            case "boolean": return value is bool;
            case "true": return value is true;
            case "false": return value is false;
            case "callable": return value is JinjaFunction or JinjaMacroValue;
            case "even": return JinjaValues.RequireInteger(value, "what is tested") % 2 == 0;
            case "odd": return JinjaValues.RequireInteger(value, "what is tested") % 2 != 0;
            case "divisibleby": return JinjaValues.IntegerOf(values.Arithmetic("%", value, arguments[0])) == 0;
            case "equalto" or "eq" or "==": return values.AreEqual(value, arguments[0]);
            case "ne" or "!=": return !values.AreEqual(value, arguments[0]);
            case "lt" or "<": return values.Compare(value, arguments[0]) < 0;
            case "le" or "<=": return values.Compare(value, arguments[0]) <= 0;
            case "gt" or ">": return values.Compare(value, arguments[0]) > 0;
            case "ge" or ">=": return values.Compare(value, arguments[0]) >= 0;
            default: return values.Contains(arguments[0], value); // in
        }
    }
}

using System.Collections.Frozen;
using System.Globalization;
using System.Text;

namespace MatFormer;

/// <summary>The functions that templates may call: Jinja's, and those that transformers adds.</summary>
internal static class JinjaFunctions
{
    private const int MostRange = 100_000; // as in Jinja's sandbox

    public static FrozenDictionary<string, JinjaSignature> All { get; } = new Dictionary<string, JinjaSignature>(StringComparer.Ordinal)
    {
        ["raise_exception"] = new(["message"], 1),
        ["range"] = new(["start", "stop", "step"], 1),
        ["namespace"] = new([], IsOpen: true),
        ["strftime_now"] = new(["format"], 1),
        ["dict"] = new([], IsOpen: true),
    }.ToFrozenDictionary(StringComparer.Ordinal);

    public static object? Call(
        string name, object?[] arguments, IEnumerable<(string Name, object? Value)> named, JinjaValues values, DateTime now)
    {
        switch (name)
        {
            case "raise_exception": throw new JinjaException(values.Text(arguments[0]), isRaised: true);
            case "range": return Range(arguments, values);
            case "namespace":
                var space = new JinjaNamespace();
                foreach (var (key, value) in Entries()) space.Attributes[JinjaValues.RequireText(key, "the name of an attribute")] = value;
                return space;
            case "dict":
                var dict = new JinjaDict();
                foreach (var (key, value) in Entries()) dict[key] = value;
                return dict;
            default: return Time(JinjaValues.RequireText(arguments[0], "the format of strftime_now"), now, values); // strftime_now
        }

        IEnumerable<(object Key, object? Value)> Entries()
        {
            if (arguments.Length > 1 || (arguments.Length == 1 && arguments[0] is not JinjaDict))
                throw new JinjaException($"the function '{name}' takes one dict, or arguments with names");
            var first = arguments.Length == 0 ? [] : ((JinjaDict)arguments[0]!).Select(e => (e.Key, e.Value));
            return first.Concat(named.Select(n => ((object)n.Name, n.Value)));
        }
    }

    private static List<object?> Range(object?[] arguments, JinjaValues values)
    {
        var given = arguments.Where(a => a != JinjaSignature.Missing);
        long[] all = [.. given.Select(a => JinjaValues.RequireInteger(a, "an argument of range"))];
        var (start, stop) = all.Length == 1 ? (0, all[0]) : (all[0], all[1]);
        var step = all.Length > 2 ? all[2] : 1;
        if (step == 0) throw new JinjaException("the step of range is 0");
        var result = new List<object?>();
        var at = (Int128)start;
        for (; step > 0 ? at < stop : at > stop; at += step)
        {
            if (result.Count == MostRange) throw new JinjaException($"range has more than {MostRange} numbers");
            result.Add((long)at);
        }

        values.Work.SpendList(result.Count);
        return result;
    }

    // In English, as in the locale of C.
    private static string Time(string format, DateTime now, JinjaValues values)
    {
        values.Work.SpendText(format.Length);
        var result = new StringBuilder();
        for (var i = 0; i < format.Length; i++)
        {
            if (format[i] != '%' || i + 1 == format.Length)
            {
                result.Append(format[i]);
                continue;
            }

            var isShort = format[++i] == '-' && i + 1 < format.Length; // without leading zeros
            if (isShort) i++;
            var text = format[i] switch
            {
                'Y' => Of("yyyy"),
                'y' => Of("yy"),
                'm' => Of("MM"),
                'B' => Of("MMMM"),
                'b' or 'h' => Of("MMM"),
                'd' => Of("dd"),
                'e' => now.Day.ToString(CultureInfo.InvariantCulture).PadLeft(2),
                'j' => now.DayOfYear.ToString("000", CultureInfo.InvariantCulture),
                'A' => Of("dddd"),
                'a' => Of("ddd"),
                'H' => Of("HH"),
                'I' => Of("hh"),
                'M' => Of("mm"),
                'S' => Of("ss"),
                'p' => Of("tt"),
                'F' => Of("yyyy-MM-dd"),
                'T' => Of("HH:mm:ss"),
                'D' => Of("MM/dd/yy"),
                '%' => "%",
                var other => throw new JinjaException($"strftime_now does not support '%{other}'"),
            };
            result.Append(isShort && text.Length > 1 ? text.TrimStart('0', ' ') is { Length: > 0 } trimmed ? trimmed : "0" : text);
        }

        return result.ToString();

        string Of(string own) => now.ToString(own, CultureInfo.InvariantCulture);
    }
}

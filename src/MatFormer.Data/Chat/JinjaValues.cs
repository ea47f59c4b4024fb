using System.Globalization;
using System.Text;

namespace MatFormer;

/// <summary>The operations on values, as Python defines them.</summary>
/// <param name="work">What the operations may cost.</param>
internal sealed class JinjaValues(JinjaWork work)
{
    public JinjaWork Work => work;

    public static bool IsTrue(object? value) => value switch
    {
        null or JinjaUndefined => false,
        bool flag => flag,
        long number => number != 0,
        double number => number != 0,
        string text => text.Length > 0,
        List<object?> list => list.Count > 0,
        JinjaTuple tuple => tuple.Items.Count > 0,
        JinjaDict dict => dict.Count > 0,
        _ => true,
    };

    public static string TypeOf(object? value) => value switch
    {
        null => "None",
        JinjaUndefined => "an undefined value",
        bool => "a boolean",
        long or double => "a number",
        string => "a string",
        List<object?> => "a list",
        JinjaTuple => "a tuple",
        JinjaDict => "a dict",
        JinjaNamespace => "a namespace",
        JinjaLoop => "a loop",
        _ => "a function",
    };

    /// <summary>The number that a value is, also a boolean; null if it is none.</summary>
    public static double? NumberOf(object? value) => value switch
    {
        bool flag => flag ? 1 : 0,
        long number => number,
        double number => number,
        _ => null,
    };

    /// <summary>The whole number that a value is, also a boolean; null if it is none.</summary>
    public static long? IntegerOf(object? value) => value switch
    {
        bool flag => flag ? 1 : 0,
        long number => number,
        _ => null,
    };

    public static bool KeysAreEqual(object? left, object? right) => (left, right) switch
    {
        (long a, long b) => a == b,
        (string a, string b) => a == b,
        _ when NumberOf(left) is { } a && NumberOf(right) is { } b => a == b,
        _ => ReferenceEquals(left, right),
    };

    /// <summary>Refuses a value that does not exist.</summary>
    public static void Require(object? value)
    {
        if (value is JinjaUndefined undefined) throw new JinjaException(undefined.Problem);
    }

    public static string RequireText(object? value, string what)
    {
        Require(value);
        return value as string ?? throw new JinjaException($"{what} is {TypeOf(value)}, not a string");
    }

    public static long RequireInteger(object? value, string what)
    {
        Require(value);
        return IntegerOf(value) ?? throw new JinjaException($"{what} is {TypeOf(value)}, not a whole number");
    }

    public bool AreEqual(object? left, object? right)
    {
        work.Enter();
        var result = (left, right) switch
        {
            (null, null) or (JinjaUndefined, JinjaUndefined) => true,
            (string a, string b) => SameText(a, b),
            (List<object?> a, List<object?> b) => SameItems(a, b),
            (JinjaTuple a, JinjaTuple b) => SameItems(a.Items, b.Items),
            (JinjaDict a, JinjaDict b) => a.Count == b.Count && a.All(e => b.TryGetValue(e.Key, out var other) && AreEqual(e.Value, other)),
            _ => KeysAreEqual(left, right),
        };
        work.Leave();
        return result;

        bool SameItems(List<object?> a, List<object?> b) => a.Count == b.Count && a.Zip(b).All(pair => AreEqual(pair.First, pair.Second));

        bool SameText(string a, string b)
        {
            if (a.Length != b.Length) return false;
            work.Spend(a.Length / 16);
            return a == b;
        }
    }

    public int Compare(object? left, object? right)
    {
        Require(left);
        Require(right);
        if (left is string a && right is string b)
        {
            work.Spend(Math.Min(a.Length, b.Length));
            return JinjaText.Compare(a, b);
        }

        work.Spend(1);
        if (IntegerOf(left) is { } i && IntegerOf(right) is { } j) return i.CompareTo(j);
        return NumberOf(left) is { } x && NumberOf(right) is { } y ? x.CompareTo(y)
            : throw new JinjaException($"{TypeOf(left)} and {TypeOf(right)} cannot be compared");
    }

    /// <summary>Sorts items by a key; items with equal keys keep their order.</summary>
    public List<T> Sorted<T>(IEnumerable<T> items, Func<T, object?> key)
    {
        try
        {
            return [.. items.OrderBy(key, Comparer<object?>.Create(Compare))];
        }
        catch (InvalidOperationException e) when (e.InnerException is JinjaException problem)
        {
            throw new JinjaException(problem.Problem); // .NET wraps what a comparison throws
        }
    }

    public bool Contains(object? container, object? item)
    {
        switch (container)
        {
            case string text:
                var part = RequireText(item, "what is searched for in a string");
                work.SpendSearch(text.Length, part.Length);
                return text.Contains(part, StringComparison.Ordinal);
            case List<object?> list: return list.Any(i => AreEqual(i, item));
            case JinjaTuple tuple: return tuple.Items.Any(i => AreEqual(i, item));
            case JinjaDict dict: return item is not null && dict.ContainsKey(item);
            case JinjaUndefined: return false;
            default: throw new JinjaException($"{TypeOf(container)} cannot be searched");
        }
    }

    /// <summary>Returns what a loop over a value visits.</summary>
    public List<object?> Iterate(object? value)
    {
        List<object?> items = value switch
        {
            JinjaUndefined => [],
            List<object?> list => list,
            JinjaTuple tuple => tuple.Items,
            JinjaDict dict => [.. dict.Keys],
            string text => [.. Characters(text)],
            _ => throw new JinjaException($"{TypeOf(value)} has no items"),
        };
        work.SpendList(items.Count);
        return items;
    }

    public long Length(object? value) => value switch
    {
        JinjaUndefined => 0,
        string text => JinjaText.Length(text),
        List<object?> list => list.Count,
        JinjaTuple tuple => tuple.Items.Count,
        JinjaDict dict => dict.Count,
        _ => throw new JinjaException($"{TypeOf(value)} has no length"),
    };

    public object? Arithmetic(string name, object? left, object? right)
    {
        Require(left);
        Require(right);
        switch (name, left, right)
        {
            case ("+", string a, string b):
                work.SpendText((long)a.Length + b.Length);
                return a + b;
            case ("+", List<object?> a, List<object?> b): return Joined(a, b);
            case ("+", JinjaTuple a, JinjaTuple b): return new JinjaTuple(Joined(a.Items, b.Items));
            case ("*", string text, _) when IntegerOf(right) is { } times: return Repeat(text, times);
            case ("*", _, string text) when IntegerOf(left) is { } times: return Repeat(text, times);
            case ("*", List<object?> list, _) when IntegerOf(right) is { } times: return Repeat(list, times);
            case ("*", _, List<object?> list) when IntegerOf(left) is { } times: return Repeat(list, times);
        }

        if (NumberOf(left) is not { } x || NumberOf(right) is not { } y)
            throw new JinjaException($"'{name}' cannot be applied to {TypeOf(left)} and {TypeOf(right)}");
        if (name is "/" or "//" or "%" && y == 0) throw new JinjaException("a number is divided by zero");
        if (name != "/" && IntegerOf(left) is { } i && IntegerOf(right) is { } j)
        {
            try
            {
                return checked(name switch
                {
                    "+" => i + j,
                    "-" => i - j,
                    "*" => i * j,
                    "//" => (i / j) - (i % j != 0 && (i < 0) != (j < 0) ? 1 : 0),
                    _ => j == -1 ? 0 : ((i % j) + j) % j, // "%"
                });
            }
            catch (OverflowException)
            {
                throw new JinjaException("a number is too large");
            }
        }

        return name switch
        {
            "+" => x + y,
            "-" => x - y,
            "*" => x * y,
            "/" => x / y,
            "//" => Math.Floor(x / y),
            _ => x - (Math.Floor(x / y) * y), // "%"
        };

        List<object?> Joined(List<object?> a, List<object?> b)
        {
            work.SpendList((long)a.Count + b.Count);
            return [.. a, .. b];
        }
    }

    public object? Negate(object? value)
    {
        Require(value);
        if (value is double real) return -real;
        if (IntegerOf(value) is not { } number) throw new JinjaException($"'-' cannot be applied to {TypeOf(value)}");
        return number == long.MinValue ? throw new JinjaException("a number is too large") : -number;
    }

    /// <summary>Returns an item of a value, by its place or its key; undefined if there is none.</summary>
    public object? Item(object? target, object? key)
    {
        Require(target);
        if (key is string name) return Attribute(target, name);
        if (target is JinjaDict dict && key is not null && dict.TryGetValue(key, out var found)) return found;
        if (IntegerOf(key) is { } at)
        {
            var items = target switch
            {
                List<object?> list => list,
                JinjaTuple tuple => tuple.Items,
                string text when JinjaText.HasSurrogates(text) => [.. Characters(text)],
                _ => null,
            };
            var count = target is string plain && items is null ? plain.Length : items?.Count ?? 0;
            if (at < 0) at += count;
            if (at >= 0 && at < count) return items is null ? ((string)target!)[(int)at].ToString() : items[(int)at];
        }

        return new JinjaUndefined($"{TypeOf(target)} has no item {Quoted(key)}");
    }

    public static object? Attribute(object? target, string name)
    {
        Require(target);
        return target switch
        {
            JinjaDict dict when dict.TryGetValue(name, out var found) => found,
            JinjaNamespace space when space.Attributes.TryGetValue(name, out var found) => found,
            JinjaLoop loop => loop.Get(name),
            _ => new JinjaUndefined($"{TypeOf(target)} has no '{name}'"),
        };
    }

    public object? Slice(object? target, object? start, object? stop, object? step)
    {
        Require(target);
        var by = step is null ? 1 : RequireInteger(step, "the step of a slice");
        if (by == 0) throw new JinjaException("the step of a slice is 0");
        var plain = by == 1 && target is string its && !JinjaText.HasSurrogates(its) ? its : null;
        List<object?> items = target switch
        {
            List<object?> list => list,
            JinjaTuple tuple => tuple.Items,
            string text => plain is null ? [.. Characters(text)] : [],
            _ => throw new JinjaException($"{TypeOf(target)} has no slices"),
        };
        var count = plain?.Length ?? items.Count;
        var (least, most) = by > 0 ? (0, count) : (-1, count - 1);
        var (from, to) = (Place(start, by > 0 ? least : most), Place(stop, by > 0 ? most : least));
        if (plain is not null)
        {
            work.SpendText(Math.Max(0, to - from));
            return from < to ? plain[(int)from..(int)to] : string.Empty;
        }

        var result = new List<object?>();
        for (var at = from; by > 0 ? at < to : at > to;)
        {
            result.Add(items[(int)at]);
            if (Math.Abs((decimal)by) > count) break;
            at += by;
        }

        work.SpendList(result.Count);
        return target switch
        {
            string => string.Concat(result.Cast<string>()),
            JinjaTuple => new JinjaTuple(result),
            _ => result,
        };

        long Place(object? place, long otherwise)
        {
            if (place is null) return otherwise;
            var at = RequireInteger(place, "the end of a slice");
            return Math.Clamp(at < 0 ? Math.Max(at, -count - 1) + count : at, least, most);
        }
    }

    public List<string> Characters(string text)
    {
        work.SpendText(text.Length);
        return JinjaText.Characters(text);
    }

    public string Repeat(string text, long times)
    {
        if (times <= 0 || text.Length == 0) return string.Empty;
        work.SpendText(times > JinjaWork.MostCharacters ? times : text.Length * times);
        return new StringBuilder(text.Length * (int)times).Insert(0, text, (int)times).ToString();
    }

    public List<object?> Repeat(List<object?> list, long times)
    {
        if (times <= 0 || list.Count == 0) return [];
        work.SpendList(times > JinjaWork.MostElements ? times : list.Count * times);
        return [.. Enumerable.Repeat(list, (int)times).SelectMany(l => l)];
    }

    /// <summary>Returns a value as it is printed.</summary>
    public string Text(object? value)
    {
        if (value is string text) return text;
        if (value is JinjaUndefined) return string.Empty;
        var result = new StringBuilder();
        Write(value, result);
        return result.ToString();
    }

    private string Quoted(object? value) => Text(new JinjaTuple([value])) is var text ? text[1..^2] : text;

    private void Write(object? value, StringBuilder result)
    {
        work.Enter();
        switch (value)
        {
            case null: Append("None"); break;
            case bool flag: Append(flag ? "True" : "False"); break;
            case long number: Append(number.ToString(CultureInfo.InvariantCulture)); break;
            case double number: Append(JinjaText.Of(number)); break;
            case string text:
                work.SpendText(text.Length);
                Append(JinjaText.Quote(text));
                break;
            case JinjaUndefined: Append("Undefined"); break;
            case List<object?> list: WriteItems('[', list, ']'); break;
            case JinjaTuple { Items: [var only] }:
                Append("(");
                Write(only, result);
                Append(",)");
                break;
            case JinjaTuple tuple: WriteItems('(', tuple.Items, ')'); break;
            case JinjaDict dict:
                Append("{");
                foreach (var (i, (key, item)) in dict.Index())
                {
                    if (i > 0) Append(", ");
                    Write(key, result);
                    Append(": ");
                    Write(item, result);
                }

                Append("}");
                break;
            default: throw new JinjaException($"{TypeOf(value)} cannot be printed");
        }

        work.Leave();

        void Append(string text)
        {
            work.SpendText(text.Length);
            if (result.Length + text.Length > JinjaWork.MostCharacters) work.SpendText((long)result.Length + text.Length);
            result.Append(text);
        }

        void WriteItems(char begin, List<object?> items, char end)
        {
            result.Append(begin);
            foreach (var (i, item) in items.Index())
            {
                if (i > 0) Append(", ");
                Write(item, result);
            }

            result.Append(end);
        }
    }
}

using System.Globalization;
using System.Text;

namespace MatFormer;

/// <summary>Writes JSON as Python's <c>json.dumps</c> does.</summary>
internal sealed class JinjaJson
{
    private readonly JinjaWork _work;
    private readonly StringBuilder _text = new();
    private readonly bool _escapesUnicode;
    private readonly bool _sortsKeys;
    private readonly string? _indent;
    private readonly string _betweenItems;
    private readonly string _afterKey;

    /// <param name="work">What writing may cost.</param>
    /// <param name="escapesUnicode">Whether only ASCII is written.</param>
    /// <param name="indent">What stands before the items of each level, a number of spaces or a text; null for one line.</param>
    /// <param name="separators">What stands between items, and after keys; null for the usual ones.</param>
    /// <param name="sortsKeys">Whether keys are sorted.</param>
    public JinjaJson(JinjaWork work, bool escapesUnicode, object? indent, object? separators, bool sortsKeys)
    {
        (_work, _escapesUnicode, _sortsKeys) = (work, escapesUnicode, sortsKeys);
        _indent = indent switch
        {
            null => null,
            string text => text,
            _ => new string(' ', (int)Math.Clamp(JinjaValues.RequireInteger(indent, "the indent of tojson"), 0, 100)),
        };
        var items = separators switch
        {
            null => null,
            JinjaTuple tuple => tuple.Items,
            List<object?> list => list,
            _ => [],
        };
        (_betweenItems, _afterKey) = items switch
        {
            null => (_indent is null ? ", " : ",", ": "),
            [string between, string after] => (between, after),
            _ => throw new JinjaException("the separators of tojson are not two strings"),
        };
    }

    public string Write(object? value)
    {
        Write(value, 0);
        return _text.ToString();
    }

    private void Write(object? value, int level)
    {
        _work.Enter();
        switch (value)
        {
            case null: Append("null"); break;
            case bool flag: Append(flag ? "true" : "false"); break;
            case long number: Append(number.ToString(CultureInfo.InvariantCulture)); break;
            case double number: Append(Number(number)); break;
            case string text: WriteText(text); break;
            case List<object?> list: WriteAll('[', list, item => Write(item, level + 1), ']', level); break;
            case JinjaTuple tuple: WriteAll('[', tuple.Items, item => Write(item, level + 1), ']', level); break;
            case JinjaDict dict:
                var entries = dict.ToList();
                if (_sortsKeys)
                {
                    _work.SpendList(entries.Count);
                    entries = new JinjaValues(_work).Sorted(entries, e => e.Key);
                }

                WriteAll(
                    '{', entries,
                    entry =>
                    {
                        WriteText(Key(entry.Key));
                        Append(_afterKey);
                        Write(entry.Value, level + 1);
                    },
                    '}', level);
                break;
            default:
                JinjaValues.Require(value);
                throw new JinjaException($"{JinjaValues.TypeOf(value)} cannot be written as JSON");
        }

        _work.Leave();
    }

    private void WriteAll<T>(char begin, List<T> items, Action<T> write, char end, int level)
    {
        _text.Append(begin);
        foreach (var (i, item) in items.Index())
        {
            if (i > 0) Append(_betweenItems);
            if (_indent is not null) NewLine(level + 1);
            write(item);
        }

        if (_indent is not null && items.Count > 0) NewLine(level);
        _text.Append(end);
    }

    private void NewLine(int level)
    {
        Append("\n");
        for (var i = 0; i < level; i++) Append(_indent!);
    }

    private static string Number(double number) =>
        double.IsNaN(number) ? "NaN" : double.IsInfinity(number) ? number > 0 ? "Infinity" : "-Infinity" : JinjaText.Of(number);

    private static string Key(object key) => key switch
    {
        string text => text,
        bool flag => flag ? "true" : "false",
        long number => number.ToString(CultureInfo.InvariantCulture),
        _ => Number((double)key),
    };

    private void WriteText(string text)
    {
        Append("\"");
        _work.SpendText(text.Length);
        foreach (var c in text)
        {
            var written = c switch
            {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\b' => "\\b",
                '\f' => "\\f",
                < ' ' => Escaped(c),
                > '~' when _escapesUnicode => Escaped(c),
                _ => null,
            };
            if (written is null) _text.Append(c);
            else _text.Append(written);
        }

        Append("\"");
    }

    private static string Escaped(char c) => string.Create(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}");

    private void Append(string text)
    {
        _work.SpendText(text.Length);
        if (_text.Length + text.Length > JinjaWork.MostCharacters) _work.SpendText((long)_text.Length + text.Length);
        _text.Append(text);
    }
}

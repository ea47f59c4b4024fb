using System.Globalization;
using System.Text;

namespace MatFormer;

internal enum JinjaTokenKind
{
    Text,
    OutputBegin,
    OutputEnd,
    BlockBegin,
    BlockEnd,
    Name,
    String,
    Integer,
    Float,
    Operator,
    End,
}

/// <summary>A piece of a template. The value is a string, a long or a double.</summary>
internal readonly record struct JinjaToken(JinjaTokenKind Kind, object Value, int Line)
{
    public string Text => Value as string ?? string.Empty;
}

/// <summary>
/// Cuts a template into tokens as Jinja does with the settings of Hugging Face's transformers: a line end directly after a block is removed
/// (<c>trim_blocks</c>), and so is white space between the beginning of a line and a block (<c>lstrip_blocks</c>).
/// </summary>
internal sealed class JinjaLexer
{
    private static readonly string[] s_operators =
    [
        "//", "**", "==", "!=", ">=", "<=",
        "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";",
    ];

    private readonly string _source;
    private readonly List<JinjaToken> _tokens = [];
    private int _at;
    private int _line = 1;
    private int _lineAt; // the place to which _line belongs

    private JinjaLexer(string source) => _source = source;

    public static List<JinjaToken> Read(string source)
    {
        source = source.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        if (source.EndsWith('\n')) source = source[..^1]; // keep_trailing_newline is false
        var lexer = new JinjaLexer(source);
        lexer.ReadAll();
        return lexer._tokens;
    }

    private void ReadAll()
    {
        var beginsLine = true;
        while (true)
        {
            var begin = NextBegin();
            var end = begin < 0 ? _source.Length : begin;
            var text = _source[_at..end];
            if (begin < 0)
            {
                Add(JinjaTokenKind.Text, text, text.Length > 0);
                _at = _source.Length;
                Add(JinjaTokenKind.End, string.Empty);
                return;
            }

            var kind = _source[begin + 1];
            var sign = begin + 2 < _source.Length && _source[begin + 2] is '-' or '+' ? _source[begin + 2] : '\0';
            if (sign == '-')
            {
                text = JinjaText.TrimEnd(text);
            }
            else if (sign != '+' && kind != '{')
            {
                var line = text.LastIndexOf('\n') + 1;
                if ((line > 0 || beginsLine) && JinjaText.TrimEnd(text[line..]).Length == 0) text = text[..line];
            }

            Add(JinjaTokenKind.Text, text, text.Length > 0);
            _at = begin + (sign == '\0' ? 2 : 3);
            if (kind == '#') SkipComment();
            else ReadTag(isBlock: kind == '%');
            beginsLine = _source[_at - 1] == '\n';
        }
    }

    private int NextBegin()
    {
        for (var at = _at; (at = _source.IndexOf('{', at)) >= 0 && at + 1 < _source.Length; at++)
        {
            if (_source[at + 1] is '{' or '%' or '#') return at;
        }

        return -1;
    }

    private void SkipComment()
    {
        var end = _source.IndexOf("#}", _at, StringComparison.Ordinal);
        if (end < 0) throw Wrong("a comment {# has no end #}");
        var sign = end > _at ? _source[end - 1] : '\0';
        _at = end + 2;
        SkipAfterEnd(sign, isBlock: true);
    }

    private void SkipAfterEnd(char sign, bool isBlock)
    {
        if (sign == '-')
        {
            while (_at < _source.Length && JinjaText.IsSpace(_source[_at])) _at++;
        }
        else if (sign != '+' && isBlock && _at < _source.Length && _source[_at] == '\n')
        {
            _at++;
        }
    }

    private void ReadTag(bool isBlock)
    {
        Add(isBlock ? JinjaTokenKind.BlockBegin : JinjaTokenKind.OutputBegin, string.Empty);
        var close = isBlock ? "%}" : "}}";
        var open = new Stack<char>();
        while (true)
        {
            while (_at < _source.Length && JinjaText.IsSpace(_source[_at])) _at++;
            if (_at >= _source.Length) throw Wrong(isBlock ? "a tag {% has no end %}" : "an output {{ has no end }}");
            if (open.Count == 0)
            {
                var sign = _source[_at] == '-' || (isBlock && _source[_at] == '+') ? _source[_at] : '\0';
                var at = sign == '\0' ? _at : _at + 1;
                if (string.CompareOrdinal(_source, at, close, 0, 2) == 0)
                {
                    Add(isBlock ? JinjaTokenKind.BlockEnd : JinjaTokenKind.OutputEnd, string.Empty);
                    _at = at + 2;
                    SkipAfterEnd(sign, isBlock);
                    return;
                }
            }

            ReadToken(open);
        }
    }

    private void ReadToken(Stack<char> open)
    {
        var first = _source[_at];
        if (char.IsAsciiDigit(first))
        {
            ReadNumber();
        }
        else if (first == '_' || char.IsLetter(first))
        {
            var end = _at;
            while (end < _source.Length && (_source[end] == '_' || char.IsLetterOrDigit(_source[end]))) end++;
            var name = _source[_at..end];
            if (name == "raw" && _tokens[^1].Kind == JinjaTokenKind.BlockBegin) throw Wrong("the tag 'raw' is not supported");
            Add(JinjaTokenKind.Name, name);
            _at = end;
        }
        else if (first is '\'' or '"')
        {
            ReadString(first);
        }
        else
        {
            var found = Array.Find(s_operators, o => string.CompareOrdinal(_source, _at, o, 0, o.Length) == 0)
                ?? throw Wrong($"there is an unexpected character {JinjaText.Quote(first.ToString())}");
            Balance(found[0], open);
            Add(JinjaTokenKind.Operator, found);
            _at += found.Length;
        }
    }

    private void Balance(char mark, Stack<char> open)
    {
        if (mark is '(' or '[' or '{') open.Push(mark == '(' ? ')' : mark == '[' ? ']' : '}');
        else if (mark is ')' or ']' or '}' && (open.Count == 0 || open.Pop() != mark)) throw Wrong($"there is an unexpected '{mark}'");
    }

    private void ReadNumber()
    {
        var end = _at;
        while (Digit(end)) end++;
        var isFloat = false;
        if (_at == 0 || _source[_at - 1] != '.')
        {
            if (end < _source.Length && _source[end] == '.' && Digit(end + 1))
            {
                isFloat = true;
                for (end++; Digit(end);) end++;
            }

            if (end < _source.Length && _source[end] is 'e' or 'E')
            {
                var exponent = end + 1 < _source.Length && _source[end + 1] is '+' or '-' ? end + 2 : end + 1;
                if (Digit(exponent))
                {
                    isFloat = true;
                    for (end = exponent; Digit(end);) end++;
                }
            }
        }

        var text = _source[_at..end];
        var goesOn = end < _source.Length && (_source[end] == '_' || char.IsLetterOrDigit(_source[end]));
        var hasZero = !isFloat && text[0] == '0' && text.AsSpan().ContainsAnyExcept('0');
        if (goesOn || hasZero) throw Wrong($"the number that begins with '{text}' is not a decimal number");
        if (isFloat) Add(JinjaTokenKind.Float, double.Parse(text, CultureInfo.InvariantCulture));
        else if (long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number)) Add(JinjaTokenKind.Integer, number);
        else throw Wrong("a number is too large");
        _at = end;

        bool Digit(int at) => at < _source.Length && char.IsAsciiDigit(_source[at]);
    }

    private void ReadString(char quote)
    {
        var text = new StringBuilder();
        var at = _at + 1;
        while (true)
        {
            if (at >= _source.Length) throw Wrong("a string has no end");
            var c = _source[at++];
            if (c == quote) break;
            if (c != '\\')
            {
                text.Append(c);
                continue;
            }

            if (at >= _source.Length) throw Wrong("a string has no end");
            at = ReadEscape(at, text);
        }

        Add(JinjaTokenKind.String, text.ToString());
        _at = at;
    }

    // The escapes of Python. One that Python does not know stands for itself.
    private int ReadEscape(int at, StringBuilder text)
    {
        var c = _source[at++];
        switch (c)
        {
            case '\n': return at;
            case '\\' or '\'' or '"': text.Append(c); return at;
            case 'n': text.Append('\n'); return at;
            case 't': text.Append('\t'); return at;
            case 'r': text.Append('\r'); return at;
            case 'a': text.Append('\a'); return at;
            case 'b': text.Append('\b'); return at;
            case 'f': text.Append('\f'); return at;
            case 'v': text.Append('\v'); return at;
            case 'x': return Hex(2);
            case 'u': return Hex(4);
            case 'U': return Hex(8);
            case 'N': throw Wrong("the escape \\N is not supported");
            case >= '0' and <= '7':
                var value = c - '0';
                for (var i = 0; i < 2 && at < _source.Length && _source[at] is >= '0' and <= '7'; i++)
                    value = (value * 8) + _source[at++] - '0';
                text.Append((char)value);
                return at;
            default: text.Append('\\').Append(c); return at;
        }

        int Hex(int digits)
        {
            if (at + digits > _source.Length
                || !uint.TryParse(_source.AsSpan(at, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var code)
                || code > 0x10FFFF)
            {
                throw Wrong($"the escape \\{c} needs {digits} hexadecimal digits of a character");
            }

            if (code < 0x10000) text.Append((char)code);
            else text.Append(char.ConvertFromUtf32((int)code));
            return at + digits;
        }
    }

    private void Add(JinjaTokenKind kind, object value, bool when = true)
    {
        if (when) _tokens.Add(new JinjaToken(kind, value, Line()));
    }

    private int Line()
    {
        _line += _source.AsSpan(_lineAt, _at - _lineAt).Count('\n');
        _lineAt = _at;
        return _line;
    }

    private JinjaException Wrong(string problem) => new(problem, Line());
}

using System.Collections.Frozen;
using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// Parses a template. Everything that is not supported is refused here, by its name: tags, filters, tests, functions, methods and their
/// arguments.
/// </summary>
internal sealed class JinjaParser
{
    private const int MostDepth = 100;

    private static readonly FrozenSet<string> s_keywords =
        FrozenSet.ToFrozenSet(["and", "else", "elif", "for", "if", "in", "is", "not", "or", "recursive"], StringComparer.Ordinal);

    private static readonly FrozenSet<string> s_constants =
        FrozenSet.ToFrozenSet(["true", "True", "false", "False", "none", "None"], StringComparer.Ordinal);

    // What Jinja itself gives a meaning.
    private static readonly FrozenSet<string> s_reserved =
        FrozenSet.ToFrozenSet(["caller", "kwargs", "self", "super", "varargs"], StringComparer.Ordinal);

    private readonly List<JinjaToken> _tokens;
    private readonly HashSet<string> _assigned = new(StringComparer.Ordinal);
    private readonly List<(string Name, int Line)> _calls = [];
    private int _at;
    private int _depth;
    private int _loops;

    private JinjaParser(List<JinjaToken> tokens) => _tokens = tokens;

    /// <exception cref="JinjaException">The template is not valid or not supported.</exception>
    public static ImmutableArray<JinjaStatement> Parse(string source)
    {
        var parser = new JinjaParser(JinjaLexer.Read(source));
        var body = parser.Statements([], null);
        foreach (var (name, line) in parser._calls)
        {
            // A macro may be called before it is defined, in the text of another macro.
            if (!parser._assigned.Contains(name)) throw new JinjaException($"the function '{name}' is not supported", line);
        }

        return body;
    }

    private JinjaToken Current => _tokens[_at];

    private int Line => Current.Line;

    private JinjaToken Next() => Current.Kind == JinjaTokenKind.End ? Current : _tokens[_at++];

    private bool Is(string value, JinjaTokenKind kind = JinjaTokenKind.Operator) => Current.Kind == kind && Current.Text == value;

    private bool IsWord(string word) => Is(word, JinjaTokenKind.Name);

    private bool Skip(string value, JinjaTokenKind kind = JinjaTokenKind.Operator)
    {
        if (!Is(value, kind)) return false;
        Next();
        return true;
    }

    private bool SkipWord(string word) => Skip(word, JinjaTokenKind.Name);

    private void Expect(string value, JinjaTokenKind kind = JinjaTokenKind.Operator)
    {
        if (!Skip(value, kind)) throw Wrong($"expected '{value}', but found {Found()}");
    }

    private string ExpectName()
    {
        if (Current.Kind != JinjaTokenKind.Name) throw Wrong($"expected a name, but found {Found()}");
        return Next().Text;
    }

    private void ExpectEnd(JinjaTokenKind kind)
    {
        if (Current.Kind != kind) throw Wrong($"expected the end of the tag, but found {Found()}");
        Next();
    }

    private string Found() => Current.Kind switch
    {
        JinjaTokenKind.End => "the end of the template",
        JinjaTokenKind.BlockEnd => "'%}'",
        JinjaTokenKind.OutputEnd => "'}}'",
        JinjaTokenKind.Integer or JinjaTokenKind.Float => "a number",
        JinjaTokenKind.String => "a string",
        _ => $"'{Current.Text}'",
    };

    private JinjaException Wrong(string problem, int? line = null) => new(problem, line ?? Line);

    private void Enter()
    {
        if (++_depth > MostDepth) throw Wrong($"tags or expressions are nested more than {MostDepth} deep");
    }

    // Reads statements up to a tag of one of these names, whose name is read too.
    private ImmutableArray<JinjaStatement> Statements(ReadOnlySpan<string> ends, string? opened, int line = 0)
    {
        Enter();
        var all = ImmutableArray.CreateBuilder<JinjaStatement>();
        while (true)
        {
            var token = Next();
            switch (token.Kind)
            {
                case JinjaTokenKind.Text:
                    all.Add(new JinjaLiteral(token.Text, token.Line));
                    break;
                case JinjaTokenKind.OutputBegin:
                    all.Add(new JinjaOutput(Tuple(withChoice: true), token.Line));
                    ExpectEnd(JinjaTokenKind.OutputEnd);
                    break;
                case JinjaTokenKind.End:
                    if (opened is not null) throw Wrong($"the tag '{opened}' has no end ('{ends[^1]}')", line);
                    _depth--;
                    return all.ToImmutable();
                default: // the beginning of a block
                    if (Current.Kind == JinjaTokenKind.Name && ends.Contains(Current.Text))
                    {
                        _depth--;
                        return all.ToImmutable();
                    }

                    all.Add(Block());
                    break;
            }
        }
    }

    private JinjaStatement Block()
    {
        var line = Line;
        var tag = ExpectName();
        switch (tag)
        {
            case "if": return If(line);
            case "for": return For(line);
            case "set": return Set(line);
            case "macro": return Macro(line);
            case "generation":
                ExpectEnd(JinjaTokenKind.BlockEnd);
                return new JinjaGeneration(Body(tag, "endgeneration", line), line);
            case "break" or "continue":
                if (_loops == 0) throw Wrong($"the tag '{tag}' stands outside a loop", line);
                ExpectEnd(JinjaTokenKind.BlockEnd);
                return new JinjaJump(tag == "break", line);
            case "elif" or "else" or "endif" or "endfor" or "endset" or "endmacro" or "endgeneration":
                throw Wrong($"the tag '{tag}' ends nothing here", line);
            default: throw Wrong($"the tag '{tag}' is not supported", line);
        }
    }

    private ImmutableArray<JinjaStatement> Body(string tag, string end, int line)
    {
        var loops = _loops;
        _loops = 0; // break and continue do not leave a text that is being made
        var body = Statements([end], tag, line);
        _loops = loops;
        Next();
        ExpectEnd(JinjaTokenKind.BlockEnd);
        return body;
    }

    private JinjaIf If(int line)
    {
        var branches = ImmutableArray.CreateBuilder<(JinjaExpression?, ImmutableArray<JinjaStatement>)>();
        var condition = Tuple(withChoice: false);
        while (true)
        {
            ExpectEnd(JinjaTokenKind.BlockEnd);
            var body = condition is null ? Statements(["endif"], "else", line) : Statements(["elif", "else", "endif"], "if", line);
            branches.Add((condition, body));
            var word = Next().Text;
            if (word == "endif") break;
            condition = word == "elif" ? Tuple(withChoice: false) : null;
        }

        ExpectEnd(JinjaTokenKind.BlockEnd);
        return new JinjaIf(branches.ToImmutable(), line);
    }

    private JinjaFor For(int line)
    {
        var target = Target();
        Expect("in", JinjaTokenKind.Name);
        var items = Tuple(withChoice: false);
        var condition = SkipWord("if") ? Expression() : null;
        if (IsWord("recursive")) throw Wrong("'recursive' loops are not supported");
        ExpectEnd(JinjaTokenKind.BlockEnd);
        _loops++;
        var body = Statements(["else", "endfor"], "for", line);
        _loops--;
        var otherwise = ImmutableArray<JinjaStatement>.Empty;
        if (Next().Text == "else")
        {
            ExpectEnd(JinjaTokenKind.BlockEnd);
            otherwise = Statements(["endfor"], "else", line);
            Next();
        }

        ExpectEnd(JinjaTokenKind.BlockEnd);
        return new JinjaFor(target, items, condition, body, otherwise, line);
    }

    private JinjaStatement Set(int line)
    {
        var target = Target(withAttributes: true);
        if (Skip("="))
        {
            var value = Tuple(withChoice: true);
            ExpectEnd(JinjaTokenKind.BlockEnd);
            return new JinjaSet(target, value, line);
        }

        JinjaExpression? filter = null;
        while (Skip("|")) filter = Filter(filter);
        ExpectEnd(JinjaTokenKind.BlockEnd);
        return new JinjaSetText(target, filter, Body("set", "endset", line), line);
    }

    private JinjaMacro Macro(int line)
    {
        var name = ExpectName();
        _assigned.Add(name);
        var parameters = ImmutableArray.CreateBuilder<(string, JinjaExpression?)>();
        Expect("(");
        while (!Is(")"))
        {
            if (parameters.Count > 0) Expect(",");
            if (Is(")")) break;
            if (Is("*") || Is("**")) throw Wrong("'*' before a parameter is not supported");
            var parameter = ExpectName();
            _assigned.Add(parameter);
            var otherwise = Skip("=") ? Expression() : null;
            if (otherwise is null && parameters.Count > 0 && parameters[^1].Item2 is not null)
                throw Wrong($"the parameter '{parameter}' has no default, but follows one that has");
            parameters.Add((parameter, otherwise));
        }

        Expect(")");
        ExpectEnd(JinjaTokenKind.BlockEnd);
        return new JinjaMacro(name, parameters.ToImmutable(), Body("macro", "endmacro", line), line);
    }

    private JinjaTarget Target(bool withAttributes = false)
    {
        var isWhole = Skip("(");
        var parts = ImmutableArray.CreateBuilder<JinjaTarget>();
        var isTuple = false;
        while (true)
        {
            Enter();
            parts.Add(Is("(") ? Target() : One());
            _depth--;
            if (!Skip(",")) break;
            isTuple = true;
            if (Current.Kind != JinjaTokenKind.Name || IsWord("in")) break;
        }

        if (isWhole) Expect(")");
        return isTuple ? new JinjaTarget(string.Empty, null, parts.ToImmutable()) : parts[0];

        JinjaTarget One()
        {
            var name = ExpectName();
            if (s_keywords.Contains(name) || s_reserved.Contains(name) || s_constants.Contains(name))
                throw Wrong($"'{name}' cannot be assigned to");
            if (withAttributes && Skip(".")) return new JinjaTarget(name, ExpectName(), []);
            _assigned.Add(name);
            return new JinjaTarget(name, null, []);
        }
    }

    // One expression, or several separated by commas, which are a tuple.
    private JinjaExpression Tuple(bool withChoice, bool isInParentheses = false)
    {
        var line = Line;
        if (isInParentheses && Is(")")) return new JinjaListing([], IsTuple: true, line);
        var first = withChoice ? Expression() : Or();
        if (!Is(",")) return first;
        var items = ImmutableArray.CreateBuilder<JinjaExpression>();
        items.Add(first);
        while (Skip(","))
        {
            if (Is(")") || Current.Kind is JinjaTokenKind.OutputEnd or JinjaTokenKind.BlockEnd) break;
            items.Add(withChoice ? Expression() : Or());
        }

        return new JinjaListing(items.ToImmutable(), IsTuple: true, line);
    }

    private JinjaExpression Expression()
    {
        Enter();
        var (line, value) = (Line, Or());
        while (SkipWord("if"))
        {
            var condition = Or();
            value = new JinjaChoice(condition, value, SkipWord("else") ? Expression() : null, line);
        }

        _depth--;
        return value;
    }

    private JinjaExpression Or()
    {
        var (line, left) = (Line, And());
        while (SkipWord("or")) left = new JinjaBinary("or", left, And(), line);
        return left;
    }

    private JinjaExpression And()
    {
        var (line, left) = (Line, Not());
        while (SkipWord("and")) left = new JinjaBinary("and", left, Not(), line);
        return left;
    }

    private JinjaExpression Not()
    {
        var line = Line;
        if (!SkipWord("not")) return Comparison();
        Enter();
        var operand = Not();
        _depth--;
        return new JinjaUnary("not", operand, line);
    }

    private JinjaExpression Comparison()
    {
        var (line, first) = (Line, Sum());
        var others = ImmutableArray.CreateBuilder<(string, JinjaExpression)>();
        while (true)
        {
            if (Current.Kind == JinjaTokenKind.Operator && Current.Text is "==" or "!=" or "<" or "<=" or ">" or ">=")
            {
                others.Add((Next().Text, Sum()));
            }
            else if (SkipWord("in"))
            {
                others.Add(("in", Sum()));
            }
            else if (IsWord("not") && _tokens[_at + 1] is { Kind: JinjaTokenKind.Name, Text: "in" })
            {
                _at += 2;
                others.Add(("not in", Sum()));
            }
            else
            {
                return others.Count == 0 ? first : new JinjaComparison(first, others.ToImmutable(), line);
            }
        }
    }

    private JinjaExpression Sum()
    {
        var (line, left) = (Line, Join());
        while (Is("+") || Is("-")) left = new JinjaBinary(Next().Text, left, Join(), line);
        return left;
    }

    private JinjaExpression Join()
    {
        var (line, first) = (Line, Product());
        if (!Is("~")) return first;
        var parts = ImmutableArray.CreateBuilder<JinjaExpression>();
        parts.Add(first);
        while (Skip("~")) parts.Add(Product());
        return new JinjaJoin(parts.ToImmutable(), line);
    }

    private JinjaExpression Product()
    {
        var (line, left) = (Line, Unary());
        while (Current.Kind == JinjaTokenKind.Operator && Current.Text is "*" or "/" or "//" or "%" or "**")
        {
            if (Is("**")) throw Wrong("the operator '**' is not supported");
            left = new JinjaBinary(Next().Text, left, Unary(), line);
        }

        return left;
    }

    private JinjaExpression Unary(bool withFilters = true)
    {
        Enter();
        var line = Line;
        var value = Is("-") || Is("+") ? new JinjaUnary(Next().Text, Unary(withFilters: false), line) : Primary();
        value = Postfix(value);
        while (withFilters)
        {
            if (Skip("|")) value = Filter(value);
            else if (SkipWord("is")) value = Test(value);
            else if (Is("(")) throw Wrong("a call of what a filter or a test returns is not supported");
            else break;
        }

        _depth--;
        return value;
    }

    private JinjaExpression Primary()
    {
        var token = Next();
        switch (token.Kind)
        {
            case JinjaTokenKind.String:
                var text = token.Text;
                while (Current.Kind == JinjaTokenKind.String) text += Next().Text;
                return new JinjaConstant(text, token.Line);
            case JinjaTokenKind.Integer or JinjaTokenKind.Float:
                return new JinjaConstant(token.Value, token.Line);
            case JinjaTokenKind.Name:
                switch (token.Text)
                {
                    case "true" or "True": return new JinjaConstant(true, token.Line);
                    case "false" or "False": return new JinjaConstant(false, token.Line);
                    case "none" or "None": return new JinjaConstant(null, token.Line);
                }

                if (s_keywords.Contains(token.Text)) throw Wrong($"expected an expression, but found '{token.Text}'", token.Line);
                if (s_reserved.Contains(token.Text)) throw Wrong($"the variable '{token.Text}' is not supported", token.Line);
                return new JinjaName(token.Text, token.Line);
            case JinjaTokenKind.Operator when token.Text == "(":
                var inner = Tuple(withChoice: true, isInParentheses: true);
                Expect(")");
                return inner;
            case JinjaTokenKind.Operator when token.Text == "[":
                return new JinjaListing(Items("]", Expression), IsTuple: false, token.Line);
            case JinjaTokenKind.Operator when token.Text == "{":
                return new JinjaMapping(Items("}", Entry), token.Line);
        }

        if (token.Kind != JinjaTokenKind.End) _at--;
        throw Wrong($"expected an expression, but found {Found()}");

        (JinjaExpression, JinjaExpression) Entry()
        {
            var key = Expression();
            Expect(":");
            return (key, Expression());
        }
    }

    private ImmutableArray<T> Items<T>(string end, Func<T> read)
    {
        var items = ImmutableArray.CreateBuilder<T>();
        while (!Is(end))
        {
            if (items.Count > 0) Expect(",");
            if (Is(end)) break;
            items.Add(read());
        }

        Next();
        return items.ToImmutable();
    }

    private JinjaExpression Postfix(JinjaExpression value)
    {
        while (true)
        {
            var line = Line;
            if (Skip("."))
            {
                value = Current.Kind == JinjaTokenKind.Integer ? new JinjaItem(value, new JinjaConstant(Next().Value, line), line)
                    : Member(value, ExpectName(), line);
            }
            else if (Skip("["))
            {
                value = Subscript(value, line);
            }
            else if (Is("("))
            {
                if (value is not JinjaName { Name: var name })
                    throw Wrong("a call of something other than a function or a method is not supported");
                var arguments = Arguments();
                if (JinjaFunctions.All.TryGetValue(name, out var signature)) signature.Check("function", name, arguments, line);
                else _calls.Add((name, line));
                value = new JinjaCall(name, arguments, line);
            }
            else
            {
                return value;
            }
        }
    }

    private JinjaExpression Member(JinjaExpression value, string name, int line)
    {
        if (Is("("))
        {
            if (!JinjaMethods.All.TryGetValue(name, out var signature)) throw Wrong($"the method '{name}' is not supported", line);
            var arguments = Arguments();
            signature.Check("method", name, arguments, line);
            return new JinjaMethodCall(value, name, arguments, line);
        }

        if (value is JinjaName { Name: "loop" } && !JinjaLoop.Names.Contains(name)) throw Wrong($"'loop.{name}' is not supported", line);
        return new JinjaAttribute(value, name, line);
    }

    private JinjaExpression Subscript(JinjaExpression value, int line)
    {
        var start = Is(":") ? null : Expression();
        JinjaExpression result;
        if (Skip(":"))
        {
            var stop = Is(":") || Is("]") ? null : Expression();
            var step = Skip(":") && !Is("]") ? Expression() : null;
            result = new JinjaSlice(value, start, stop, step, line);
        }
        else
        {
            result = new JinjaItem(value, start!, line);
        }

        Expect("]");
        return result;
    }

    private JinjaArguments Arguments()
    {
        Expect("(");
        var positional = ImmutableArray.CreateBuilder<JinjaExpression>();
        var named = ImmutableArray.CreateBuilder<(string, JinjaExpression)>();
        Items(")", () =>
        {
            if (Is("*") || Is("**")) throw Wrong("'*' before an argument is not supported");
            if (Current.Kind == JinjaTokenKind.Name && _tokens[_at + 1] is { Kind: JinjaTokenKind.Operator, Text: "=" })
            {
                var name = ExpectName();
                Next();
                if (named.Any(n => n.Item1 == name)) throw Wrong($"the argument '{name}' is given twice");
                named.Add((name, Expression()));
            }
            else
            {
                if (named.Count > 0) throw Wrong("an argument without a name follows one with a name");
                positional.Add(Expression());
            }

            return 0;
        });
        return new JinjaArguments(positional.ToImmutable(), named.ToImmutable());
    }

    private JinjaFilter Filter(JinjaExpression? target)
    {
        var (line, name) = (Line, ExpectName());
        var arguments = Is("(") ? Arguments() : JinjaArguments.None;
        if (!JinjaFilters.All.TryGetValue(name, out var signature)) throw Wrong($"the filter '{name}' is not supported", line);
        signature.Check("filter", name, arguments, line);
        JinjaFilters.CheckNames(name, arguments, line);
        return new JinjaFilter(target, name, arguments, line);
    }

    private JinjaExpression Test(JinjaExpression target)
    {
        var isNegated = SkipWord("not");
        var (line, name) = (Line, ExpectName());
        var arguments = JinjaArguments.None;
        if (Is("("))
        {
            arguments = Arguments();
        }
        else if ((Current.Kind == JinjaTokenKind.Name && Current.Text is not ("else" or "or" or "and" or "if" or "in" or "not"))
            || Current.Kind is JinjaTokenKind.String or JinjaTokenKind.Integer or JinjaTokenKind.Float || Is("[") || Is("{"))
        {
            if (IsWord("is")) throw Wrong("a test of a test is not supported; use parentheses");
            arguments = new JinjaArguments([Postfix(Primary())], []);
        }

        JinjaTests.Check(name, arguments, line);
        var test = new JinjaTest(target, name, arguments, line);
        return isNegated ? new JinjaUnary("not", test, line) : test;
    }
}

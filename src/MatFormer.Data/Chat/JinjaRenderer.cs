using System.Collections.Immutable;
using System.Text;

namespace MatFormer;

/// <summary>Renders a template once.</summary>
internal sealed class JinjaRenderer
{
    private readonly JinjaWork _work;
    private readonly JinjaValues _values;
    private readonly DateTime _now;
    private StringBuilder _output = new();
    private JinjaScope _scope = new(null);
    private int _line;

    public JinjaRenderer(DateTime now, long input)
    {
        (_now, _work) = (now, new JinjaWork(input));
        _values = new JinjaValues(_work);
    }

    private enum Flow
    {
        Next,
        Break,
        Continue,
    }

    /// <exception cref="JinjaException">The message has the line.</exception>
    public string Render(ImmutableArray<JinjaStatement> body, IEnumerable<KeyValuePair<string, object?>> variables)
    {
        foreach (var (name, value) in variables) _scope.Set(name, value);
        _scope = new JinjaScope(_scope);
        try
        {
            Run(body);
        }
        catch (JinjaException e) when (e.Line == 0)
        {
            throw new JinjaException(e.Problem, _line, e.IsRaised);
        }

        return _output.ToString();
    }

    private Flow Run(ImmutableArray<JinjaStatement> body)
    {
        foreach (var statement in body)
        {
            _work.Enter();
            _line = statement.Line;
            var flow = Run(statement);
            _work.Leave();
            if (flow != Flow.Next) return flow;
        }

        return Flow.Next;
    }

    private Flow Run(JinjaStatement statement)
    {
        switch (statement)
        {
            case JinjaLiteral literal:
                Write(literal.Text);
                return Flow.Next;
            case JinjaOutput output:
                Write(_values.Text(Evaluate(output.Value)));
                return Flow.Next;
            case JinjaIf choice:
                foreach (var (condition, body) in choice.Branches)
                {
                    if (condition is null || JinjaValues.IsTrue(Evaluate(condition))) return Run(body);
                }

                return Flow.Next;
            case JinjaFor loop: return Run(loop);
            case JinjaSet set:
                Assign(set.Target, Evaluate(set.Value));
                return Flow.Next;
            case JinjaSetText set:
                object? text = Text(set.Body, new JinjaScope(_scope));
                Assign(set.Target, set.Filter is null ? text : Filter((JinjaFilter)set.Filter, text));
                return Flow.Next;
            case JinjaMacro macro:
                _scope.Set(macro.Name, new JinjaMacroValue(macro, _scope));
                return Flow.Next;
            case JinjaGeneration generation:
                Write(Text(generation.Body, new JinjaScope(_scope)));
                return Flow.Next;
            default: return ((JinjaJump)statement).IsBreak ? Flow.Break : Flow.Continue;
        }
    }

    private Flow Run(JinjaFor loop)
    {
        var (outer, items) = (_scope, _values.Iterate(Evaluate(loop.Items)));
        if (loop.Condition is not null)
        {
            var kept = new List<object?>();
            foreach (var item in items)
            {
                _work.Spend(JinjaWork.PerRound);
                _scope = new JinjaScope(outer);
                Assign(loop.Target, item);
                if (JinjaValues.IsTrue(Evaluate(loop.Condition))) kept.Add(item);
            }

            _scope = outer;
            items = kept;
        }

        var state = new JinjaLoop(items);
        for (var i = 0; i < items.Count; i++)
        {
            _work.Spend(JinjaWork.PerRound);
            _scope = new JinjaScope(outer);
            state.At = i;
            _scope.Set("loop", state);
            Assign(loop.Target, items[i]);
            var flow = Run(loop.Body);
            _scope = outer;
            if (flow == Flow.Break) break;
        }

        return items.Count == 0 ? RunIn(new JinjaScope(outer), loop.Else) : Flow.Next;
    }

    private Flow RunIn(JinjaScope scope, ImmutableArray<JinjaStatement> body)
    {
        var outer = _scope;
        _scope = scope;
        var flow = Run(body);
        _scope = outer;
        return flow;
    }

    // Returns what statements write.
    private string Text(ImmutableArray<JinjaStatement> body, JinjaScope scope)
    {
        var outer = _output;
        _output = new StringBuilder();
        RunIn(scope, body);
        var text = _output.ToString();
        _output = outer;
        return text;
    }

    private void Write(string text)
    {
        _work.SpendText(text.Length);
        if (_output.Length + text.Length > JinjaWork.MostCharacters) _work.SpendText((long)_output.Length + text.Length);
        _output.Append(text);
    }

    private void Assign(JinjaTarget target, object? value)
    {
        if (!target.Parts.IsEmpty)
        {
            var items = _values.Iterate(value);
            if (items.Count != target.Parts.Length)
                throw new JinjaException($"{target.Parts.Length} variables cannot take {items.Count} items");
            foreach (var (part, item) in target.Parts.Zip(items)) Assign(part, item);
        }
        else if (target.Attribute is null)
        {
            _scope.Set(target.Name, value);
        }
        else if (Variable(target.Name) is JinjaNamespace space)
        {
            space.Attributes[target.Attribute] = value;
        }
        else
        {
            throw new JinjaException($"'{target.Name}' is not a namespace, so '{target.Attribute}' cannot be set");
        }
    }

    private object? Variable(string name) => _scope.TryGet(name, out var value) ? value
        : JinjaFunctions.All.ContainsKey(name) ? new JinjaFunction(name) : new JinjaUndefined($"'{name}' is undefined");

    private object? Evaluate(JinjaExpression expression)
    {
        _work.Enter();
        var value = expression switch
        {
            JinjaConstant constant => constant.Value,
            JinjaName name => Variable(name.Name),
            JinjaListing listing => Listing(listing),
            JinjaMapping mapping => Mapping(mapping),
            JinjaUnary unary => Unary(unary),
            JinjaBinary binary => Binary(binary),
            JinjaJoin join => Join(join),
            JinjaComparison comparison => Comparison(comparison),
            JinjaChoice choice => JinjaValues.IsTrue(Evaluate(choice.Condition)) ? Evaluate(choice.Then)
                : choice.Else is null ? new JinjaUndefined("an 'if' without 'else' has no value") : Evaluate(choice.Else),
            JinjaAttribute attribute => JinjaValues.Attribute(Evaluate(attribute.Target), attribute.Name),
            JinjaItem item => _values.Item(Evaluate(item.Target), Evaluate(item.Key)),
            JinjaSlice slice => _values.Slice(
                Evaluate(slice.Target), Evaluated(slice.Start), Evaluated(slice.Stop), Evaluated(slice.Step)),
            JinjaCall call => Call(call),
            JinjaMethodCall call => JinjaMethods.Call(
                Evaluate(call.Target), call.Name, Bound(JinjaMethods.All[call.Name], call.Arguments), _values),
            JinjaFilter filter => Filter(filter, null),
            _ => Test((JinjaTest)expression),
        };
        _work.Leave();
        return value;
    }

    private object? Evaluated(JinjaExpression? expression) => expression is null ? null : Evaluate(expression);

    private object Listing(JinjaListing listing)
    {
        var items = new List<object?>(listing.Items.Length);
        foreach (var item in listing.Items) items.Add(Evaluate(item));
        return listing.IsTuple ? new JinjaTuple(items) : items;
    }

    private JinjaDict Mapping(JinjaMapping mapping)
    {
        var dict = new JinjaDict();
        foreach (var (key, value) in mapping.Items)
        {
            var name = Evaluate(key);
            if (name is not (string or long or bool or double)) throw new JinjaException($"a key of a dict is {JinjaValues.TypeOf(name)}");
            dict[name] = Evaluate(value);
        }

        return dict;
    }

    private object? Unary(JinjaUnary unary)
    {
        var value = Evaluate(unary.Operand);
        if (unary.Operator == "not") return !JinjaValues.IsTrue(value);
        var negated = _values.Negate(value);
        return unary.Operator == "-" ? negated : _values.Negate(negated);
    }

    private object? Binary(JinjaBinary binary)
    {
        var left = Evaluate(binary.Left);
        return binary.Operator switch
        {
            "and" => JinjaValues.IsTrue(left) ? Evaluate(binary.Right) : left,
            "or" => JinjaValues.IsTrue(left) ? left : Evaluate(binary.Right),
            _ => _values.Arithmetic(binary.Operator, left, Evaluate(binary.Right)),
        };
    }

    private string Join(JinjaJoin join)
    {
        var text = new StringBuilder();
        foreach (var part in join.Parts)
        {
            text.Append(_values.Text(Evaluate(part)));
            _work.SpendText(text.Length);
        }

        return text.ToString();
    }

    private object Comparison(JinjaComparison comparison)
    {
        var left = Evaluate(comparison.First);
        foreach (var (name, operand) in comparison.Others)
        {
            var right = Evaluate(operand);
            var holds = name switch
            {
                "==" => _values.AreEqual(left, right),
                "!=" => !_values.AreEqual(left, right),
                "<" => _values.Compare(left, right) < 0,
                "<=" => _values.Compare(left, right) <= 0,
                ">" => _values.Compare(left, right) > 0,
                ">=" => _values.Compare(left, right) >= 0,
                "in" => _values.Contains(right, left),
                _ => !_values.Contains(right, left), // not in
            };
            if (!holds) return false;
            left = right;
        }

        return true;
    }

    private object?[] Positional(JinjaArguments arguments)
    {
        var all = new object?[arguments.Positional.Length];
        for (var i = 0; i < all.Length; i++) all[i] = Evaluate(arguments.Positional[i]);
        return all;
    }

    private ImmutableArray<(string Name, object? Value)> Named(JinjaArguments arguments)
    {
        if (arguments.Named.IsEmpty) return [];
        var all = ImmutableArray.CreateBuilder<(string, object?)>(arguments.Named.Length);
        foreach (var (name, value) in arguments.Named) all.Add((name, Evaluate(value)));
        return all.MoveToImmutable();
    }

    private object?[] Bound(JinjaSignature signature, JinjaArguments arguments) => signature.Bind(Positional(arguments), Named(arguments));

    private object? Filter(JinjaFilter filter, object? text)
    {
        // The innermost filter of {% set x|a|b %} has no target: it gets the text.
        var value = filter.Target switch
        {
            null => text,
            JinjaFilter inner when text is not null => Filter(inner, text),
            _ => Evaluate(filter.Target),
        };
        var signature = JinjaFilters.All[filter.Name];
        if (signature.IsOpen) return JinjaFilters.Apply(filter.Name, value, Positional(filter.Arguments), Named(filter.Arguments), _values);
        return JinjaFilters.Apply(filter.Name, value, Bound(signature, filter.Arguments), [], _values);
    }

    private object Test(JinjaTest test) =>
        JinjaTests.Holds(test.Name, Evaluate(test.Target), Positional(test.Arguments), _values);

    private object? Call(JinjaCall call)
    {
        var callee = Variable(call.Name);
        if (callee is JinjaMacroValue macro) return Call(macro, Positional(call.Arguments), Named(call.Arguments));
        JinjaValues.Require(callee);
        if (callee is not JinjaFunction function)
            throw new JinjaException($"'{call.Name}' is {JinjaValues.TypeOf(callee)}, not a function");
        var signature = JinjaFunctions.All[function.Name];
        signature.Check("function", function.Name, call.Arguments, call.Line);
        var (positional, named) = (Positional(call.Arguments), Named(call.Arguments));
        return JinjaFunctions.Call(function.Name, signature.Bind(positional, named), named, _values, _now);
    }

    private string Call(JinjaMacroValue value, object?[] positional, ImmutableArray<(string Name, object? Value)> named)
    {
        var (macro, scope, line) = (value.Macro, new JinjaScope(value.Scope), _line);
        if (positional.Length > macro.Parameters.Length)
            throw new JinjaException($"the macro '{macro.Name}' takes at most {macro.Parameters.Length} arguments");
        var names = macro.Parameters.Select(p => p.Name).ToList();
        foreach (var (name, _) in named)
        {
            if (names.IndexOf(name) < positional.Length)
                throw new JinjaException($"the macro '{macro.Name}' has no argument '{name}', or has it twice");
        }

        var outer = _scope;
        _scope = scope; // a default may use the parameters before it
        for (var i = 0; i < names.Count; i++)
        {
            var isNamed = named.Any(n => n.Name == names[i]);
            scope.Set(names[i], i < positional.Length ? positional[i]
                : isNamed ? named.First(n => n.Name == names[i]).Value
                : macro.Parameters[i].Default is { } otherwise ? Evaluate(otherwise)
                : new JinjaUndefined($"the argument '{names[i]}' of the macro '{macro.Name}' is not given"));
        }

        _scope = outer;
        var text = Text(macro.Body, scope);
        _line = line;
        return text;
    }
}

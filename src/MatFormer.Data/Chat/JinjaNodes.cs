using System.Collections.Immutable;

namespace MatFormer;

/// <summary>A part of a template that has a value.</summary>
internal abstract record JinjaExpression(int Line);

internal sealed record JinjaConstant(object? Value, int Line) : JinjaExpression(Line);

internal sealed record JinjaName(string Name, int Line) : JinjaExpression(Line);

internal sealed record JinjaListing(ImmutableArray<JinjaExpression> Items, bool IsTuple, int Line) : JinjaExpression(Line);

internal sealed record JinjaMapping(ImmutableArray<(JinjaExpression Key, JinjaExpression Value)> Items, int Line) : JinjaExpression(Line);

/// <summary><c>-x</c>, <c>+x</c> or <c>not x</c>.</summary>
internal sealed record JinjaUnary(string Operator, JinjaExpression Operand, int Line) : JinjaExpression(Line);

/// <summary>An operation of arithmetic, <c>and</c> or <c>or</c>.</summary>
internal sealed record JinjaBinary(string Operator, JinjaExpression Left, JinjaExpression Right, int Line) : JinjaExpression(Line);

/// <summary>Texts that <c>~</c> joins.</summary>
internal sealed record JinjaJoin(ImmutableArray<JinjaExpression> Parts, int Line) : JinjaExpression(Line);

/// <summary>Comparisons in a row: <c>a &lt; b &lt; c</c>.</summary>
internal sealed record JinjaComparison(
    JinjaExpression First, ImmutableArray<(string Operator, JinjaExpression Operand)> Others, int Line) : JinjaExpression(Line);

/// <summary><c>x if condition else y</c>.</summary>
internal sealed record JinjaChoice(JinjaExpression Condition, JinjaExpression Then, JinjaExpression? Else, int Line)
    : JinjaExpression(Line);

internal sealed record JinjaAttribute(JinjaExpression Target, string Name, int Line) : JinjaExpression(Line);

internal sealed record JinjaItem(JinjaExpression Target, JinjaExpression Key, int Line) : JinjaExpression(Line);

internal sealed record JinjaSlice(
    JinjaExpression Target, JinjaExpression? Start, JinjaExpression? Stop, JinjaExpression? Step, int Line) : JinjaExpression(Line);

internal sealed record JinjaArguments(
    ImmutableArray<JinjaExpression> Positional, ImmutableArray<(string Name, JinjaExpression Value)> Named)
{
    public static JinjaArguments None { get; } = new([], []);
}

/// <summary>A call of a function or a macro.</summary>
internal sealed record JinjaCall(string Name, JinjaArguments Arguments, int Line) : JinjaExpression(Line);

internal sealed record JinjaMethodCall(JinjaExpression Target, string Name, JinjaArguments Arguments, int Line) : JinjaExpression(Line);

/// <summary><c>x|name(...)</c>. The target is null for the text of <c>{% set x|name %}</c>.</summary>
internal sealed record JinjaFilter(JinjaExpression? Target, string Name, JinjaArguments Arguments, int Line) : JinjaExpression(Line);

/// <summary><c>x is name(...)</c>.</summary>
internal sealed record JinjaTest(JinjaExpression Target, string Name, JinjaArguments Arguments, int Line) : JinjaExpression(Line);

/// <summary>A part of a template that does something.</summary>
internal abstract record JinjaStatement(int Line);

internal sealed record JinjaLiteral(string Text, int Line) : JinjaStatement(Line);

internal sealed record JinjaOutput(JinjaExpression Value, int Line) : JinjaStatement(Line);

/// <summary>The branches of <c>if</c>; the condition of <c>else</c> is null.</summary>
internal sealed record JinjaIf(ImmutableArray<(JinjaExpression? Condition, ImmutableArray<JinjaStatement> Body)> Branches, int Line)
    : JinjaStatement(Line);

internal sealed record JinjaFor(
    JinjaTarget Target, JinjaExpression Items, JinjaExpression? Condition, ImmutableArray<JinjaStatement> Body,
    ImmutableArray<JinjaStatement> Else, int Line) : JinjaStatement(Line);

internal sealed record JinjaSet(JinjaTarget Target, JinjaExpression Value, int Line) : JinjaStatement(Line);

/// <summary><c>{% set x %}...{% endset %}</c>, perhaps with filters.</summary>
internal sealed record JinjaSetText(JinjaTarget Target, JinjaExpression? Filter, ImmutableArray<JinjaStatement> Body, int Line)
    : JinjaStatement(Line);

internal sealed record JinjaMacro(
    string Name, ImmutableArray<(string Name, JinjaExpression? Default)> Parameters, ImmutableArray<JinjaStatement> Body, int Line)
    : JinjaStatement(Line);

/// <summary>What transformers' <c>{% generation %}</c> marks: text with variables of its own.</summary>
internal sealed record JinjaGeneration(ImmutableArray<JinjaStatement> Body, int Line) : JinjaStatement(Line);

/// <summary><c>break</c> or <c>continue</c>.</summary>
internal sealed record JinjaJump(bool IsBreak, int Line) : JinjaStatement(Line);

/// <summary>What a value is assigned to: a variable, an attribute of a namespace, or several of these.</summary>
internal sealed record JinjaTarget(string Name, string? Attribute, ImmutableArray<JinjaTarget> Parts);

using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Model;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.Generators.Parsing;

/// <summary>Reads the arguments of one attribute and their places in the source.</summary>
internal sealed class AttributeReader
{
    private readonly AttributeData _data;
    private readonly AttributeSyntax _syntax;

    public AttributeReader(AttributeData data, AttributeSyntax syntax)
    {
        _data = data;
        _syntax = syntax;
        IsComplete = data.AttributeConstructor is not null
            && data.ConstructorArguments.All(IsGood)
            && data.NamedArguments.All(argument => IsGood(argument.Value));
    }

    /// <summary>False if the compiler reports an error in an argument.</summary>
    public bool IsComplete { get; }

    /// <summary>The place of the attribute's name.</summary>
    public LocationInfo At => LocationInfo.Of(_syntax.Name);

    /// <summary>Returns the value of a property, or null if it is not given.</summary>
    public Located<T>? Property<T>(string name)
    {
        foreach (var argument in _data.NamedArguments)
        {
            if (argument.Key != name || !TryConvert<T>(argument.Value, out var value)) continue;
            return new Located<T>(value, LocationOf(Arguments.FirstOrDefault(a => a.NameEquals?.Name.Identifier.ValueText == name)));
        }

        return null;
    }

    /// <summary>Returns the value of a string property, or null if it is not given or is null.</summary>
    public LocatedText? PropertyText(string name)
    {
        if (Property<string>(name) is not { } given) return null;
        var syntax = Arguments.FirstOrDefault(a => a.NameEquals?.Name.Identifier.ValueText == name);
        return new LocatedText(given.Value, given.At, CharactersOf(syntax, given.Value));
    }

    /// <summary>Returns the value of an array property, or null if it is not given or is null.</summary>
    public (EquatableArray<T> Items, LocationInfo At)? PropertyArray<T>(string name)
        where T : IEquatable<T>
    {
        foreach (var argument in _data.NamedArguments)
        {
            if (argument.Key != name || argument.Value is not { Kind: TypedConstantKind.Array, IsNull: false } constant) continue;
            var items = new List<T>();
            foreach (var value in constant.Values)
            {
                if (TryConvert<T>(value, out var item)) items.Add(item);
            }

            return (items.ToEquatableArray(), LocationOf(Arguments.FirstOrDefault(a => a.NameEquals?.Name.Identifier.ValueText == name)));
        }

        return null;
    }

    /// <summary>Returns a constructor argument, or null if the constructor has no parameter of this name.</summary>
    public Located<T>? Argument<T>(string name)
    {
        var index = IndexOf(name);
        return index >= 0 && TryConvert<T>(_data.ConstructorArguments[index], out var value)
            ? new Located<T>(value, LocationOf(SyntaxOf(index, name)))
            : null;
    }

    /// <summary>
    /// Returns a string argument of the constructor (empty for a null argument), or null if the constructor has no parameter of this name.
    /// </summary>
    public LocatedText? Text(string name)
    {
        var index = IndexOf(name);
        if (index < 0 || _data.ConstructorArguments[index] is not { Kind: TypedConstantKind.Primitive } constant) return null;
        var value = constant.Value as string ?? "";
        var syntax = SyntaxOf(index, name);
        return new LocatedText(value, LocationOf(syntax), CharactersOf(syntax, value));
    }

    /// <summary>Returns an array argument of the constructor, or null if the constructor has no parameter of this name.</summary>
    public (EquatableArray<Located<T>> Items, LocationInfo At)? Array<T>(string name)
    {
        var index = IndexOf(name);
        if (index < 0 || _data.ConstructorArguments[index] is not { Kind: TypedConstantKind.Array, IsNull: false } constant) return null;
        var written = ItemsOf(index, name);
        var at = written.Count == 0
            ? LocationOf(SyntaxOf(index, name))
            : LocationInfo.Of(_syntax.SyntaxTree, TextSpan.FromBounds(written[0].SpanStart, written[written.Count - 1].Span.End));
        var items = new List<Located<T>>();
        for (var i = 0; i < constant.Values.Length; i++)
        {
            if (!TryConvert<T>(constant.Values[i], out var value)) return null;
            items.Add(new Located<T>(value, written.Count == constant.Values.Length ? LocationInfo.Of(written[i]) : at));
        }

        return (items.ToEquatableArray(), at);
    }

    private static bool IsGood(TypedConstant constant) =>
        constant.Kind != TypedConstantKind.Error
        && (constant.Kind != TypedConstantKind.Array || constant.IsNull || constant.Values.All(IsGood));

    private static bool TryConvert<T>(TypedConstant constant, out T value)
    {
        // The compiler gives constants of an enum as integers.
        object? raw = constant.Kind is TypedConstantKind.Primitive or TypedConstantKind.Enum ? constant.Value : null;
        if (raw is not null && typeof(T).IsEnum) raw = Enum.ToObject(typeof(T), raw);
        if (raw is T typed)
        {
            value = typed;
            return true;
        }

        value = default!;
        return false;
    }

    private static LocationInfo? CharactersOf(AttributeArgumentSyntax? syntax, string value)
    {
        if (syntax?.Expression is not LiteralExpressionSyntax { RawKind: (int)SyntaxKind.StringLiteralExpression } literal) return null;
        var text = literal.Token.Text;
        var start = value.Length == 0 ? -1 : text.IndexOf(value, StringComparison.Ordinal);
        if (start < 0 || value.Contains('\n')) return null;
        return LocationInfo.Of(literal.SyntaxTree, new TextSpan(literal.SpanStart + start, value.Length));
    }

    private int IndexOf(string name)
    {
        if (_data.AttributeConstructor is not { } constructor) return -1;
        for (var i = 0; i < constructor.Parameters.Length && i < _data.ConstructorArguments.Length; i++)
        {
            if (constructor.Parameters[i].Name == name) return i;
        }

        return -1;
    }

    private IReadOnlyList<AttributeArgumentSyntax> Arguments => _syntax.ArgumentList?.Arguments is { } arguments ? [.. arguments] : [];

    private AttributeArgumentSyntax? SyntaxOf(int index, string name) =>
        Arguments.FirstOrDefault(a => a.NameColon?.Name.Identifier.ValueText == name)
        ?? Arguments.Where(a => a.NameEquals is null).Skip(index).FirstOrDefault(a => a.NameColon is null);

    // Returns the elements of a params array, which are written as separate arguments or as one array.
    private IReadOnlyList<ExpressionSyntax> ItemsOf(int index, string name)
    {
        var first = SyntaxOf(index, name);
        switch (first?.Expression)
        {
            case null:
                return [];
            case ArrayCreationExpressionSyntax { Initializer: { } initializer }:
                return [.. initializer.Expressions];
            case ImplicitArrayCreationExpressionSyntax array:
                return [.. array.Initializer.Expressions];
            case CollectionExpressionSyntax collection:
                return [.. collection.Elements.OfType<ExpressionElementSyntax>().Select(e => e.Expression)];
            default:
                return [.. Arguments.Where(a => a.NameEquals is null && a.SpanStart >= first!.SpanStart).Select(a => a.Expression)];
        }
    }

    private LocationInfo LocationOf(AttributeArgumentSyntax? syntax) => syntax is null ? At : LocationInfo.Of(syntax.Expression);
}

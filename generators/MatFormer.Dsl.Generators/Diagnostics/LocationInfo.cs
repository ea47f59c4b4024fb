using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.Generators.Diagnostics;

/// <summary>A place in a source file, without the syntax tree that a <see cref="Location"/> would keep alive.</summary>
internal sealed record LocationInfo(string Path, TextSpan Span, LinePositionSpan Lines)
{
    public static LocationInfo Of(SyntaxNode node) => Of(node.SyntaxTree, node.Span);

    public static LocationInfo Of(SyntaxToken token) => Of(token.SyntaxTree!, token.Span);

    public static LocationInfo Of(SyntaxTree tree, TextSpan span) => new(tree.FilePath, span, tree.GetLineSpan(span).Span);

    /// <summary>Returns the place of some of the characters. This place must be within one line.</summary>
    public LocationInfo Slice(int start, int length)
    {
        var line = Lines.Start.Line;
        var character = Lines.Start.Character + start;
        return new LocationInfo(
            Path,
            new TextSpan(Span.Start + start, length),
            new LinePositionSpan(new LinePosition(line, character), new LinePosition(line, character + length)));
    }

    /// <summary>Returns this place with the text that corrects the mistake if it replaces exactly these characters, or null.</summary>
    public Remedy ReplacedBy(string? text) => new(this, text);

    public Location ToLocation() => Location.Create(Path, Span, Lines);
}

/// <summary>The place of a mistake, and the text to write there instead if it is known.</summary>
internal readonly record struct Remedy(LocationInfo At, string? Replacement)
{
    public static implicit operator Remedy(LocationInfo at) => new(at, null);
}

using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.Generators.Diagnostics;

/// <summary>A place in a source file, without the syntax tree that a <see cref="Location"/> would keep alive.</summary>
internal sealed record LocationInfo(string Path, TextSpan Span, LinePositionSpan Lines)
{
    public static LocationInfo Of(SyntaxNode node) => Of(node.SyntaxTree, node.Span);

    public static LocationInfo Of(SyntaxToken token) => Of(token.SyntaxTree!, token.Span);

    public static LocationInfo Of(SyntaxTree tree, TextSpan span) => new(tree.FilePath, span, tree.GetLineSpan(span).Span);

    /// <summary>Some characters of a place that is within one line.</summary>
    public LocationInfo Slice(int start, int length)
    {
        var line = Lines.Start.Line;
        var character = Lines.Start.Character + start;
        return new LocationInfo(
            Path,
            new TextSpan(Span.Start + start, length),
            new LinePositionSpan(new LinePosition(line, character), new LinePosition(line, character + length)));
    }

    /// <summary>This place, and the text that mends the mistake when it replaces the very characters here; null if there is none.</summary>
    public Remedy ReplacedBy(string? text) => new(this, text);

    public Location ToLocation() => Location.Create(Path, Span, Lines);
}

/// <summary>A place of a mistake, and the text to write there instead if that is known.</summary>
internal readonly record struct Remedy(LocationInfo At, string? Replacement)
{
    public static implicit operator Remedy(LocationInfo at) => new(at, null);
}

using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.Generators.Parsing;

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

    public Location ToLocation() => Location.Create(Path, Span, Lines);
}

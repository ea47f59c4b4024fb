using System.Collections.Immutable;
using System.Composition;
using MatFormer.Generators.Writing;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.CodeFixes;

/// <summary>Sorts the granularities of a class by width. Spaces and comments between them stay where they are.</summary>
[ExportCodeFixProvider(LanguageNames.CSharp, Name = nameof(SortGranularitiesFix)), Shared]
public sealed class SortGranularitiesFix : TextFix
{
    /// <inheritdoc/>
    public override ImmutableArray<string> FixableDiagnosticIds { get; } = ["MFD0016"];

    /// <inheritdoc/>
    protected override string Title(Diagnostic diagnostic) => "Sort the granularities by width";

    /// <inheritdoc/>
    protected override async Task<ImmutableArray<TextChange>> ChangesAsync(
        Document document, Diagnostic diagnostic, CancellationToken cancellation)
    {
        var root = await document.GetSyntaxRootAsync(cancellation).ConfigureAwait(false);
        var model = await document.GetSemanticModelAsync(cancellation).ConfigureAwait(false);
        var part = root!.FindNode(diagnostic.Location.SourceSpan).FirstAncestorOrSelf<TypeDeclarationSyntax>();
        if (part is null || model!.GetDeclaredSymbol(part, cancellation) is not { } type) return [];

        var attributes = type.GetAttributes();
        var hidden = All<FeedForwardAttribute>()
            .Select(a => a.ConstructorArguments.FirstOrDefault().Value)
            .OfType<int>()
            .Distinct()
            .ToList();
        var granularities = All<GranularityAttribute>()
            .Select(a => (Syntax: a.ApplicationSyntaxReference?.GetSyntax(cancellation), Width: WidthOf(a), Layers: LayersOf(a)))
            .ToList();

        // Granularities in several files have no order, and neither have granularities of the same width.
        if (granularities.Any(g => g.Syntax is null || g.Syntax.SyntaxTree != root.SyntaxTree || g.Width is null)) return [];
        var changes = new List<TextChange>();
        foreach (var stack in granularities.GroupBy(g => g.Layers))
        {
            var sorted = stack.OrderBy(g => g.Width).ToList();
            if (sorted.Zip(sorted.Skip(1), (narrow, wide) => narrow.Width < wide.Width).Contains(false)) return [];
            changes.AddRange(stack.Zip(sorted, (at, moved) => new TextChange(at.Syntax!.Span, moved.Syntax!.ToString())));
        }

        return [.. changes];

        IEnumerable<AttributeData> All<T>() => attributes.Where(a => a.AttributeClass?.ToDisplayString() == Names.Of<T>());

        double? WidthOf(AttributeData granularity) => granularity.ConstructorArguments.ElementAtOrDefault(1).Value switch
        {
            int width => width,
            double fraction when hidden.Count == 1 => fraction * hidden[0],
            _ => null,
        };

        // Granularities may be given for a range of layers. Each range is sorted separately.
        static string? LayersOf(AttributeData granularity) =>
            granularity.NamedArguments.FirstOrDefault(a => a.Key == "Layers").Value.Value as string;
    }
}

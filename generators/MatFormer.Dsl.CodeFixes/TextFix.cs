using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeActions;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.CodeFixes;

/// <summary>A fix that changes some characters and keeps all other text, including comments and spaces.</summary>
public abstract class TextFix : CodeFixProvider
{
    /// <inheritdoc/>
    public sealed override FixAllProvider GetFixAllProvider() => FixAllProvider.Create(async (context, document, diagnostics) =>
    {
        var changes = new SortedDictionary<TextSpan, TextChange>();
        foreach (var diagnostic in diagnostics)
        {
            foreach (var change in await ChangesAsync(document, diagnostic, context.CancellationToken).ConfigureAwait(false))
            {
                // Two mistakes may need the same change. If changes overlap, only the first is applied.
                if (!changes.Keys.Any(other => other == change.Span || other.OverlapsWith(change.Span))) changes.Add(change.Span, change);
            }
        }

        return await ApplyAsync(document, changes.Values, context.CancellationToken).ConfigureAwait(false);
    });

    /// <inheritdoc/>
    public sealed override async Task RegisterCodeFixesAsync(CodeFixContext context)
    {
        foreach (var diagnostic in context.Diagnostics)
        {
            var changes = await ChangesAsync(context.Document, diagnostic, context.CancellationToken).ConfigureAwait(false);
            if (changes.IsEmpty) continue;
            context.RegisterCodeFix(
                CodeAction.Create(
                    Title(diagnostic),
                    cancellation => ApplyAsync(context.Document, changes, cancellation),
                    equivalenceKey: GetType().Name + diagnostic.Id),
                diagnostic);
        }
    }

    /// <summary>Returns the title that editors show.</summary>
    protected abstract string Title(Diagnostic diagnostic);

    /// <summary>Returns the changes that correct a mistake, or none if the right correction is not known.</summary>
    protected abstract Task<ImmutableArray<TextChange>> ChangesAsync(
        Document document, Diagnostic diagnostic, CancellationToken cancellation);

    private static async Task<Document> ApplyAsync(Document document, IEnumerable<TextChange> changes, CancellationToken cancellation)
    {
        var text = await document.GetTextAsync(cancellation).ConfigureAwait(false);
        return document.WithText(text.WithChanges(changes));
    }
}

using System.Collections.Immutable;
using System.Composition;
using MatFormer.Generators.Analyzers;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Validation;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.CodeFixes;

/// <summary>Replaces the marked text by the text that the diagnostic suggests.</summary>
[ExportCodeFixProvider(LanguageNames.CSharp, Name = nameof(ReplacementFix)), Shared]
public sealed class ReplacementFix : TextFix
{
    /// <inheritdoc/>
    public override ImmutableArray<string> FixableDiagnosticIds { get; } =
    [
        .. new DeclarationAnalyzer().SupportedDiagnostics.Concat(new ProfileTextAnalyzer().SupportedDiagnostics).Select(d => d.Id),
    ];

    /// <inheritdoc/>
    protected override string Title(Diagnostic diagnostic) => "Write " + Replacement(diagnostic);

    /// <inheritdoc/>
    protected override Task<ImmutableArray<TextChange>> ChangesAsync(
        Document document, Diagnostic diagnostic, CancellationToken cancellation) => Task.FromResult<ImmutableArray<TextChange>>(
            Replacement(diagnostic) is { } text ? [new TextChange(diagnostic.Location.SourceSpan, text)] : []);

    private static string? Replacement(Diagnostic diagnostic) =>
        diagnostic.Properties.TryGetValue(DiagnosticInfo.ReplacementKey, out var text) ? text : null;
}

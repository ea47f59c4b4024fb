using System.Composition;
using MatFormer.Generators.Analyzers;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Parts;
using MatFormer.Generators.Validation;
using MatFormer.Generators.Writing;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeActions;
using Microsoft.CodeAnalysis.CodeRefactorings;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.CodeFixes;

/// <summary>Replaces a profile's pattern by a budget of the same size, and a budget by the pattern that the compiler finds.</summary>
[ExportCodeRefactoringProvider(LanguageNames.CSharp, Name = nameof(ProfileRefactoring)), Shared]
public sealed class ProfileRefactoring : CodeRefactoringProvider
{
    /// <inheritdoc/>
    public override async Task ComputeRefactoringsAsync(CodeRefactoringContext context)
    {
        var (document, cancellation) = (context.Document, context.CancellationToken);
        var root = await document.GetSyntaxRootAsync(cancellation).ConfigureAwait(false);
        var attribute = root!.FindNode(context.Span).FirstAncestorOrSelf<AttributeSyntax>();
        if (attribute?.Parent?.Parent is not TypeDeclarationSyntax part) return;
        if (attribute.ArgumentList?.Arguments is not { Count: > 1 } arguments) return;

        // The first argument is the name, unless named arguments change the order.
        if (arguments[0].NameEquals is not null || arguments[0].NameColon is { Name.Identifier.ValueText: not "name" }) return;
        if (await document.GetSemanticModelAsync(cancellation).ConfigureAwait(false) is not { } model
            || model.GetSymbolInfo(attribute, cancellation).Symbol?.ContainingType?.ToDisplayString() != Names.Of<ProfileAttribute>()
            || model.GetConstantValue(arguments[0].Expression, cancellation).Value is not string name
            || model.GetDeclaredSymbol(part, cancellation) is not { } type
            || DeclarationAnalyzer.Parse(type, model.Compilation, cancellation) is not { } declaration
            || Validator.Check(declaration).Output is not Output.Whole { Spec: var spec }
            || spec.Profiles.FirstOrDefault(p => p.Name == name) is not { } profile)
        {
            return;
        }

        var rest = arguments.Skip(1).ToList();
        if (profile.Origin.Length > 0)
            Offer((SymbolDisplay.FormatLiteral(Pattern.Format(spec, profile.Choices), quote: true), ""), "Write the pattern: ");
        else if (Budget(spec, profile) is { } budget)
            Offer(budget, "Let the compiler solve it: ");

        void Offer((string Text, string Note) written, string title) => context.RegisterRefactoring(CodeAction.Create(
            title + written.Text + written.Note,
            async stop =>
            {
                var text = await document.GetTextAsync(stop).ConfigureAwait(false);
                var span = TextSpan.FromBounds(rest[0].SpanStart, rest[rest.Count - 1].Span.End);
                return document.WithText(text.WithChanges(new TextChange(span, written.Text)));
            },
            equivalenceKey: title));
    }

    // The compiler may find a different mix of the same size. It may find none if the profile leaves layers out.
    private static (string Text, string Note)? Budget(ModelSpec spec, ProfileSpec profile)
    {
        var costs = Costs.Of(spec);
        var size = costs.ParameterCount(spec.LayersOf(profile.Choices));
        if (new BudgetSolver(spec).Solve([(costs.ParameterCount, size)]) is not { } solved) return null;
        var note = solved.Equals(profile.Choices) ? "" : ", which gives " + Pattern.Format(spec, solved);
        return (nameof(ProfileAttribute.MaxParameters) + " = " + Literals.Of(size), note);
    }
}

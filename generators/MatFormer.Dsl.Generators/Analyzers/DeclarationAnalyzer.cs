using System.Collections.Immutable;
using System.Reflection;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Validation;
using MatFormer.Generators.Writing;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Diagnostics;

namespace MatFormer.Generators.Analyzers;

/// <summary>Reports what is wrong with a declared model. It uses the generator's own parser and validator.</summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class DeclarationAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } =
    [
        .. typeof(Descriptors).GetFields(BindingFlags.Public | BindingFlags.Static).Select(f => (DiagnosticDescriptor)f.GetValue(null)),
        MisuseDescriptors.ReadsItself,
    ];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.Analyze | GeneratedCodeAnalysisFlags.ReportDiagnostics);
        context.RegisterSymbolAction(Analyze, SymbolKind.NamedType);
    }

    /// <summary>Reads the attributes of a class. Returns null if the class declares no model.</summary>
    internal static Declaration? Parse(INamedTypeSymbol type, Compilation compilation, CancellationToken cancellation)
    {
        // The attributes of a class come from all its parts. One of the parts has the attribute that makes the class a model.
        var part = type.GetAttributes()
            .Where(attribute => attribute.AttributeClass is { ContainingNamespace.Name: nameof(MatFormer) } name
                && Names.ModelAttributes.Contains(name.ToDisplayString()))
            .Select(attribute => attribute.ApplicationSyntaxReference?.GetSyntax(cancellation).Parent?.Parent as TypeDeclarationSyntax)
            .FirstOrDefault(part => part is ClassDeclarationSyntax or RecordDeclarationSyntax);
        return part is null ? null : DeclarationParser.Parse(type, part, compilation, scope: null, cancellation);
    }

    private static void Analyze(SymbolAnalysisContext context)
    {
        var type = (INamedTypeSymbol)context.Symbol;
        if (Parse(type, context.Compilation, context.CancellationToken) is not { } declaration) return;
        var verdict = Validator.Check(declaration);
        var trees = type.DeclaringSyntaxReferences.Select(reference => reference.SyntaxTree).ToList();
        foreach (var found in verdict.Diagnostics) context.ReportDiagnostic(found.ToDiagnostic(trees));

        // A declaration that is valid now but got a skeleton has values that exist only together with the generated code.
        if (verdict.Output is Output.Whole && trees.Any(Written.IsSkeleton))
            context.ReportDiagnostic(new DiagnosticInfo(MisuseDescriptors.ReadsItself, declaration.NameAt, type.Name).ToDiagnostic(trees));
    }
}

using System.Collections.Immutable;
using System.Reflection;
using MatFormer.Generators.Emission;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Validation;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Diagnostics;

namespace MatFormer.Generators.Analyzers;

/// <summary>Says what is wrong with a declared model, by the generator's own parser and validator.</summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class DeclarationAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } =
    [
        .. typeof(Descriptors).GetFields(BindingFlags.Public | BindingFlags.Static).Select(f => (DiagnosticDescriptor)f.GetValue(null)),
    ];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.Analyze | GeneratedCodeAnalysisFlags.ReportDiagnostics);
        context.RegisterCompilationStartAction(static start =>
        {
            var models = Names.ModelAttributes.SelectMany(name => start.Compilation.GetTypesByMetadataName(name)).ToImmutableArray();
            if (models.Length > 0) start.RegisterSymbolAction(context => Analyze(context, models), SymbolKind.NamedType);
        });
    }

    private static void Analyze(SymbolAnalysisContext context, ImmutableArray<INamedTypeSymbol> models)
    {
        // A class's attributes are those of all its parts: once for the class.
        var type = (INamedTypeSymbol)context.Symbol;
        if (PartOf(type, models, context.CancellationToken) is not { } part) return;
        var declaration = DeclarationParser.Parse(type, part, context.Compilation, scope: null, context.CancellationToken);
        foreach (var found in Validator.Check(declaration).Diagnostics)
            context.ReportDiagnostic(found.ToDiagnostic(type.DeclaringSyntaxReferences.Select(reference => reference.SyntaxTree)));
    }

    // The part of the class that bears the attribute of a model.
    private static TypeDeclarationSyntax? PartOf(
        INamedTypeSymbol type, ImmutableArray<INamedTypeSymbol> models, CancellationToken cancellation) => type.GetAttributes()
            .Where(attribute => models.Contains(attribute.AttributeClass!, SymbolEqualityComparer.Default))
            .Select(attribute => attribute.ApplicationSyntaxReference?.GetSyntax(cancellation).Parent?.Parent as TypeDeclarationSyntax)
            .FirstOrDefault(part => part is ClassDeclarationSyntax or RecordDeclarationSyntax);
}

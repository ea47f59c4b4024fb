using MatFormer.Generators.Emission;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Validation;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace MatFormer.Generators;

/// <summary>Writes the code of every class that declares a MatFormer in attributes.</summary>
[Generator(LanguageNames.CSharp)]
public sealed class MatFormerGenerator : IIncrementalGenerator
{
    /// <inheritdoc/>
    public void Initialize(IncrementalGeneratorInitializationContext context)
    {
        // What to emit and what to say part behind the validator: a class that moves has new places in its diagnostics, but no new code.
        var declarations = context.SyntaxProvider
            .ForAttributeWithMetadataName(
                Names.Of<MatLMAttribute>(),
                static (node, _) => node is ClassDeclarationSyntax or RecordDeclarationSyntax,
                DeclarationParser.Parse)
            .WithTrackingName(Steps.Declarations);
        var verdicts = declarations.Select(static (declaration, _) => Validator.Check(declaration)).WithTrackingName(Steps.Verdicts);

        var outputs = verdicts.Select(static (verdict, _) => verdict.Output).WithTrackingName(Steps.Outputs);
        context.RegisterSourceOutput(outputs, static (production, output) =>
        {
            if (output is null) return;
            foreach (var file in Emitter.Emit(output)) production.AddSource(file.HintName, file.Text);
        });

        var diagnostics = verdicts.SelectMany(static (verdict, _) => verdict.Diagnostics).WithTrackingName(Steps.Diagnostics);
        context.RegisterSourceOutput(diagnostics, static (production, found) => production.ReportDiagnostic(found.ToDiagnostic()));
    }

    /// <summary>Names of the pipeline's steps, for tests of what an edit runs anew.</summary>
    internal static class Steps
    {
        public const string Declarations = nameof(Declarations);
        public const string Verdicts = nameof(Verdicts);
        public const string Outputs = nameof(Outputs);
        public const string Diagnostics = nameof(Diagnostics);
    }
}

using MatFormer.Generators.Emission;
using MatFormer.Generators.Model;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Validation;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;

namespace MatFormer.Generators;

/// <summary>
/// Writes the code of every class that declares a MatFormer in attributes. <see cref="Analyzers.DeclarationAnalyzer"/> reports mistakes,
/// because editors offer code fixes only for the diagnostics of analyzers. Where analyzers are off, the generator reports mistakes itself.
/// </summary>
[Generator(LanguageNames.CSharp)]
public sealed class MatFormerGenerator : IIncrementalGenerator
{
    /// <inheritdoc/>
    public void Initialize(IncrementalGeneratorInitializationContext context)
    {
        var reports = context.AnalyzerConfigOptionsProvider.Select(static (options, _) => AnalyzersAreOff(options.GlobalOptions));

        // After the validator, code and diagnostics take separate ways. If a class moves, its diagnostics get new places, but its code is
        // not written again.
        var declarations = context.SyntaxProvider
            .CreateSyntaxProvider(static (node, _) => DeclarationReader.MayDeclare(node), DeclarationReader.Read)
            .SelectMany(static (declaration, _) => declaration is null ? default : new EquatableArray<Declaration>([declaration]))
            .WithTrackingName(Steps.Declarations);
        var verdicts = declarations.Select(static (declaration, _) => Validator.Check(declaration)).WithTrackingName(Steps.Verdicts);

        var outputs = verdicts.Select(static (verdict, _) => verdict.Output).WithTrackingName(Steps.Outputs);
        context.RegisterSourceOutput(outputs, static (production, output) =>
        {
            if (output is null) return;
            foreach (var file in Emitter.Emit(output)) production.AddSource(file.HintName, file.Text);
        });

        var isNeeded = outputs.Collect()
            .Select(static (all, _) => all.Any(static output => output is Output.Whole { Type.HasTensors: true }))
            .WithTrackingName(Steps.Library);
        context.RegisterSourceOutput(isNeeded, static (production, isNeeded) =>
        {
            if (isNeeded) production.AddSource(LibraryEmitter.HintName, LibraryEmitter.Text);
        });

        var diagnostics = verdicts.Combine(reports)
            .SelectMany(static (found, _) => found.Right ? found.Left.Diagnostics : default)
            .WithTrackingName(Steps.Diagnostics);
        context.RegisterSourceOutput(diagnostics, static (production, found) => production.ReportDiagnostic(found.ToDiagnostic()));
    }

    // Decides as the SDK does when it passes /skipanalyzers to the compiler, and as editors do when they run analyzers during typing.
    private static bool AnalyzersAreOff(AnalyzerConfigOptions options)
    {
        var duringThis = Property("DesignTimeBuild") == "true" ? "RunAnalyzersDuringLiveAnalysis" : "RunAnalyzersDuringBuild";
        return Property("RunAnalyzers") switch
        {
            "false" => true,
            "" => Property(duringThis) == "false" || Property("IsImplicitlyTriggeredBuild") == "true",
            _ => Property("IsImplicitlyTriggeredBuild") == "true",
        };

        string Property(string name) =>
            options.TryGetValue("build_property." + name, out var value) ? value.Trim().ToLowerInvariant() : "";
    }

    /// <summary>The names of the pipeline's steps. Tests use them to check which steps run again after an edit.</summary>
    internal static class Steps
    {
        public const string Declarations = nameof(Declarations);
        public const string Verdicts = nameof(Verdicts);
        public const string Outputs = nameof(Outputs);
        public const string Library = nameof(Library);
        public const string Diagnostics = nameof(Diagnostics);
    }
}

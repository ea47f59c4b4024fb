using System.Collections.Immutable;
using MatFormer.Generators.Analyzers;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Testing;

namespace MatFormer.Generators.Tests.Harness;

/// <summary>What a user's project has: the framework, MatFormer's libraries, TorchSharp, the analyzers and the generator.</summary>
/// <remarks>MatFormer.Dsl.CodeFixes.Tests compiles this file too.</remarks>
internal static class TestedProject
{
    /// <summary>The framework's reference assemblies. A restore brings this package (build/RoslynTesting.props).</summary>
    public static ReferenceAssemblies Framework { get; } = new(
        "net10.0", new PackageIdentity("Microsoft.NETCore.App.Ref", "10.0.12"), Path.Combine("ref", "net10.0"));

    /// <summary>The real runtime, TorchSharp, and what the members of the runtime mention. They lie beside the tests.</summary>
    public static ImmutableArray<MetadataReference> Libraries { get; } =
    [
        .. Directory.GetFiles(AppContext.BaseDirectory, "*.dll")
            .Where(path => IsLibrary(Path.GetFileNameWithoutExtension(path)))
            .Select(path => MetadataReference.CreateFromFile(path)),
    ];

    /// <summary>C# and its documentation comments as the newest compiler reads them.</summary>
    public static CSharpParseOptions ParseOptions { get; } =
        CSharpParseOptions.Default.WithLanguageVersion(LanguageVersion.Latest).WithDocumentationMode(DocumentationMode.Diagnose);

    /// <summary>The options of a library that checks for null. As in a build, it may reference older assemblies of the framework.</summary>
    public static CSharpCompilationOptions CompilationOptions { get; } = new(
        OutputKind.DynamicallyLinkedLibrary,
        nullableContextOptions: NullableContextOptions.Enable,
        specificDiagnosticOptions: [new("CS1701", ReportDiagnostic.Suppress), new("CS1702", ReportDiagnostic.Suppress)]);

    /// <summary>Every analyzer that the package holds.</summary>
    public static ImmutableArray<DiagnosticAnalyzer> Analyzers { get; } =
    [
        .. typeof(DeclarationAnalyzer).Assembly.GetTypes()
            .Where(type => type.IsSubclassOf(typeof(DiagnosticAnalyzer)) && !type.IsAbstract)
            .Select(type => (DiagnosticAnalyzer)Activator.CreateInstance(type)!),
    ];

    /// <summary>Every diagnostic that an analyzer may report, in the order of the ids.</summary>
    public static ImmutableArray<DiagnosticDescriptor> Descriptors { get; } =
    [
        .. Analyzers.SelectMany(analyzer => analyzer.SupportedDiagnostics).OrderBy(descriptor => descriptor.Id, StringComparer.Ordinal),
    ];

    /// <summary>The ids of the diagnostics that only advise.</summary>
    public static ImmutableArray<string> Hints { get; } =
        [.. Descriptors.Where(descriptor => descriptor.DefaultSeverity == DiagnosticSeverity.Info).Select(descriptor => descriptor.Id)];

    /// <summary>Gives a verifier's project the libraries and makes compiler warnings count.</summary>
    public static void SetUp(AnalyzerTest<DefaultVerifier> test)
    {
        test.ReferenceAssemblies = Framework;
        test.TestState.AdditionalReferences.AddRange(Libraries);
        test.CompilerDiagnostics = CompilerDiagnostics.Warnings;

        // No analyzer leaves out generated code, and a test says so where a diagnostic cannot be suppressed.
        test.TestBehaviors = TestBehaviors.SkipSuppressionCheck | TestBehaviors.SkipGeneratedCodeCheck;
    }

    /// <summary>Returns the project's code together with the generated code, and what the generator reports.</summary>
    public static async Task<(Compilation Compilation, ImmutableArray<Diagnostic> Diagnostics)> GenerateAsync(
        Project project, CancellationToken cancellation)
    {
        var driver = CSharpGeneratorDriver.Create(
            [new MatFormerGenerator().AsSourceGenerator()],
            parseOptions: (CSharpParseOptions)project.ParseOptions!,
            optionsProvider: project.AnalyzerOptions.AnalyzerConfigOptionsProvider);
        var declared = await project.GetCompilationAsync(cancellation);
        driver.RunGeneratorsAndUpdateCompilation(declared!, out var compilation, out var diagnostics, cancellation);
        return (compilation, diagnostics);
    }

    private static bool IsLibrary(string name) => name is "TorchSharp" or "Microsoft.Extensions.Logging.Abstractions"
        || (name.StartsWith("MatFormer.", StringComparison.Ordinal)
            && !name.StartsWith("MatFormer.Dsl.", StringComparison.Ordinal));
}

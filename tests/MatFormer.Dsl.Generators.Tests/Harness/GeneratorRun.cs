using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Diagnostics;

namespace MatFormer.Generators.Tests.Harness;

/// <summary>
/// The generator run on some source, for tests of the code that it writes, of what an edit makes it run again, and of whether its code
/// compiles with warnings as errors. <see cref="DiagnosticsOf"/> tests diagnostics.
/// </summary>
internal sealed class GeneratorRun
{
    private static readonly ImmutableArray<MetadataReference> s_references =
        [.. TestedProject.Framework.ResolveAsync(LanguageNames.CSharp, default).GetAwaiter().GetResult(), .. TestedProject.Libraries];

    private GeneratorRun(GeneratorDriver driver, CSharpCompilation compilation)
    {
        Driver = driver.RunGeneratorsAndUpdateCompilation(compilation, out var updated, out _);
        Result = Driver.GetRunResult();
        Compilation = updated;
    }

    public GeneratorDriver Driver { get; }

    public GeneratorDriverRunResult Result { get; }

    /// <summary>The user's and the generated code.</summary>
    public Compilation Compilation { get; }

    /// <summary>The generated texts by hint name.</summary>
    public IReadOnlyDictionary<string, string> Sources => Result.Results.SelectMany(r => r.GeneratedSources)
        .ToDictionary(s => s.HintName, s => s.SourceText.ToString(), StringComparer.Ordinal);

    /// <summary>What the generator reports.</summary>
    public ImmutableArray<Diagnostic> Diagnostics => Result.Diagnostics;

    public static GeneratorRun Of(params string[] sources) => Of(Compile(sources));

    /// <summary>Runs the generator. It reports the mistakes itself, unless the build runs analyzers too.</summary>
    public static GeneratorRun Of(CSharpCompilation compilation, bool analyzersRun = false)
    {
        var driver = CSharpGeneratorDriver.Create(
            [new MatFormerGenerator().AsSourceGenerator()],
            parseOptions: (CSharpParseOptions?)compilation.SyntaxTrees.FirstOrDefault()?.Options ?? TestedProject.ParseOptions,
            optionsProvider: new BuildProperties(analyzersRun),
            driverOptions: new GeneratorDriverOptions(IncrementalGeneratorOutputKind.None, trackIncrementalGeneratorSteps: true));
        return new GeneratorRun(driver, compilation);
    }

    /// <summary>Runs the same driver after an edit.</summary>
    public GeneratorRun Then(CSharpCompilation compilation) => new(Driver, compilation);

    /// <summary>The compilation of a project whose warnings are errors.</summary>
    public static CSharpCompilation Compile(params string[] sources) => CSharpCompilation.Create(
        "Declared",
        sources.Select((source, i) => Parse(source, $"Source{i}.cs")),
        s_references,
        TestedProject.CompilationOptions.WithGeneralDiagnosticOption(ReportDiagnostic.Error));

    public static SyntaxTree Parse(string source, string path = "Source0.cs") =>
        CSharpSyntaxTree.ParseText(source, TestedProject.ParseOptions, path);

    /// <summary>Fails if the user's and the generated code together have an error or a warning.</summary>
    public GeneratorRun AssertCompiles()
    {
        AssertNone(Compilation.GetDiagnostics());
        return this;
    }

    /// <summary>Fails if the generator reports a mistake, or if the code does not compile without a warning.</summary>
    public GeneratorRun AssertIsModel()
    {
        AssertNone(Diagnostics);
        return AssertCompiles();
    }

    /// <summary>Loads the compiled assembly.</summary>
    public Assembly Load()
    {
        AssertIsModel();
        using var image = new MemoryStream();
        var result = Compilation.Emit(image);
        Assert.True(result.Success, string.Join("\n", result.Diagnostics));
        return Assembly.Load(image.ToArray());
    }

    private static void AssertNone(IEnumerable<Diagnostic> diagnostics)
    {
        var found = diagnostics.Where(d => d.Severity >= DiagnosticSeverity.Warning).ToList();
        Assert.True(found.Count == 0, string.Join("\n", found.Take(20)));
    }

    // MSBuild hands the properties of the build over like this.
    private sealed class BuildProperties(bool analyzersRun) : AnalyzerConfigOptionsProvider
    {
        public override AnalyzerConfigOptions GlobalOptions { get; } = new Options(analyzersRun ? "true" : "false");

        public override AnalyzerConfigOptions GetOptions(SyntaxTree tree) => GlobalOptions;

        public override AnalyzerConfigOptions GetOptions(AdditionalText textFile) => GlobalOptions;

        private sealed class Options(string runAnalyzers) : AnalyzerConfigOptions
        {
            public override bool TryGetValue(string key, [NotNullWhen(true)] out string? value)
            {
                value = key == "build_property.RunAnalyzers" ? runAnalyzers : null;
                return value is not null;
            }
        }
    }
}

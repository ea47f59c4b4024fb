using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using MatFormer.Generators.Analyzers;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Diagnostics;

namespace MatFormer.Generators.Tests.Harness;

/// <summary>Generator and analyzers run on some source; the result compiled against the real runtime as a strict project would.</summary>
internal sealed class GeneratorRun
{
    /// <summary>The real runtime and all that it references.</summary>
    public static ImmutableArray<MetadataReference> References { get; } =
    [
        .. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!)
            .Split(Path.PathSeparator)
            .Select(path => MetadataReference.CreateFromFile(path)),
    ];

    private readonly Lazy<ImmutableArray<Diagnostic>> _analyzed;

    private readonly bool _analyzes;

    private GeneratorRun(GeneratorDriver driver, CSharpCompilation compilation, bool analyzes)
    {
        _analyzes = analyzes;
        _analyzed = new(() => analyzes ? Analyze() : []);
        Driver = driver.RunGeneratorsAndUpdateCompilation(compilation, out var updated, out _);
        Result = Driver.GetRunResult();
        Compilation = updated;
    }

    /// <summary>C# and its documentation comments as the newest compiler reads them.</summary>
    public static CSharpParseOptions ParseOptions { get; } =
        CSharpParseOptions.Default.WithLanguageVersion(LanguageVersion.Latest).WithDocumentationMode(DocumentationMode.Diagnose);

    public GeneratorDriver Driver { get; }

    public GeneratorDriverRunResult Result { get; }

    public Compilation Compilation { get; }

    /// <summary>Generated texts by hint name.</summary>
    public IReadOnlyDictionary<string, string> Sources => Result.Results.SelectMany(r => r.GeneratedSources)
        .ToDictionary(s => s.HintName, s => s.SourceText.ToString(), StringComparer.Ordinal);

    /// <summary>What the analyzers say, and the generator itself.</summary>
    public ImmutableArray<Diagnostic> Diagnostics => [.. Result.Diagnostics, .. AnalyzerDiagnostics];

    /// <summary>What the analyzers say; nothing if the build switches them off.</summary>
    public ImmutableArray<Diagnostic> AnalyzerDiagnostics => _analyzed.Value;

    /// <summary>What the compiler says of user's and generated code together: warnings and errors.</summary>
    public IReadOnlyList<Diagnostic> CompilerDiagnostics =>
        [.. Compilation.GetDiagnostics().Where(d => d.Severity >= DiagnosticSeverity.Warning)];

    public static GeneratorRun Of(params string[] sources) => Of(Compile(sources));

    /// <summary>A run in a build of the given properties, names and values.</summary>
    public static GeneratorRun Of(CSharpCompilation compilation, params (string Name, string Value)[] buildProperties)
    {
        var driver = CSharpGeneratorDriver.Create(
            [new MatFormerGenerator().AsSourceGenerator()],
            parseOptions: ParseOptions,
            optionsProvider: new BuildProperties(buildProperties),
            driverOptions: new GeneratorDriverOptions(IncrementalGeneratorOutputKind.None, trackIncrementalGeneratorSteps: true));
        return new GeneratorRun(driver, compilation, !buildProperties.Contains(("RunAnalyzers", "false")));
    }

    /// <summary>The same driver after an edit.</summary>
    public GeneratorRun Then(CSharpCompilation compilation) => new(Driver, compilation, _analyzes);

    public static CSharpCompilation Compile(params string[] sources) => CSharpCompilation.Create(
        "Declared",
        sources.Select((source, i) => Parse(source, $"Source{i}.cs")),
        References,
        new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, nullableContextOptions: NullableContextOptions.Enable));

    public static SyntaxTree Parse(string source, string path = "Source0.cs") => CSharpSyntaxTree.ParseText(source, ParseOptions, path);

    /// <summary>Fails if generator or compiler have anything to say but advice.</summary>
    public GeneratorRun AssertClean()
    {
        var all = Diagnostics.Where(d => d.Severity >= DiagnosticSeverity.Warning).Concat(CompilerDiagnostics).ToList();
        Assert.True(all.Count == 0, string.Join("\n", all.Take(20)));
        return this;
    }

    /// <summary>The compiled assembly, loaded.</summary>
    public Assembly Load()
    {
        AssertClean();
        using var image = new MemoryStream();
        var result = Compilation.Emit(image);
        Assert.True(result.Success, string.Join("\n", result.Diagnostics));
        return Assembly.Load(image.ToArray());
    }

    private ImmutableArray<Diagnostic> Analyze()
    {
        ImmutableArray<DiagnosticAnalyzer> analyzers =
        [
            .. typeof(DeclarationAnalyzer).Assembly.GetTypes()
                .Where(type => type.IsSubclassOf(typeof(DiagnosticAnalyzer)) && !type.IsAbstract)
                .Select(type => (DiagnosticAnalyzer)Activator.CreateInstance(type)!),
        ];
        return Compilation.WithAnalyzers(analyzers).GetAnalyzerDiagnosticsAsync().GetAwaiter().GetResult();
    }

    private sealed class BuildProperties((string Name, string Value)[] properties) : AnalyzerConfigOptionsProvider
    {
        public override AnalyzerConfigOptions GlobalOptions { get; } = new Options(
            properties.ToDictionary(p => "build_property." + p.Name, p => p.Value, AnalyzerConfigOptions.KeyComparer));

        public override AnalyzerConfigOptions GetOptions(SyntaxTree tree) => GlobalOptions;

        public override AnalyzerConfigOptions GetOptions(AdditionalText textFile) => GlobalOptions;

        private sealed class Options(Dictionary<string, string> values) : AnalyzerConfigOptions
        {
            public override bool TryGetValue(string key, [NotNullWhen(true)] out string? value) => values.TryGetValue(key, out value);
        }
    }
}

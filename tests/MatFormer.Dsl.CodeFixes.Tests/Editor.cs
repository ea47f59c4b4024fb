using System.Collections.Immutable;
using MatFormer.Generators;
using MatFormer.Generators.Analyzers;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeActions;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.CodeRefactorings;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.CodeFixes.Tests;

/// <summary>A project as an editor holds it: generator and analyzers run on its files, fixes and refactorings are offered.</summary>
internal sealed class Editor : IDisposable
{
    private static readonly ImmutableArray<MetadataReference> s_references =
    [
        .. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!)
            .Split(Path.PathSeparator)
            .Where(path => Path.GetFileName(path) is not ("MatFormer.Dsl.Generators.dll" or "MatFormer.Dsl.CodeFixes.dll"))
            .Select(path => MetadataReference.CreateFromFile(path)),
    ];

    private static readonly ImmutableArray<CodeFixProvider> s_fixes = InstancesOf<CodeFixProvider>(typeof(TextFix));

    private readonly AdhocWorkspace _workspace = new();

    public Editor(params string[] sources)
    {
        var options = new CSharpCompilationOptions(
            OutputKind.DynamicallyLinkedLibrary, nullableContextOptions: NullableContextOptions.Enable);
        var id = ProjectId.CreateNewId();
        var solution = _workspace.CurrentSolution
            .AddProject(ProjectInfo.Create(
                id,
                VersionStamp.Default,
                "Declared",
                "Declared",
                LanguageNames.CSharp,
                compilationOptions: options,
                parseOptions: new CSharpParseOptions(LanguageVersion.Latest),
                metadataReferences: s_references,
                analyzerReferences: [new Generator()]));
        for (var i = 0; i < sources.Length; i++)
        {
            var (name, text) = ($"Source{i}.cs", SourceText.From(sources[i]));
            solution = solution.AddDocument(DocumentId.CreateNewId(id), name, text, filePath: name);
        }

        Assert.True(_workspace.TryApplyChanges(solution));
    }

    /// <summary>The files' texts.</summary>
    public async Task<string[]> TextsAsync() =>
        [.. await Task.WhenAll(Documents.Select(async d => (await d.GetTextAsync()).ToString()))];

    private IEnumerable<Document> Documents =>
        _workspace.CurrentSolution.Projects.Single().Documents.OrderBy(d => d.Name, StringComparer.Ordinal);

    /// <summary>The squiggles; advice is none.</summary>
    public async Task<ImmutableArray<Diagnostic>> DiagnosticsAsync()
    {
        var compilation = await _workspace.CurrentSolution.Projects.Single().GetCompilationAsync();
        var found = await compilation!.WithAnalyzers(InstancesOf<DiagnosticAnalyzer>(typeof(DeclarationAnalyzer)))
            .GetAnalyzerDiagnosticsAsync();
        return [.. found.Where(d => d.Severity > DiagnosticSeverity.Info).OrderBy(d => d.Location.SourceTree!.FilePath).ThenBy(d => d.Location.SourceSpan)];
    }

    /// <summary>What the compiler says of user's and generated code together.</summary>
    public async Task<IEnumerable<Diagnostic>> CompilerErrorsAsync() =>
        (await _workspace.CurrentSolution.Projects.Single().GetCompilationAsync())!.GetDiagnostics()
            .Where(d => d.Severity == DiagnosticSeverity.Error);

    /// <summary>The fixes offered for a diagnostic, with their provider.</summary>
    public async Task<List<(CodeFixProvider Provider, CodeAction Action)>> FixesOfAsync(Diagnostic diagnostic)
    {
        var offered = new List<(CodeFixProvider, CodeAction)>();
        var document = _workspace.CurrentSolution.GetDocument(diagnostic.Location.SourceTree)!;
        foreach (var provider in s_fixes.Where(p => p.FixableDiagnosticIds.Contains(diagnostic.Id)))
        {
            await provider.RegisterCodeFixesAsync(
                new CodeFixContext(document, diagnostic, (action, _) => offered.Add((provider, action)), CancellationToken.None));
        }

        return offered;
    }

    /// <summary>The refactorings offered at a place of the first file.</summary>
    public async Task<List<CodeAction>> RefactoringsAsync(int position)
    {
        var offered = new List<CodeAction>();
        await new ProfileRefactoring().ComputeRefactoringsAsync(
            new CodeRefactoringContext(Documents.First(), new TextSpan(position, 0), offered.Add, CancellationToken.None));
        return offered;
    }

    /// <summary>Makes a change that was offered.</summary>
    public async Task ApplyAsync(CodeAction action)
    {
        var operations = await action.GetOperationsAsync(CancellationToken.None);
        Assert.IsType<ApplyChangesOperation>(Assert.Single(operations)).Apply(_workspace, CancellationToken.None);
    }

    /// <summary>Makes an offered change wherever in the project the same is offered.</summary>
    public async Task ApplyEverywhereAsync(CodeFixProvider provider, CodeAction action, string id)
    {
        var project = _workspace.CurrentSolution.Projects.Single();
        var found = new Found(await DiagnosticsAsync());
        var context = new FixAllContext(
            project, provider, FixAllScope.Project, action.EquivalenceKey, [id], found, CancellationToken.None);
        await ApplyAsync((await provider.GetFixAllProvider()!.GetFixAsync(context))!);
    }

    public void Dispose() => _workspace.Dispose();

    private static ImmutableArray<T> InstancesOf<T>(Type ofAssembly) =>
    [
        .. ofAssembly.Assembly.GetTypes()
            .Where(type => type.IsSubclassOf(typeof(T)) && !type.IsAbstract)
            .Select(type => (T)Activator.CreateInstance(type)!),
    ];

    private sealed class Generator : AnalyzerReference
    {
        private readonly ISourceGenerator _generator = new MatFormerGenerator().AsSourceGenerator();

        public override string? FullPath => null;

        public override object Id => nameof(MatFormerGenerator);

        public override ImmutableArray<DiagnosticAnalyzer> GetAnalyzers(string language) => [];

        public override ImmutableArray<DiagnosticAnalyzer> GetAnalyzersForAllLanguages() => [];

        public override ImmutableArray<ISourceGenerator> GetGenerators(string language) => [_generator];
    }

    private sealed class Found(ImmutableArray<Diagnostic> all) : FixAllContext.DiagnosticProvider
    {
        public override Task<IEnumerable<Diagnostic>> GetAllDiagnosticsAsync(Project project, CancellationToken cancellationToken) =>
            Task.FromResult<IEnumerable<Diagnostic>>(all);

        public override async Task<IEnumerable<Diagnostic>> GetDocumentDiagnosticsAsync(
            Document document, CancellationToken cancellationToken)
        {
            var tree = await document.GetSyntaxTreeAsync(cancellationToken);
            return all.Where(d => d.Location.SourceTree == tree);
        }

        public override Task<IEnumerable<Diagnostic>> GetProjectDiagnosticsAsync(Project project, CancellationToken cancellationToken) =>
            Task.FromResult<IEnumerable<Diagnostic>>([]);
    }
}

using System.Collections.Immutable;
using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeActions;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.CSharp.Testing;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Testing;

namespace MatFormer.CodeFixes.Tests;

/// <summary>Verifies what the code fixes offer for a diagnostic, and that the fixed project gives no diagnostic.</summary>
internal class FixOf : CSharpCodeFixTest<EmptyDiagnosticAnalyzer, EmptyCodeFixProvider, DefaultVerifier>
{
    protected const string Header = "#pragma warning disable CS1591\nusing MatFormer;\n";

    private static readonly ImmutableArray<CodeFixProvider> s_fixes =
    [
        .. typeof(TextFix).Assembly.GetTypes()
            .Where(type => type.IsSubclassOf(typeof(CodeFixProvider)) && !type.IsAbstract)
            .Select(type => (CodeFixProvider)Activator.CreateInstance(type)!),
    ];

    private string? _id;

    protected FixOf(string? title)
    {
        TestedProject.SetUp(this);
        DisabledDiagnostics.AddRange(TestedProject.Hints);
        if (title is not null) CodeActionVerifier = (action, verify) => verify.Equal(title, action.Title);
    }

    /// <summary>Verifies that one fix is offered for a diagnostic, and that it has this title and makes the marked changes.</summary>
    public static Task IsAsync(string id, string title, string source) => new FixOf(title)
    {
        CodeFixTestBehaviors = CodeFixTestBehaviors.FixOne | CodeFixTestBehaviors.SkipFixAllCheck,
    }.With(id, source).RunAsync();

    /// <summary>Verifies that the marked changes mend all files: one after the other, and all together by "fix all".</summary>
    public static Task EverywhereIsAsync(string id, params ReadOnlySpan<string> sources) =>
        new FixOf(title: null).With(id, sources).RunAsync();

    /// <summary>Verifies that no fix is offered for the diagnostics, whose places <c>{|MFD0016:128|}</c> marks.</summary>
    public static Task IsNotOfferedAsync(params ReadOnlySpan<string> sources)
    {
        var test = new FixOf(title: null);
        foreach (var source in sources)
        {
            test.TestState.Sources.Add(Header + source);
            test.FixedState.Sources.Add(Header + source);
        }

        return test.RunAsync();
    }

    protected override IEnumerable<DiagnosticAnalyzer> GetDiagnosticAnalyzers() => TestedProject.Analyzers;

    protected override IEnumerable<CodeFixProvider> GetCodeFixProviders() => s_fixes;

    protected override Diagnostic? TrySelectDiagnosticToFix(ImmutableArray<Diagnostic> fixableDiagnostics) =>
        fixableDiagnostics.FirstOrDefault(diagnostic => _id is null || diagnostic.Id == _id);

    protected override ImmutableArray<CodeAction> FilterCodeActions(ImmutableArray<CodeAction> actions)
    {
        Assert.True(actions.Length <= 1, "Several changes are offered: " + string.Join(", ", actions.Select(action => action.Title)));
        return actions;
    }

    protected override ParseOptions CreateParseOptions() => TestedProject.ParseOptions;

    protected override CompilationOptions CreateCompilationOptions() => TestedProject.CompilationOptions;

    protected override Task<(Compilation compilation, ImmutableArray<Diagnostic> generatorDiagnostics)> GetProjectCompilationAsync(
        Project project, IVerifier verifier, CancellationToken cancellationToken) =>
        TestedProject.GenerateAsync(project, cancellationToken);

    private FixOf With(string id, params ReadOnlySpan<string> sources)
    {
        _id = id;
        foreach (var source in sources)
        {
            var (before, after) = Marks.Split(Header + source, id);
            TestState.Sources.Add(before);
            FixedState.Sources.Add(after);

            // The analyzer reports MFD0002 for the model within the type, so Roslyn does not count the place as local to the type.
            if (source.Contains("{|MFD0002:", StringComparison.Ordinal))
                CodeFixTestBehaviors |= CodeFixTestBehaviors.SkipLocalDiagnosticCheck;
        }

        return this;
    }
}

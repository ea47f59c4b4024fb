using System.Collections.Immutable;
using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.CodeRefactorings;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Testing;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.CodeFixes.Tests;

/// <summary>Verifies what the refactoring offers at the cursor, and that the changed project gives no diagnostic.</summary>
/// <remarks>
/// The feed has no Microsoft.CodeAnalysis.CSharp.CodeRefactoring.Testing. So an analyzer reports the cursor, and the refactoring is the fix
/// of that diagnostic.
/// </remarks>
internal sealed class RefactoringOf : FixOf
{
    private const string Mark = "{|Cursor:|}";

    private readonly Cursor _cursor;

    private RefactoringOf(string? title, string before, string after)
        : base(title)
    {
        TestState.Sources.Add(before);
        FixedState.Sources.Add(after);
        FixedState.MarkupHandling = MarkupMode.Allow;
        TestFileMarkupParser.GetSpans(before, out _, out ImmutableDictionary<string, ImmutableArray<TextSpan>> marks);
        _cursor = new Cursor(marks["Cursor"].Single());

        // After the change the refactoring offers the way back, so it is applied once.
        CodeFixTestBehaviors = CodeFixTestBehaviors.FixOne | CodeFixTestBehaviors.SkipFixAllCheck;
    }

    /// <summary>Verifies that the only change has this title and is the marked one. The cursor is where it begins.</summary>
    public static Task IsAsync(string title, string source)
    {
        var (before, after) = Marks.Split((Header + source).Replace("[|", Mark + "[|", StringComparison.Ordinal));
        return new RefactoringOf(title, before, after).RunAsync();
    }

    /// <summary>Verifies that nothing is offered at the cursor, which <c>$$</c> marks.</summary>
    public static Task IsNotOfferedAsync(string source)
    {
        var marked = (Header + source).Replace("$$", Mark, StringComparison.Ordinal);
        return new RefactoringOf(title: null, marked, marked).RunAsync();
    }

    protected override IEnumerable<DiagnosticAnalyzer> GetDiagnosticAnalyzers() => [.. TestedProject.Analyzers, _cursor];

    protected override IEnumerable<CodeFixProvider> GetCodeFixProviders() => [new RefactoringAsFix()];

    // Nothing uses the models. Whole models take seconds to compile, and the analyzers need no generated code.
    protected override async Task<(Compilation compilation, ImmutableArray<Diagnostic> generatorDiagnostics)> GetProjectCompilationAsync(
        Project project, IVerifier verifier, CancellationToken cancellationToken) =>
        ((await project.GetCompilationAsync(cancellationToken))!, []);

    // No compiler loads this analyzer, and it is never released.
#pragma warning disable RS1001, RS2008
    private sealed class Cursor(TextSpan place) : DiagnosticAnalyzer
#pragma warning restore RS1001
    {
        public static readonly DiagnosticDescriptor Descriptor =
            new("Cursor", "Cursor", "Cursor", "Tests", DiagnosticSeverity.Hidden, isEnabledByDefault: true);
#pragma warning restore RS2008

        public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [Descriptor];

        public override void Initialize(AnalysisContext context)
        {
            context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
            context.EnableConcurrentExecution();
            context.RegisterSyntaxTreeAction(
                found => found.ReportDiagnostic(Diagnostic.Create(Descriptor, Location.Create(found.Tree, place))));
        }
    }

    private sealed class RefactoringAsFix : CodeFixProvider
    {
        public override ImmutableArray<string> FixableDiagnosticIds => [Cursor.Descriptor.Id];

        public override Task RegisterCodeFixesAsync(CodeFixContext context) => new ProfileRefactoring().ComputeRefactoringsAsync(
            new CodeRefactoringContext(
                context.Document, context.Span, action => context.RegisterCodeFix(action, context.Diagnostics), context.CancellationToken));
    }
}

using System.Collections.Immutable;
using System.Globalization;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp.Testing;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Testing;

namespace MatFormer.Generators.Tests.Harness;

/// <summary>Verifies what analyzers, generator and compiler report of a project. Whatever is not expected fails the test.</summary>
/// <remarks>
/// Sources mark the place of a diagnostic by <c>{|MFD0010:7|}</c>, or by <c>[|7|]</c> where <see cref="Id"/> says which diagnostic it is.
/// </remarks>
internal sealed class DiagnosticsOf : CSharpAnalyzerTest<EmptyDiagnosticAnalyzer, DefaultVerifier>
{
    public DiagnosticsOf(params ReadOnlySpan<string> sources)
    {
        TestedProject.SetUp(this);
        foreach (var source in sources) TestState.Sources.Add(source);
        DiagnosticVerifier = (diagnostic, _, verify) =>
        {
            if (Message is not null) verify.Equal(Message, diagnostic.GetMessage(CultureInfo.InvariantCulture));
            if (RunsAnalyzers) verify.True(diagnostic.Location.IsInSource, "Editors offer fixes in source files only.");
        };
    }

    /// <summary>The diagnostic that <c>[|</c> and <c>|]</c> mark.</summary>
    public string? Id { get; init; }

    /// <summary>The message of each diagnostic, if the test is about it.</summary>
    public string? Message { get; init; }

    /// <summary>True if diagnostics that only advise are allowed.</summary>
    public bool IgnoresHints
    {
        init
        {
            if (value) DisabledDiagnostics.AddRange(TestedProject.Hints);
        }
    }

    /// <summary>False if no analyzer runs. The generator learns from <see cref="Properties"/> that it has to report.</summary>
    public bool RunsAnalyzers { get; init; } = true;

    /// <summary>Properties of the build, such as <c>RunAnalyzers=false</c>.</summary>
    public IEnumerable<string> Properties
    {
        init => TestState.AnalyzerConfigFiles.Add((
            "/.globalconfig",
            string.Join('\n', value.Select(property => "build_property." + property).Prepend("is_global = true"))));
    }

    /// <summary>Verifies that nothing is reported except hints.</summary>
    public static Task AreNoneAsync(params ReadOnlySpan<string> sources) => new DiagnosticsOf(sources) { IgnoresHints = true }.RunAsync();

    /// <summary>Returns what analyzers, generator and compiler report, for tests of sources that mark no places.</summary>
    public static async Task<IReadOnlyList<Diagnostic>> FindAsync(string source)
    {
        var test = new DiagnosticsOf(source);
        var project = await test.CreateProjectAsync(new(test.TestState, test.ReferenceAssemblies), [], CancellationToken.None);
        var found = await test.GetSortedDiagnosticsAsync(
            project.Solution, TestedProject.Analyzers, [], CompilerDiagnostics.Warnings, Verify, CancellationToken.None);
        return [.. found.Select(pair => pair.diagnostic)];
    }

    protected override IEnumerable<DiagnosticAnalyzer> GetDiagnosticAnalyzers() => RunsAnalyzers ? TestedProject.Analyzers : [];

    protected override DiagnosticDescriptor? GetDefaultDiagnostic(DiagnosticAnalyzer[] analyzers) =>
        TestedProject.Descriptors.FirstOrDefault(descriptor => descriptor.Id == Id);

    protected override ParseOptions CreateParseOptions() => TestedProject.ParseOptions;

    protected override CompilationOptions CreateCompilationOptions() => TestedProject.CompilationOptions;

    protected override Task<(Compilation compilation, ImmutableArray<Diagnostic> generatorDiagnostics)> GetProjectCompilationAsync(
        Project project, IVerifier verifier, CancellationToken cancellationToken) =>
        TestedProject.GenerateAsync(project, cancellationToken);
}

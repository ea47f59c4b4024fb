using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using MatFormer.Generators.Analyzers;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Emission;
using MatFormer.Generators.Parsing;
using MatFormer.Generators.Tests.Harness;
using MatFormer.Generators.Validation;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Emit;

namespace MatFormer.Generators.Tests.Fuzzing;

/// <summary>
/// Random declarations by <see cref="Grammar"/> give diagnostics, or code that compiles without a warning, and never a crash. There are 200
/// declarations. <c>FUZZ=10000 dotnet test tests/MatFormer.Dsl.Generators.Tests --filter Fuzz --logger "console;verbosity=detailed"</c>
/// draws that many and prints how long the slowest took.
/// </summary>
public sealed partial class FuzzTests(ITestOutputHelper output)
{
    private const int Batch = 100;

    private static readonly int s_count =
        int.Parse(Environment.GetEnvironmentVariable("FUZZ") ?? "200", CultureInfo.InvariantCulture);

    // All tests read what one pass over the declarations finds.
    private static readonly Lazy<Findings> s_findings = new(Find);

    [Fact]
    public void TheGeneratorDoesNotCrash() => AssertNone(s_findings.Value.Crashes);

    [Fact]
    public void TheAnalyzerReportsWhatTheGeneratorReportsWhereAnalyzersAreOff() => AssertNone(s_findings.Value.Differences);

    [Fact]
    public void GeneratedCodeCompilesWithoutAWarning() => AssertNone(s_findings.Value.Warnings);

    [Fact]
    public void EachDeclarationThatTheCompilerAcceptsHasCodeOrASkeleton() => AssertNone(s_findings.Value.WithoutCode);

    [Fact]
    public void TheGrammarDrawsModelsAndMistakes()
    {
        var found = s_findings.Value;
        output.WriteLine(Invariant(
            $"{s_count} declarations: {found.Models} models, {found.Mistakes} with mistakes; the compiler refuses the others."));
        output.WriteLine(Invariant($"The slowest took {found.Slowest.TotalMilliseconds:F0} ms, seed {found.SlowestSeed}."));
        Assert.True(found.Models > s_count / 4, Invariant($"{found.Models} models of {s_count}"));
        Assert.True(found.Mistakes > s_count / 20, Invariant($"{found.Mistakes} mistakes of {s_count}"));
    }

    [Fact]
    public void TheGrammarWritesEveryArgumentAndProperty()
    {
        if (s_count >= 200) Assert.Empty(Writable().Except(s_findings.Value.Written));
    }

    [Fact]
    public void TheGrammarMakesEveryMistake()
    {
        // The grammar neither leaves references out nor reads generated code, and is compiled as the newest C#.
        var mistakes = new DeclarationAnalyzer().SupportedDiagnostics.Except(
            [Descriptors.NoRuntime, Descriptors.LanguageTooOld, MisuseDescriptors.ReadsItself]);
        if (s_count >= 10_000) Assert.Empty(mistakes.Select(d => d.Id).Except(s_findings.Value.Reported));
    }

    private static void AssertNone(List<string> failures) =>
        Assert.True(failures.Count == 0, Invariant($"{failures.Count} failures\n") + string.Join("\n\n", failures.Take(5)));

    private static Findings Find()
    {
        var findings = new Findings();
        for (var first = 0; first < s_count; first += Batch)
        {
            var seeds = Enumerable.Range(first, Math.Min(Batch, s_count - first)).ToDictionary(seed => seed, Grammar.Declare);

            // A warning of the declaration itself must not keep the rest from being compiled.
            var declared = GeneratorRun.Compile([.. seeds.Values]).WithOptions(TestedProject.CompilationOptions);
            var run = GeneratorRun.Of(declared);
            findings.Crashes.AddRange(run.Result.Results.Select(result => result.Exception?.ToString()).OfType<string>());
            findings.Differences.AddRange(Differences(run, declared));
            findings.Warnings.AddRange(Warnings(run, declared, seeds));
            foreach (var declaration in Declarations(run)) Check(declaration, declared, findings);
        }

        return findings;
    }

    private static void Check(Declaration declaration, CSharpCompilation declared, Findings findings)
    {
        var seed = Seed(declaration.Type.Namespace);
        var start = Stopwatch.GetTimestamp();
        var verdict = Validator.Check(declaration);
        if (verdict.Output is { } output && !Emitter.Emit(output).Any()) findings.WithoutCode.Add(Invariant($"Seed {seed} has no code."));
        var time = Stopwatch.GetElapsedTime(start);
        if (time > findings.Slowest) (findings.Slowest, findings.SlowestSeed) = (time, seed);
        findings.Reported.UnionWith(verdict.Diagnostics.Select(d => d.Descriptor.Id));
        if (verdict.Output is not Output.Whole { Spec.Type: var type })
        {
            findings.Mistakes++;
            return;
        }

        findings.Models++;
        if (declared.GetTypeByMetadataName(type.HintName) is { } model)
            findings.Written.UnionWith(model.GetAttributes().SelectMany(Written));
    }

    private static IEnumerable<string> Differences(GeneratorRun run, CSharpCompilation declared)
    {
        var analysis = declared.WithAnalyzers([new DeclarationAnalyzer()]);
        var analyzed = analysis.GetAnalyzerDiagnosticsAsync().GetAwaiter().GetResult().Select(d => d.ToString()).ToHashSet();
        var generated = run.Diagnostics.Select(d => d.ToString()).ToHashSet();
        return analyzed.Except(generated).Select(d => "Only the analyzer reports: " + d)
            .Concat(generated.Except(analyzed).Select(d => "Only the generator reports: " + d));
    }

    // Warnings count as errors, except those that the declaration has without the generated code.
    private static IEnumerable<string> Warnings(GeneratorRun run, CSharpCompilation declared, Dictionary<int, string> seeds)
    {
        // A declaration that the compiler refuses need not compile with generated code either.
        var before = declared.GetDiagnostics();
        var refused = before.Where(d => d.Severity == DiagnosticSeverity.Error).Select(d => Seed(d.Location)).ToHashSet();
        var known = before.Select(d => d.ToString()).ToHashSet();
        var sound = run.Compilation.RemoveSyntaxTrees(run.Compilation.SyntaxTrees.Where(tree => refused.Contains(Seed(tree))));

        // Some errors, such as a name that is too long, appear only when metadata is written.
        using var image = new MemoryStream();
        return
        [
            .. sound.GetDiagnostics()
                .Concat(sound.Emit(image, options: new EmitOptions(metadataOnly: true)).Diagnostics)
                .Where(d => d.Severity >= DiagnosticSeverity.Warning && !known.Contains(d.ToString()))
                .GroupBy(d => Seed(d.Location))
                .Select(found => Invariant($"Seed {found.Key} does not compile without a warning:\n")
                    + string.Join('\n', found.Take(5)) + "\n" + seeds.GetValueOrDefault(found.Key)),
        ];
    }

    private static IEnumerable<Declaration> Declarations(GeneratorRun run) =>
        run.Result.Results.Where(result => result.TrackedSteps.ContainsKey(MatFormerGenerator.Steps.Declarations))
            .SelectMany(result => result.TrackedSteps[MatFormerGenerator.Steps.Declarations])
            .SelectMany(step => step.Outputs)
            .Select(step => (Declaration)step.Value);

    // The arguments and properties, such as FeedForwardAttribute.width and FeedForwardAttribute.Layers.
    private static IEnumerable<string> Written(AttributeData attribute) => attribute.NamedArguments.Select(argument => argument.Key)
        .Concat(attribute.AttributeConstructor!.Parameters.Select(parameter => parameter.Name))
        .Select(name => attribute.AttributeClass!.Name + "." + name);

    private static IEnumerable<string> Writable() =>
        from type in typeof(MatLMAttribute).Assembly.GetTypes()
        where type.IsSubclassOf(typeof(Attribute)) && type.Namespace == typeof(MatLMAttribute).Namespace
        from name in type.GetProperties().Where(property => property.CanWrite).Select(property => property.Name)
            .Concat(type.GetConstructors().SelectMany(constructor => constructor.GetParameters()).Select(parameter => parameter.Name!))
        select type.Name + "." + name;

    private static int Seed(Location location) => location.SourceTree is { } tree ? Seed(tree) : -1;

    // The text of a user's file and the name of a generated file begin with the namespace. The file that all models share gives -1.
    private static int Seed(SyntaxTree tree) => Seed(
        Writing.Written.Is(tree) ? Path.GetFileName(tree.FilePath) : tree.GetText().Lines[2].ToString());

    private static int Seed(string name) => name == LibraryEmitter.HintName ? -1
        : int.Parse(SeedPattern().Match(name).Groups[1].Value, CultureInfo.InvariantCulture);

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    // What one pass over the declarations finds.
    private sealed class Findings
    {
        public List<string> Crashes { get; } = [];

        public List<string> Differences { get; } = [];

        public List<string> Warnings { get; } = [];

        public List<string> WithoutCode { get; } = [];

        public HashSet<string> Reported { get; } = [];

        public HashSet<string> Written { get; } = [];

        public int Models { get; set; }

        public int Mistakes { get; set; }

        public TimeSpan Slowest { get; set; }

        public int SlowestSeed { get; set; } = -1;
    }

    [GeneratedRegex(@"\bF(\d+)\b")]
    private static partial Regex SeedPattern();
}

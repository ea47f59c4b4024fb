using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Analyzers;
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
/// Random declarations, by <see cref="Grammar"/>: diagnostics or code that compiles without a warning, and never a crash. A few hundred by
/// default; <c>FUZZ=10000 dotnet test tests/MatFormer.Dsl.Generators.Tests --filter Fuzz --logger "console;verbosity=detailed"</c> runs
/// that many and says how long the slowest took.
/// </summary>
public sealed partial class FuzzTests(ITestOutputHelper output)
{
    private const int Batch = 100;

    [Fact]
    public void Any_declaration_gives_diagnostics_or_code_that_compiles()
    {
        var count = int.Parse(Environment.GetEnvironmentVariable("FUZZ") ?? "200", CultureInfo.InvariantCulture);
        int models = 0, refusals = 0;
        var (said, written) = (new HashSet<string>(), new HashSet<string>());
        var (slowest, slowestSeed) = (TimeSpan.Zero, -1);
        var failures = new List<string>();
        for (var first = 0; first < count; first += Batch)
        {
            var seeds = Enumerable.Range(first, Math.Min(Batch, count - first)).ToDictionary(seed => seed, Grammar.Declare);
            var declared = GeneratorRun.Compile([.. seeds.Values]);

            // What the compiler refuses anyway may not compile with generated code either; only a crash is wrong there.
            var errors = declared.GetDiagnostics().Where(d => d.Severity == DiagnosticSeverity.Error);
            var refused = errors.Select(d => Seed(d.Location)).ToHashSet();
            var run = GeneratorRun.Of(declared, ("RunAnalyzers", "false"));
            CheckDiagnostics(run, declared, failures);
            CheckCode(run, refused, seeds, failures);
            foreach (var declaration in Declarations(run))
            {
                var start = Stopwatch.GetTimestamp();
                var verdict = Validator.Check(declaration);
                if (verdict.Output is { } emitted) Assert.NotEmpty(Emitter.Emit(emitted).ToList());
                var time = Stopwatch.GetElapsedTime(start);
                if (time > slowest) (slowest, slowestSeed) = (time, Seed(declaration.Type.Namespace));
                said.UnionWith(verdict.Diagnostics.Select(d => d.Descriptor.Id));
                if (verdict.Output is Output.Whole) models++;
                else refusals++;
                if (verdict.Output is Output.Whole { Spec.Type: var type } && declared.GetTypeByMetadataName(type.HintName) is { } model)
                    written.UnionWith(model.GetAttributes().SelectMany(Written));
            }
        }

        output.WriteLine(Invariant($"{count} declarations: {models} models, {refusals} refused by us, the rest by the compiler."));
        output.WriteLine(Invariant($"The slowest took {slowest.TotalMilliseconds:F0} ms, seed {slowestSeed}."));
        Assert.True(failures.Count == 0, Invariant($"{failures.Count} failures\n") + string.Join("\n\n", failures.Take(5)));

        // Else nothing would be tested.
        Assert.True(models > count / 4 && refusals > count / 20, Invariant($"{models} models, {refusals} refusals of {count}"));
        if (count < 200) return;
        Assert.Empty(Writable().Except(written));
        if (count < 10_000) return;

        // A missing reference and code that reads what is generated are no mistakes of a declaration.
        var mistakes = new DeclarationAnalyzer().SupportedDiagnostics.Except([Descriptors.NoRuntime, MisuseDescriptors.ReadsItself]);
        Assert.Empty(mistakes.Select(d => d.Id).Except(said));
    }

    // The analyzer and, where analyzers are off, the generator: both say the same, and neither dies of it.
    private static void CheckDiagnostics(GeneratorRun run, CSharpCompilation declared, List<string> failures)
    {
        failures.AddRange(run.Result.Results.Select(result => result.Exception?.ToString()).OfType<string>());
        var analysis = declared.WithAnalyzers([new DeclarationAnalyzer()]);
        var analyzed = analysis.GetAnalyzerDiagnosticsAsync().GetAwaiter().GetResult().Select(d => d.ToString()).ToHashSet();
        var generated = run.Result.Diagnostics.Select(d => d.ToString()).ToHashSet();
        failures.AddRange(analyzed.Except(generated).Select(d => "Said by the analyzer only: " + d));
        failures.AddRange(generated.Except(analyzed).Select(d => "Said by the generator only: " + d));
    }

    private static void CheckCode(GeneratorRun run, HashSet<int> refused, Dictionary<int, string> seeds, List<string> failures)
    {
        // Some things, such as a name that is too long, only show when metadata is written.
        var sound = run.Compilation.RemoveSyntaxTrees(run.Compilation.SyntaxTrees.Where(tree => refused.Contains(Seed(tree))));
        using var image = new MemoryStream();
        var problems = sound.GetDiagnostics()
            .Concat(sound.Emit(image, options: new EmitOptions(metadataOnly: true)).Diagnostics)
            .Where(d => d.Severity >= DiagnosticSeverity.Warning);
        foreach (var group in problems.GroupBy(problem => Seed(problem.Location)))
        {
            var ours = group.Where(d => d.Severity == DiagnosticSeverity.Error || Writing.Written.Is(d.Location.SourceTree!));
            if (!ours.Any()) continue;
            var text = new StringBuilder(Invariant($"Seed {group.Key} does not compile:\n")).AppendJoin('\n', ours.Take(5));
            failures.Add(text.Append('\n').Append(seeds.GetValueOrDefault(group.Key)).ToString());
        }
    }

    private static IEnumerable<Declaration> Declarations(GeneratorRun run) =>
        run.Result.Results.Where(result => result.TrackedSteps.ContainsKey(MatFormerGenerator.Steps.Declarations))
            .SelectMany(result => result.TrackedSteps[MatFormerGenerator.Steps.Declarations])
            .SelectMany(step => step.Outputs)
            .Select(step => (Declaration)step.Value);

    // Arguments and properties, such as FeedForwardAttribute.width and FeedForwardAttribute.Layers.
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

    // Of the user's file, which begins with the namespace, or of a generated one, whose name does; -1 of what all models share.
    private static int Seed(SyntaxTree tree) => Seed(
        Writing.Written.Is(tree) ? Path.GetFileName(tree.FilePath) : tree.GetText().Lines[2].ToString());

    private static int Seed(string name) => name == LibraryEmitter.HintName ? -1
        : int.Parse(SeedPattern().Match(name).Groups[1].Value, CultureInfo.InvariantCulture);

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    [GeneratedRegex(@"\bF(\d+)\b")]
    private static partial Regex SeedPattern();
}

using System.Reflection;
using MatFormer.Generators.Tests.Fuzzing;
using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Tests;

/// <summary>Which steps of the generator run again after an edit.</summary>
public sealed class IncrementalTests
{
    private const BindingFlags All = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

    private const string Other = "/// <summary>Other.</summary>\npublic static class Other;";

    // The reasons that the steps declarations, verdicts and outputs give.
    private const string Kept = "Cached > Cached > Cached";
    private const string Moved = "Modified > Modified > Unchanged"; // The diagnostics have other places, and the code is the same.
    private const string Anew = "Modified > Modified > Modified";

    // With this budget Watch is the same model as S. A hint says so, and it moves with the declaration.
    private static readonly string s_docsLm = Cases.DocsLm.Replace("3_200_000", "3_000_000", StringComparison.Ordinal);

    /// <summary>Edits of a project with one model, and the reason that each step gives for each of its results.</summary>
    private static readonly Dictionary<string, (Func<CSharpCompilation, CSharpCompilation> Edit, string Reasons)> s_table = new()
    {
        ["nothing"] = (project => project, Kept),
        ["unrelated edit"] = (project => Edited(project, 1, "class Other;", "class Other { public static int Two() => 2; }"), Kept),
        ["unrelated type changed"] = (project => Edited(project, 1, "static", "sealed"), Kept),
        ["unrelated file added"] = (project => project.AddSyntaxTrees(GeneratorRun.Parse("class C;", "C.cs")), Kept),
        ["unrelated file removed"] = (project => project.RemoveSyntaxTrees(project.SyntaxTrees[1]), Kept),
        ["comment"] = (project => Edited(project, 0, "[MatLM", "// A comment.\n[MatLM"), Moved),
        ["comment at the end"] = (project => Edited(project, 0, "class DocsLm;", "class DocsLm; // A comment."), Kept),
        ["moved class"] = (project => Edited(project, 0, "/// <summary>", "\n\n\n/// <summary>"), Moved),
        ["member added"] = (project => Edited(project, 0, "DocsLm;", "DocsLm { public int Mine => 1; }"), Kept),
        ["changed attribute"] = (project => Edited(project, 0, "Width = 256", "Width = 512"), Anew),
        ["attribute made wrong"] = (project => Edited(project, 0, "Heads = 8", "Heads = 7"), Anew),
        ["renamed class"] = (project => Edited(project, 0, "class DocsLm", "class TextLm"), Anew),
        ["class moved to another file"] = (
            project => project.ReplaceSyntaxTree(project.SyntaxTrees[0], GeneratorRun.Parse(s_docsLm, "Moved.cs")), Moved),
        ["second model added"] = (
            project => project.AddSyntaxTrees(GeneratorRun.Parse(Cases.Grouped, "Grouped.cs")), "New+Cached > New+Cached > New+Cached"),
        ["model removed"] = (project => project.RemoveSyntaxTrees(project.SyntaxTrees[0]), "Removed > Removed > Removed"),
        ["reference added"] = (project => project.AddReferences(CSharpCompilation.Create("Library").ToMetadataReference()), Kept),
        ["option changed"] = (project => project.WithOptions(project.Options.WithOptimizationLevel(OptimizationLevel.Release)), Kept),
        ["symbol defined"] = (project => Reparsed(project, TestedProject.ParseOptions.WithPreprocessorSymbols("DEBUG")), Kept),
        ["language version"] = (
            project => Reparsed(project, TestedProject.ParseOptions.WithLanguageVersion(LanguageVersion.CSharp13)), Kept),
    };

    public static TheoryData<string> EditNames => [.. s_table.Keys];

    [Theory]
    [MemberData(nameof(EditNames))]
    public void StepsRunAgainAsTheTableSays(string name)
    {
        var (edit, reasons) = s_table[name];
        var first = GeneratorRun.Of(s_docsLm, Other);
        var second = first.Then(edit(Declared(first)));
        string[] steps = [MatFormerGenerator.Steps.Declarations, MatFormerGenerator.Steps.Verdicts, MatFormerGenerator.Steps.Outputs];
        Assert.Equal(reasons, string.Join(" > ", steps.Select(step => string.Join("+", Reasons(second, step).Order()))));
    }

    [Theory]
    [MemberData(nameof(EditNames))]
    public void AfterAnEditTheCodeIsWhatAFirstRunGives(string name)
    {
        var first = GeneratorRun.Of(s_docsLm, Other);
        var second = first.Then(s_table[name].Edit(Declared(first)));
        AssertSameCode(GeneratorRun.Of(Declared(second)), second);
    }

    /// <summary>A value of a step outlives its compilation, so it must not hold anything that keeps the compilation alive.</summary>
    [Fact]
    public void ValuesOfStepsHoldNothingOfRoslyn()
    {
        string[] steps =
        [
            MatFormerGenerator.Steps.Declarations, MatFormerGenerator.Steps.Verdicts, MatFormerGenerator.Steps.Outputs,
            MatFormerGenerator.Steps.Diagnostics,
        ];
        string[] sources = [s_docsLm, Cases.Mistaken, .. Enumerable.Range(0, 50).Select(Grammar.Declare)];
        var run = GeneratorRun.Of(sources);
        var values = run.Result.Results.Single().TrackedSteps.Where(step => steps.Contains(step.Key))
            .SelectMany(step => step.Value).SelectMany(step => step.Outputs).Select(output => output.Value)
            .ToList();
        Assert.True(values.Count > 100, $"Only {values.Count} values were found.");
        foreach (var value in values) Assert.Null(PathToRoslyn(value));
    }

    [Fact]
    public void TheSearchForRoslynFindsALocationInObjectsAndInDelegates()
    {
        var location = Location.Create("File.cs", default, default);
        Assert.EndsWith("Location", PathToRoslyn(new List<object> { new { Deep = new[] { location } } }), StringComparison.Ordinal);
        Assert.NotNull(PathToRoslyn(((Func<string>)location.ToString, 1)));
    }

    private const string Surrounded = """
        using MatFormer;

        [MatLM(Layers = Sizes.Layers, Width = 32, Heads = 2, Context = 16, Vocabulary = 256), FeedForward(64, Activation.SwiGlu)]
        [Granularity("S", 16), Granularity("XL", 64)]
        public sealed partial class Lm;
        """;

    /// <summary>The first step remembers what it read. It must notice a declaration that changes by an edit of another file.</summary>
    [Theory]
    [InlineData("class Sizes { public const int Layers = 2; }", "class Sizes { public const int Layers = 3; }")]
    [InlineData("class Sizes { public const int Layers = 2; }", "class Sizes { public static int Layers = 2; }")]
    [InlineData("enum Sizes { Layers = 2 }", "enum Sizes { Depth, Layers }")]
    [InlineData("class Sizes { public const int Layers = 2; }", "class Sizes { public const int Layers = 2; } partial class Lm { int S; }")]
    [InlineData(
        "class Sizes { public const int Layers = 2; }",
        "class Sizes { public const int Layers = 2; } [MatFormer.Profile(\"P\", \"S XL\")] partial class Lm;")]
    [InlineData("class Sizes { public const int Layers = 2; }", "class Sizes { public const int Layers = 2; } class Tensor;")]
    [InlineData(
        "class Sizes { public const int Layers = 2; }",
        "class Sizes { public const int Layers = 2; } class MatLMAttribute : System.Attribute { public int Layers, Width, Heads; }")]
    [InlineData(
        "global using Sizes = A; class A { public const int Layers = 2; }",
        "global using Sizes = B; class B { public const int Layers = 3; }")]
    [InlineData(
        "class Sizes : Base; class Base { public const int Layers = 2; }",
        "class Sizes : Base; class Base { public const int Layers = 4; }")]
    [InlineData(
        "class Sizes { public const int Layers = 2; }",
        "class Sizes { public const int Layers = 2; } partial class Lm : System.Exception;")]
    [InlineData(
        "class Sizes { public const int Layers = 2; } partial class Lm { static int Loss() => 1; }",
        "class Sizes { public const int Layers = 2; } partial class Lm { static int Loss => 1; }")]
    public void AnEditOfAnotherFileThatChangesADeclarationRunsTheStepsAgain(string other, string edited)
    {
        var first = GeneratorRun.Of(Surrounded, other);
        var second = Edit(first, 1, edited);
        Assert.DoesNotContain(IncrementalStepRunReason.Cached, Reasons(second, MatFormerGenerator.Steps.Declarations));
        AssertSameCode(GeneratorRun.Of(Surrounded, edited), second);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void AUsingDirectiveMayMakeAnAttributeDeclareAModel(int file)
    {
        var source = Surrounded
            .Replace("[MatLM(", "[MyModel(", StringComparison.Ordinal)
            .Replace("Sizes.Layers", "2", StringComparison.Ordinal);
        string[] files = [source, "class Other;"];
        var first = GeneratorRun.Of(files);
        Assert.Empty(first.Sources);
        var second = Edit(first, file, (file == 0 ? "using" : "global using") + " MyModel = MatFormer.MatLMAttribute;\n" + files[file]);
        Assert.Equal(8, second.Sources.Count);
    }

    [Theory]
    [InlineData("[MatLM", "// A comment.\n[MatLM", IncrementalStepRunReason.Modified)]
    [InlineData("/// <summary>", "\n\n\n/// <summary>", IncrementalStepRunReason.Modified)]
    [InlineData("[FeedForward(1024,", "[FeedForward(512 * 2,", IncrementalStepRunReason.Modified)]
    [InlineData("class DocsLm;", "class DocsLm { private readonly int _mine = 1; }", IncrementalStepRunReason.Cached)]
    public void AnEditThatLeavesTheDeclarationAsItWasEmitsNothingAgain(
        string old, string replacement, IncrementalStepRunReason declarations)
    {
        var first = GeneratorRun.Of(GeneratorRun.Compile(s_docsLm), analyzersRun: true);
        var second = Edit(first, 0, s_docsLm.Replace(old, replacement, StringComparison.Ordinal));
        Assert.Equal([declarations], Reasons(second, MatFormerGenerator.Steps.Declarations));
        // The hint that Watch is the same model as S has another place now. The output is the same.
        Assert.Equal(
            [declarations == IncrementalStepRunReason.Cached ? declarations : IncrementalStepRunReason.Unchanged],
            Reasons(second, MatFormerGenerator.Steps.Outputs));
        AssertNothingEmitted(second);
    }

    [Theory]
    [InlineData("Layers = 8, Width = 256", "Layers = 8, Width = 512")]
    [InlineData("\"4*S 4*M\"", "\"4*S 4*L\"")]
    [InlineData("SwiGlu", "GeGlu")]
    [InlineData("MaxParameters = 3_000_000", "MaxParameters = 3_000_001")]
    public void AChangedAttributeEmitsAgain(string old, string replacement)
    {
        var first = GeneratorRun.Of(s_docsLm);
        var second = Edit(first, 0, s_docsLm.Replace(old, replacement, StringComparison.Ordinal));
        Assert.Equal([IncrementalStepRunReason.Modified], Reasons(second, MatFormerGenerator.Steps.Outputs));
        Assert.NotEqual(first.Sources.Values, second.Sources.Values);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void AMovedMistakeEmitsNothingAgain(bool analyzersRun)
    {
        var first = GeneratorRun.Of(GeneratorRun.Compile(Cases.Mistaken), analyzersRun);
        var second = Edit(first, 0, "// First line.\n" + Cases.Mistaken);
        Assert.Equal([IncrementalStepRunReason.Unchanged], Reasons(second, MatFormerGenerator.Steps.Outputs));
    }

    [Fact]
    public void AMovedMistakeMovesItsDiagnostic()
    {
        var first = GeneratorRun.Of(Cases.Mistaken);
        var second = Edit(first, 0, "// First line.\n" + Cases.Mistaken);
        Assert.Equal([IncrementalStepRunReason.Modified], Reasons(second, MatFormerGenerator.Steps.Diagnostics));
        Assert.Equal(
            Assert.Single(first.Diagnostics).Location.GetLineSpan().StartLinePosition.Line + 1,
            Assert.Single(second.Diagnostics).Location.GetLineSpan().StartLinePosition.Line);
    }

    [Fact]
    public void AnEditOfOneModelEmitsThatModelAloneAgain()
    {
        var first = GeneratorRun.Of(s_docsLm, Cases.Grouped);
        var second = Edit(first, 1, Cases.Grouped.Replace("Context = 32", "Context = 33", StringComparison.Ordinal));
        Assert.Equal(
            [IncrementalStepRunReason.Modified, IncrementalStepRunReason.Cached],
            Reasons(second, MatFormerGenerator.Steps.Outputs).Order());
    }

    // The names of the fields that lead from a value to a part of a compilation, or null.
    private static string? PathToRoslyn(object? root)
    {
        var seen = new HashSet<object>(ReferenceEqualityComparer.Instance);
        return Search(root, "value");

        string? Search(object? value, string path)
        {
            if (value is null or string or Type or Pointer || value.GetType() is { IsPrimitive: true } or { IsEnum: true }) return null;
            if (value is ISymbol or SyntaxNode or SyntaxTree or SyntaxReference or Location
                or Compilation or SemanticModel or AttributeData)
            {
                return path + ": " + value.GetType().Name;
            }

            if (!value.GetType().IsValueType && !seen.Add(value)) return null;
            if (value is Array array)
                return array.Cast<object?>().Select(item => Search(item, path + "[]")).FirstOrDefault(found => found is not null);
            for (var type = value.GetType(); type is not null; type = type.BaseType)
            {
                foreach (var field in type.GetFields(All))
                    if (Search(field.GetValue(value), path + "." + field.Name) is { } found) return found;
            }

            return null;
        }
    }

    private static CSharpCompilation Declared(GeneratorRun run) =>
        (CSharpCompilation)run.Compilation.RemoveSyntaxTrees(run.Result.GeneratedTrees);

    private static CSharpCompilation Edited(CSharpCompilation project, int tree, string old, string replacement)
    {
        var text = project.SyntaxTrees[tree].ToString();
        Assert.Contains(old, text, StringComparison.Ordinal);
        var path = project.SyntaxTrees[tree].FilePath;
        return project.ReplaceSyntaxTree(
            project.SyntaxTrees[tree], GeneratorRun.Parse(text.Replace(old, replacement, StringComparison.Ordinal), path));
    }

    private static CSharpCompilation Reparsed(CSharpCompilation project, CSharpParseOptions options) => project
        .RemoveAllSyntaxTrees()
        .AddSyntaxTrees(project.SyntaxTrees.Select(tree => CSharpSyntaxTree.ParseText(tree.ToString(), options, tree.FilePath)));

    private static GeneratorRun Edit(GeneratorRun run, int tree, string source)
    {
        var declared = Declared(run);
        var old = declared.SyntaxTrees[tree];
        Assert.NotEqual(old.ToString(), source);
        return run.Then(declared.ReplaceSyntaxTree(old, GeneratorRun.Parse(source, old.FilePath)));
    }

    private static IEnumerable<IncrementalStepRunReason> Reasons(GeneratorRun run, string step) =>
        run.Result.Results.Single().TrackedSteps.GetValueOrDefault(step, []).SelectMany(s => s.Outputs).Select(output => output.Reason);

    private static void AssertSameCode(GeneratorRun expected, GeneratorRun actual) => Assert.Equal(
        expected.Sources.OrderBy(s => s.Key, StringComparer.Ordinal), actual.Sources.OrderBy(s => s.Key, StringComparer.Ordinal));

    private static void AssertNothingEmitted(GeneratorRun run) => Assert.All(
        run.Result.Results.Single().TrackedOutputSteps.SelectMany(step => step.Value).SelectMany(step => step.Outputs),
        output => Assert.True(output.Reason is IncrementalStepRunReason.Cached or IncrementalStepRunReason.Unchanged));
}

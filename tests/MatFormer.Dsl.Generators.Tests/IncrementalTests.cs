using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Tests;

/// <summary>What an edit runs anew.</summary>
public sealed class IncrementalTests
{
    private const string Other = "/// <summary>Other.</summary>\npublic static class Other;";

    [Fact]
    public void An_unrelated_edit_runs_nothing_anew()
    {
        var first = GeneratorRun.Of(Cases.DocsLm, Other);
        var second = Edit(first, 1, Other.Replace("static", "sealed", StringComparison.Ordinal));
        Assert.Equal([IncrementalStepRunReason.Unchanged], Reasons(second, MatFormerGenerator.Steps.Declarations));
        Assert.Equal([IncrementalStepRunReason.Cached], Reasons(second, MatFormerGenerator.Steps.Verdicts));
        Assert.Equal([IncrementalStepRunReason.Cached], Reasons(second, MatFormerGenerator.Steps.Outputs));
        AssertNothingEmitted(second);
    }

    [Theory]
    [InlineData("[MatLM", "// A comment.\n[MatLM", IncrementalStepRunReason.Modified)]
    [InlineData("/// <summary>", "\n\n\n/// <summary>", IncrementalStepRunReason.Modified)]
    [InlineData("[FeedForward(1024,", "[FeedForward(512 * 2,", IncrementalStepRunReason.Modified)]
    [InlineData("class DocsLm;", "class DocsLm { private readonly int _mine = 1; }", IncrementalStepRunReason.Unchanged)]
    public void Moving_the_class_or_writing_it_otherwise_emits_nothing_anew(
        string old, string replacement, IncrementalStepRunReason declarations)
    {
        var first = GeneratorRun.Of(Cases.DocsLm);
        var second = Edit(first, 0, Cases.DocsLm.Replace(old, replacement, StringComparison.Ordinal));
        Assert.Equal([declarations], Reasons(second, MatFormerGenerator.Steps.Declarations));
        Assert.Equal([IncrementalStepRunReason.Cached], Reasons(second, MatFormerGenerator.Steps.Outputs));
        AssertNothingEmitted(second);
    }

    [Theory]
    [InlineData("Layers = 8, Width = 256", "Layers = 8, Width = 512")]
    [InlineData("\"4*S 4*M\"", "\"4*S 4*L\"")]
    [InlineData("SwiGlu", "GeGlu")]
    [InlineData("MaxParameters = 3_000_000", "MaxParameters = 3_000_001")]
    public void A_changed_attribute_emits_anew(string old, string replacement)
    {
        var first = GeneratorRun.Of(Cases.DocsLm);
        var second = Edit(first, 0, Cases.DocsLm.Replace(old, replacement, StringComparison.Ordinal));
        Assert.Equal([IncrementalStepRunReason.Modified], Reasons(second, MatFormerGenerator.Steps.Outputs));
        Assert.NotEqual(first.Sources.Values, second.Sources.Values);
    }

    [Fact]
    public void A_moved_mistake_moves_its_diagnostic_and_emits_nothing_anew()
    {
        var first = GeneratorRun.Of(Cases.Mistaken);
        AssertMoves(first, Edit(first, 0, "// First line.\n" + Cases.Mistaken));
    }

    [Fact]
    public void So_it_does_where_the_generator_reports_it()
    {
        var first = GeneratorRun.Of(GeneratorRun.Compile(Cases.Mistaken), ("RunAnalyzers", "false"));
        var second = Edit(first, 0, "// First line.\n" + Cases.Mistaken);
        Assert.Equal([IncrementalStepRunReason.Modified], Reasons(second, MatFormerGenerator.Steps.Diagnostics));
        AssertMoves(first, second);
    }

    private static void AssertMoves(GeneratorRun first, GeneratorRun second)
    {
        Assert.Equal([IncrementalStepRunReason.Unchanged], Reasons(second, MatFormerGenerator.Steps.Outputs));
        Assert.Equal(
            Assert.Single(first.Diagnostics).Location.GetLineSpan().StartLinePosition.Line + 1,
            Assert.Single(second.Diagnostics).Location.GetLineSpan().StartLinePosition.Line);
    }

    [Fact]
    public void One_model_s_edit_leaves_the_other_alone()
    {
        var first = GeneratorRun.Of(Cases.DocsLm, Cases.Grouped);
        var second = Edit(first, 1, Cases.Grouped.Replace("Context = 32", "Context = 33", StringComparison.Ordinal));
        Assert.Equal(
            [IncrementalStepRunReason.Modified, IncrementalStepRunReason.Cached],
            Reasons(second, MatFormerGenerator.Steps.Outputs).Order());
    }

    private static GeneratorRun Edit(GeneratorRun run, int tree, string source)
    {
        var declared = (CSharpCompilation)run.Compilation.RemoveSyntaxTrees(run.Result.GeneratedTrees);
        var old = declared.SyntaxTrees[tree];
        Assert.NotEqual(old.ToString(), source);
        return run.Then(declared.ReplaceSyntaxTree(old, GeneratorRun.Parse(source, old.FilePath)));
    }

    private static IEnumerable<IncrementalStepRunReason> Reasons(GeneratorRun run, string step) =>
        run.Result.Results.Single().TrackedSteps[step].SelectMany(s => s.Outputs).Select(output => output.Reason);

    private static void AssertNothingEmitted(GeneratorRun run) => Assert.All(
        run.Result.Results.Single().TrackedOutputSteps.SelectMany(step => step.Value).SelectMany(step => step.Outputs),
        output => Assert.True(output.Reason is IncrementalStepRunReason.Cached or IncrementalStepRunReason.Unchanged));
}

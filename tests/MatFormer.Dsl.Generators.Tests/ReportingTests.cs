using System.Globalization;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Tests.Harness;
using MatFormer.Generators.Validation;
using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Tests;

/// <summary>A mistake is reported once: by the analyzer, or by the generator where analyzers are off.</summary>
public sealed class ReportingTests
{
    [Fact]
    public void The_analyzer_reports_in_the_source_file_where_editors_offer_fixes()
    {
        var run = GeneratorRun.Of(Cases.Mistaken);
        Assert.Empty(run.Result.Diagnostics);
        var diagnostic = Assert.Single(run.AnalyzerDiagnostics);
        Assert.Equal(LocationKind.SourceFile, diagnostic.Location.Kind);
        Assert.Equal("7", diagnostic.Location.SourceTree!.GetText().ToString(diagnostic.Location.SourceSpan));
    }

    [Theory]
    [InlineData("RunAnalyzers=false", true)]
    [InlineData("RunAnalyzers=False; DesignTimeBuild=true", true)]
    [InlineData("RunAnalyzers=; RunAnalyzersDuringBuild=false", true)]
    [InlineData("RunAnalyzersDuringBuild=false", true)]
    [InlineData("RunAnalyzers=true; RunAnalyzersDuringBuild=false", false)]
    [InlineData("RunAnalyzersDuringBuild=false; DesignTimeBuild=true", false)]
    [InlineData("RunAnalyzersDuringLiveAnalysis=false; DesignTimeBuild=true", true)]
    [InlineData("RunAnalyzersDuringLiveAnalysis=false", false)]
    [InlineData("IsImplicitlyTriggeredBuild=true", true)]
    [InlineData("RunAnalyzers=; RunAnalyzersDuringBuild=", false)]
    [InlineData("RunAnalyzers=true", false)]
    public void The_generator_reports_where_analyzers_are_off(string properties, bool reports)
    {
        var values = properties.Split("; ").Select(p => p.Split('=')).Select(p => (p[0], p[1])).ToArray();
        var run = GeneratorRun.Of(GeneratorRun.Compile(Cases.Mistaken), values);
        Assert.Equal(reports ? ["MFD0010"] : [], run.Result.Diagnostics.Select(d => d.Id));
    }

    [Fact]
    public void Generator_and_analyzer_say_the_same()
    {
        foreach (var row in DiagnosticTests.Mistakes)
        {
            var source = DiagnosticTests.Header + row.Data.Item2.Replace("[|", "", StringComparison.Ordinal)
                .Replace("|]", "", StringComparison.Ordinal);
            var analyzed = GeneratorRun.Of(source);
            var generated = GeneratorRun.Of(GeneratorRun.Compile(source), ("RunAnalyzers", "false"));
            Assert.Equal(Text(analyzed), Text(generated));
        }

        static IEnumerable<string> Text(GeneratorRun run) => run.Diagnostics
            .Select(d => d.GetMessage(CultureInfo.InvariantCulture) + d.Location.GetLineSpan())
            .Order(StringComparer.Ordinal);
    }

    [Fact]
    public void What_a_mistake_is_to_be_replaced_by_mends_it()
    {
        var replaced = 0;
        foreach (var row in DiagnosticTests.Mistakes)
        {
            var (source, _) = DiagnosticTests.Unmark(DiagnosticTests.Header + row.Data.Item2);
            foreach (var mistake in GeneratorRun.Of(source).Diagnostics)
            {
                if (!mistake.Properties.TryGetValue(DiagnosticInfo.ReplacementKey, out var text)) continue;
                var span = mistake.Location.SourceSpan;
                var mended = GeneratorRun.Of(source.Remove(span.Start, span.Length).Insert(span.Start, text!));
                Assert.DoesNotContain(mended.Diagnostics, d => d.Id == mistake.Id);
                Assert.Empty(mended.CompilerDiagnostics);
                replaced++;
            }
        }

        Assert.NotEqual(0, replaced);
    }

    [Fact]
    public void Attributes_on_several_parts_are_judged_once_each_in_its_file()
    {
        var run = GeneratorRun.Of(
            "using MatFormer; internal partial class Lm;",
            """
            using MatFormer;
            [MatLM(Layers = 2, Width = 12, Heads = 5, Context = 9, Vocabulary = 17), FeedForward(48, Activation.SwiGlu)]
            internal partial class Lm;
            """,
            "using MatFormer; [Granularity(\"S\", 6), Granularity(\"XL\", 48), Profile(\"P\", \"S L\")] internal partial class Lm;",
            "using MatFormer; [Granularity(\"XXL\", 64)] internal partial class Lm;");
        Assert.Equal(
            [("MFD0010", "Source1.cs"), ("MFD0015", "Source3.cs")],
            run.Diagnostics.Select(d => (d.Id, d.Location.SourceTree!.FilePath)).Order());
    }

    [Fact]
    public void A_mistake_cannot_be_hidden()
    {
        var run = GeneratorRun.Of("#pragma warning disable\n#pragma warning disable MFD0010\n" + Cases.Mistaken);
        Assert.Equal("MFD0010", Assert.Single(run.Diagnostics).Id);
        var descriptors = new Analyzers.DeclarationAnalyzer().SupportedDiagnostics;
        Assert.All(descriptors.Where(d => d.DefaultSeverity == DiagnosticSeverity.Error), d => Assert.Contains(WellKnownDiagnosticTags.NotConfigurable, d.CustomTags));
    }

    [Fact]
    public void The_skeleton_is_the_same_either_way()
    {
        var compilation = GeneratorRun.Compile(Cases.Mistaken);
        Assert.Equal(
            GeneratorRun.Of(compilation).Sources,
            GeneratorRun.Of(compilation, ("RunAnalyzers", "false")).Sources);
    }
}

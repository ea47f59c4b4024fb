using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Tests;

/// <summary>A mistake is reported once: by the analyzer, or by the generator where analyzers are off.</summary>
public sealed class ReportingTests
{
    private static readonly string s_marked = Cases.Mistaken.Replace("Heads = 7", "Heads = {|MFD0010:7|}", StringComparison.Ordinal);

    public static TheoryData<string, string, string> Mistakes => DiagnosticTests.Mistakes;

    [Theory]
    [InlineData("RunAnalyzers=false")]
    [InlineData("RunAnalyzers=False", "DesignTimeBuild=true")]
    [InlineData("RunAnalyzers=", "RunAnalyzersDuringBuild=false")]
    [InlineData("RunAnalyzersDuringBuild=false")]
    [InlineData("RunAnalyzersDuringLiveAnalysis=false", "DesignTimeBuild=true")]
    [InlineData("IsImplicitlyTriggeredBuild=true")]
    public Task The_generator_reports_a_mistake_where_analyzers_are_off(params string[] properties) =>
        new DiagnosticsOf(s_marked) { RunsAnalyzers = false, Properties = properties }.RunAsync();

    [Theory]
    [InlineData("RunAnalyzers=true", "RunAnalyzersDuringBuild=false")]
    [InlineData("RunAnalyzersDuringBuild=false", "DesignTimeBuild=true")]
    [InlineData("RunAnalyzersDuringLiveAnalysis=false")]
    [InlineData("RunAnalyzers=", "RunAnalyzersDuringBuild=")]
    [InlineData("RunAnalyzers=true")]
    public Task Only_the_analyzer_reports_a_mistake_where_analyzers_run(params string[] properties) =>
        new DiagnosticsOf(s_marked) { Properties = properties }.RunAsync();

    [Theory]
    [MemberData(nameof(Mistakes))]
    public Task The_generator_reports_what_the_analyzer_would(string id, string marked, string message) =>
        new DiagnosticsOf(DiagnosticTests.Header + marked)
        {
            Id = id,
            Message = message,
            RunsAnalyzers = false,
            Properties = ["RunAnalyzers=false"],
        }.RunAsync();

    [Fact]
    public Task A_mistake_in_one_of_several_parts_is_reported_in_its_file() => new DiagnosticsOf(
        "using MatFormer; internal partial class Lm;",
        """
        using MatFormer;
        [MatLM(Layers = 2, Width = 12, Heads = {|MFD0010:5|}, Context = 9, Vocabulary = 17), FeedForward(48, Activation.SwiGlu)]
        internal partial class Lm;
        """,
        "using MatFormer; [Granularity(\"S\", 6), Granularity(\"XL\", 48), Profile(\"P\", \"S L\")] internal partial class Lm;",
        "using MatFormer; [Granularity(\"XXL\", {|MFD0015:64|})] internal partial class Lm;").RunAsync();

    [Fact]
    public void No_configuration_turns_an_error_off() => Assert.All(
        TestedProject.Descriptors.Where(descriptor => descriptor.DefaultSeverity == DiagnosticSeverity.Error),
        descriptor => Assert.Contains(WellKnownDiagnosticTags.NotConfigurable, descriptor.CustomTags));

    [Fact]
    public void The_skeleton_is_the_same_whether_or_not_analyzers_run()
    {
        var compilation = GeneratorRun.Compile(Cases.Mistaken);
        Assert.Equal(GeneratorRun.Of(compilation, analyzersRun: true).Sources, GeneratorRun.Of(compilation).Sources);
    }
}

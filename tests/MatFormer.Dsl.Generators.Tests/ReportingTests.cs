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
    public Task TheGeneratorReportsAMistakeWhereAnalyzersAreOff(params string[] properties) =>
        new DiagnosticsOf(s_marked) { RunsAnalyzers = false, Properties = properties }.RunAsync();

    [Theory]
    [InlineData("RunAnalyzers=true", "RunAnalyzersDuringBuild=false")]
    [InlineData("RunAnalyzersDuringBuild=false", "DesignTimeBuild=true")]
    [InlineData("RunAnalyzersDuringLiveAnalysis=false")]
    [InlineData("RunAnalyzers=", "RunAnalyzersDuringBuild=")]
    [InlineData("RunAnalyzers=true")]
    public Task OnlyTheAnalyzerReportsAMistakeWhereAnalyzersRun(params string[] properties) =>
        new DiagnosticsOf(s_marked) { Properties = properties }.RunAsync();

    [Theory]
    [MemberData(nameof(Mistakes))]
    public Task TheGeneratorReportsWhatTheAnalyzerWould(string id, string marked, string message) =>
        new DiagnosticsOf(DiagnosticTests.Header + marked)
        {
            Id = id,
            Message = message,
            RunsAnalyzers = false,
            Properties = ["RunAnalyzers=false"],
        }.RunAsync();

    [Fact]
    public Task AMistakeInOneOfSeveralPartsIsReportedInItsFile() => new DiagnosticsOf(
        "using MatFormer; internal partial class Lm;",
        """
        using MatFormer;
        [MatLM(Layers = 2, Width = 12, Heads = {|MFD0010:5|}, Context = 9, Vocabulary = 17), FeedForward(48, Activation.SwiGlu)]
        internal partial class Lm;
        """,
        "using MatFormer; [Granularity(\"S\", 6), Granularity(\"XL\", 48), Profile(\"P\", \"S XXL\")] internal partial class Lm;",
        "using MatFormer; [Granularity(\"XXL\", {|MFD0015:64|})] internal partial class Lm;").RunAsync();

    [Fact]
    public void NoConfigurationTurnsAnErrorOff() => Assert.All(
        TestedProject.Descriptors.Where(descriptor => descriptor.DefaultSeverity == DiagnosticSeverity.Error),
        descriptor => Assert.Contains(WellKnownDiagnosticTags.NotConfigurable, descriptor.CustomTags));

    [Fact]
    public void TheSkeletonIsTheSameWhetherOrNotAnalyzersRun()
    {
        var compilation = GeneratorRun.Compile(Cases.Mistaken);
        Assert.Equal(GeneratorRun.Of(compilation, analyzersRun: true).Sources, GeneratorRun.Of(compilation).Sources);
    }
}

using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Tests;

/// <summary>A declaration with several mistakes shows them in one build.</summary>
public sealed class FirstRoundTests
{
    [Fact]
    public void MistakesOfUnlikeKindsAreReportedTogether() => AssertIds(
        """
        [MatLM(Layers = 4, Width = 64, Heads = 7, Context = 0, Vocabulary = 256)]
        [FeedForward(128, Activation.SwiGlu), Attention(KeyValueHeads = 2)]
        [Norm(NormKind.Rms, Epsilon = -1)]
        [Granularity("S", 32), Granularity("M", 16), Granularity("XL", 120)]
        [Profile("Phone", "3*S"), Profile("Watch", "4*N"), Profile("class", "4*S")]
        public sealed partial class Lm;
        """,
        "MFD0007", "MFD0008", "MFD0010", "MFD0011", "MFD0016", "MFD0019", "MFD0021", "MFD0026");

    [Fact]
    public void AClassThatIsNotPartialIsCheckedToo() => AssertIds(
        """
        [MatLM(Layers = 0, Width = 64, Heads = 4, Context = 16, Vocabulary = 256)]
        [FeedForward(128, Activation.SwiGlu)]
        [Granularity("S", 32), Granularity("XL", 128)]
        public sealed class Lm;
        """,
        "MFD0001", "MFD0007");

    [Fact]
    public void EachWrongGranularityIsReported() => AssertIds(
        """
        [MatLM(Layers = 4, Width = 64, Heads = 4, Context = 16, Vocabulary = 256)]
        [FeedForward(128, Activation.SwiGlu)]
        [Granularity("S", 0), Granularity("M", 300), Granularity("L", 0.3), Granularity("XL", 128)]
        public sealed partial class Lm;
        """,
        "MFD0007", "MFD0015", "MFD0018");

    private static void AssertIds(string declaration, params string[] ids)
    {
        var run = GeneratorRun.Of("using MatFormer;\n#pragma warning disable CS1591\n" + declaration);
        var found = run.Diagnostics.Where(d => d.Severity == DiagnosticSeverity.Error).OrderBy(d => d.Id, StringComparer.Ordinal).ToList();
        Assert.True(ids.SequenceEqual(found.Select(d => d.Id)), string.Join('\n', found));
    }
}

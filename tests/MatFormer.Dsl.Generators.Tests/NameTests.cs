using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace MatFormer.Generators.Tests;

/// <summary>Names that other names hide, files that other files hide, and versions of C#.</summary>
public sealed class NameTests
{
    /// <summary>The diagnostic of a version of C# that is too old.</summary>
    public const string LanguageId = "MFD0057";

    private const string Attributes = """
        [MatLM(Layers = 2, Width = 16, Heads = 2, Context = 8, Vocabulary = 32)]
        [FeedForward(32, Activation.SwiGlu)]
        [Granularity("S", 8), Granularity("XL", 32)]
        """;

    [Theory]
    [InlineData("namespace A { @ public sealed partial class Lm; @ public sealed partial class LM; }")]
    [InlineData("namespace A { @ public sealed partial class Lm; } namespace a { @ public sealed partial class Lm; }")]
    [InlineData("public static partial class A { @ public sealed partial class Lm; } public static partial class a { @ public sealed partial class Lm; }")]
    public void ModelsWhoseNamesDifferInCaseAreBothWritten(string declarations)
    {
        var run = GeneratorRun.Of(Declare(declarations)).AssertClean();
        var models = run.Sources.Keys.Where(name => name.EndsWith(".Spec.g.cs", StringComparison.Ordinal)).ToList();
        Assert.Equal(2, models.Distinct(StringComparer.OrdinalIgnoreCase).Count());
    }

    [Theory]
    [InlineData("System")]
    [InlineData("TorchSharp")]
    [InlineData("MatFormer")]
    public void AModelMayBeCalledAsANamespaceInANamespace(string name) =>
        GeneratorRun.Of(Declare($"namespace Models {{ @ public sealed partial class {name}; }}")).AssertClean();

    [Theory]
    [InlineData("@ public sealed partial class System;")]
    [InlineData("@ public sealed partial class TorchSharp;")]
    [InlineData("public static partial class System { @ public sealed partial class Lm; }")]
    public void AModelThatHidesANamespaceIsRefused(string declarations)
    {
        var run = GeneratorRun.Of(Declare(declarations));
        Assert.Contains("MFD0028", run.Diagnostics.Select(d => d.Id));
        Assert.Empty(run.Sources);
    }

    [Fact]
    public void GeneratedCodeCompilesAsCSharp13() => Assert.Empty(Compile(LanguageVersion.CSharp13).Compiler);

    [Fact]
    public void AnOlderLanguageIsRefused()
    {
        var (generator, _) = Compile(LanguageVersion.CSharp12);
        Assert.Contains(
            "needs C# 13.0 or later, but the project is compiled as C# 12.0",
            Assert.Single(generator, d => d.Id == LanguageId).GetMessage(System.Globalization.CultureInfo.InvariantCulture),
            StringComparison.Ordinal);
    }

    private static string Declare(string declarations) => "using MatFormer;\n#pragma warning disable CS8981, CS1591\n"
        + declarations.Replace("@", "\n" + Attributes + "\n", StringComparison.Ordinal);

    private static (IReadOnlyList<Diagnostic> Generator, IReadOnlyList<Diagnostic> Compiler) Compile(LanguageVersion version)
    {
        var options = GeneratorRun.ParseOptions.WithLanguageVersion(version);
        var source = Declare("@ public sealed partial class Lm { }");
        var compilation = GeneratorRun.Compile().AddSyntaxTrees(CSharpSyntaxTree.ParseText(source, options, "Source0.cs"));
        CSharpGeneratorDriver
            .Create([new MatFormerGenerator().AsSourceGenerator()], parseOptions: options, optionsProvider: new AnalyzersAreOff())
            .RunGeneratorsAndUpdateCompilation(compilation, out var updated, out var diagnostics);
        return (diagnostics, [.. updated.GetDiagnostics().Where(d => d.Severity >= DiagnosticSeverity.Warning)]);
    }

    // So that the generator reports mistakes itself.
    private sealed class AnalyzersAreOff : Microsoft.CodeAnalysis.Diagnostics.AnalyzerConfigOptionsProvider
    {
        public override Microsoft.CodeAnalysis.Diagnostics.AnalyzerConfigOptions GlobalOptions { get; } = new Options();

        public override Microsoft.CodeAnalysis.Diagnostics.AnalyzerConfigOptions GetOptions(SyntaxTree tree) => GlobalOptions;

        public override Microsoft.CodeAnalysis.Diagnostics.AnalyzerConfigOptions GetOptions(AdditionalText textFile) => GlobalOptions;

        private sealed class Options : Microsoft.CodeAnalysis.Diagnostics.AnalyzerConfigOptions
        {
            public override bool TryGetValue(string key, out string value) =>
                (value = key == "build_property.RunAnalyzers" ? "false" : "").Length > 0;
        }
    }
}

using MatFormer.Generators.Tests.Harness;
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
    [InlineData("public static partial class A { @ public sealed partial class Lm; } "
        + "public static partial class a { @ public sealed partial class Lm; }")]
    public void ModelsWhoseNamesDifferInCaseAreBothWritten(string declarations)
    {
        var run = GeneratorRun.Of(Declare(declarations)).AssertIsModel();
        var models = run.Sources.Keys.Where(name => name.EndsWith(".Spec.g.cs", StringComparison.Ordinal)).ToList();
        Assert.Equal(2, models.Distinct(StringComparer.OrdinalIgnoreCase).Count());
    }

    [Theory]
    [InlineData("System")]
    [InlineData("TorchSharp")]
    [InlineData("MatFormer")]
    public void AModelMayBeCalledAsANamespaceInANamespace(string name) =>
        GeneratorRun.Of(Declare($"namespace Models {{ @ public sealed partial class {name}; }}")).AssertIsModel();

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
    public void GeneratedCodeCompilesAsCSharp13() => Compile(LanguageVersion.CSharp13).AssertIsModel();

    [Fact]
    public void AnOlderLanguageIsRefused()
    {
        var mistake = Assert.Single(Compile(LanguageVersion.CSharp12).Diagnostics, d => d.Id == LanguageId);
        Assert.Contains(
            "needs C# 13.0 or later, but the project is compiled as C# 12.0",
            mistake.GetMessage(System.Globalization.CultureInfo.InvariantCulture),
            StringComparison.Ordinal);
    }

    private static string Declare(string declarations) => "using MatFormer;\n#pragma warning disable CS8981, CS1591\n"
        + declarations.Replace("@", "\n" + Attributes + "\n", StringComparison.Ordinal);

    private static GeneratorRun Compile(LanguageVersion version)
    {
        var options = TestedProject.ParseOptions.WithLanguageVersion(version);
        var source = CSharpSyntaxTree.ParseText(Declare("@ public sealed partial class Lm { }"), options, "Source0.cs");
        return GeneratorRun.Of(GeneratorRun.Compile().AddSyntaxTrees(source));
    }
}

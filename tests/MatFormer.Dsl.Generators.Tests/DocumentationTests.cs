using System.Text.RegularExpressions;
using MatFormer.Generators.Tests.Harness;

namespace MatFormer.Generators.Tests;

/// <summary>The declarations that the documentation shows.</summary>
public sealed partial class DocumentationTests
{
    [Theory]
    [InlineData("README.md", 1)]
    [InlineData("docs/declaring.md", 6)]
    [InlineData("docs/data.md", 1)]
    [InlineData("docs/import.md", 1)]
    public async Task DeclarationsOfTheDocumentationGiveNoDiagnostic(string page, int count)
    {
        var declarations = CSharpBlock().Matches(Repository.Read(page))
            .Select(block => block.Groups[1].Value)
            .Where(code => code.Contains("[MatLM(", StringComparison.Ordinal))
            .ToList();
        Assert.Equal(count, declarations.Count);
        foreach (var declaration in declarations) await DiagnosticsOf.AreNoneAsync(declaration);
    }

    [GeneratedRegex("^```csharp\n(.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex CSharpBlock();
}

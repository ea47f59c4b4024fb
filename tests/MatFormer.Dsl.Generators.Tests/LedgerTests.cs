using System.Globalization;
using System.Text.RegularExpressions;
using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;

namespace MatFormer.Generators.Tests;

/// <summary>
/// Every diagnostic has a line in a release file, a page and a test. In MatFormer.Dsl.CodeFixes.Tests every fix that a page describes has a
/// test.
/// </summary>
public sealed partial class LedgerTests
{
    private static readonly string s_pages = Path.Combine(Repository.Root, "docs", "diagnostics");

    private static IReadOnlyList<string> AllIds { get; } = [.. TestedProject.Descriptors.Select(descriptor => descriptor.Id)];

    /// <summary>The ids of all diagnostics whose mistake is in a source, not in the project file.</summary>
    public static TheoryData<string> PageIds => [.. AllIds.Except(IdsOfProjectFiles)];

    // These mistakes are in the project file, not in a source.
    private static IEnumerable<string> IdsOfProjectFiles =>
        [.. DiagnosticTests.MissingReferences.Select(row => row.Data.Item1), NameTests.LanguageId];

    /// <summary>The path of the page of a diagnostic.</summary>
    public static string PageOf(string id) => Path.Combine(s_pages, id + ".md");

    [Fact]
    public void IdsHaveNoGaps() => Assert.All(
        AllIds.GroupBy(id => id[..5]).ToList(),
        series => Assert.Equal(
            Enumerable.Range(1, series.Count()).Select(n => string.Create(CultureInfo.InvariantCulture, $"{series.Key}{n:00}")), series));

    [Fact]
    public void TheReleaseFilesListEachDiagnosticWithItsSeverityAndTitle()
    {
        var generator = Path.Combine(Repository.Root, "generators", "MatFormer.Dsl.Generators");
        var rows = new[] { "AnalyzerReleases.Shipped.md", "AnalyzerReleases.Unshipped.md" }
            .SelectMany(file => File.ReadAllLines(Path.Combine(generator, file)))
            .Where(line => line.StartsWith("MFD", StringComparison.Ordinal));
        Assert.Equal(TestedProject.Descriptors.Select(d => $"{d.Id} | {d.Category} | {d.DefaultSeverity} | {d.Title}"), rows);
    }

    [Fact]
    public void EachDiagnosticHasAPage() =>
        Assert.Equal(AllIds, Directory.GetFiles(s_pages, "MFD*.md").Select(Path.GetFileNameWithoutExtension).Order(StringComparer.Ordinal));

    [Fact]
    public void APageBeginsWithTheIdAndTheTitle() => Assert.All(
        TestedProject.Descriptors, d => Assert.StartsWith($"# {d.Id}: {d.Title}\n\n", Page(d.Id), StringComparison.Ordinal));

    [Fact]
    public void TheIndexListsEachDiagnostic()
    {
        var rows = File.ReadAllLines(Path.Combine(s_pages, "README.md")).Where(line => line.StartsWith("| [MFD", StringComparison.Ordinal));
        Assert.Equal(TestedProject.Descriptors.Select(d => $"| [{d.Id}]({d.Id}.md) | {d.Title} |"), rows);
    }

    [Fact]
    public void EachDiagnosticIsTestedInItsPlace()
    {
        (string Id, string Source)[] rows =
        [
            .. DiagnosticTests.Mistakes.Select(row => (row.Data.Item1, row.Data.Item2)),
            .. DiagnosticTests.MissingReferences.Select(row => (row.Data.Item1, row.Data.Item2)),
            .. MisuseTests.Misuses.Select(row => (row.Data.Item1, row.Data.Item2)),
            .. MisuseTests.SelfReading.Select(row => (row.Data.Item1, row.Data.Item2)),
        ];
        Assert.All(rows, row => Assert.Contains("[|", row.Source, StringComparison.Ordinal));
        Assert.Equal(AllIds, rows.Select(row => row.Id).Append(NameTests.LanguageId).Distinct().Order(StringComparer.Ordinal));
    }

    [Theory]
    [MemberData(nameof(PageIds))]
    public async Task TheWrongExampleOfAPageGivesItsDiagnosticAlone(string id) =>
        Assert.Equal([id], await IdsOfAsync("Wrong", id));

    [Theory]
    [MemberData(nameof(PageIds))]
    public async Task TheRightExampleOfAPageGivesNoDiagnostic(string id) => Assert.Empty(await IdsOfAsync("Right", id));

    // Examples may give hints, other than the one that the page is about.
    private static async Task<IEnumerable<string>> IdsOfAsync(string example, string id)
    {
        var block = Assert.Single(Examples().Matches(Page(id)), block => block.Groups[1].Value == example);
        var found = await DiagnosticsOf.FindAsync("#pragma warning disable CS1591\n" + block.Groups[2].Value);
        return found.Where(d => d.Severity >= DiagnosticSeverity.Warning || d.Id == id).Select(d => d.Id);
    }

    private static string Page(string id) => File.ReadAllText(PageOf(id)).ReplaceLineEndings("\n");

    [GeneratedRegex("## (Wrong|Right)\n\n```csharp\n(.*?)```\n", RegexOptions.Singleline)]
    private static partial Regex Examples();
}

using System.Globalization;
using System.Text.RegularExpressions;
using MatFormer.Generators.Diagnostics;
using MatFormer.Generators.Analyzers;
using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;

namespace MatFormer.Generators.Tests;

/// <summary>Holds diagnostics, pages, releases and tests together; MatFormer.Dsl.CodeFixes.Tests, the fixes that pages name.</summary>
public sealed partial class LedgerTests
{
    private static readonly string s_pages = Path.Combine(Repository.Root, "docs", "diagnostics");

    /// <summary>All that any analyzer may report.</summary>
    private static IReadOnlyList<DiagnosticDescriptor> Descriptors { get; } =
    [
        .. typeof(DeclarationAnalyzer).Assembly.GetTypes()
            .Where(type => type.IsSubclassOf(typeof(DiagnosticAnalyzer)) && !type.IsAbstract)
            .SelectMany(type => ((DiagnosticAnalyzer)Activator.CreateInstance(type)!).SupportedDiagnostics)
            .OrderBy(descriptor => descriptor.Id, StringComparer.Ordinal),
    ];

    private static IReadOnlyList<string> AllIds { get; } = [.. Descriptors.Select(descriptor => descriptor.Id)];

    /// <summary>But those whose mistake is in the project file, not in a source.</summary>
    public static TheoryData<string> PageIds => [.. AllIds.Except(DiagnosticTests.MissingReferences.Select(row => row.Data.Item1))];

    /// <summary>The page of a diagnostic.</summary>
    public static string PageOf(string id) => Path.Combine(s_pages, id + ".md");

    [Fact]
    public void Ids_run_on() => Assert.All(
        AllIds.GroupBy(id => id[..5]).ToList(),
        series => Assert.Equal(
            Enumerable.Range(1, series.Count()).Select(n => string.Create(CultureInfo.InvariantCulture, $"{series.Key}{n:00}")), series));

    [Fact]
    public void Each_is_in_the_release_file_with_its_severity_and_title()
    {
        var generator = Path.Combine(Repository.Root, "generators", "MatFormer.Dsl.Generators");
        var rows = new[] { "AnalyzerReleases.Shipped.md", "AnalyzerReleases.Unshipped.md" }
            .SelectMany(file => File.ReadAllLines(Path.Combine(generator, file)))
            .Where(line => line.StartsWith("MFD", StringComparison.Ordinal));
        Assert.Equal(Descriptors.Select(d => $"{d.Id} | {d.Category} | {d.DefaultSeverity} | {d.Title}"), rows);
    }

    [Fact]
    public void Each_is_in_the_index_and_has_a_page()
    {
        Assert.Equal(AllIds, Directory.GetFiles(s_pages, "MFD*.md").Select(Path.GetFileNameWithoutExtension).Order(StringComparer.Ordinal));
        var rows = File.ReadAllLines(Path.Combine(s_pages, "README.md")).Where(line => line.StartsWith("| [MFD", StringComparison.Ordinal));
        Assert.Equal(Descriptors.Select(d => $"| [{d.Id}]({d.Id}.md) | {d.Title} |"), rows);
        Assert.All(Descriptors, d => Assert.StartsWith($"# {d.Id}: {d.Title}\n\n", Page(d.Id), StringComparison.Ordinal));
    }

    [Fact]
    public void Each_is_tried_with_its_squiggle()
    {
        (string Id, string Source)[] rows =
        [
            .. DiagnosticTests.Mistakes.Select(row => (row.Data.Item1, row.Data.Item2)),
            .. DiagnosticTests.MissingReferences.Select(row => row.Data),
            .. MisuseTests.Misuses.Select(row => (row.Data.Item1, row.Data.Item2)),
            .. MisuseTests.SelfReading.Select(row => row.Data),
        ];
        Assert.All(rows, row => Assert.Contains("[|", row.Source, StringComparison.Ordinal));
        Assert.Equal(AllIds, rows.Select(row => row.Id).Distinct().Order(StringComparer.Ordinal));
    }

    [Theory]
    [MemberData(nameof(PageIds))]
    public void A_page_s_wrong_example_is_wrong_and_its_right_one_right(string id)
    {
        var blocks = Examples().Matches(Page(id));
        Assert.Equal(["Wrong", "Right"], blocks.Select(block => block.Groups[1].Value));

        // An example may earn advice on the side, that of its own id apart.
        var wrong = GeneratorRun.Of("#pragma warning disable CS1591\n" + blocks[0].Groups[2].Value).Diagnostics;
        Assert.Equal([id], wrong.Where(d => d.Severity >= DiagnosticSeverity.Warning || d.Id == id).Select(d => d.Id));
        var right = GeneratorRun.Of("#pragma warning disable CS1591\n" + blocks[1].Groups[2].Value).AssertClean();
        Assert.DoesNotContain(right.Diagnostics, d => d.Id == id);
    }

    private static string Page(string id) => File.ReadAllText(PageOf(id)).ReplaceLineEndings("\n");

    [GeneratedRegex("## (Wrong|Right)\n\n```csharp\n(.*?)```\n", RegexOptions.Singleline)]
    private static partial Regex Examples();
}

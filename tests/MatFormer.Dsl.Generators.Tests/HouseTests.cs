using System.Xml.Linq;
using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Text;

namespace MatFormer.Generators.Tests;

/// <summary>
/// References between the libraries go one way, the folders of a project do not depend on each other in circles, and lines are short.
/// </summary>
public sealed class HouseTests
{
    private static readonly string s_sources = Path.Combine(Repository.Root, "src");

    // Which of our projects each project references directly.
    private static readonly Dictionary<string, string> s_arrows = new(StringComparer.Ordinal)
    {
        ["MatFormer"] = "MatFormer.CommandLine",
        ["MatFormer.CommandLine"] = "MatFormer.Evaluation",
        ["MatFormer.Data"] = "",
        ["MatFormer.Distributed"] = "MatFormer.Training",
        ["MatFormer.Dsl"] = "",
        ["MatFormer.Evaluation"] = "MatFormer.Retrieval MatFormer.Training",
        ["MatFormer.Extensions.AI"] = "MatFormer.Retrieval",
        ["MatFormer.Extensions.Images"] = "MatFormer.Data",
        ["MatFormer.Extensions.Parquet"] = "MatFormer.Data",
        ["MatFormer.Extensions.Sqlite"] = "MatFormer.Retrieval",
        ["MatFormer.Inference"] = "MatFormer.Data MatFormer.Dsl",
        ["MatFormer.Interop"] = "MatFormer.Runtime",
        ["MatFormer.Retrieval"] = "MatFormer.Runtime",
        ["MatFormer.Runtime"] = "MatFormer.Inference",
        ["MatFormer.Training"] = "MatFormer.Interop",
        ["MatFormer.Server"] = "MatFormer.CommandLine MatFormer.Extensions.AI",
    };

    // The only project that references a library directly.
    private static readonly Dictionary<string, string> s_libraries = new(StringComparer.Ordinal)
    {
        ["TorchSharp"] = "MatFormer.Runtime",
        ["Spectre.Console"] = "MatFormer.CommandLine",
        ["System.CommandLine"] = "MatFormer.CommandLine",
        ["Parquet.Net"] = "MatFormer.Extensions.Parquet",
        ["SkiaSharp"] = "MatFormer.Extensions.Images",
    };

    // Everything that the tests reference, which is everything that the libraries do.
    private static readonly MetadataReference[] s_references =
    [
        .. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!)
            .Split(Path.PathSeparator)
            .Select(path => MetadataReference.CreateFromFile(path)),
    ];

    private const string Generators = "MatFormer.Dsl.Generators";

    private const int MaxColumns = 140;

    public static TheoryData<string> Projects => [.. Names];

    public static TheoryData<string> ProjectsAndGenerators => [.. Names, Generators];

    private static IEnumerable<string> Names => Directory.GetDirectories(s_sources).Select(folder => Path.GetFileName(folder)!);

    [Theory]
    [MemberData(nameof(Projects))]
    public void AProjectReferencesOnlyWhatTheTableSays(string project)
    {
        var text = XDocument.Load(Path.Combine(s_sources, project, project + ".csproj"));
        var ours = text.Descendants("ProjectReference")
            .Select(reference => Path.GetFileNameWithoutExtension(reference.Attribute("Include")!.Value.Replace('\\', '/')))
            .Where(name => name != "*"); // the generators, which the package of the attributes holds
        Assert.Equal(s_arrows[project], string.Join(' ', ours.Order(StringComparer.Ordinal)));
        var packages = text.Descendants("PackageReference").Select(reference => reference.Attribute("Include")!.Value).ToList();
        foreach (var (library, user) in s_libraries) Assert.Equal(user == project, packages.Contains(library));
    }

    [Theory]
    [MemberData(nameof(ProjectsAndGenerators))]
    public void FoldersDoNotDependOnEachOtherInCircles(string project)
    {
        var arrows = Arrows(Path.Combine(project == Generators ? Path.Combine(Repository.Root, "generators") : s_sources, project));

        // The other projects have one folder, or several that do not use each other.
        var hasArrows = project is Generators or "MatFormer.CommandLine" or "MatFormer.Data" or "MatFormer.Evaluation"
            or "MatFormer.Inference" or "MatFormer.Runtime";
        Assert.Equal(hasArrows, arrows.Count > 0);
        foreach (var (from, to, example) in arrows)
        {
            var back = PathBetween(arrows, to, from);
            Assert.True(back is null, $"{project}: {example}; and back again: {back}");
        }
    }

    [Theory]
    [InlineData("src")]
    [InlineData("generators")]
    [InlineData("tests")]
    [InlineData("examples")]
    [InlineData("templates")]
    public void LinesHaveAtMost140Columns(string folder)
    {
        var files = Directory.GetFiles(Path.Combine(Repository.Root, folder), "*.cs", SearchOption.AllDirectories)
            .Select(file => Path.GetRelativePath(Repository.Root, file))
            .Where(file => !file.Split('/', '\\').Any(part => part is "bin" or "obj" or "Baselines"))
            .Order(StringComparer.Ordinal)
            .ToList();
        Assert.NotEmpty(files);
        var tooLong = files
            .SelectMany(file => LongLines(File.ReadAllText(Path.Combine(Repository.Root, file))).Select(line => $"{file}:{line}"))
            .ToList();
        Assert.True(tooLong.Count == 0, $"Break these lines of more than {MaxColumns} columns:\n{string.Join('\n', tooLong)}");
    }

    [Theory]
    [InlineData("""Call("@", second);""", true)]
    [InlineData("""Call(first, "some text @");""", true)]
    [InlineData("""    "@";""", false)]
    [InlineData("""    + "@";""", false)]
    [InlineData("""    "some text @";""", true)]
    [InlineData("""    "text" + Call(@);""", true)]
    [InlineData("    // @\n    \"text\";", true)]
    public void OnlyAStringWithoutSpacesMayBeLonger(string line, bool isTooLong)
    {
        var text = line.Replace("@", new string('x', MaxColumns), StringComparison.Ordinal);
        Assert.Equal(isTooLong, LongLines("var text =\n" + text).Count > 0);
        Assert.Empty(LongLines($"var text = \"\"\"\n    {text}\n    \"\"\";"));
    }

    // Returns the numbers of the lines that are too long and can be broken.
    private static List<int> LongLines(string text)
    {
        var tooLong = SourceText.From(text).Lines.Where(line => line.Span.Length > MaxColumns).ToList();
        if (tooLong.Count == 0) return [];
        var root = GeneratorRun.Parse(text).GetRoot();
        return [.. tooLong.Where(line => CanBeBroken(root, line)).Select(line => line.LineNumber + 1)];
    }

    // A line within a string of several lines cannot be broken, nor can a string without spaces that begins its line.
    private static bool CanBeBroken(SyntaxNode root, TextLine line) => !root.DescendantNodes(line.Span)
        .Where(node => node.IsKind(SyntaxKind.StringLiteralExpression) || node.IsKind(SyntaxKind.InterpolatedStringExpression))
        .Where(node => node.Span.OverlapsWith(line.Span))
        .Any(node => node.SpanStart < line.Start
            ? node.Span.End > line.End
            : node.Span.End > line.Start + MaxColumns
                && line.ToString()[..(node.SpanStart - line.Start)].Trim(' ', '+').Length == 0
                && !node.ToString().Contains(' ', StringComparison.Ordinal));

    // Which folder uses a type of which other folder. "" is the project's folder, and folders within a folder count as that folder.
    private static List<(string From, string To, string Example)> Arrows(string project)
    {
        var files = Directory.GetFiles(project, "*.cs", SearchOption.AllDirectories)
            .Where(file => FolderOf(file) is not ("bin" or "obj"))
            .Select(file => GeneratorRun.Parse(File.ReadAllText(file), file))
            .Append(GeneratorRun.Parse(Usings(project), string.Empty))
            .ToList();
        var compilation = CSharpCompilation.Create(
            Path.GetFileName(project),
            files,
            s_references,
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, allowUnsafe: true));
        var found = new Dictionary<(string, string), string>();
        foreach (var file in files.Where(file => file.FilePath.Length > 0))
        {
            var model = compilation.GetSemanticModel(file);
            foreach (var name in file.GetRoot().DescendantNodes().OfType<SimpleNameSyntax>())
            {
                var symbol = model.GetSymbolInfo(name).Symbol;
                if (((symbol as ITypeSymbol) ?? symbol?.ContainingType)?.OriginalDefinition is not { } type) continue;
                while (type.ContainingType is { } outer) type = outer;
                if (!SymbolEqualityComparer.Default.Equals(type.ContainingAssembly, compilation.Assembly)) continue;
                var (from, to) = (FolderOf(file.FilePath), FolderOf(type.DeclaringSyntaxReferences[0].SyntaxTree.FilePath));
                if (from != to) found.TryAdd((from, to), $"{Path.GetRelativePath(project, file.FilePath)} uses {type.Name} of {to}");
            }
        }

        return [.. found.Select(arrow => (arrow.Key.Item1, arrow.Key.Item2, arrow.Value))];

        string FolderOf(string file) => Path.GetRelativePath(project, file).Split('/', '\\') is [var folder, _, ..] ? folder : string.Empty;
    }

    // The SDK adds global usings.
    private static string Usings(string project) => string.Join('\n', Directory
        .GetFiles(Path.Combine(project, "obj", Configuration), "*.GlobalUsings.g.cs", SearchOption.AllDirectories)
        .Select(File.ReadAllText).Take(1));

    private static string Configuration => new DirectoryInfo(AppContext.BaseDirectory).Parent!.Name;

    private static string? PathBetween(List<(string From, string To, string Example)> arrows, string from, string to)
    {
        var reached = new Dictionary<string, string> { [from] = string.Empty };
        var next = new Queue<string>([from]);
        while (next.TryDequeue(out var here))
        {
            foreach (var (_, there, example) in arrows.Where(arrow => arrow.From == here))
            {
                if (!reached.TryAdd(there, $"{reached[here]}{(reached[here].Length > 0 ? ", " : string.Empty)}{example}")) continue;
                next.Enqueue(there);
            }
        }

        return reached.GetValueOrDefault(to);
    }
}

using System.Xml.Linq;
using MatFormer.Generators.Tests.Harness;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace MatFormer.Generators.Tests;

/// <summary>References between the libraries go one way, and the folders of a project do not depend on each other in circles.</summary>
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

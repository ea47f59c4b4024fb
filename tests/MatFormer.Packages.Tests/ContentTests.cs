using System.Runtime.InteropServices;
using System.Text;
using System.Xml.Linq;

namespace MatFormer.Packages.Tests;

/// <summary>What lies in each package, and what it says of itself.</summary>
[Collection(nameof(PackedFolder))]
public sealed class ContentTests(PackedFolder packed)
{
    private static readonly string[] s_assemblies = ["MatFormer.Dsl", "MatFormer.Extensions.AI", "MatFormer.Extensions.Sqlite", "MatFormer.Runtime", "MatFormer.Server"];

    private static readonly string[] s_all = [.. s_assemblies, "MatFormer.Templates"];

    [Fact]
    public void AllPackagesAndTheirSymbolsAreThere() =>
        Assert.Equal(
            s_all.Select(p => $"{p}.{packed.Version}.nupkg").Concat(s_assemblies.Select(p => $"{p}.{packed.Version}.snupkg")).Order(StringComparer.Ordinal),
            Directory.GetFiles(packed.Packages).Select(Path.GetFileName).Order(StringComparer.Ordinal));

    [Fact]
    public void DslHoldsAttributesAnalyzersAndFixes() => HasFiles(
        "MatFormer.Dsl",
        "analyzers/dotnet/cs/MatFormer.Dsl.CodeFixes.dll",
        "analyzers/dotnet/cs/MatFormer.Dsl.Generators.dll",
        "buildTransitive/MatFormer.Dsl.props",
        "lib/netstandard2.0/MatFormer.Dsl.dll",
        "lib/netstandard2.0/MatFormer.Dsl.xml");

    [Fact]
    public void RuntimeHoldsItselfAndItsKernels()
    {
        // Those of other systems are there where the cross compilers are installed.
        string[] others = ["runtimes/linux-arm64/native/libmatformer_cpu.so", "runtimes/win-x64/native/matformer_cpu.dll"];
        var files = packed.Read("MatFormer.Runtime");
        HasFiles(
            "MatFormer.Runtime",
            [
                "lib/net10.0/MatFormer.Runtime.dll",
                "lib/net10.0/MatFormer.Runtime.xml",
                $"runtimes/{(RuntimeInformation.OSArchitecture == Architecture.X64 ? "linux-x64" : "linux-arm64")}/native/libmatformer_cpu.so",
                .. others.Where(files.ContainsKey),
            ]);
    }

    [Theory]
    [InlineData("MatFormer.Extensions.AI")]
    [InlineData("MatFormer.Extensions.Sqlite")]
    public void ExtensionsHoldThemselves(string package) => HasFiles(package, $"lib/net10.0/{package}.dll", $"lib/net10.0/{package}.xml");

    [Fact]
    public void ServerHoldsItself() => HasFiles(
        "MatFormer.Server",
        "lib/net10.0/MatFormer.Server.dll",
        "lib/net10.0/MatFormer.Server.xml");

    [Fact]
    public void TheTemplateNamesTheVersionThatWasPacked()
    {
        var files = HasFiles(
            "MatFormer.Templates",
            "content/MatFormerApp/.gitignore",
            "content/MatFormerApp/.template.config/template.json",
            "content/MatFormerApp/MatFormerApp.csproj",
            "content/MatFormerApp/Program.cs",
            "content/MatFormerApp/README.md",
            "content/MatFormerApp/TextLm.cs");
        var project = XDocument.Parse(Encoding.UTF8.GetString(files["content/MatFormerApp/MatFormerApp.csproj"]));
        Assert.Equal(
            [("MatFormer.Runtime", packed.Version), ("TorchSharp-cpu", "0.107.0")],
            project.Descendants("PackageReference").Select(r => (r.Attribute("Include")!.Value, r.Attribute("Version")!.Value)));
    }

    [Fact]
    public void SymbolPackagesHoldSymbols()
    {
        foreach (var package in s_assemblies)
        {
            var framework = package == "MatFormer.Dsl" ? "netstandard2.0" : "net10.0";
            Assert.Equal(
                [package + ".nuspec", $"lib/{framework}/{package}.pdb"],
                packed.Read(package, ".snupkg").Keys.Order(StringComparer.Ordinal));
        }
    }

    [Fact]
    public void NoPackageNamesPathsOfThisMachine()
    {
        string[] private_ = [PackedFolder.Root, Environment.GetFolderPath(Environment.SpecialFolder.UserProfile).TrimEnd('/') + "/", "file://"];
        foreach (var package in s_all)
        {
            foreach (var (name, content) in packed.Read(package))
            {
                if (Path.GetExtension(name) is ".png" || (Path.GetExtension(name) is ".dll" && !name.StartsWith("runtimes/", StringComparison.Ordinal))) continue;
                var text = Encoding.UTF8.GetString(content);
                foreach (var path in private_)
                    Assert.False(text.Contains(path, StringComparison.Ordinal), $"{package}: {name} names {path}");
            }
        }
    }

    [Fact]
    public void EachPackageIntroducesItself()
    {
        foreach (var package in s_all)
        {
            var files = packed.Read(package);
            var metadata = Metadata(package);
            Assert.Equal(package, Value("id"));
            Assert.Equal(packed.Version, Value("version"));
            Assert.Equal("MIT", Value("license"));
            Assert.Contains("matformer", Value("tags").Split(' '));
            Assert.InRange(Value("description").Length, 40, 400);
            Assert.InRange(files[Value("icon")].Length, 100, 10_000);
            Assert.StartsWith("# MatFormer.Dsl", Encoding.UTF8.GetString(files[Value("readme")]), StringComparison.Ordinal);
            if (metadata.Elements().SingleOrDefault(e => e.Name.LocalName == "repository")?.Attribute("url") is { } url)
                Assert.StartsWith("https://", url.Value, StringComparison.Ordinal);

            string Value(string name) => metadata.Elements().Single(e => e.Name.LocalName == name).Value;
        }
    }

    [Fact]
    public void TheRuntimeBringsTheGeneratorAndTorchSharp()
    {
        Assert.Equal(
            [
                ("MatFormer.Dsl", packed.Version, null),
                ("Microsoft.Extensions.Logging.Abstractions", "10.0.0", "Build,Analyzers"),
                ("Spectre.Console", "0.49.1", "Build,Analyzers"),
                ("System.CommandLine", "2.0.15", "Build,Analyzers"),
                ("TorchSharp", "0.107.0", "Build,Analyzers"),
            ],
            Dependencies("MatFormer.Runtime").Order());
        Assert.Equal(
            [("MatFormer.Runtime", packed.Version, null), ("Microsoft.Extensions.AI.Abstractions", "10.3.0", "Build,Analyzers")],
            Dependencies("MatFormer.Extensions.AI").Order());
        Assert.Equal(
            [
                ("MatFormer.Runtime", packed.Version, null),
                ("Microsoft.Data.Sqlite", "10.0.11", "Build,Analyzers"),
                ("SQLitePCLRaw.bundle_e_sqlite3", "3.0.3", "Build,Analyzers"),
            ],
            Dependencies("MatFormer.Extensions.Sqlite").Order());
        Assert.Equal(
            [("MatFormer.Extensions.AI", packed.Version, null), ("MatFormer.Runtime", packed.Version, null)],
            Dependencies("MatFormer.Server").Order());
        foreach (var package in (string[])["MatFormer.Dsl", "MatFormer.Templates"]) Assert.Empty(Dependencies(package));
    }

    private IEnumerable<(string Id, string Version, string? Excluded)> Dependencies(string package) =>
        Metadata(package).Descendants().Where(e => e.Name.LocalName == "dependency")
            .Select(d => (d.Attribute("id")!.Value, d.Attribute("version")!.Value, d.Attribute("exclude")?.Value));

    private XElement Metadata(string package) =>
        XDocument.Load(new MemoryStream(packed.Read(package)[package + ".nuspec"])).Root!.Elements().Single();

    private IReadOnlyDictionary<string, byte[]> HasFiles(string package, params string[] expected)
    {
        var files = packed.Read(package);
        Assert.Equal(
            expected.Concat([package + ".nuspec", "README.md", "icon.png"]).Order(StringComparer.Ordinal),
            files.Keys.Order(StringComparer.Ordinal));
        return files;
    }
}

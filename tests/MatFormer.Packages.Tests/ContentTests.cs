using System.Runtime.InteropServices;
using System.Text;
using System.Xml.Linq;

namespace MatFormer.Packages.Tests;

/// <summary>The files and the metadata of each package.</summary>
[Collection(nameof(PackedFolder))]
public sealed class ContentTests(PackedFolder packed)
{
    private static readonly string[] s_assemblies =
    [
        "MatFormer.CommandLine", "MatFormer.Data", "MatFormer.Distributed", "MatFormer.Dsl", "MatFormer.Evaluation",
        "MatFormer.Extensions.AI", "MatFormer.Extensions.Images", "MatFormer.Extensions.Parquet", "MatFormer.Extensions.Sqlite",
        "MatFormer.Inference", "MatFormer.Interop", "MatFormer.Retrieval", "MatFormer.Runtime", "MatFormer.Server", "MatFormer.Training",
    ];

    private static readonly string[] s_all = ["MatFormer", .. s_assemblies, "MatFormer.Templates"];

    [Fact]
    public void AllPackagesAndSymbolPackagesArePacked() =>
        Assert.Equal(
            s_all.Select(p => $"{p}.{packed.Version}.nupkg")
                .Concat(s_assemblies.Select(p => $"{p}.{packed.Version}.snupkg")).Order(StringComparer.Ordinal),
            Directory.GetFiles(packed.Packages).Select(Path.GetFileName).Order(StringComparer.Ordinal));

    [Fact]
    public void TheDslPackageHoldsAttributesAnalyzersAndFixes() => HasFiles(
        "MatFormer.Dsl",
        "analyzers/dotnet/cs/MatFormer.Dsl.CodeFixes.dll",
        "analyzers/dotnet/cs/MatFormer.Dsl.Generators.dll",
        "buildTransitive/MatFormer.Dsl.props",
        "lib/netstandard2.0/MatFormer.Dsl.dll",
        "lib/netstandard2.0/MatFormer.Dsl.xml");

    [Fact]
    public void TheRuntimePackageHoldsItsAssemblyAndTheNativeLibrary()
    {
        // The native libraries of other systems are there if the cross compilers are installed.
        string[] others = ["runtimes/linux-arm64/native/libmatformer_cpu.so", "runtimes/win-x64/native/matformer_cpu.dll"];
        var files = packed.Read("MatFormer.Runtime");
        HasFiles(
            "MatFormer.Runtime",
            [
                "lib/net10.0/MatFormer.Runtime.dll",
                "lib/net10.0/MatFormer.Runtime.xml",
                $"runtimes/{(RuntimeInformation.OSArchitecture == Architecture.X64 ? "linux-x64" : "linux-arm64")}/native/"
                + "libmatformer_cpu.so",
                .. others.Where(files.ContainsKey),
            ]);
    }

    [Theory]
    [InlineData("MatFormer.CommandLine")]
    [InlineData("MatFormer.Data")]
    [InlineData("MatFormer.Distributed")]
    [InlineData("MatFormer.Evaluation")]
    [InlineData("MatFormer.Extensions.AI")]
    [InlineData("MatFormer.Extensions.Images")]
    [InlineData("MatFormer.Extensions.Parquet")]
    [InlineData("MatFormer.Extensions.Sqlite")]
    [InlineData("MatFormer.Inference")]
    [InlineData("MatFormer.Interop")]
    [InlineData("MatFormer.Retrieval")]
    [InlineData("MatFormer.Server")]
    [InlineData("MatFormer.Training")]
    public void ALibraryPackageHoldsItsAssembly(string package) =>
        HasFiles(package, $"lib/net10.0/{package}.dll", $"lib/net10.0/{package}.xml");

    [Fact]
    public void TheMetapackageHoldsNoAssembly() => HasFiles("MatFormer");

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
            [("MatFormer", packed.Version), ("TorchSharp-cpu", "0.107.0")],
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
        string[] private_ =
            [PackedFolder.Root, Environment.GetFolderPath(Environment.SpecialFolder.UserProfile).TrimEnd('/') + "/", "file://"];
        foreach (var package in s_all)
        {
            foreach (var (name, content) in packed.Read(package))
            {
                if (Path.GetExtension(name) is ".png"
                    || (Path.GetExtension(name) is ".dll" && !name.StartsWith("runtimes/", StringComparison.Ordinal)))
                    continue;
                var text = Encoding.UTF8.GetString(content);
                foreach (var path in private_)
                    Assert.False(text.Contains(path, StringComparison.Ordinal), $"{package}: {name} names {path}");
            }
        }
    }

    [Fact]
    public void EachPackageHasCompleteMetadata()
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

    // References between our packages exclude nothing, so that the generator and the build steps of a dependency are used too.
    [Theory]
    [InlineData("MatFormer", "MatFormer.CommandLine")]
    [InlineData("MatFormer.CommandLine", "MatFormer.Evaluation Spectre.Console System.CommandLine")]
    [InlineData("MatFormer.Data", "Microsoft.Extensions.Logging.Abstractions")]
    [InlineData("MatFormer.Distributed", "MatFormer.Training")]
    [InlineData("MatFormer.Dsl", "")]
    [InlineData("MatFormer.Evaluation", "MatFormer.Retrieval MatFormer.Training")]
    [InlineData(
        "MatFormer.Extensions.AI",
        "MatFormer.Retrieval Microsoft.Extensions.AI.Abstractions Microsoft.Extensions.VectorData.Abstractions")]
    [InlineData("MatFormer.Extensions.Images", "MatFormer.Data SkiaSharp SkiaSharp.NativeAssets.Linux.NoDependencies")]
    [InlineData("MatFormer.Extensions.Parquet", "MatFormer.Data Parquet.Net")]
    [InlineData("MatFormer.Extensions.Sqlite", "MatFormer.Retrieval Microsoft.Data.Sqlite SQLitePCLRaw.bundle_e_sqlite3")]
    [InlineData("MatFormer.Inference", "MatFormer.Data MatFormer.Dsl")]
    [InlineData("MatFormer.Interop", "MatFormer.Runtime")]
    [InlineData("MatFormer.Retrieval", "MatFormer.Runtime")]
    [InlineData("MatFormer.Runtime", "MatFormer.Inference TorchSharp")]
    [InlineData("MatFormer.Server", "MatFormer.CommandLine MatFormer.Extensions.AI")]
    [InlineData("MatFormer.Templates", "")]
    [InlineData("MatFormer.Training", "MatFormer.Interop")]
    public void APackageNamesItsDependencies(string package, string expected)
    {
        var dependencies = Dependencies(package).OrderBy(d => d.Id, StringComparer.Ordinal).ToList();
        Assert.Equal(expected, string.Join(' ', dependencies.Select(d => d.Id)));
        foreach (var (id, version, excluded) in dependencies)
        {
            if (id.StartsWith("MatFormer", StringComparison.Ordinal)) Assert.Equal((packed.Version, null), (version, excluded));
            else Assert.Equal("Build,Analyzers", excluded);
        }
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

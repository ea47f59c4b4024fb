using System.Globalization;
using System.IO.Compression;
using System.Runtime.CompilerServices;
using System.Text;
using System.Xml.Linq;

namespace MatFormer.Packages.Tests;

/// <summary>
/// Packs all packages once, from the built projects, with a version that no other run has. It also makes a folder outside of the repository
/// in which tests use the packages. The folder has its own package cache, so that nothing stays in the user's.
/// </summary>
public sealed class PackedFolder : IAsyncLifetime
{
#if DEBUG
    private const string Configuration = "Debug";
#else
    private const string Configuration = "Release";
#endif

    private Task<string>? _template;

    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-packages-").FullName;

    /// <summary>The root folder of the repository.</summary>
    public static string Root { get; } = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(ThisFile())!, "..", ".."));

    /// <summary>The folder of the packages.</summary>
    public string Packages => Path.Combine(_folder, "packages");

    /// <summary>The folder for projects that use the packages. Its nuget.config adds the packages to the machine's sources.</summary>
    public string Projects => Path.Combine(_folder, "projects");

    /// <summary>The version of all packages.</summary>
    public string Version { get; private set; } = string.Empty;

    /// <summary>The environment of commands that use the packages.</summary>
    public IReadOnlyDictionary<string, string> Environment { get; private set; } = new Dictionary<string, string>();

    /// <summary>The folder of a project from the template, which is built once. Its name is not an identifier, as is often so.</summary>
    public Task<string> TemplateProject => _template ??= MakeTemplateProject("my-model");

    /// <summary>The program of <see cref="TemplateProject"/>.</summary>
    public async Task<string> TemplateProgram() =>
        Directory.GetFiles(Path.Combine(await TemplateProject, "bin"), "my-model", SearchOption.AllDirectories).Single();

    public async ValueTask InitializeAsync()
    {
        var suffix = "test." + DateTime.UtcNow.Ticks.ToString(CultureInfo.InvariantCulture);
        await Command.Run(
            Root, Environment, "dotnet", "pack", "MatFormer.Dsl.sln", "-c", Configuration, "--no-build", "-o", Packages, "-v", "quiet",
            "-p:VersionSuffix=" + suffix);
        var runtime = Assert.Single(Directory.GetFiles(Packages, "MatFormer.Runtime.*.nupkg"));
        Version = Path.GetFileNameWithoutExtension(runtime)["MatFormer.Runtime.".Length..];
        Assert.EndsWith(suffix, Version, StringComparison.Ordinal);

        // Packages of other authors come from the machine's package cache.
        var cache = System.Environment.GetEnvironmentVariable("NUGET_PACKAGES") is { Length: > 0 } given
            ? given
            : Path.Combine(System.Environment.GetFolderPath(System.Environment.SpecialFolder.UserProfile), ".nuget", "packages");
        Directory.CreateDirectory(Projects);
        new XDocument(
            new XElement(
                "configuration",
                new XElement("packageSources", Add("matformer", Packages)),
                new XElement("fallbackPackageFolders", Add("machine", cache)))).Save(Path.Combine(Projects, "nuget.config"));
        Environment = new Dictionary<string, string>
        {
            ["NUGET_PACKAGES"] = Path.Combine(_folder, "cache"),
        };

        static XElement Add(string key, string value) => new("add", new XAttribute("key", key), new XAttribute("value", value));
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>Returns the files of a package, without those that NuGet adds for its own use.</summary>
    public IReadOnlyDictionary<string, byte[]> Read(string package, string extension = ".nupkg")
    {
        using var zip = ZipFile.OpenRead(Path.Combine(Packages, $"{package}.{Version}{extension}"));
        var files = new Dictionary<string, byte[]>(StringComparer.Ordinal);
        foreach (var entry in zip.Entries)
        {
            if (entry.FullName.StartsWith("_rels/", StringComparison.Ordinal)
                || entry.FullName.StartsWith("package/", StringComparison.Ordinal)
                || entry.FullName == "[Content_Types].xml")
                continue;
            using var content = new MemoryStream();
            using (var stream = entry.Open()) stream.CopyTo(content);
            files.Add(Uri.UnescapeDataString(entry.FullName), content.ToArray());
        }

        return files;
    }

    /// <summary>Makes a project of the sources that <paramref name="write"/> writes into its folder.</summary>
    public string NewProject(string name, string properties, Action<string> write, string package, bool usesTorch = true)
    {
        var folder = Path.Combine(Projects, name);
        Directory.CreateDirectory(folder);
        File.WriteAllText(
            Path.Combine(folder, name + ".csproj"),
            $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <TargetFramework>net10.0</TargetFramework>
                <Nullable>enable</Nullable>
                <ImplicitUsings>enable</ImplicitUsings>
                {properties}
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="{package}" Version="{Version}" />
                {(usesTorch ? "<PackageReference Include=\"libtorch-cpu-linux-x64\" Version=\"2.10.0\" />" : string.Empty)}
              </ItemGroup>
            </Project>
            """);
        write(folder);
        return folder;
    }

    /// <summary>Writes text that a model can learn.</summary>
    public static void WriteText(string folder, int seed = 5)
    {
        Directory.CreateDirectory(folder);
        string[] words = ["the", "model", "returns", "a", "nested", "width", "of", "every", "layer", "and", "its", "loss"];
        var random = new Random(seed);
        for (var document = 0; document < 60; document++)
        {
            var text = new StringBuilder();
            for (var word = 0; word < 400; word++) text.Append(words[random.Next(words.Length)]).Append(' ');
            File.WriteAllText(Path.Combine(folder, $"{document:D2}.txt"), text.ToString());
        }
    }

    private async Task<string> MakeTemplateProject(string name)
    {
        var (hive, project) = (Path.Combine(Projects, "hive"), Path.Combine(Projects, name));
        var template = Path.Combine(Packages, $"MatFormer.Templates.{Version}.nupkg");
        await Command.Run(Projects, Environment, "dotnet", "new", "install", template, "--debug:custom-hive", hive);
        await Command.Run(Projects, Environment, "dotnet", "new", "matformer", "-n", name, "--debug:custom-hive", hive);
        await Command.Run(project, Environment, "dotnet", "build", "-warnaserror");
        return project;
    }

    private static string ThisFile([CallerFilePath] string path = "") => path;
}

/// <summary>The collection of the tests that share the packed packages.</summary>
[CollectionDefinition(nameof(PackedFolder))]
public sealed class PackedFolderCollection : ICollectionFixture<PackedFolder>;

namespace MatFormer.Packages.Tests;

/// <summary>Does what a user does: installs the template, creates a project outside the repository, and runs it.</summary>
[Collection(nameof(PackedFolder))]
public sealed class ConsumerTests(PackedFolder packed)
{
    [Fact]
    public async Task ANewProjectBuildsAndTrains()
    {
        // The name is not an identifier, as is often so for folders.
        const string name = "my-model";
        var hive = Path.Combine(packed.Projects, "hive");
        await Run(packed.Projects, "dotnet", "new", "install", Template(), "--debug:custom-hive", hive);
        await Run(packed.Projects, "dotnet", "new", "matformer", "-n", name, "--debug:custom-hive", hive);
        var project = Path.Combine(packed.Projects, name);
        Assert.Equal(
            [".gitignore", "Program.cs", "README.md", "TextLm.cs", $"{name}.csproj"],
            Directory.GetFiles(project).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        await Run(project, "dotnet", "build", "-warnaserror");
        var program = Directory.GetFiles(Path.Combine(project, "bin"), name, SearchOption.AllDirectories).Single();
        Assert.True(File.Exists(Path.Combine(Path.GetDirectoryName(program)!, "libmatformer_cpu.so")));

        // Without arguments the program trains. That would take half a minute, so it is stopped.
        using (var process = Command.Start(project, packed.Environment, program))
        {
            var output = process.StandardOutput.ReadToEndAsync();
            var errors = string.Empty;
            while (!errors.Contains("Training TextLm", StringComparison.Ordinal) && await process.StandardError.ReadLineAsync() is { } line)
                errors += line + "\n";
            Assert.Contains("Training TextLm", errors, StringComparison.Ordinal);
            Assert.DoesNotContain("without fused kernels", errors, StringComparison.Ordinal);
            await Run(project, "kill", "-TERM", $"{process.Id}");
            errors += await process.StandardError.ReadToEndAsync();
            await process.WaitForExitAsync();
            Assert.True(process.ExitCode == 130, errors + await output);
            Assert.Contains("--resume", errors, StringComparison.Ordinal);
        }

        PackedFolder.WriteText(Path.Combine(project, "text"));
        var trained = await Run(project, "dotnet", "run", "--no-build", "--", "demo", "--data", "text", "--steps", "3", "--batch", "2", "--tokens", "10", "--out", "trained");
        Assert.Contains("bit for bit", trained, StringComparison.Ordinal);
        Assert.True(File.Exists(Path.Combine(project, "trained", "phone.safetensors")), trained);
        var profiles = await Run(project, "dotnet", "run", "--no-build", "--", "profiles");
        Assert.Matches(@"Phone\s.*2\*S 2\*M", profiles);

        // The analyzers are there too, through the dependencies of the package.
        var declaration = Path.Combine(project, "TextLm.cs");
        await File.WriteAllTextAsync(declaration, (await File.ReadAllTextAsync(declaration)).Replace("Heads = 4", "Heads = 3"));
        var (code, mistake) = await Command.Try(project, packed.Environment, "dotnet", "build", "--no-restore");
        Assert.NotEqual(0, code);
        Assert.Matches(@"TextLm\.cs\(\d+,\d+\): error MFD\d{4}", mistake);
    }

    private string Template() => Path.Combine(packed.Packages, $"MatFormer.Templates.{packed.Version}.nupkg");

    private Task<string> Run(string folder, string program, params string[] arguments) => Command.Run(folder, packed.Environment, program, arguments);
}

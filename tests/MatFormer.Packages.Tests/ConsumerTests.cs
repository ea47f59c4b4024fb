namespace MatFormer.Packages.Tests;

/// <summary>Does what a user does: installs the template, creates a project outside the repository, and runs it.</summary>
[Collection(nameof(PackedFolder))]
public sealed class ConsumerTests(PackedFolder packed)
{
    [Fact]
    public async Task ANewProjectBuildsAndTrains()
    {
        var project = await packed.TemplateProject;
        Assert.Equal(
            [".gitignore", "Program.cs", "README.md", "TextLm.cs", "my-model.csproj"],
            Directory.GetFiles(project).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        var program = await packed.TemplateProgram();
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

        // A second time without arguments, it does not replace what it has trained.
        var checkpoint = Path.Combine(project, "out", "TextLm", "checkpoint.safetensors");
        var saved = await File.ReadAllBytesAsync(checkpoint);
        var (refused, says) = await Command.Try(project, packed.Environment, program);
        Assert.Equal(2, refused);
        Assert.Matches(
            "^'out/TextLm' holds a model with .* Use --resume to continue, another --out, or --overwrite to replace it.$", says.Trim());
        Assert.Equal(saved, await File.ReadAllBytesAsync(checkpoint));

        PackedFolder.WriteText(Path.Combine(project, "text"));
        var trained = await Run(project, "dotnet", "run", "--no-build", "--", "demo", "--data",
            "text", "--steps", "3", "--batch", "2", "--tokens", "10", "--out", "trained");
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

    private Task<string> Run(string folder, string program, params string[] arguments) =>
        Command.Run(folder, packed.Environment, program, arguments);
}

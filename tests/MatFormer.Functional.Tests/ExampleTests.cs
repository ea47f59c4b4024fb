using System.Diagnostics;

namespace MatFormer.Functional.Tests;

/// <summary>Gives the programs of examples/ wrong files and arguments.</summary>
[Trait("Kernels", "any")]
public sealed class ExampleTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-examples-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("Continue")]
    [InlineData("Speculate")]
    [InlineData("Phone")]
    [InlineData("Serve")]
    public async Task WhatIsNoModelIsAnsweredByOneLine(string example)
    {
        using var other = new OracleBytes();
        other.Save(PathOf("other.safetensors"));
        File.WriteAllText(PathOf("notes.txt"), "These are notes, not weights.");
        File.WriteAllText(PathOf("phone.gguf"), "GGUF" + new string('\0', 20));
        File.WriteAllBytes(PathOf("cut.safetensors"), File.ReadAllBytes(PathOf("other.safetensors"))[..100]);
        foreach (var (file, says) in ((string, string)[])[
            ("none.safetensors", "There is no"), ("notes.txt", "not a safetensors file"), ("phone.gguf", "is a GGUF file"),
            ("cut.safetensors", "is cut off"), ("other.safetensors", "holds the model OracleBytes, not DocsLm"), (".", "is a folder")])
        {
            var (code, error) = await Run(example, PathOf(file));
            Assert.True(code == 2, error);
            Assert.Contains($"'{PathOf(file)}'", Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
            Assert.Contains(says, error, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("Paper", "--seeds must be from 1 to 10, not 'many'.", "reproduce --seeds many")]
    [InlineData("Paper", "--scale must be above 0, at most 100, not '0'.", "reproduce --scale 0")]
    [InlineData("Paper", "'reprodcue'", "reprodcue")]
    [InlineData("Elasticity", "--threads must be 1 or more, not '1.5'.", "width --threads 1.5")]
    [InlineData("Elasticity", "'widht'", "widht")]
    public async Task WrongArgumentsOfExperimentsAreAnsweredByOneLine(string example, string says, string arguments)
    {
        var (code, error) = await Run(example, arguments.Split(' '));
        Assert.True(code == 2, error);
        Assert.Contains(says, Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
    }

    private string PathOf(string name) => Path.Combine(_folder, name);

    // Builds of the examples lie beside those of the tests.
    private static async Task<(int Code, string Error)> Run(string example, params string[] arguments)
    {
        var bin = Path.GetRelativePath(Path.Combine(AppContext.BaseDirectory, "../../.."), AppContext.BaseDirectory);
        var program = Path.Combine(AppContext.BaseDirectory, "../../../../../examples", example, bin, example + ".dll");
        using var process = Process.Start(
            new ProcessStartInfo("dotnet", [program, .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = await process.StandardError.ReadToEndAsync();
        await Task.WhenAll(output, process.WaitForExitAsync());
        return (process.ExitCode, error);
    }
}

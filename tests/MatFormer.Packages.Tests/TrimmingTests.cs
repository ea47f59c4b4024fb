using System.Runtime.InteropServices;

namespace MatFormer.Packages.Tests;

/// <summary>The example, trimmed: no warning, and the same tokens and weights.</summary>
[Collection(nameof(PackedFolder))]
public sealed class TrimmingTests(PackedFolder packed)
{
    [Fact]
    public async Task ATrimmedExampleGivesTheSameTokens()
    {
        // IsAotCompatible: the compiler's analyzers for trimming, for ahead-of-time compilation and for single files look through what was generated.
        var project = packed.NewProject(
            "DocsLm",
            """
            <OutputType>Exe</OutputType>
            <IsAotCompatible>true</IsAotCompatible>
            <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
            <TrimmerSingleWarn>false</TrimmerSingleWarn>
            """,
            folder =>
            {
                foreach (var source in Directory.GetFiles(Path.Combine(PackedFolder.Root, "examples", "DocsLm"), "*.cs"))
                    File.Copy(source, Path.Combine(folder, Path.GetFileName(source)));
            },
            package: "MatFormer.Server");
        var machine = "linux-" + RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();
        await Run(project, "dotnet", "build", "-c", "Release", "-o", "ordinary");
        var published = await Run(
            project, "dotnet", "publish", "-c", "Release", "-r", machine, "--self-contained",
            "-p:PublishTrimmed=true", "-o", "trimmed");
        Assert.DoesNotMatch(@"warning|IL\d{4}", published);
        var runtime = new FileInfo(Path.Combine(project, "trimmed", "MatFormer.Runtime.dll"));
        Assert.True(runtime.Length < new FileInfo(Path.Combine(project, "ordinary", "MatFormer.Runtime.dll")).Length, "nothing was trimmed");

        var ordinary = Path.Combine(project, "ordinary", "DocsLm");
        var trimmed = Path.Combine(project, "trimmed", "DocsLm");
        PackedFolder.WriteText(Path.Combine(project, "text"));
        await Run(project, ordinary, "train", "--data", "text", "--steps", "3", "--batch", "2", "--out", "trained");
        foreach (var profile in (string[])["XL", "Phone"])
        {
            string[] arguments = ["generate", "--out", "trained", "--profile", profile, "--prompt", "the model ", "--tokens", "24", "--temperature", "0"];
            Assert.Equal(Tokens(await Run(project, ordinary, arguments)), Tokens(await Run(project, trimmed, arguments)));
        }

        // It trains as well, and draws tables.
        await Run(project, trimmed, "train", "--data", "text", "--steps", "3", "--batch", "2", "--out", "again");
        Assert.Equal(
            await File.ReadAllBytesAsync(Path.Combine(project, "trained", "model.safetensors")),
            await File.ReadAllBytesAsync(Path.Combine(project, "again", "model.safetensors")));
        Assert.Equal(await Run(project, ordinary, "profiles"), await Run(project, trimmed, "profiles"));
        Assert.Equal(await Run(project, ordinary, "profiles", "--json"), await Run(project, trimmed, "profiles", "--json"));
        Assert.Equal(await Run(project, ordinary, "--help"), await Run(project, trimmed, "--help"));
        Assert.Equal(await Serve(project, ordinary), await Serve(project, trimmed));
    }

    // What `serve` answers, without what differs from time to time.
    private async Task<string> Serve(string project, string program)
    {
        using var process = Command.Start(project, packed.Environment, program, "serve", "--out", "trained", "--port", "0");
        var errors = process.StandardError.ReadToEndAsync();
        while (await process.StandardOutput.ReadLineAsync() is { } line)
        {
            if (!line.Contains("http://", StringComparison.Ordinal)) continue;
            using var client = new HttpClient { BaseAddress = new Uri(line.Split(' ').Single(w => w.StartsWith("http://", StringComparison.Ordinal))) };
            using var content = new StringContent(
                """{"model": "DocsLm/Phone", "messages": [{"role": "user", "content": "the model "}], "max_tokens": 24, "temperature": 0}""", null,
                "application/json");
            using var response = await client.PostAsync("/v1/chat/completions", content);
            var answer = await response.Content.ReadAsStringAsync();
            Assert.True(response.IsSuccessStatusCode, answer);
            await Run(project, "kill", "-TERM", $"{process.Id}");
            await process.WaitForExitAsync();
            Assert.True(process.ExitCode == 0, await errors);
            return answer[answer.IndexOf("\"choices\"", StringComparison.Ordinal)..];
        }

        Assert.Fail(await errors);
        return string.Empty;
    }

    // What was generated, without its speed.
    private static string Tokens(string output)
    {
        var end = output.LastIndexOf('[');
        Assert.True(end > "the model ".Length, output);
        return output[..end];
    }

    private Task<string> Run(string folder, string program, params string[] arguments) => Command.Run(folder, packed.Environment, program, arguments);
}

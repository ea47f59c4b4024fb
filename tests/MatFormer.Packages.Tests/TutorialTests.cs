using System.Text;
using System.Text.RegularExpressions;

namespace MatFormer.Packages.Tests;

/// <summary>Follows docs/tutorial.md from an empty folder to a served answer. The models are trained less than the page says.</summary>
[Collection(nameof(PackedFolder))]
public sealed partial class TutorialTests(PackedFolder packed)
{
    private const string Training = "--data text --steps 3 --batch 2";

    [Fact]
    public async Task TheTutorialEndsWithAServedAnswer()
    {
        var page = await File.ReadAllTextAsync(Path.Combine(PackedFolder.Root, "docs", "tutorial.md"));
        var hive = Path.Combine(packed.Projects, "tutorial-hive");
        await Run(
            packed.Projects, $"dotnet new install {packed.Packages}/MatFormer.Templates.{packed.Version}.nupkg --debug:custom-hive {hive}");
        var folder = Path.Combine(packed.Projects, "tutorial");
        PackedFolder.WriteText(Path.Combine(folder, "MyModel", "text"));
        string? server = null, answer = null;
        foreach (var command in Commands(page[page.IndexOf("## 2.", StringComparison.Ordinal)..]))
        {
            switch (command)
            {
                case "cd MyModel":
                    folder = Path.Combine(folder, "MyModel");
                    break;
                case "dotnet run":
                    await Run(folder, $"dotnet run -- demo {Training} --tokens 10");
                    break;
                case "dotnet run -- serve":
                    server = command;
                    break;
                case var request when request.StartsWith("curl ", StringComparison.Ordinal):
                    Assert.NotNull(server);
                    answer = request; // the last request asks for text
                    break;
                default:
                    await Run(folder, command
                        .Replace("dotnet new matformer", $"dotnet new matformer --debug:custom-hive {hive}", StringComparison.Ordinal)
                        .Replace("--version 0.1.0", $"--version {packed.Version}", StringComparison.Ordinal)
                        .Replace("--data FOLDER --steps 5000", Training, StringComparison.Ordinal)
                        .Replace("--data FOLDER", "--data text", StringComparison.Ordinal));
                    break;
            }
        }

        Assert.NotNull(answer);
        await File.WriteAllTextAsync(Path.Combine(folder, "Program.cs"), Code(page[page.IndexOf("## 8.", StringComparison.Ordinal)..]));
        var body = Body().Match(answer).Groups[1].Value;
        var path = Address().Match(answer).Groups[1].Value;
        var text = await Ask(folder, path, body);
        Assert.Equal("/v1/completions", path);
        Assert.Contains("\"text\":", text, StringComparison.Ordinal);
        Assert.Contains("\"completion_tokens\":60", text, StringComparison.Ordinal);
    }

    // Returns the lines of the shell blocks. A line that ends with a backslash is joined with the next.
    private static IEnumerable<string> Commands(string page) => ShellBlock().Matches(page)
        .SelectMany(block => block.Groups[1].Value
            .Replace("\\\n", " ", StringComparison.Ordinal).Split('\n', StringSplitOptions.RemoveEmptyEntries));

    private static string Code(string section) => CSharpBlock().Match(section).Groups[1].Value;

    private async Task<string> Ask(string folder, string path, string body)
    {
        await Run(folder, "dotnet build");
        var program = Directory.GetFiles(Path.Combine(folder, "bin"), "MyModel", SearchOption.AllDirectories).Single();
        using var process = Command.Start(folder, packed.Environment, program, "serve", "--port", "0");
        var errors = process.StandardError.ReadToEndAsync();
        while (await process.StandardOutput.ReadLineAsync() is { } line)
        {
            if (!line.Contains("http://", StringComparison.Ordinal)) continue;
            using var client =
                new HttpClient { BaseAddress = new Uri(line.Split(' ').Single(w => w.StartsWith("http://", StringComparison.Ordinal))) };
            using var content = new StringContent(body, Encoding.UTF8, "application/json");
            using var response = await client.PostAsync(path, content);
            var answer = await response.Content.ReadAsStringAsync();
            Assert.True(response.IsSuccessStatusCode, answer);
            await Run(folder, $"kill -TERM {process.Id}");
            await process.WaitForExitAsync();
            return answer;
        }

        Assert.Fail(await errors);
        return string.Empty;
    }

    private Task<string> Run(string folder, string command) => Command.Run(folder, packed.Environment, "bash", "-c", command);

    [GeneratedRegex("^```sh\n(.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex ShellBlock();

    [GeneratedRegex("^```csharp\n(.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex CSharpBlock();

    [GeneratedRegex("-d '(.*)'")]
    private static partial Regex Body();

    [GeneratedRegex("http://[^/]*(/\\S*)")]
    private static partial Regex Address();
}

using System.Runtime.InteropServices;

namespace MatFormer.Packages.Tests;

/// <summary>
/// Publishes the examples of all kinds of models as one trimmed program: there is no warning, and tokens, classes, embeddings and weights
/// are the same.
/// </summary>
[Collection(nameof(PackedFolder))]
public sealed class TrimmingTests(PackedFolder packed)
{
    [Fact]
    public async Task TrimmedExamplesGiveTheSameOutput()
    {
        // With IsAotCompatible, the analyzers for trimming, ahead-of-time compilation and single files check the generated code.
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
                foreach (var model in (string[])["DocsLm", "DigitsViT", "ApiSearch"])
                    File.Copy(Path.Combine(PackedFolder.Root, "examples", model, model + ".cs"), Path.Combine(folder, model + ".cs"));
                File.WriteAllText(
                    Path.Combine(folder, "Program.cs"),
                    """
                    using MatFormer;

                    return await (args[0] switch
                    {
                        "DigitsViT" => ModelProgram.RunAsync<DigitsViT>(args[1..]),
                        "ApiSearch" => ModelProgram.RunAsync<ApiSearch>(args[1..]),
                        _ => ModelProgram.RunAsync<DocsLm>(args[1..], ServeCommand.For<DocsLm>()),
                    });
                    """);
            },
            package: "MatFormer.Server");
        var machine = "linux-" + RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();
        await Run(project, "dotnet", "build", "-c", "Release", "-o", "ordinary");
        var published = await Run(
            project, "dotnet", "publish", "-c", "Release", "-r", machine, "--self-contained",
            "-p:PublishTrimmed=true", "-o", "trimmed");
        Assert.DoesNotMatch(@"warning|IL\d{4}", published);
        var runtime = new FileInfo(Path.Combine(project, "trimmed", "MatFormer.Runtime.dll"));
        Assert.True(
            runtime.Length < new FileInfo(Path.Combine(project, "ordinary", "MatFormer.Runtime.dll")).Length, "nothing was trimmed");

        var ordinary = Path.Combine(project, "ordinary", "DocsLm");
        var trimmed = Path.Combine(project, "trimmed", "DocsLm");
        WriteData(project);
        (string Model, string Data, string[] More)[] kinds =
            [("DocsLm", "text", []), ("DigitsViT", "images", ["--shift", "1"]), ("ApiSearch", "pairs.tsv", ["--tokenizer", "bytes"])];
        foreach (var (model, data, more) in kinds)
        {
            // Both programs train and print tables.
            foreach (var (program, folder) in ((string, string)[])[(ordinary, model), (trimmed, "again" + model)])
                await Run(project, program, [model, "train", "--data", data, "--steps", "3", "--batch", "2", "--out", folder, .. more]);
            Assert.Equal(await Bytes(model, "model.safetensors"), await Bytes("again" + model, "model.safetensors"));
            foreach (string[] arguments in (string[][])[["profiles"], ["profiles", "--json"], ["--help"]])
                Assert.Equal(await Run(project, ordinary, [model, .. arguments]), await Run(project, trimmed, [model, .. arguments]));
        }

        foreach (var profile in (string[])["XL", "Phone"])
        {
            Assert.Equal(Tokens(await Run(project, ordinary, Generate(profile))), Tokens(await Run(project, trimmed, Generate(profile))));
            string[] classify =
                ["DigitsViT", "classify", "--out", "DigitsViT", "--profile", profile, "--image", "images/7/0.pgm", "--json"];
            Assert.Equal(Document(await Run(project, ordinary, classify)), Document(await Run(project, trimmed, classify)));
            foreach (var (program, folder) in ((string, string)[])[(ordinary, "ApiSearch"), (trimmed, "againApiSearch")])
                await Run(project, program, "ApiSearch", "index", "--data", "pairs.tsv", "--out", folder, "--profile", profile);
            Assert.Equal(await Bytes("ApiSearch", "index.safetensors"), await Bytes("againApiSearch", "index.safetensors"));
        }

        Assert.Equal(await Serve(project, ordinary), await Serve(project, trimmed));
        await Run(project, ordinary, "DocsLm", "extract", "--out", "DocsLm", "--profile", "Phone");
        Assert.Equal(
            Tokens(await Run(project, ordinary, Generate("Phone"))).TrimEnd(),
            (await DecodeAheadOfTime(machine, Path.Combine(project, "DocsLm", "phone.safetensors"))).TrimEnd());

        static string[] Generate(string profile) =>
        [
            "DocsLm", "generate", "--out", "DocsLm", "--profile", profile, "--prompt", "the model ", "--tokens", "24", "--temperature", "0",
            "--weights", "f32",
        ];

        Task<byte[]> Bytes(string folder, string file) => File.ReadAllBytesAsync(Path.Combine(project, folder, file));
    }

    // Compiles a project that references only the decoder to one native program, and returns what that program generates from a slice.
    private async Task<string> DecodeAheadOfTime(string machine, string slice)
    {
        var project = packed.NewProject(
            "Decoder",
            """
            <OutputType>Exe</OutputType>
            <PublishAot>true</PublishAot>
            <CppCompilerAndLinker>gcc</CppCompilerAndLinker>
            <InvariantGlobalization>true</InvariantGlobalization>
            <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
            <TrimmerSingleWarn>false</TrimmerSingleWarn>
            """,
            folder =>
            {
                File.Copy(Path.Combine(PackedFolder.Root, "examples", "DocsLm", "DocsLm.cs"), Path.Combine(folder, "DocsLm.cs"));
                File.WriteAllText(
                    Path.Combine(folder, "Program.cs"),
                    """
                    using MatFormer;

                    using var engine = DecodingEngine.Open<DocsLm>(args[0]);
                    Console.Write("the model ");
                    TextGenerator.Generate(engine, "the model ", new GenerationOptions { Tokens = 24, Temperature = 0 }, Console.Write);
                    """);
            },
            package: "MatFormer.Inference",
            usesTorch: false);
        await Run(project, "dotnet", "publish", "-c", "Release", "-r", machine, "-o", "native");
        var native = Path.Combine(project, "native");
        Assert.DoesNotContain(
            Directory.GetFiles(native).Select(Path.GetFileName),
            file => file is not null && file.Contains(".so", StringComparison.Ordinal));
        Assert.InRange(new FileInfo(Path.Combine(native, "Decoder")).Length, 500_000, 10_000_000);
        return await Run(native, Path.Combine(native, "Decoder"), slice);
    }

    // Writes training data for each kind of model.
    private static void WriteData(string project)
    {
        PackedFolder.WriteText(Path.Combine(project, "text"));
        var random = new Random(6);
        for (var image = 0; image < 40; image++)
        {
            var folder = Path.Combine(project, "images", $"{image % 10}");
            Directory.CreateDirectory(folder);
            var pixels = new byte[28 * 28];
            random.NextBytes(pixels);
            File.WriteAllBytes(Path.Combine(folder, $"{image / 10}.pgm"), [.. "P5\n28 28\n255\n"u8, .. pixels]);
        }

        File.WriteAllLines(
            Path.Combine(project, "pairs.tsv"), Enumerable.Range(0, 40).Select(pair => $"number {pair}\tThe document of {pair}."));
    }

    // Returns the answer of `serve`, without the parts that differ from time to time.
    private async Task<string> Serve(string project, string program)
    {
        using var process = Command.Start(project, packed.Environment, program, "DocsLm", "serve", "--out", "DocsLm", "--port", "0");
        var errors = process.StandardError.ReadToEndAsync();
        while (await process.StandardOutput.ReadLineAsync() is { } line)
        {
            if (!line.Contains("http://", StringComparison.Ordinal)) continue;
            using var client =
                new HttpClient { BaseAddress = new Uri(line.Split(' ').Single(w => w.StartsWith("http://", StringComparison.Ordinal))) };
            using var content = new StringContent(
                """{"model": "DocsLm/Phone", "messages": [{"role": "user", "content": "the model "}], "max_tokens": 24,"""
                + """ "temperature": 0}""",
                null, "application/json");
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

    // The generated text, without the speed.
    private static string Tokens(string output)
    {
        var end = output.LastIndexOf('[');
        Assert.True(end > "the model ".Length, output);
        return output[..end];
    }

    // The JSON document, without the other lines of the output.
    private static string Document(string output) => output[output.IndexOf('{')..(output.LastIndexOf('}') + 1)];

    private Task<string> Run(string folder, string program, params string[] arguments) =>
        Command.Run(folder, packed.Environment, program, arguments);
}

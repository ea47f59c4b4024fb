using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace MatFormer.Functional.Tests;

/// <summary>Runs the command line in another process, as a user does, and checks its exit code, its output and its files.</summary>
public sealed class ProgramTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-program-").FullName;

    private string Corpus { get; }

    public ProgramTests()
    {
        Corpus = Path.Combine(_folder, "corpus");
        TestCorpus.Write(Corpus);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    [Trait("Kernels", "any")]
    public async Task WrongInputEndsWithExitCode2AndOneLine()
    {
        var good = Path.Combine(_folder, "good");
        var trained = await Run("train", "--data", Corpus, "--steps", "3", "--batch", "2", "--out", good);
        Assert.True(trained.Code == 0, trained.Errors);
        var model = Path.Combine(good, "model.safetensors");
        var sliced = await Run("extract", "--checkpoint", model, "--profile", "Mixed", "--out", good);
        Assert.True(sliced.Code == 0, sliced.Errors);
        var slice = Path.Combine(good, "mixed.safetensors");

        var empty = Path.Combine(_folder, "empty");
        Directory.CreateDirectory(empty);
        var truncated = Path.Combine(_folder, "truncated.safetensors");
        await File.WriteAllBytesAsync(truncated, (await File.ReadAllBytesAsync(model))[..^100]);
        var foreign = Path.Combine(AppContext.BaseDirectory, "Oracle", "OracleLlama.safetensors");
        var text = Path.Combine(_folder, "text.safetensors");
        await File.WriteAllTextAsync(text, "this is no checkpoint");

        (string Says, string[] Arguments)[] cases =
        [
            ("nowhere", ["train", "--data", Path.Combine(_folder, "nowhere"), "--steps", "3"]),
            ("empty", ["train", "--data", empty, "--steps", "3"]),
            ("--steps", ["train", "--data", Corpus, "--steps", "-3"]),
            ("--batch", ["train", "--data", Corpus, "--batch", "many"]),
            ("--frobnicate", ["train", "--frobnicate"]),
            ("bagged", ["train", "--data", Corpus, "--objective", "bagged"]),
            ("truncated.safetensors", ["eval", "--data", Corpus, "--checkpoint", truncated]),
            ("OracleLlama.safetensors", ["eval", "--data", Corpus, "--checkpoint", foreign]),
            ("text.safetensors", ["generate", "--checkpoint", text]),
            ("missing.safetensors", ["generate", "--checkpoint", Path.Combine(_folder, "missing.safetensors")]),
            ("is the slice Mixed of TinyLm", ["extract", "--checkpoint", slice, "--profile", "S"]),
            ("mixed.safetensors", ["extract", "--checkpoint", slice, "--profile", "S", "--format", "gguf"]),
            ("different sizes", ["extract", "--checkpoint", model, "--profile", "Mixed", "--format", "huggingface"]),
            ("q8_0", ["extract", "--checkpoint", model, "--profile", "Mixed", "--type", "q8_0"]),
            ("Huge", ["extract", "--checkpoint", model, "--profile", "Huge"]),
            ("3*S", ["generate", "--checkpoint", model, "--profile", "3*S"]),
            ("not part of the", ["generate", "--checkpoint", slice, "--draft", "XL"]),
            ("give --draft too", ["generate", "--checkpoint", model, "--draft-length", "3"]),
            ("within 1 and 8", ["generate", "--checkpoint", model, "--draft", "S", "--draft-length", "9"]),
            ("int4", ["generate", "--checkpoint", model, "--weights", "int4"]),
            ("give --draft too", ["generate", "--checkpoint", model, "--draft-weights", "nested4"]),
            ("give --weights nested8", ["generate", "--checkpoint", model, "--draft", "S", "--draft-weights", "nested4"]),
            ("nested4", ["extract", "--checkpoint", model, "--profile", "Mixed", "--type", "nested4"]),
            ("mixed.safetensors", ["plan", "--data", Corpus, "--checkpoint", slice]),
            ("the smallest one, 2*S", ["plan", "--data", Corpus, "--checkpoint", model, "--max-memory", "1KB"]),
            ("CUDA", ["train", "--data", Corpus, "--steps", "3", "--device", "cuda"]),
        ];
        foreach (var (says, arguments) in cases)
        {
            var output = Path.Combine(_folder, "out");
            var run = await Run([.. arguments, "--out", output]);
            var what = string.Join(' ', arguments) + "\n" + run.Errors;
            Assert.True(run.Code == 2, $"exit code {run.Code}: {what}");
            Assert.True(run.Errors.Trim().Split('\n').Length == 1, what);
            Assert.Contains(says, run.Errors, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain("(Parameter", run.Errors, StringComparison.Ordinal);
            Assert.Equal(string.Empty, run.Output);
            Assert.Empty(Directory.Exists(output) ? Directory.GetFiles(output, "*", SearchOption.AllDirectories) : []);
        }
    }

    [Fact]
    [Trait("Kernels", "any")]
    public async Task JsonIsTheOnlyThingOnStandardOutput()
    {
        var output = Path.Combine(_folder, "json");
        var trained = await Run("train", "--data", Corpus, "--steps", "3", "--batch", "2", "--out", output, "--json");
        Assert.True(trained.Code == 0, trained.Errors);
        using var training = JsonDocument.Parse(trained.Output);
        foreach (string[] arguments in (string[][])
            [["profiles"], ["eval", "--data", Corpus], ["extract", "--profile", "Mixed"], ["generate", "--tokens", "5"]])
        {
            string[] checkpoint = arguments[0] == "profiles"
                ? [] : ["--checkpoint", Path.Combine(output, "model.safetensors"), "--out", output];
            var run = await Run([.. arguments, .. checkpoint, "--json"]);
            Assert.True(run.Code == 0, run.Errors);
            using var document = JsonDocument.Parse(run.Output);
            Assert.Equal(JsonValueKind.Object, document.RootElement.ValueKind);
        }
    }

    [Fact]
    public async Task AnEvaluationOnOneThreadGivesTheSameDigitsInEveryProcess()
    {
        var output = Path.Combine(_folder, "repeated");
        var trained = await Run("train", "--data", Corpus, "--steps", "3", "--batch", "2", "--out", output);
        Assert.True(trained.Code == 0, trained.Errors);
        var measured = new List<string>();
        for (var i = 0; i < 3; i++)
        {
            var run = await Run("eval", "--sweep", "1", "--threads", "1", "--out", output, "--json");
            Assert.True(run.Code == 0, run.Errors);
            measured.Add(run.Output);
        }

        Assert.Single(measured.Distinct());
    }

    [Fact]
    public async Task DraftsGiveTheSameTextAndRoundedWeightsNearlyTheSameLoss()
    {
        var output = Path.Combine(_folder, "drafts");
        var trained = await Run("train", "--data", Corpus, "--steps", "30", "--out", output, "--json");
        Assert.True(trained.Code == 0, trained.Errors);
        string[] weights = ["--out", output, "--checkpoint", Path.Combine(output, "model.safetensors"), "--json"];
        foreach (var type in (string[])["f32", "bf16", "int8"])
        {
            string[] generate = ["generate", "--prompt", "a", "--tokens", "60", "--temperature", "0.5", "--weights", type, .. weights];
            using var plain = await Json(generate);
            using var drafted = await Json([.. generate, "--draft", "S", "--draft-length", "4"]);
            Assert.Equal(plain.RootElement.GetProperty("text").GetString(), drafted.RootElement.GetProperty("text").GetString());
            Assert.False(plain.RootElement.TryGetProperty("drafted_tokens", out _));
            Assert.InRange(drafted.RootElement.GetProperty("accepted_tokens").GetInt32(), 1,
                drafted.RootElement.GetProperty("drafted_tokens").GetInt32());
        }

        var losses = new List<double>();
        foreach (var type in (string[])["f32", "bf16", "int8"])
        {
            using var evaluation = await Json(["eval", "--data", Corpus, "--dtype", "f32", "--weights", type, .. weights]);
            losses.Add(evaluation.RootElement.GetProperty("results").EnumerateArray().First().GetProperty("nats_per_token").GetDouble());
        }

        Assert.Equal(losses.Distinct().Count(), losses.Count);
        Assert.All(losses, loss => Assert.InRange(loss, losses[0] * 0.98, losses[0] * 1.02));

        async Task<JsonDocument> Json(string[] arguments)
        {
            var run = await Run(arguments);
            Assert.True(run.Code == 0, run.Errors);
            return JsonDocument.Parse(run.Output);
        }
    }

    [Fact]
    public async Task AStoppedRunThatResumesGivesTheSameLosses()
    {
        const int steps = 600;
        string[] options = ["train", "--data", Corpus, "--steps", $"{steps}", "--batch", "4", "--checkpoint-every", "20", "--dtype", "f32"];
        var whole = Path.Combine(_folder, "whole");
        var reference = await Run([.. options, "--out", whole]);
        Assert.True(reference.Code == 0, reference.Errors);
        foreach (var (signal, code) in ((string, int)[])[("INT", 130), ("TERM", 130), ("KILL", 137)])
        {
            var stopped = Path.Combine(_folder, signal);
            using (var process = Start([.. options, "--out", stopped]))
            {
                var errors = process.StandardError.ReadToEndAsync();
                var output = process.StandardOutput.ReadToEndAsync();
                while (!process.HasExited && !File.Exists(Path.Combine(stopped, "checkpoint.safetensors"))) await Task.Delay(5);
                if (process.HasExited) Assert.Fail($"the run ended before {signal} could be sent: {await errors}");
                Process.Start("kill", ["-" + signal, process.Id.ToString(CultureInfo.InvariantCulture)])!.WaitForExit();
                await process.WaitForExitAsync();
                Assert.True(process.ExitCode == code, $"{signal}: exit code {process.ExitCode}: {await errors}");
                if (signal != "KILL") Assert.Contains("--resume", await errors, StringComparison.Ordinal);
                await output;
            }

            var before = Losses(stopped);
            Assert.InRange(before.Count, 20, steps - 1);
            // A writer that is killed leaves such a file.
            await File.WriteAllTextAsync(Path.Combine(stopped, $"checkpoint.safetensors.{Guid.NewGuid():N}.tmp"), "half");
            var resumed = await Run("train", "--out", stopped, "--resume");
            Assert.True(resumed.Code == 0, $"{signal}: {resumed.Errors}");
            Assert.Equal(Losses(whole), Losses(stopped));
            Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(whole, "model.safetensors")),
                await File.ReadAllBytesAsync(Path.Combine(stopped, "model.safetensors")));
            Assert.DoesNotContain(Directory.GetFiles(stopped), f => f.Contains(".tmp", StringComparison.Ordinal));
        }
    }

    [Fact]
    [Trait("Kernels", "any")]
    public async Task ASecondProcessDoesNotWriteIntoTheFolderOfARun()
    {
        string[] train = ["train", "--data", Corpus, "--out", Path.Combine(_folder, "busy"), "--overwrite"];
        using var first = Start([.. train, "--steps", "100000"]);
        try
        {
            var errors = first.StandardError;
            while (await errors.ReadLineAsync() is { } line && !line.StartsWith("Training TinyLm", StringComparison.Ordinal)) { }
            var second = await Run(train);
            Assert.Equal(2, second.Code);
            Assert.Contains($"Another run, process {first.Id}, is writing in", second.Errors, StringComparison.Ordinal);
        }
        finally
        {
            first.Kill();
        }

        await first.WaitForExitAsync();
        var third = await Run([.. train, "--steps", "1"]);
        Assert.True(third.Code == 0, third.Errors);
    }

    // Returns the number and the loss of every step, as they are written.
    private static List<string> Losses(string folder) =>
    [
        .. File.ReadLines(Path.Combine(folder, "metrics.jsonl")).Select(line =>
        {
            using var step = JsonDocument.Parse(line);
            return step.RootElement.GetProperty("step").GetRawText() + ": " + step.RootElement.GetProperty("loss").GetRawText();
        }),
    ];

    private static Process Start(string[] arguments)
    {
        // Background jobs of a shell ignore SIGINT, and their children inherit that. The program must be stoppable wherever the tests run.
        var start =
            new ProcessStartInfo("env", ["--default-signal=INT", "dotnet"]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "TinyLm.dll"));
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        return Process.Start(start)!;
    }

    private static async Task<(int Code, string Output, string Errors)> Run(params string[] arguments)
    {
        using var process = Start(arguments);
        var errors = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, output, await errors);
    }
}

using System.Globalization;
using System.Security.Cryptography;

namespace MatFormer.Packages.Tests;

/// <summary>
/// Types what a newcomer types in the first hour, with the mistakes that newcomers make. Each mistake gets an answer that says what to do,
/// and nothing that was trained is lost.
/// </summary>
[Collection(nameof(PackedFolder))]
public sealed class FirstHourTests(FirstHour hour) : IClassFixture<FirstHour>
{
    private const string Model = "out/TextLm/model.safetensors";
    private const string Slice = "out/TextLm/phone.safetensors";

    [Theory]
    [InlineData("'out/TextLm' holds a model with 5 trained steps. Use --resume to continue, another --out, or --overwrite to replace it.",
        "train --data text --steps 5")]
    [InlineData("'out/TextLm' holds a model with 5 trained steps.", "demo --data text --steps 5")]
    [InlineData("There is no command 'trian'; did you mean 'train'?", "trian --data text")]
    [InlineData("train has no option '--stesp'; did you mean '--steps'?", "train --data text --stesp 5")]
    [InlineData("A command is missing before --data", "--data text")]
    [InlineData("--max-memory 20 has no unit; give one, such as 20MB or 20GiB.", "plan --max-memory 20")]
    [InlineData("plan needs all granularities, but 'out/TextLm/phone.safetensors' is the slice Phone; give the universal model's file.",
        $"plan --checkpoint {Slice}")]
    [InlineData("'out/TextLm/phone.safetensors' is the slice Phone of TextLm and has no other profile's weights",
        $"train --init {Slice} --data text --out more")]
    [InlineData("is the slice Phone of TextLm", $"extract --profile S --checkpoint {Slice}")]
    [InlineData("'out/TextLm/phone.safetensors' already exists; give another --out, or --overwrite to replace it.",
        "extract --profile Phone")]
    [InlineData("'out/TextLm/phone-f32.gguf' is a GGUF file", "generate --checkpoint out/TextLm/phone-f32.gguf")]
    [InlineData("serve is in the package MatFormer.Server; run 'dotnet add package MatFormer.Server'", "serve")]
    [InlineData("'Huge' is not a profile of TextLm", "generate --profile Huge")]
    [InlineData("lies in --out, whose files this run replaces", $"train --init {Model} --data text --overwrite")]
    [InlineData(
        "--resume: there is no checkpoint 'elsewhere/checkpoint.safetensors'; give the --out of the run", "train --resume --out elsewhere")]
    [InlineData("The data 'nowhere' does not exist", "train --data nowhere --out more")]
    [InlineData("profiles has no option '--out'", "profiles --out more")]
    public async Task AMistakeIsAnsweredAndNothingIsLost(string says, string command)
    {
        var before = hour.Hashes();
        var (code, said) = await hour.Try(command);
        Assert.True(code == 2, $"exit code {code}: {said}");
        Assert.Contains(says, said.Trim().Split('\n')[^1], StringComparison.Ordinal); // the command may have said before what it trains on
        Assert.Equal(before, hour.Hashes());
    }

    [Fact]
    public async Task AProgramThatIsAskedForHelpGivesIt()
    {
        var (code, said) = await hour.Try("--help");
        Assert.Equal(0, code);
        foreach (var command in (string[])["demo", "train", "eval", "plan", "profiles", "extract", "generate"])
            Assert.Contains($"\n  {command} ", said, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ResultsSayWhatTheyAreOf()
    {
        var before = hour.Hashes();
        foreach (var weights in (string[])[Model, Slice])
        {
            var (measured, table) = await hour.Try($"eval --windows 2 --checkpoint {weights}");
            Assert.True(measured == 0, table);
            Assert.Contains("Held-out text of 'text': 60 files", table, StringComparison.Ordinal);
            Assert.DoesNotContain("trained on", table, StringComparison.Ordinal);
        }

        var (code, said) = await hour.Try("eval --windows 2 --data other");
        Assert.True(code == 0, said);
        Assert.Contains("Measured on 'other', but the model was trained on 'text' (another text).", said, StringComparison.Ordinal);
        (code, said) = await hour.Try("plan --windows 2 --points 2 --max-parameters 600000");
        Assert.True(code == 0, said);
        Assert.Contains("Held-out text of 'text': 60 files", said, StringComparison.Ordinal);
        Assert.Contains("[Profile(\"Planned\"", said, StringComparison.Ordinal);
        Assert.Equal(before, hour.Hashes());
    }

    [Fact]
    public async Task DataThatMovedAreNamed()
    {
        var before = hour.Hashes();
        var (text, moved) = (Path.Combine(hour.Folder, "text"), Path.Combine(hour.Folder, "moved"));
        Directory.Move(text, moved);
        try
        {
            var (code, said) = await hour.Try("eval --windows 2");
            Assert.Equal(2, code);
            Assert.Contains("The data 'text' does not exist", Assert.Single(said.Trim().Split('\n')), StringComparison.Ordinal);
            Assert.Contains($"'{Model}' remembers; give --data", said, StringComparison.Ordinal);
            (code, said) = await hour.Try("eval --windows 2 --data moved");
            Assert.True(code == 0, said);
            Assert.DoesNotContain("trained on", said, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Move(moved, text);
        }

        Assert.Equal(before, hour.Hashes());
    }

    [Fact]
    public async Task ARunKeepsOthersOutAndGoesOnAfterAKill()
    {
        var before = hour.Hashes();
        var run = Path.Combine(hour.Folder, "long");
        using (var first = hour.Start("train --data text --steps 100 --batch 1 --checkpoint-every 1 --threads 1 --out long"))
        {
            var output = first.StandardOutput.ReadToEndAsync();
            var errors = first.StandardError.ReadToEndAsync();
            while (!first.HasExited && !File.Exists(Path.Combine(run, "checkpoint.safetensors"))) await Task.Delay(1);

            // The first run stands still, so that it is there however long the second one takes.
            await Kill("STOP", first.Id);
            if (first.HasExited) Assert.Fail($"the run ended before it could be stopped: {await errors}");
            var (code, said) = await hour.Try("train --data text --steps 5 --overwrite --out long");
            Assert.Equal(2, code);
            Assert.Contains(
                $"Another run, process {first.Id}, is writing in 'long'; wait until it has ended, or give another folder.", said,
                StringComparison.Ordinal);
            await Kill("KILL", first.Id);
            await first.WaitForExitAsync();
            await Task.WhenAll(output, errors);
            Assert.Equal(137, first.ExitCode);
        }

        // Nothing is said again, and the lock ended with the process.
        var (resumed, says) = await hour.Try("train --resume --out long");
        Assert.True(resumed == 0, says);
        Assert.Matches(@"Resumed from long/checkpoint\.safetensors at step \d+ of 100", says);
        Assert.Contains("Trained 100 steps", says, StringComparison.Ordinal);
        Assert.DoesNotContain("From here on with", says, StringComparison.Ordinal);
        Assert.True(File.Exists(Path.Combine(run, "model.safetensors")));
        Assert.Equal(before, hour.Hashes());
    }

    private async Task Kill(string signal, int process) => await Command.Run(
        hour.Folder, new Dictionary<string, string>(), "kill", $"-{signal}", process.ToString(CultureInfo.InvariantCulture));
}

/// <summary>
/// A folder in which a program of the template has trained a model for five steps, and cut a slice and a GGUF file from it.
/// </summary>
public sealed class FirstHour(PackedFolder packed) : IAsyncLifetime
{
    private string _program = string.Empty;

    public string Folder { get; } = Path.Combine(packed.Projects, "first-hour");

    public async ValueTask InitializeAsync()
    {
        _program = await packed.TemplateProgram();
        PackedFolder.WriteText(Path.Combine(Folder, "text"));
        PackedFolder.WriteText(Path.Combine(Folder, "other"), seed: 6);
        foreach (var command in (string[])[
            "train --data text --steps 5 --batch 2", "extract --profile Phone", "extract --profile Phone --format gguf"])
        {
            var (code, said) = await Try(command);
            Assert.True(code == 0, $"{command}: {said}");
        }
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <summary>Runs the program, and returns its exit code and all that it says.</summary>
    public Task<(int Code, string Said)> Try(string command) => Command.Try(Folder, packed.Environment, _program, command.Split(' '));

    internal System.Diagnostics.Process Start(string command) => Command.Start(Folder, packed.Environment, _program, command.Split(' '));

    /// <summary>Returns the name and the hash of each file of weights that must not be lost.</summary>
    public string[] Hashes() =>
    [
        .. Directory.GetFiles(Path.Combine(Folder, "out", "TextLm"))
            .Where(file => Path.GetExtension(file) is ".safetensors" or ".gguf" or ".json").Order(StringComparer.Ordinal)
            .Select(file => $"{Path.GetFileName(file)} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file)))}"),
    ];
}

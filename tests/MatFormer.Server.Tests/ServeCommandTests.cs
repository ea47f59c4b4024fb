using System.CommandLine;
using System.Diagnostics;
using System.Globalization;

namespace MatFormer.Server.Tests;

/// <summary>Runs the command in another process, as a user does.</summary>
public sealed class ServeCommandTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-serve-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("INT")]
    [InlineData("TERM")]
    public async Task TheCommandServesUntilASignalStopsIt(string signal)
    {
        var checkpoint = Path.Combine(_folder, "model.safetensors");
        using (var model = Models.New()) model.Save(checkpoint);
        using var process = Start("serve", "--checkpoint", checkpoint, "--port", "0", "--weights", "bf16", "--max-tokens", "2000000000");
        var errors = process.StandardError.ReadToEndAsync();
        var lines = new List<string>();
        while (await process.StandardOutput.ReadLineAsync() is { } line)
        {
            lines.Add(line);
            if (line.Contains("http://", StringComparison.Ordinal)) break;
        }

        Assert.True(lines.Count == 5, $"{string.Join('\n', lines)}\n{(process.HasExited ? await errors : null)}");
        Assert.StartsWith("TinyLm/Mixed: 1*S 1*XL, ", lines[3]);
        var address = lines[4].Split(' ').Single(word => word.StartsWith("http://", StringComparison.Ordinal));
        using var client = new HttpClient { BaseAddress = new Uri(address) };
        using var content = new StringContent("""{"model": "TinyLm/S", "prompt": "x", "max_tokens": 5}""", null, "application/json");
        using (var answer = await client.PostAsync("/v1/completions", content))
            Assert.True(answer.IsSuccessStatusCode, await answer.Content.ReadAsStringAsync());
        // A client that leaves in the middle of an answer is not an error.
        using var endless = new HttpRequestMessage(HttpMethod.Post, "/v1/completions")
        {
            Content = new StringContent(
                """{"model": "TinyLm", "prompt": "x", "max_tokens": 2000000000, "stream": true}""", null, "application/json"),
        };
        using (var left = await client.SendAsync(endless, HttpCompletionOption.ResponseHeadersRead))
            await (await left.Content.ReadAsStreamAsync()).ReadExactlyAsync(new byte[100]);
        while (!(await client.GetStringAsync("/metrics"))
            .Contains("matformer_requests_total{outcome=\"cancelled\"} 1", StringComparison.Ordinal))
            await Task.Delay(10);
        Process.Start("kill", ["-" + signal, process.Id.ToString(CultureInfo.InvariantCulture)])!.WaitForExit();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, await errors);
        Assert.Equal(string.Empty, await errors);
    }

    [Fact]
    public async Task WrongInputEndsWithExitCode2AndOneLine()
    {
        var checkpoint = Path.Combine(_folder, "model.safetensors");
        var mixed = Path.Combine(_folder, "mixed.safetensors");
        using (var model = Models.New())
        {
            model.Save(checkpoint);
            using var slice = model.Extract(TinyLm.Profiles[0]);
            slice.Save(mixed);
        }

        var empty = Path.Combine(_folder, "empty");
        await File.WriteAllTextAsync(empty, "\n");
        using var taken = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        taken.Start();
        var port = ((System.Net.IPEndPoint)taken.LocalEndpoint).Port.ToString(CultureInfo.InvariantCulture);
        (string Says, string[] Arguments)[] cases =
        [
            ("nowhere", ["--checkpoint", Path.Combine(_folder, "nowhere")]),
            ("--allow-anonymous", ["--checkpoint", checkpoint, "--host", "0.0.0.0"]),
            ("--host", ["--checkpoint", checkpoint, "--host", "example.com"]),
            ("--port", ["--checkpoint", checkpoint, "--port", "66000"]),
            ("--sequences", ["--checkpoint", checkpoint, "--sequences", "none"]),
            ("int8", ["--checkpoint", checkpoint, "--weights", "int4"]),
            ("--token-file", ["--checkpoint", checkpoint, "--token-file", empty]),
            ("The file of --token-file, 'nowhere', does not exist.", ["--checkpoint", checkpoint, "--token-file", "nowhere"]),
            ("--draft", ["--checkpoint", checkpoint, "--draft", "Huge"]),
            ("--draft-length", ["--checkpoint", checkpoint, "--draft-length", "3"]),
            ("--weights nested8", ["--checkpoint", checkpoint, "--draft", "S", "--draft-weights", "nested4", "--weights", "nested2"]),
            ("--cascade: 'S' is not a profile and a threshold", ["--checkpoint", checkpoint, "--cascade", "S"]),
            ("leave one of them out", ["--checkpoint", checkpoint, "--cascade", "S:0.5", "--draft", "S"]),
            ("2*M before 1*S 1*XL, of which it is not a part", ["--checkpoint", mixed, "--cascade", "M:0.5"]),
            (port, ["--checkpoint", checkpoint, "--port", port]),
            ("The server cannot listen at 192.0.2.1:8080", // an address for examples, which no machine has
                ["--checkpoint", checkpoint, "--host", "192.0.2.1", "--allow-anonymous"]),
            ("The chat template 'nowhere.jinja' does not exist", ["--checkpoint", checkpoint, "--chat-template", "nowhere.jinja"]),
        ];
        foreach (var (says, arguments) in cases)
        {
            using var process = Start(["serve", .. arguments]);
            var output = process.StandardOutput.ReadToEndAsync();
            var errors = await process.StandardError.ReadToEndAsync();
            await process.WaitForExitAsync();
            Assert.True(process.ExitCode == 2, $"{string.Join(' ', arguments)}: {process.ExitCode} {errors}");
            Assert.True(errors.Trim().Split('\n').Length == 1, errors);
            Assert.Contains(says, errors);
            Assert.Equal(string.Empty, await output);
        }
    }

    [Fact]
    public async Task TheTemplateBesideTheWeightsFormatsChats()
    {
        var checkpoint = Path.Combine(_folder, "model.safetensors");
        using (var model = Models.New()) model.Save(checkpoint);
        var beside = Path.Combine(_folder, "tokenizer_config.json");
        await File.WriteAllTextAsync(beside, "{\"chat_template\": \"{{ raise_exception('beside') }}\"}");
        var other = Path.Combine(_folder, "other.jinja");
        await File.WriteAllTextAsync(other, "{{ raise_exception('other') }}");
        Assert.Equal((400, "beside", beside), await Refusal());
        Assert.Equal((400, "other", other), await Refusal("--chat-template", other));
        Assert.Equal((200, null, null), await Refusal("--chat-template", "continuation"));

        // A template that cannot be used is not passed over in silence.
        await File.WriteAllTextAsync(beside, "{\"chat_template\": \"{{ x|wordwrap }}\"}");
        var e = await Assert.ThrowsAsync<TokenizerException>(() => Refusal());
        Assert.Contains("the filter 'wordwrap' is not supported", e.Message);
        Assert.Contains("--chat-template continuation", e.Message);

        // Returns the status of a chat, what the template says, and the file that the program names.
        async Task<(int, string?, string?)> Refusal(params string[] arguments)
        {
            using var stopping = new CancellationTokenSource();
            using var output = new Lines();
            var running = ServeCommand.For<TinyLm>().Parse(["--checkpoint", checkpoint, "--port", "0", "--threads", "2", .. arguments])
                .InvokeAsync(new InvocationConfiguration { Output = output, EnableDefaultExceptionHandler = false }, stopping.Token);
            if (await Task.WhenAny(running, output.Address.Task) == running) await running; // throws why
            using var client = new HttpClient { BaseAddress = await output.Address.Task };
            using var content = new StringContent(
                """{"model": "TinyLm/S", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}""", null, "application/json");
            using var answer = await client.PostAsync("/v1/chat/completions", content);
            var text = await answer.Content.ReadAsStringAsync();
            await stopping.CancelAsync();
            Assert.Equal(0, await running);
            const string Says = "Chats are formatted by ";
            var file = output.ToString().Split('\n')
                .SingleOrDefault(line => line.StartsWith(Says, StringComparison.Ordinal))?[Says.Length..];
            var status = (int)answer.StatusCode;
            return (status, status == 200 ? null : text.Contains("messages: beside", StringComparison.Ordinal) ? "beside" : "other", file);
        }
    }

    [Fact]
    public async Task TheCommandServesAnEncoder()
    {
        var checkpoint = Path.Combine(_folder, "model.safetensors");
        using (var model = Encoders.New()) model.Save(checkpoint);
        using var stopping = new CancellationTokenSource();
        using var output = new Lines();
        var command = ServeCommand.For<TinyEncoder>();
        var running = command.Parse(["--checkpoint", checkpoint, "--port", "0", "--threads", "2"])
            .InvokeAsync(new InvocationConfiguration { Output = output, EnableDefaultExceptionHandler = false }, stopping.Token);
        var ended = await Task.WhenAny(running, output.Address.Task);
        if (ended == running) await running; // throws why
        using (var client = new HttpClient { BaseAddress = await output.Address.Task })
        {
            using var content = new StringContent("{\"model\": \"TinyEncoder/M\", \"input\": \"x\"}", null, "application/json");
            using var answer = await client.PostAsync("/v1/embeddings", content);
            var text = await answer.Content.ReadAsStringAsync();
            var vector = System.Text.Json.JsonElement.Parse(text).GetProperty("data")[0].GetProperty("embedding");
            Encoders.Near(Encoders.Alone("M", "x"), [.. vector.EnumerateArray().Select(x => x.GetSingle())]);
        }

        await stopping.CancelAsync();
        Assert.Equal(0, await running);
        Assert.Contains("TinyEncoder/Mixed: 1*S 1*XL, ", output.ToString());
    }

    [Fact]
    public async Task TheHelpFitsTheScreen()
    {
        using var process = Start("serve", "--help");
        var help = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.Contains("--grace", help);
        Assert.All(help.Split('\n'), line => Assert.True(line.TrimEnd().Length <= 100, line));
    }

    [Fact]
    public async Task TheCommandServesAVisionTransformer()
    {
        var checkpoint = Path.Combine(_folder, "model.safetensors");
        using (var model = Images.New()) model.Save(checkpoint);
        using var stopping = new CancellationTokenSource();
        using var output = new Lines();
        var command = ServeCommand.For<TinyViT>();
        Assert.DoesNotContain("--tokenizer", command.Options.Select(option => option.Name));
        var running = command.Parse(["--checkpoint", checkpoint, "--port", "0", "--threads", "2", "--max-megapixels", "1", "--drain", "1"])
            .InvokeAsync(new InvocationConfiguration { Output = output, EnableDefaultExceptionHandler = false }, stopping.Token);
        if (await Task.WhenAny(running, output.Address.Task) == running) await running; // throws why
        using (var client = new HttpClient { BaseAddress = await output.Address.Task })
        {
            var pixels = Images.Random(1);
            var body = $"{{\"model\": \"TinyViT/S\", \"input\": \"{Images.Pgm(pixels)}\"}}";
            using var content = new StringContent(body, null, "application/json");
            using var answer = await client.PostAsync("/v1/embeddings", content);
            var text = await answer.Content.ReadAsStringAsync();
            var vector = System.Text.Json.JsonElement.Parse(text).GetProperty("data")[0].GetProperty("embedding");
            Encoders.Near(Images.Alone("S", pixels), [.. vector.EnumerateArray().Select(x => x.GetSingle())]);
        }

        await stopping.CancelAsync();
        Assert.Equal(0, await running);
        Assert.Contains("ms per image", output.ToString());
        Assert.Contains("Draining for 1 s.", output.ToString());
    }

    // Says when the address was written.
    private sealed class Lines : StringWriter
    {
        public TaskCompletionSource<Uri> Address { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public override void WriteLine(string? value)
        {
            base.WriteLine(value);
            if (value?.Split(' ').FirstOrDefault(word => word.StartsWith("http://", StringComparison.Ordinal)) is { } address)
                Address.TrySetResult(new Uri(address));
        }
    }

    internal static Process Start(params string[] arguments)
    {
        // Background jobs of a shell ignore SIGINT, and their children inherit that. The program must be stoppable wherever the tests run.
        var start =
            new ProcessStartInfo("env", ["--default-signal=INT", "dotnet"]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "TinyLm.dll"));
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        return Process.Start(start)!;
    }
}

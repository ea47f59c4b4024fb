using System.CommandLine;
using System.Globalization;
using System.Net;

namespace MatFormer;

/// <summary>
/// The command <c>serve</c> of a model program:
/// <c>ModelProgram.RunAsync&lt;DocsLm&gt;(args, ServeCommand.For&lt;DocsLm&gt;())</c>.
/// </summary>
public static class ServeCommand
{
    private const string TokenVariable = "MATFORMER_TOKEN";

    /// <summary>
    /// Creates the command. It loads weights from a file, measures the sizes, and serves OpenAI-compatible endpoints until Ctrl-C or
    /// SIGTERM. Then its exit code is 0.
    /// </summary>
    /// <typeparam name="TModel">The declared model.</typeparam>
    public static Command For<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var name = TModel.Spec.Name;
        var folder = new Option<string>("--out")
        {
            Description = "Folder of the trained weights",
            HelpName = "DIR",
            DefaultValueFactory = _ => Path.Combine("out", name),
        };
        var checkpoint = new Option<string?>("--checkpoint")
        {
            Description = "Weights, also those of a slice; model.safetensors in --out by default",
            HelpName = "FILE",
        };
        var tokenizer = new Option<string?>("--tokenizer")
        {
            Description = "A tokenizer.json, or 'bytes'; by default the file beside the weights, or bytes",
            HelpName = "FILE",
        };
        var host = new Option<string>("--host")
        {
            Description = "Address to listen at; by default 127.0.0.1, for this machine only",
            HelpName = "ADDRESS",
            DefaultValueFactory = _ => "127.0.0.1",
        };
        var port = Number("--port", 8080, 0, IPEndPoint.MaxPort, "Port to listen at, 0 for any free one");
        var tokenFile = new Option<string?>("--token-file")
        {
            Description = $"File with the bearer token in its first line; {TokenVariable} by default",
            HelpName = "FILE",
        };
        var anonymous = new Option<bool>("--allow-anonymous") { Description = "Let other machines send requests without a token" };
        var weights = new Option<string>("--weights")
        {
            Description = "Type of the weights in memory; f32 by default",
            DefaultValueFactory = _ => "f32",
        };
        weights.AcceptOnlyFromAmong("f32", "bf16", "int8");
        var sequences = Number("--sequences", 16, 1, 4096, "The most requests that run at once");
        var queue = Number("--queue", 256, 0, 1_000_000, "The most requests that wait");
        var maxTokens = Number("--max-tokens", 4096, 1, int.MaxValue, "The most tokens that a request may ask for");
        var autoMs = new Option<double>("--auto-ms")
        {
            Description = $"Milliseconds per token that {name}/auto aims for, with smaller sizes under load",
            HelpName = "MS",
            DefaultValueFactory = _ => 50,
            CustomParser = result =>
            {
                var text = result.Tokens[^1].Value;
                if (double.TryParse(text, CultureInfo.InvariantCulture, out var ms) && ms > 0 && double.IsFinite(ms)) return ms;
                result.AddError($"--auto-ms must be more than 0, not '{text}'.");
                return 0;
            },
        };
        var template = new Option<string>("--chat-template")
        {
            Description = "How to format chats: as one text (continuation) or as ChatML",
            DefaultValueFactory = _ => "continuation",
        };
        template.AcceptOnlyFromAmong("continuation", "chatml");
        var threads = new Option<int?>("--threads")
        {
            Description = "Threads on the CPU; one per physical core by default",
            HelpName = "N",
            CustomParser = result => Whole(result, "--threads", 1, 4096),
        };
        var noReuse = new Option<bool>("--no-prefix-reuse")
        {
            Description = "Compute all of each prompt, also if an earlier request began alike",
        };
        var grace = Number("--grace", 10, 0, 3600, "Seconds to wait for running requests when stopping");
        var command = new Command("serve", "Serve all sizes over an OpenAI-compatible API (docs/serving.md)")
        {
            checkpoint, folder, tokenizer, host, port, tokenFile, anonymous, weights, sequences, queue, maxTokens, autoMs, template,
            noReuse, threads, grace,
        };
        command.Validators.Add(result =>
        {
            // This is checked before weights are loaded.
            var address = result.GetValue(host) ?? "127.0.0.1"; // defaults are applied after the validators
            if (AddressOf(address) is not { } at)
            {
                result.AddError($"--host must be an address such as 127.0.0.1 or 0.0.0.0, not '{address}'.");
                return;
            }

            var hasToken = result.GetValue(tokenFile) is not null || Environment.GetEnvironmentVariable(TokenVariable) is { Length: > 0 };
            if (hasToken || IPAddress.IsLoopback(at) || result.GetValue(anonymous)) return;
            result.AddError($"--host {at}: other machines could reach the server without a token; give --token-file or {TokenVariable}, or "
                + "--allow-anonymous.");
        });
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var file = parsed.GetValue(checkpoint) ?? Path.Combine(parsed.GetRequiredValue(folder), "model.safetensors");
            var path = parsed.GetValue(tokenizer) ?? Path.Combine(Path.GetDirectoryName(Path.GetFullPath(file))!, "tokenizer.json");
            var isByteLevel = parsed.GetValue(tokenizer) is { } given ? given == "bytes" : !File.Exists(path);
            var options = new ModelServerOptions
            {
                Defaults = new GenerationOptions
                {
                    Tokenizer = isByteLevel ? Tokenizer.ByteLevel : Tokenizer.Load(path),
                    Temperature = 0.7,
                    Tokens = Math.Min(200, parsed.GetValue(maxTokens)),
                },
                ChatTemplate = parsed.GetValue(template) == "chatml" ? ChatTemplate.ChatML : ChatTemplate.Continuation,
                MaxTokens = parsed.GetValue(maxTokens),
                AutoMsPerToken = parsed.GetValue(autoMs),
                Token = Token(parsed.GetValue(tokenFile)),
                Scheduler = new SchedulerOptions { Queue = parsed.GetValue(queue), ReusesPrefixes = !parsed.GetValue(noReuse) },
            };
            var engine = DecodingEngine.Open<TModel>(file, options: new DecodingOptions
            {
                Weights = parsed.GetValue(weights) switch
                {
                    "bf16" => DecodingWeights.BFloat16,
                    "int8" => DecodingWeights.Int8,
                    _ => DecodingWeights.Float32,
                },
                Sequences = parsed.GetValue(sequences),
                Threads = parsed.GetValue(threads),
                HiddenStates = true,
            });
            ModelServer server;
            try
            {
                server = ModelServer.Create<TModel>(engine, options);
            }
            catch
            {
                engine.Dispose();
                throw;
            }

            await using (server.ConfigureAwait(false))
            {
                var listening = new ListenOptions
                {
                    Address = AddressOf(parsed.GetValue(host))!,
                    Port = parsed.GetValue(port),
                    AllowAnonymous = parsed.GetValue(anonymous),
                };
                var web = await ModelServerHost.StartAsync(server, listening, cancellationToken).ConfigureAwait(false);
                await using var running = web.ConfigureAwait(false);
                var output = parsed.InvocationConfiguration.Output;
                foreach (var size in server.Profiles)
                {
                    output.WriteLine(FormattableString.Invariant(
                        $"{name}/{size.Name}: {size.Pattern}, {size.Parameters:n0} parameters, {size.MsPerToken:0.###} ms per token"));
                }

                output.WriteLine($"Serving {file} at {web.Address} (Ctrl-C stops the server)");
                await Task.Delay(Timeout.Infinite, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                output.WriteLine("Stopping.");
                await web.StopAsync(TimeSpan.FromSeconds(parsed.GetValue(grace))).ConfigureAwait(false);
            }

            return 0;
        });
        return command;
    }

    private static IPAddress? AddressOf(string? text) =>
        text == "localhost" ? IPAddress.Loopback : IPAddress.TryParse(text, out var address) ? address : null;

    private static Option<int> Number(string name, int ordinary, int least, int most, string description) => new(name)
    {
        Description = string.Create(CultureInfo.InvariantCulture, $"{description}; {ordinary} by default"),
        HelpName = "N",
        DefaultValueFactory = _ => ordinary,
        CustomParser = result => Whole(result, name, least, most) ?? 0,
    };

    private static int? Whole(System.CommandLine.Parsing.ArgumentResult result, string name, int least, int most)
    {
        var text = result.Tokens[^1].Value;
        if (int.TryParse(text, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most) return number;
        result.AddError(FormattableString.Invariant($"{name} must be a whole number within {least} and {most}, not '{text}'."));
        return null;
    }

    // The token is not an option, because other users can see command lines.
    private static string? Token(string? file)
    {
        if (file is null) return Environment.GetEnvironmentVariable(TokenVariable) is { Length: > 0 } token ? token : null;
        var line = File.ReadLines(file).FirstOrDefault()?.Trim();
        return line is { Length: > 0 } ? line
            : throw new IOException($"The file of --token-file, '{file}', has no token in its first line.");
    }
}

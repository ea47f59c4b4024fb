using System.CommandLine;
using System.Globalization;
using System.Net;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The command <c>serve</c> of a model program:
/// <c>ModelProgram.RunAsync&lt;DocsLm&gt;(args, ServeCommand.For&lt;DocsLm&gt;())</c>.
/// </summary>
public static class ServeCommand
{
    private const string TokenVariable = "MATFORMER_TOKEN";
    private const int LongestDraft = 8;

    /// <summary>
    /// Creates the command. It loads weights from a file, measures the sizes, and serves OpenAI-compatible endpoints until Ctrl-C or
    /// SIGTERM. Then its exit code is 0.
    /// </summary>
    /// <typeparam name="TModel">
    /// The declared model. Language models write text and give embeddings, text encoders and vision transformers give embeddings.
    /// </typeparam>
    public static Command For<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel> =>
        TModel.Spec.Kind == ModelKind.LanguageModel ? ForLanguageModel<TModel>() : ForEncoder<TModel>();

    private static Command ForEncoder<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var name = TModel.Spec.Name;
        var takesImages = TModel.Spec.Kind == ModelKind.VisionTransformer;
        var common = new CommonOptions(name);
        var queue = Number("--queue", 256, 0, 1_000_000, "The most requests that wait");
        var maxBody = Number("--max-body", 16, 1, 1024, "The most MiB that a request with its images may have");
        var maxPixels = Number("--max-megapixels", 32, 1, 1000, "The most million pixels that the images of a request may have together");
        var autoMs = Milliseconds($"Milliseconds that {name}/auto aims for, with smaller sizes under load");
        var dtype = new Option<string>("--dtype")
        {
            Description = "Type of activations and matrix products",
            DefaultValueFactory = _ => "f32",
        };
        dtype.AcceptOnlyFromAmong("f32", "bf16");
        var command = new Command("serve", "Serve the embeddings of all sizes over an OpenAI-compatible API (docs/serving.md)")
        {
            queue, autoMs, dtype,
        };
        common.AddTo(command, hasTokenizer: !takesImages);
        if (takesImages)
        {
            command.Options.Add(maxBody);
            command.Options.Add(maxPixels);
        }

        command.SetAction(async (parsed, cancellationToken) =>
        {
            var file = common.FileOf(parsed);
            var options = new EncoderServerOptions
            {
                Queue = parsed.GetValue(queue),
                AutoMs = parsed.GetValue(autoMs),
                Token = common.TokenOf(parsed),
            };
            options = takesImages
                ? options with { MaxBodyBytes = (long)parsed.GetValue(maxBody) << 20, MaxPixels = parsed.GetValue(maxPixels) * 1_000_000 }
                : options with { Tokenizer = common.TokenizerOf(parsed, file) };
            set_num_threads(parsed.GetValue(common.Threads) ?? Machine.Threads);
            var encoder = Checkpoint.Open<TModel>(file);
            encoder.ComputeType = parsed.GetValue(dtype) == "bf16" ? ScalarType.BFloat16 : ScalarType.Float32;
            ModelServer server;
            try
            {
                server = ModelServer.Create<TModel>(encoder, options);
            }
            catch
            {
                encoder.Dispose();
                throw;
            }

            return await common.RunAsync(server, file, parsed, cancellationToken).ConfigureAwait(false);
        });
        return command;
    }

    private static Command ForLanguageModel<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var name = TModel.Spec.Name;
        var common = new CommonOptions(name);
        var weights = new Option<string>("--weights")
        {
            Description = "Type of the weights in memory",
            DefaultValueFactory = _ => "f32",
        };
        weights.AcceptOnlyFromAmong(DecodingWeights.ShortNames);
        var sequences = Number("--sequences", 16, 1, 4096, "The most requests that run at once");
        var queue = Number("--queue", 256, 0, 1_000_000, "The most requests that wait");
        var maxTokens = Number("--max-tokens", 4096, 1, int.MaxValue, "The most tokens that a request may ask for");
        var autoMs = Milliseconds($"Milliseconds per token that {name}/auto aims for, with smaller sizes under load");
        var template = new Option<string?>("--chat-template")
        {
            Description = "How to format chats: a tokenizer_config.json or chat_template.jinja, 'chatml', or 'continuation' (one text); by "
                + "default the template beside the weights, or continuation",
            HelpName = "FILE",
        };
        var draft = new Option<string?>("--draft")
        {
            Description = "A smaller profile that drafts tokens for larger ones to verify: same text, faster",
            HelpName = "NAME",
        };
        var draftWeights = new Option<string?>("--draft-weights")
        {
            Description = "Weights that the draft runs with: fewer bits of the same bytes; those of --weights by default",
        };
        draftWeights.AcceptOnlyFromAmong(DecodingWeights.NestedNames);
        var draftLength = new Option<int?>("--draft-length")
        {
            Description = "Tokens to draft at once; by default adapted to speed and acceptance",
            HelpName = "N",
            CustomParser = result => Whole(result, "--draft-length", 1, LongestDraft),
        };
        var cascade = new Option<string?>("--cascade")
        {
            Description = "Smaller profiles that answer for larger ones while they are sure, such as S:0.8; see the command calibrate",
            HelpName = "NAME:N",
        };
        var noReuse = new Option<bool>("--no-prefix-reuse")
        {
            Description = "Compute all of each prompt, also if an earlier request began alike",
        };
        var command = new Command("serve", "Serve all sizes over an OpenAI-compatible API (docs/serving.md)")
        {
            weights, sequences, queue, maxTokens, autoMs, template, draft, draftWeights, draftLength, cascade, noReuse,
        };
        common.AddTo(command);
        command.Validators.Add(result =>
        {
            if (result.GetValue(cascade) is not { } levels) return;
            if (result.GetValue(draft) is not null)
            {
                result.AddError("--cascade changes the text that --draft would reproduce; leave one of them out.");
                return;
            }

            try
            {
                CascadeLevel.Parse<TModel>(levels);
            }
            catch (ArgumentException e)
            {
                result.AddError($"--cascade: {ArgumentProblem.Of(e)}");
            }
        });
        command.Validators.Add(result =>
        {
            var hasDraft = result.GetValue(draft) is not null;
            if (!hasDraft)
            {
                if (result.GetValue(draftLength) is not null) result.AddError("--draft-length needs --draft; give both or neither.");
                if (result.GetValue(draftWeights) is not null) result.AddError("--draft-weights needs --draft; give both or neither.");
                return;
            }

            if (result.GetValue(draftWeights) is { } drafted
                && !DecodingWeights.OfName(result.GetValue(weights)!).Hold(DecodingWeights.OfName(drafted)))
            {
                result.AddError($"--draft-weights {drafted} are a part of nested weights of as many bits or more; give --weights nested8.");
            }

            try
            {
                Profile<TModel>.Parse(result.GetValue(draft)!);
            }
            catch (ArgumentException e)
            {
                result.AddError($"--draft: {ArgumentProblem.Of(e)}");
            }
        });
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var file = common.FileOf(parsed);
            var (chats, chatsFrom) = TemplateOf(parsed.GetValue(template), file);
            var drafting = parsed.GetValue(draft) is { } drafts ? Profile<TModel>.Parse(drafts) : null;
            var options = new ModelServerOptions
            {
                Defaults = new GenerationOptions
                {
                    Tokenizer = common.TokenizerOf(parsed, file),
                    Temperature = 0.7,
                    Tokens = Math.Min(200, parsed.GetValue(maxTokens)),
                    Draft = drafting?.Layers ?? default,
                    DraftWeights = parsed.GetValue(draftWeights) is { } fewer ? DecodingWeights.OfName(fewer) : null,
                    DraftLength = parsed.GetValue(draftLength),
                    Cascade = parsed.GetValue(cascade) is { } levels ? CascadeLevel.Parse<TModel>(levels) : [],
                },
                ChatTemplate = chats,
                MaxTokens = parsed.GetValue(maxTokens),
                AutoMsPerToken = parsed.GetValue(autoMs),
                Token = common.TokenOf(parsed),
                Scheduler = new SchedulerOptions { Queue = parsed.GetValue(queue), ReusesPrefixes = !parsed.GetValue(noReuse) },
            };
            var engine = DecodingEngine.Open<TModel>(file, options: new DecodingOptions
            {
                Weights = DecodingWeights.OfName(parsed.GetValue(weights)!),
                Sequences = parsed.GetValue(sequences),
                Threads = parsed.GetValue(common.Threads),
                HiddenStates = true,
            });
            ModelServer server;
            try
            {
                if (drafting is not null && !engine.Layers.Hold(drafting.Layers))
                {
                    throw new CheckpointException(
                        file, $"holds {engine.ProfileName} ({TModel.Spec.FormatPattern(engine.Layers.AsSpan())}), of which the draft "
                        + $"{drafting.Name} ({drafting.Pattern}) is not a part; give a smaller profile.");
                }

                CheckCascade(file, engine, options.Defaults);
                server = ModelServer.Create<TModel>(engine, options);
            }
            catch
            {
                engine.Dispose();
                throw;
            }

            var note = chatsFrom is null ? null : $"Chats are formatted by {chatsFrom}";
            return await common.RunAsync(server, file, parsed, cancellationToken, note).ConfigureAwait(false);
        });
        return command;
    }

    private static void CheckCascade(string file, DecodingEngine engine, GenerationOptions defaults)
    {
        if (defaults.Cascade.IsEmpty) return;
        try
        {
            DecodingScheduler.Check(defaults, engine);
        }
        catch (ArgumentException e)
        {
            throw new CheckpointException(file, $"holds {engine.ProfileName}. {ArgumentProblem.Of(e)}");
        }
    }

    // Returns the template, and the file that it comes from.
    private static (ChatTemplate Template, string? File) TemplateOf(string? given, string weights)
    {
        switch (given)
        {
            case "continuation": return (ChatTemplate.Continuation, null);
            case "chatml": return (ChatTemplate.ChatML, null);
            case not null: return (ChatTemplate.Load(given), given);
        }

        var beside = ChatTemplateFile.Find(Path.GetDirectoryName(Path.GetFullPath(weights))!);
        if (beside is null) return (ChatTemplate.Continuation, null);
        try
        {
            return (ChatTemplate.Load(beside), beside);
        }
        catch (TokenizerException e)
        {
            throw new TokenizerException($"{e.Message} With --chat-template continuation it is not read.", e);
        }
    }

    private static IPAddress? AddressOf(string? text) =>
        text == "localhost" ? IPAddress.Loopback : IPAddress.TryParse(text, out var address) ? address : null;

    private static Option<double> Milliseconds(string description) => new("--auto-ms")
    {
        Description = description,
        HelpName = "MS",
        DefaultValueFactory = _ => 50,
        CustomParser = result =>
        {
            var text = result.Tokens[^1].Value;
            if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var ms) && double.IsFinite(ms) && ms > 0)
                return ms;
            result.AddError($"--auto-ms must be a number above 0, not '{text}'.");
            return 0;
        },
    };

    private static Option<int> Number(string name, int ordinary, int least, int most, string description) => new(name)
    {
        Description = description, // the help adds the default
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
        if (!File.Exists(file)) throw new IOException($"The file of --token-file, '{file}', does not exist.");
        var line = File.ReadLines(file).FirstOrDefault()?.Trim();
        return line is { Length: > 0 } ? line
            : throw new IOException($"The file of --token-file, '{file}', has no token in its first line.");
    }

    // The options that all kinds of models have, and what is done with them.
    private sealed class CommonOptions(string name)
    {
        private readonly Option<string> _folder = new("--out")
        {
            Description = "Folder of the trained weights",
            HelpName = "DIR",
            DefaultValueFactory = _ => Path.Combine("out", name),
        };

        private readonly Option<string?> _checkpoint = new("--checkpoint")
        {
            Description = "Weights, also those of a slice; model.safetensors in --out by default",
            HelpName = "FILE",
        };

        private readonly Option<string?> _tokenizer = new("--tokenizer")
        {
            Description = "A tokenizer.json, or 'bytes'; by default the file beside the weights, or bytes",
            HelpName = "FILE",
        };

        private readonly Option<string> _host = new("--host")
        {
            Description = "Address to listen at; 127.0.0.1 is for this machine only",
            HelpName = "ADDRESS",
            DefaultValueFactory = _ => "127.0.0.1",
        };

        private readonly Option<int> _port = Number("--port", 8080, 0, IPEndPoint.MaxPort, "Port to listen at, 0 for any free one");

        private readonly Option<string?> _tokenFile = new("--token-file")
        {
            Description = $"File with the bearer token in its first line; {TokenVariable} by default",
            HelpName = "FILE",
        };

        private readonly Option<bool> _anonymous = new("--allow-anonymous")
        {
            Description = "Let other machines send requests without a token",
        };

        private readonly Option<int> _grace = Number("--grace", 10, 0, 3600, "Seconds to wait for running requests when stopping");

        private readonly Option<int> _drain = Number(
            "--drain", 0, 0, 3600, "Seconds to go on when told to stop, while /readyz says no to load balancers");

        public Option<int?> Threads { get; } = new("--threads")
        {
            Description = "Threads on the CPU; one per physical core by default",
            HelpName = "N",
            CustomParser = result => Whole(result, "--threads", 1, 4096),
        };

        public void AddTo(Command command, bool hasTokenizer = true)
        {
            if (hasTokenizer) command.Options.Add(_tokenizer);
            foreach (var option in (Option[])[_checkpoint, _folder, _host, _port, _tokenFile, _anonymous, Threads, _grace, _drain])
                command.Options.Add(option);
            command.Validators.Add(result =>
            {
                // This is checked before weights are loaded.
                var address = result.GetValue(_host) ?? "127.0.0.1"; // defaults are applied after the validators
                if (AddressOf(address) is not { } at)
                {
                    result.AddError($"--host must be an address such as 127.0.0.1 or 0.0.0.0, not '{address}'.");
                    return;
                }

                var hasToken = result.GetValue(_tokenFile) is not null
                    || Environment.GetEnvironmentVariable(TokenVariable) is { Length: > 0 };
                if (hasToken || IPAddress.IsLoopback(at) || result.GetValue(_anonymous)) return;
                result.AddError(
                    $"--host {at}: other machines could reach the server without a token; give --token-file or {TokenVariable}, or "
                    + "--allow-anonymous.");
            });
        }

        public string FileOf(ParseResult parsed) =>
            parsed.GetValue(_checkpoint) ?? Path.Combine(parsed.GetRequiredValue(_folder), "model.safetensors");

        public Tokenizer TokenizerOf(ParseResult parsed, string file)
        {
            var path = parsed.GetValue(_tokenizer) ?? Path.Combine(Path.GetDirectoryName(Path.GetFullPath(file))!, "tokenizer.json");
            var isByteLevel = parsed.GetValue(_tokenizer) is { } given ? given == "bytes" : !File.Exists(path);
            return isByteLevel ? Tokenizer.ByteLevel : Tokenizer.Load(path);
        }

        public string? TokenOf(ParseResult parsed) => Token(parsed.GetValue(_tokenFile));

        // Serves until the program is to stop, and disposes of the server.
        public async Task<int> RunAsync(
            ModelServer server, string file, ParseResult parsed, CancellationToken cancellationToken, string? note = null)
        {
            await using (server.ConfigureAwait(false))
            {
                var listening = new ListenOptions
                {
                    Address = AddressOf(parsed.GetValue(_host))!,
                    Port = parsed.GetValue(_port),
                    AllowAnonymous = parsed.GetValue(_anonymous),
                };
                var web = await ModelServerHost.StartAsync(server, listening, cancellationToken).ConfigureAwait(false);
                await using var running = web.ConfigureAwait(false);
                var output = parsed.InvocationConfiguration.Output;
                foreach (var size in server.Profiles)
                {
                    output.WriteLine(FormattableString.Invariant(
                        $"{name}/{size.Name}: {size.Pattern}, {size.Parameters:n0} parameters, {size.Ms:0.###} ms per {server.Spec.Unit}"));
                }

                if (note is not null) output.WriteLine(note);
                output.WriteLine($"Serving {file} at {web.Address} (Ctrl-C stops the server)");
                await Task.Delay(Timeout.Infinite, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                if (parsed.GetValue(_drain) is > 0 and var seconds)
                {
                    server.Drain();
                    output.WriteLine($"Draining for {seconds} s.");
                    await Task.Delay(TimeSpan.FromSeconds(seconds), CancellationToken.None).ConfigureAwait(false);
                }

                output.WriteLine("Stopping.");
                await web.StopAsync(TimeSpan.FromSeconds(parsed.GetValue(_grace))).ConfigureAwait(false);
            }

            return 0;
        }
    }
}

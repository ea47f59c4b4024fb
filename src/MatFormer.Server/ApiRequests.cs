using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;

namespace MatFormer;

/// <summary>A request for text, read and checked.</summary>
internal sealed record TextRequest(ServedProfile Profile, string Prompt, GenerationOptions Options, bool Streams, bool WantsUsage);

/// <summary>A request for embeddings, read and checked: of texts as tokens, or of images.</summary>
internal sealed record EmbeddingRequest(ServedProfile Profile, ImmutableArray<int[]> Texts, int? Width, bool AsBase64)
{
    /// <summary>The pixels of each image, (C, H, W), in the model's size.</summary>
    public ImmutableArray<byte[]> Images { get; init; } = [];

    /// <summary>The number of texts and images.</summary>
    public int Inputs => Texts.Length + Images.Length;

    /// <summary>Returns the tokens that the model computes. Each image is as many as the model has patches.</summary>
    public int TokensOf(ModelSpec spec) => Texts.Sum(text => text.Length) + (Images.Length * spec.Context);

    /// <summary>Returns a request of a few texts that fill the context, or of images.</summary>
    public static EmbeddingRequest Example(ModelSpec spec, ServedProfile profile, int inputs) => spec.Image is { } image
        ? new EmbeddingRequest(profile, [], null, false)
        {
            Images = [.. Enumerable.Repeat(new byte[image.Channels * image.Size * image.Size], inputs)],
        }
        : new EmbeddingRequest(profile, [.. Enumerable.Repeat(new int[spec.Context], inputs)], null, false);
}

/// <summary>Reads requests in OpenAI's form.</summary>
internal static class ApiRequests
{
    private const int MostStops = 16;
    private const int LongestStop = 1024;
    private const int MostTopsOfChat = 20;
    private const int MostTopsOfText = 5;
    private const double LargestPenalty = 2;
    private const double LargestBias = 100;

    public static TextRequest Chat(LanguageModelServer server, RequestFields fields)
    {
        var messages = Messages(fields.Required("messages", "give at least one message"));
        fields.Refuse("tools", "the model calls no tools", IsEmptyArray);
        fields.Refuse("functions", "the model calls no functions", IsEmptyArray);
        fields.Refuse("tool_choice", "the model calls no tools", v => IsText(v, "none") || IsText(v, "auto"));
        fields.Refuse("function_call", "the model calls no functions", v => IsText(v, "none") || IsText(v, "auto"));
        fields.Refuse("parallel_tool_calls", "the model calls no tools", IsFlag);
        fields.Refuse(
            "response_format", "the model writes plain text only",
            v => v.ValueKind == JsonValueKind.Object && v.TryGetProperty("type", out var type) && IsText(type, "text"));
        fields.Refuse("modalities", "the model writes plain text only", v => IsList(v, "text"));
        var logs = fields.Flag("logprobs");
        var top = fields.Integer("top_logprobs", 0, MostTopsOfChat);
        if (top > 0 && !logs)
            throw ApiException.Impossible("'top_logprobs' needs 'logprobs'; set 'logprobs' to true.", "top_logprobs", "conflict");
        string prompt;
        try
        {
            prompt = server.Options.ChatTemplate.Prompt(messages);
        }
        catch (ArgumentException e)
        {
            throw ApiException.Malformed(ArgumentProblem.Of(e), "messages");
        }

        return Text(server, fields, prompt, "messages", server.Options.ChatTemplate.StopStrings, logs ? (int)(top ?? 0) : null);
    }

    public static TextRequest Completion(LanguageModelServer server, RequestFields fields)
    {
        var prompt = fields.Required("prompt", "give the text to continue");
        if (prompt.ValueKind == JsonValueKind.Array)
        {
            if (prompt.GetArrayLength() != 1)
                throw ApiException.Impossible($"'prompt' has {prompt.GetArrayLength()} entries; give one prompt.", "prompt");
            prompt = prompt[0];
        }

        fields.Refuse("best_of", "each request gets one answer", v => IsNumber(v, 1));
        fields.Refuse("echo", "answers do not repeat the prompt", v => v.ValueKind == JsonValueKind.False);
        fields.Refuse("suffix", "text is continued at its end only", v => IsText(v, string.Empty));
        var top = (int?)fields.Integer("logprobs", 0, MostTopsOfText);
        return Text(server, fields, RequestFields.TextOf(prompt, "prompt"), "prompt", [], top);
    }

    public static EmbeddingRequest Embedding(ModelServer server, RequestFields fields)
    {
        var image = server.Spec.Image;
        var input = fields.Required("input", image is null ? "give a text, or several" : "give an image, or several");
        var widths = server.EmbeddingDimensions;
        var width = fields.Integer("dimensions");
        if (width is not null && !widths.Any(w => w == width))
        {
            throw ApiException.Malformed(
                $"'dimensions' is {width}; embeddings of {server.Spec.Name} have {string.Join(" or ", widths)} numbers.", "dimensions");
        }

        var format = fields.Text("encoding_format") ?? "float";
        if (format is not ("float" or "base64"))
            throw ApiException.Impossible("'encoding_format' must be float or base64.", "encoding_format");
        fields.Ignore("user");

        // The input is one text or image, an array of tokens or pixels, or an array of several of these.
        var isList = input.ValueKind == JsonValueKind.Array && input.GetArrayLength() > 0 && input[0].ValueKind != JsonValueKind.Number;
        JsonElement[] entries = isList ? [.. input.EnumerateArray()] : [input];
        if (entries.Length > server.MaxInputs)
        {
            throw ApiException.Impossible(
                $"'input' has {entries.Length} entries; at most {Counted.Of(server.MaxInputs, "is", "are")} allowed.", "input");
        }

        var profile = Profile(server, fields, entries.Length);
        fields.Finish();
        if (image is not null)
        {
            var (images, pixelsLeft) = (new byte[entries.Length][], ((EncoderServer)server).Options.MaxPixels);
            for (var i = 0; i < images.Length; i++) images[i] = ImageInput.Read(entries[i], NameOf(i), image, ref pixelsLeft);
            return new EmbeddingRequest(profile, [], (int?)width, format == "base64") { Images = [.. images] };
        }

        var inputs = ImmutableArray.CreateBuilder<int[]>();
        foreach (var (i, entry) in entries.Index())
        {
            var name = NameOf(i);
            var tokens = entry.ValueKind == JsonValueKind.Array
                ? Tokens(entry, name, server.Spec.Vocabulary)
                : server.Encode(RequestFields.TextOf(entry, name));
            if (tokens.Length == 0) throw ApiException.Impossible($"'{name}' is empty; give some text.", name);
            CheckLength(server, tokens.Length, name);
            inputs.Add(tokens);
        }

        return new EmbeddingRequest(profile, inputs.ToImmutable(), (int?)width, format == "base64");

        string NameOf(int entry) => entries.Length == 1 ? "input" : $"input[{entry}]";
    }

    private static void CheckLength(ModelServer server, int tokens, string field)
    {
        if (tokens <= server.MaxPromptTokens) return;
        throw ApiException.Impossible(
            $"'{field}' has {tokens} tokens, but at most {Counted.Of(server.MaxPromptTokens, "fits", "fit")}; shorten it.", field,
            "context_length_exceeded");
    }

    private static TextRequest Text(
        LanguageModelServer server, RequestFields fields, string prompt, string promptField, ImmutableArray<string> moreStops,
        int? topLogProbabilities)
    {
        var defaults = server.Options.Defaults;
        var profile = Profile(server, fields, 1);
        var oldName = fields.Integer("max_tokens", 1, server.Options.MaxTokens);
        var newName = fields.Integer("max_completion_tokens", 1, server.Options.MaxTokens);
        if (oldName is not null && newName is not null && oldName != newName)
            throw ApiException.Impossible("'max_tokens' and 'max_completion_tokens' differ; give one of them.", "max_tokens", "conflict");
        var stops = fields.Texts("stop", MostStops);
        if (stops.Any(s => s.Length is 0 or > LongestStop))
            throw ApiException.Impossible($"'stop' has a text that is empty or longer than {LongestStop} characters.", "stop");
        fields.Refuse("n", "each request gets one answer", v => IsNumber(v, 1));
        var streams = fields.Flag("stream");
        var wantsUsage = false;
        if (fields["stream_options"] is { } streamOptions)
        {
            if (!streams) throw ApiException.Malformed("'stream_options' needs 'stream': true.", "stream_options");
            if (streamOptions.ValueKind != JsonValueKind.Object)
                throw ApiException.Malformed("'stream_options' must be an object.", "stream_options");
            foreach (var option in streamOptions.EnumerateObject())
            {
                if (option.Name != "include_usage" || !IsFlag(option.Value))
                    throw ApiException.Malformed("'stream_options' may have only include_usage, which is true or false.", "stream_options");
                wantsUsage = option.Value.GetBoolean();
            }
        }

        var draft = server.DraftFor(profile);
        var options = defaults with
        {
            Tokens = (int?)(newName ?? oldName) ?? defaults.Tokens,
            Temperature = fields.Number("temperature", 0, 10) ?? defaults.Temperature,
            TopP = fields.Number("top_p", 0, 1, withLeast: false) ?? defaults.TopP,
            TopK = (int?)fields.Integer("top_k", 0, int.MaxValue) ?? defaults.TopK,
            MinP = fields.Number("min_p", 0, 1) ?? defaults.MinP,
            RepetitionPenalty = fields.Number("repetition_penalty", 0, 1e6, withLeast: false) ?? defaults.RepetitionPenalty,
            PresencePenalty = fields.Number("presence_penalty", -LargestPenalty, LargestPenalty) ?? defaults.PresencePenalty,
            FrequencyPenalty = fields.Number("frequency_penalty", -LargestPenalty, LargestPenalty) ?? defaults.FrequencyPenalty,
            LogitBias = Biases(fields["logit_bias"], defaults.Tokenizer.VocabularySize) ?? defaults.LogitBias,
            TopLogProbabilities = topLogProbabilities,
            Draft = draft,
            DraftWeights = draft.IsDefault ? null : defaults.DraftWeights,
            Cascade = server.CascadeFor(profile),
            Seed = fields.Integer("seed") ?? Random.Shared.NextInt64(),
            StopStrings = [.. defaults.StopStrings, .. moreStops, .. stops],
        };
        fields.Ignore("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key");
        fields.Finish();
        CheckLength(server, defaults.Tokenizer.EncodePrompt(Encoding.UTF8.GetBytes(prompt)).Count, promptField);
        return new TextRequest(profile, prompt, options, streams, wantsUsage);
    }

    // An object whose names are tokens.
    private static ImmutableDictionary<int, double>? Biases(JsonElement? field, int vocabulary)
    {
        const string Name = "logit_bias";
        if (field is not { } value) return null;
        if (value.ValueKind != JsonValueKind.Object)
            throw ApiException.Malformed($"'{Name}' must be an object, such as {{\"50\": -100}}.", Name);
        var biases = ImmutableDictionary.CreateBuilder<int, double>();
        foreach (var entry in value.EnumerateObject())
        {
            if (!int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out var token) || token >= vocabulary)
                throw ApiException.Impossible($"The names in '{Name}' must be tokens: whole numbers from 0 to {vocabulary - 1}.", Name);
            if (entry.Value.ValueKind != JsonValueKind.Number || !entry.Value.TryGetDouble(out var bias)
                || !(Math.Abs(bias) <= LargestBias))
            {
                throw ApiException.Impossible($"'{Name}' must have numbers within -{LargestBias} and {LargestBias}.", Name);
            }

            biases[token] = bias;
        }

        return biases.ToImmutable();
    }

    private static ServedProfile Profile(ModelServer server, RequestFields fields, int texts)
    {
        var model = RequestFields.TextOf(fields.Required("model", $"give {server.Spec.Name}; /v1/models lists all models"), "model");
        var flops = fields.Integer($"max_flops_per_{server.Spec.Unit}", 1);
        var ms = fields.Number($"max_ms_per_{server.Spec.Unit}", 0, 1e9, withLeast: false);
        return server.Select(model, flops, ms, texts);
    }

    private static List<ChatMessage> Messages(JsonElement messages)
    {
        if (messages.ValueKind != JsonValueKind.Array || messages.GetArrayLength() == 0)
            throw ApiException.Malformed("'messages' must be an array of at least one message.", "messages");
        var all = new List<ChatMessage>();
        foreach (var (i, message) in messages.EnumerateArray().Index())
        {
            var name = $"messages[{i}]";
            if (message.ValueKind != JsonValueKind.Object)
                throw ApiException.Malformed($"'{name}' must be an object with role and content.", name);
            if (!message.TryGetProperty("role", out var role))
                throw ApiException.Malformed($"'{name}.role' is missing.", $"{name}.role");
            var chatRole = RequestFields.TextOf(role, $"{name}.role") switch
            {
                "system" or "developer" => ChatRole.System,
                "user" => ChatRole.User,
                "assistant" => ChatRole.Assistant,
                _ => throw ApiException.Impossible($"'{name}.role' must be system, developer, user or assistant.", $"{name}.role"),
            };
            if (!message.TryGetProperty("content", out var content))
                throw ApiException.Malformed($"'{name}.content' is missing.", $"{name}.content");
            all.Add(new ChatMessage(chatRole, Content(content, $"{name}.content")));
        }

        return all;
    }

    // The content is a string, or an array of parts that are texts.
    private static string Content(JsonElement content, string name)
    {
        if (content.ValueKind != JsonValueKind.Array) return RequestFields.TextOf(content, name);
        var texts = new List<string>();
        foreach (var (i, part) in content.EnumerateArray().Index())
        {
            var isText = part.ValueKind == JsonValueKind.Object && part.TryGetProperty("type", out var type) && IsText(type, "text");
            if (!isText || !part.TryGetProperty("text", out var text))
                throw ApiException.Impossible($"'{name}[{i}]' is not a text; the model reads text only.", $"{name}[{i}]");
            texts.Add(RequestFields.TextOf(text, $"{name}[{i}].text"));
        }

        return string.Concat(texts);
    }

    private static int[] Tokens(JsonElement entry, string name, int vocabulary) =>
    [
        .. entry.EnumerateArray().Select(t =>
            t.ValueKind == JsonValueKind.Number && t.TryGetInt32(out var token) && token >= 0 && token < vocabulary ? token
                : throw ApiException.Impossible($"'{name}' must be an array of tokens: whole numbers from 0 to {vocabulary - 1}.", name)),
    ];

    private static bool IsText(JsonElement value, string text) => value.ValueKind == JsonValueKind.String && value.ValueEquals(text);

    private static bool IsNumber(JsonElement value, double number) =>
        value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var its) && its == number;

    private static bool IsFlag(JsonElement value) => value.ValueKind is JsonValueKind.True or JsonValueKind.False;

    private static bool IsEmptyArray(JsonElement value) => value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 0;

    private static bool IsList(JsonElement value, string only) =>
        value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 1 && IsText(value[0], only);
}

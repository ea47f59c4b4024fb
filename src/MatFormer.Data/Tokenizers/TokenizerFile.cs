using System.Buffers;
using System.Collections.Immutable;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace MatFormer;

/// <summary>
/// Reads and writes Hugging Face's <c>tokenizer.json</c> (https://huggingface.co/docs/tokenizers) of BPE of bytes, and reads that of BPE
/// of characters with bytes for the rest. Every field that affects encoding is either read or refused. The decoder of bytes is ignored,
/// because it affects nothing.
/// </summary>
internal static partial class TokenizerFile
{
    /// <exception cref="TokenizerException">The file is damaged or of another kind. The message names the field.</exception>
    public static TokenizerContent Read(string path, ReadOnlyMemory<byte> json)
    {
        try
        {
            using var document = JsonDocument.Parse(json.Span.StartsWith("\uFEFF"u8) ? json[3..] : json);
            return new Reading(path, document.RootElement).Content();
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // InvalidOperationException: a string is not UTF-8.
            throw new TokenizerException($"The tokenizer '{path}' is not valid JSON ({JsonProblem.Of(e)}); copy or download it again.", e);
        }
    }

    public static byte[] Write(TokenizerContent content)
    {
        var buffer = new ArrayBufferWriter<byte>();
        var options = new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        using (var json = new Utf8JsonWriter(buffer, options)) Write(content, json);
        buffer.Write("\n"u8);
        return buffer.WrittenSpan.ToArray();
    }

    // Writes only tokenizers that we create: they have no normalizer, and cut words as GPT-2 does or not at all.
    private static void Write(TokenizerContent content, Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("version", "1.0");
        json.WriteNull("truncation");
        json.WriteNull("padding");
        json.WriteStartArray("added_tokens");
        foreach (var added in content.Added)
        {
            json.WriteStartObject();
            json.WriteNumber("id", added.Token);
            json.WriteString("content", content.TextOf(added));
            json.WriteBoolean("single_word", false);
            json.WriteBoolean("lstrip", false);
            json.WriteBoolean("rstrip", false);
            json.WriteBoolean("normalized", false);
            json.WriteBoolean("special", added.IsSpecial);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteNull("normalizer");
        WriteByteLevel("pre_tokenizer", content.Pattern == WordPattern.Gpt2);
        json.WriteNull("post_processor");
        WriteByteLevel("decoder", useRegex: true);
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteNull("dropout");
        json.WriteNull("unk_token");
        json.WriteNull("continuing_subword_prefix");
        json.WriteNull("end_of_word_suffix");
        json.WriteBoolean("fuse_unk", false);
        json.WriteBoolean("byte_fallback", false);
        json.WriteBoolean("ignore_merges", content.WordsFirst);
        json.WriteStartObject("vocab");
        var apart = content.Added.Select(a => a.Token).ToHashSet();
        for (var token = 0; token < content.Tokens.Length; token++)
        {
            if (!apart.Contains(token)) json.WriteNumber(ByteAlphabet.ToText(content.Tokens[token]), token);
        }

        json.WriteEndObject();
        json.WriteStartArray("merges");
        foreach (var (left, right, _) in content.Merges)
        {
            json.WriteStartArray();
            json.WriteStringValue(ByteAlphabet.ToText(content.Tokens[left]));
            json.WriteStringValue(ByteAlphabet.ToText(content.Tokens[right]));
            json.WriteEndArray();
        }

        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteEndObject();

        void WriteByteLevel(string name, bool useRegex)
        {
            json.WriteStartObject(name);
            json.WriteString("type", "ByteLevel");
            json.WriteBoolean("add_prefix_space", false);
            json.WriteBoolean("trim_offsets", true);
            json.WriteBoolean("use_regex", useRegex);
            json.WriteEndObject();
        }
    }

    private sealed partial class Reading(string path, JsonElement root)
    {
        public TokenizerContent Content()
        {
            if (root.ValueKind != JsonValueKind.Object) throw Wrong("the file", "is not an object");
            if (Get(root, "version") is { } version && !IsText(version, "1.0"))
                throw Wrong("version", $"is {Shown(version)}, but only \"1.0\" is known");
            foreach (var name in (string[])["truncation", "padding"])
            {
                if (Get(root, name) is { } cut) throw Wrong(name, $"is {Shown(cut)}, which would change what is encoded; set it to null");
            }

            var model = Get(root, "model") ?? throw Wrong("model", "is missing");
            var added = AddedTokens();
            var hasPieces = Flag(model, "byte_fallback", "model.byte_fallback");
            var tokens = Tokens(model, added, hasPieces);
            var (before, after) = Around(tokens.Length);
            var content = new TokenizerContent
            {
                Tokens = tokens,
                Merges = Merges(model, tokens, hasPieces),
                Added = [.. added.Values.Select(a => a.Its)],
                Pattern = hasPieces ? WordPattern.Whole : Pattern(),
                Normalizer = Normalizer(hasPieces),
                WordsFirst = Flag(model, "ignore_merges", "model.ignore_merges"),
                Before = before,
                After = after,
            };
            return hasPieces ? OfPieces(model, content) : content;
        }

        private Dictionary<int, (AddedToken Its, string Content)> AddedTokens()
        {
            var found = new Dictionary<int, (AddedToken, string)>();
            if (Get(root, "added_tokens") is not { } list) return found;
            var index = 0;
            foreach (var item in Items(list, "added_tokens"))
            {
                var field = $"added_tokens[{index++}]";
                var content = Get(item, "content") is { ValueKind: JsonValueKind.String } text ? text.GetString()! : string.Empty;
                if (content.Length == 0) throw Wrong(field + ".content", "is missing or empty");
                if (Get(item, "id") is not { ValueKind: JsonValueKind.Number } number || !number.TryGetInt32(out var id) || id < 0)
                    throw Wrong(field + ".id", "is not a token id");
                foreach (var name in (string[])["single_word", "lstrip", "rstrip"])
                {
                    if (Flag(item, name, $"{field}.{name}"))
                        throw Wrong($"{field}.{name}", $"is true ('{content}'), which is not supported");
                }

                var isSpecial = Flag(item, "special", field + ".special");
                var token = new AddedToken(id, isSpecial, Flag(item, "normalized", field + ".normalized", otherwise: !isSpecial));
                if (!found.TryAdd(id, (token, content))) throw Wrong(field + ".id", $"is {id}, which another token has");
            }

            return found;
        }

        private ImmutableArray<byte[]> Tokens(JsonElement model, Dictionary<int, (AddedToken Its, string Content)> added, bool hasPieces)
        {
            var type = Get(model, "type");
            if (type is { } its && !IsText(its, "BPE")) throw Wrong("model.type", $"is {Shown(its)}, but only \"BPE\" is supported");
            if (Get(model, "dropout") is { } dropout && !(dropout.ValueKind == JsonValueKind.Number && dropout.GetDouble() == 0))
                throw Wrong("model.dropout", $"is {Shown(dropout)}, which makes tokens random; set it to null");
            foreach (var name in (string[])["continuing_subword_prefix", "end_of_word_suffix"])
            {
                if (Get(model, name) is { } affix && !IsText(affix, string.Empty))
                    throw Wrong("model." + name, $"is {Shown(affix)}, but only BPE without it is supported");
            }

            if (Get(model, "vocab") is not { ValueKind: JsonValueKind.Object } vocab)
                throw Wrong("model.vocab", "is missing or not an object");
            var byId = new Dictionary<int, byte[]>();
            foreach (var entry in vocab.EnumerateObject())
            {
                var field = $"model.vocab['{entry.Name}']";
                if (entry.Value.ValueKind != JsonValueKind.Number || !entry.Value.TryGetInt32(out var id) || id < 0)
                    throw Wrong(field, "is not a token id");
                var isAdded = added.TryGetValue(id, out var other) && other.Content == entry.Name;
                var bytes = isAdded || hasPieces ? Encoding.UTF8.GetBytes(entry.Name) : ByteAlphabet.ToBytes(entry.Name)
                    ?? throw Wrong(field, "has a character that stands for no byte, so this is not byte-level BPE");
                if (bytes.Length == 0) throw Wrong(field, "is an empty token");
                if (!byId.TryAdd(id, bytes)) throw Wrong(field, $"is {id}, which another token has");
            }

            foreach (var (id, (_, content)) in added)
            {
                if (vocab.TryGetProperty(content, out var listed) && listed.GetInt32() != id)
                    throw Wrong("added_tokens", $"has '{content}' with the id {id}, but model.vocab has {listed.GetRawText()}");
                var bytes = Encoding.UTF8.GetBytes(content);
                if (!byId.TryAdd(id, bytes) && !byId[id].AsSpan().SequenceEqual(bytes))
                    throw Wrong("added_tokens", $"has '{content}' with the id {id}, which another token has in model.vocab");
            }

            var tokens = ImmutableArray.CreateBuilder<byte[]>(byId.Count);
            for (var id = 0; id < byId.Count; id++)
            {
                tokens.Add(byId.TryGetValue(id, out var bytes) ? bytes
                    : throw Wrong("model.vocab", $"has {byId.Count} tokens, but none with the id {id}"));
            }

            var known = tokens.ToHashSet(ByteStrings.Comparer);
            for (var value = 0; value < 256; value++)
            {
                if (!known.Contains(hasPieces ? BytePairs.NameOf((byte)value) : [(byte)value]))
                    throw Wrong("model.vocab", $"lacks a token for the byte 0x{value:X2}; train it with all bytes");
            }

            return tokens.MoveToImmutable();
        }

        private List<(int Left, int Right, int Result)> Merges(JsonElement model, ImmutableArray<byte[]> tokens, bool hasPieces)
        {
            var byBytes = new Dictionary<byte[], int>(ByteStrings.Comparer);
            for (var id = 0; id < tokens.Length; id++) byBytes.TryAdd(tokens[id], id);
            var merges = new List<(int, int, int)>();
            foreach (var item in Items(Get(model, "merges") ?? throw Wrong("model.merges", "is missing"), "model.merges"))
            {
                var field = $"model.merges[{merges.Count}]";
                string[] pair = item.ValueKind switch
                {
                    JsonValueKind.String => item.GetString()!.Split(' '),
                    JsonValueKind.Array =>
                        [.. item.EnumerateArray().Select(p => p.ValueKind == JsonValueKind.String ? p.GetString()! : "")],
                    _ => [],
                };
                if (pair is not [{ Length: > 0 }, { Length: > 0 }]) throw Wrong(field, $"is {Shown(item)}, not two tokens");
                var left = Find(pair[0]);
                var right = Find(pair[1]);
                merges.Add((left, right, Find(pair[0] + pair[1])));

                int Find(string text) =>
                    (hasPieces ? Encoding.UTF8.GetBytes(text) : ByteAlphabet.ToBytes(text)) is { } bytes
                    && byBytes.TryGetValue(bytes, out var token) ? token
                    : throw Wrong(field, $"is {Shown(item)}, but '{text}' is not in model.vocab");
            }

            return merges;
        }

        private WordPattern Pattern()
        {
            var pre = Get(root, "pre_tokenizer") ?? throw Wrong("pre_tokenizer", "is missing, so this is not byte-level BPE");
            if (IsOf(pre, "ByteLevel")) return ByteLevel(pre, "pre_tokenizer") ? WordPattern.Gpt2 : WordPattern.Whole;
            if (!IsOf(pre, "Sequence")) throw Unsupported(pre, "pre_tokenizer", "ByteLevel, or a Sequence of Split and ByteLevel");
            const string Field = "pre_tokenizer.pretokenizers";
            var steps = Items(Get(pre, "pretokenizers") ?? throw Wrong(Field, "is missing"), Field).ToList();
            var pattern = (WordPattern?)null;
            for (var i = 0; i < steps.Count; i++)
            {
                var field = $"{Field}[{i}]";
                var isLast = i == steps.Count - 1;
                if (isLast && IsOf(steps[i], "ByteLevel"))
                {
                    var cuts = ByteLevel(steps[i], field);
                    if (cuts && pattern is not null)
                        throw Wrong(field + ".use_regex", "is true, which would cut words again after Split; only false is supported");
                    return cuts ? WordPattern.Gpt2 : pattern ?? WordPattern.Whole;
                }

                if (pattern is not null || isLast || !IsOf(steps[i], "Split"))
                    throw Unsupported(steps[i], field, isLast ? "ByteLevel" : "one Split before ByteLevel");
                pattern = Split(steps[i], field);
            }

            throw Wrong(Field, "is empty; ByteLevel is missing");
        }

        // Returns whether the step cuts text into words.
        private bool ByteLevel(JsonElement element, string field)
        {
            if (Flag(element, "add_prefix_space", field + ".add_prefix_space", otherwise: true))
                throw Wrong(field + ".add_prefix_space", "is true, which is not supported; set it to false");
            return Flag(element, "use_regex", field + ".use_regex", otherwise: true);
        }

        private WordPattern Split(JsonElement element, string field)
        {
            if (Get(element, "behavior") is not { } behavior || !IsText(behavior, "Isolated"))
                throw Wrong(field + ".behavior", $"is {Shown(Get(element, "behavior"))}, but only \"Isolated\" is supported");
            if (Flag(element, "invert", field + ".invert")) throw Wrong(field + ".invert", "is true, which is not supported");
            var regex = Get(element, "pattern") is { ValueKind: JsonValueKind.Object } pattern ? Get(pattern, "Regex") : null;
            return (regex is { ValueKind: JsonValueKind.String } text ? WordPatterns.Of(text.GetString()!) : null) ?? throw Wrong(
                field + ".pattern",
                $"is {Shown(Get(element, "pattern"))}, but only the regular expressions of GPT-2, Llama 3, Qwen 2 and Mistral Nemo are "
                + "supported");
        }

        // Returns null if the member is missing or null.
        private static JsonElement? Get(JsonElement element, string name) =>
            element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var its) && its.ValueKind != JsonValueKind.Null
            ? its : null;

        private IEnumerable<JsonElement> Items(JsonElement element, string field) =>
            element.ValueKind == JsonValueKind.Array ? element.EnumerateArray() : throw Wrong(field, "is not an array");

        private bool Flag(JsonElement element, string name, string field, bool otherwise = false) => Get(element, name) switch
        {
            null => otherwise,
            { ValueKind: JsonValueKind.True } => true,
            { ValueKind: JsonValueKind.False } => false,
            { } other => throw Wrong(field, $"is {Shown(other)}, but must be true or false"),
        };

        private static bool IsText(JsonElement element, string text) =>
            element.ValueKind == JsonValueKind.String && element.ValueEquals(text);

        private static bool IsOf(JsonElement element, string type) => Get(element, "type") is { } its && IsText(its, type);

        private TokenizerException Unsupported(JsonElement element, string field, string wanted) =>
            Wrong(field + ".type", $"is {Shown(Get(element, "type"))}, but only {wanted} is supported");

        private static string Shown(JsonElement? element) =>
            element is not { } its ? "missing" : its.GetRawText() is var text && text.Length > 80 ? text[..80] + "..." : text;

        private TokenizerException Wrong(string field, string problem) =>
            new($"The tokenizer '{path}' cannot be used: {field} {problem}.");
    }
}

using System.Buffers;
using System.Collections.Immutable;
using System.Text.Json;

namespace MatFormer;

/// <summary>
/// A chat template of Hugging Face's transformers: <c>chat_template.jinja</c>, or the member <c>chat_template</c> of
/// <c>tokenizer_config.json</c>, and the special tokens that these files name.
/// </summary>
internal sealed class ChatTemplateFile
{
    public const string ConfigName = "tokenizer_config.json";
    public const string JinjaName = "chat_template.jinja";

    // What an assistant says in the example in which the end of its turn is looked for.
    private const string Answer = "matformer-example-answer";
    private const int LongestMark = 100;

    private readonly string _path;
    private readonly JinjaTemplate _template;
    private readonly Dictionary<string, object?> _variables = new(StringComparer.Ordinal)
    {
        ["tools"] = null,
        ["documents"] = null,
    };

    private readonly ImmutableArray<string> _marks;
    private readonly SearchValues<string> _anyMark;

    private ChatTemplateFile(string path, string template, JsonElement? config, IEnumerable<string> moreMarks)
    {
        _path = path;
        var marks = new HashSet<string>(moreMarks, StringComparer.Ordinal);
        if (config is { } root) ReadTokens(root, marks);
        try
        {
            _template = JinjaTemplate.Parse(template);
        }
        catch (JinjaException e)
        {
            throw Wrong(path, $"{e.Message}. Only what the templates of common families need is supported; give another template", e);
        }

        marks.RemoveWhere(mark => mark.Length < 2 || string.IsNullOrWhiteSpace(mark)); // these are in every text
        try
        {
            var turnEnd = TurnEnd(marks);
            if (turnEnd is not null) marks.Add(turnEnd);
            string?[] stops = [_variables.GetValueOrDefault("eos_token") as string, turnEnd];
            StopStrings = [.. stops.OfType<string>().Where(stop => stop.Length > 0).Distinct()];
        }
        catch (JinjaException e)
        {
            throw Wrong(path, $"it cannot format a question and an answer ({e.Message}). Its tokens come from {ConfigName} beside it", e);
        }

        _marks = [.. marks.Order(StringComparer.Ordinal)];
        _anyMark = SearchValues.Create([.. _marks], StringComparison.Ordinal);
    }

    /// <summary>The texts before which an answer ends: the token at the end of a text, and the one at the end of a turn.</summary>
    public ImmutableArray<string> StopStrings { get; }

    /// <summary>Returns the file of a folder that has a chat template, or null if there is none.</summary>
    /// <exception cref="TokenizerException">The configuration of the tokenizer is damaged.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static string? Find(string folder)
    {
        var jinja = Path.Combine(folder, JinjaName);
        if (File.Exists(jinja)) return jinja;
        var config = Path.Combine(folder, ConfigName);
        if (!File.Exists(config)) return null;
        using var document = Parse(config);
        return Member(document.RootElement, "chat_template") is null ? null : config;
    }

    /// <summary>Returns the template of a folder as text, or null if there is none.</summary>
    /// <exception cref="TokenizerException">The configuration of the tokenizer is damaged.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static string? TextIn(string folder)
    {
        if (Find(folder) is not { } path) return null;
        if (!path.EndsWith(".json", StringComparison.Ordinal)) return File.ReadAllText(path);
        using var config = Parse(path);
        return Guarded(path, () => TemplateOf(path, config.RootElement));
    }

    /// <summary>Reads a template.</summary>
    /// <param name="path">
    /// A <c>tokenizer_config.json</c>, a file with a template, or a folder with one of them. The tokens of a template come from the
    /// <c>tokenizer_config.json</c> beside it.
    /// </param>
    /// <exception cref="TokenizerException">
    /// A file does not exist or is damaged, there is no template, or the template uses what is not supported. The message names the file
    /// and the line of the template.
    /// </exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static ChatTemplateFile Load(string path)
    {
        if (Directory.Exists(path))
            path = Find(path) ?? throw Wrong(path, $"it is a folder with neither {JinjaName} nor a chat_template in {ConfigName}");
        if (!File.Exists(path))
            throw new TokenizerException($"The chat template '{path}' does not exist; give a {ConfigName} or a {JinjaName}.");
        var folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        var isConfig = path.EndsWith(".json", StringComparison.Ordinal);
        var configPath = isConfig ? path : Path.Combine(folder, ConfigName);
        using var config = File.Exists(configPath) ? Parse(configPath) : null;
        return Guarded(path, () => new ChatTemplateFile(
            path, isConfig ? TemplateOf(path, config!.RootElement) : File.ReadAllText(path), config?.RootElement,
            SpecialTokens(Path.Combine(folder, Tokenizer.FileName))));
    }

    /// <summary>Returns the text that the model continues with its answer.</summary>
    /// <exception cref="ArgumentException">
    /// The template refuses the messages or cannot format them, or a message contains a special token.
    /// </exception>
    public string Prompt(IEnumerable<(string Role, string Text)> messages)
    {
        var all = messages.ToList();
        foreach (var (role, text) in all)
        {
            foreach (var part in (string[])[role, text])
            {
                if (part.AsSpan().IndexOfAny(_anyMark) < 0) continue;
                var mark = _marks.First(m => part.Contains(m, StringComparison.Ordinal));
                throw new ArgumentException(
                    $"A message of the role {role} contains {mark}, which is a special token of the chat template; remove it.",
                    nameof(messages));
            }
        }

        try
        {
            return Render(all, addsPrompt: true);
        }
        catch (JinjaException e) when (e.IsRaised)
        {
            throw new ArgumentException($"The chat template refuses the messages: {e.Problem}", nameof(messages), e);
        }
        catch (JinjaException e)
        {
            throw new ArgumentException($"The chat template '{_path}' cannot format the messages: {e.Message}.", nameof(messages), e);
        }
    }

    private string Render(List<(string Role, string Text)> messages, bool addsPrompt)
    {
        var list = messages.Select(object? (m) => new JinjaDict { ["role"] = m.Role, ["content"] = m.Text }).ToList();
        var variables = new Dictionary<string, object?>(_variables) { ["messages"] = list, ["add_generation_prompt"] = addsPrompt };
        return _template.Render(variables, DateTime.Now, messages.Sum(m => (long)m.Text.Length));
    }

    // Returns what the template writes directly after an assistant's message: a special token, or a name in angle brackets. White space may
    // precede it. Returns null if there is no such mark.
    private string? TurnEnd(HashSet<string> marks)
    {
        string text;
        try
        {
            text = Render([("user", "Hello"), ("assistant", Answer)], addsPrompt: false);
        }
        catch (JinjaException e) when (e.IsRaised)
        {
            return null; // It wants other messages than these.
        }

        var at = text.LastIndexOf(Answer, StringComparison.Ordinal);
        if (at < 0) return null;
        var rest = text[(at + Answer.Length)..].TrimStart();
        if (marks.Where(mark => rest.StartsWith(mark, StringComparison.Ordinal)).MaxBy(mark => mark.Length) is { } known) return known;
        var end = rest.IndexOf('>');
        var isMark = rest.StartsWith('<') && end is > 1 and < LongestMark && !rest.AsSpan(1, end).ContainsAny(" \t\r\n<");
        return isMark ? rest[..(end + 1)] : null;
    }

    // Tokens are strings, or objects with the member content.
    private void ReadTokens(JsonElement config, HashSet<string> marks)
    {
        if (config.ValueKind != JsonValueKind.Object) return;
        foreach (var member in config.EnumerateObject())
        {
            if (member.Name.EndsWith("_token", StringComparison.Ordinal) && TextOf(member.Value) is { } token)
            {
                _variables[member.Name] = token;
                marks.Add(token);
            }
            else if (member.Name == "additional_special_tokens" && member.Value.ValueKind == JsonValueKind.Array)
            {
                var tokens = member.Value.EnumerateArray().Select(TextOf).OfType<string>().ToList();
                _variables[member.Name] = tokens.ToList<object?>();
                marks.UnionWith(tokens);
            }
            else if (member.Name == "extra_special_tokens" && member.Value.ValueKind is JsonValueKind.Array)
            {
                marks.UnionWith(member.Value.EnumerateArray().Select(TextOf).OfType<string>());
            }
            else if (member.Name == "extra_special_tokens" && member.Value.ValueKind is JsonValueKind.Object)
            {
                marks.UnionWith(member.Value.EnumerateObject().Select(t => TextOf(t.Value)).OfType<string>());
            }
            else if (member.Name == "added_tokens_decoder" && member.Value.ValueKind == JsonValueKind.Object)
            {
                marks.UnionWith(member.Value.EnumerateObject().Select(t => t.Value).Where(IsSpecial).Select(TextOf).OfType<string>());
            }
        }
    }

    // The special tokens of a tokenizer.json, of any kind of tokenizer.
    private static List<string> SpecialTokens(string path)
    {
        if (!File.Exists(path)) return [];
        using var document = Parse(path);
        return Member(document.RootElement, "added_tokens") is { ValueKind: JsonValueKind.Array } tokens
            ? [.. tokens.EnumerateArray().Where(IsSpecial).Select(TextOf).OfType<string>()] : [];
    }

    private static bool IsSpecial(JsonElement token) => Member(token, "special") is { ValueKind: JsonValueKind.True };

    private static string? TextOf(JsonElement token) => token.ValueKind == JsonValueKind.String ? token.GetString()
        : Member(token, "content") is { ValueKind: JsonValueKind.String } content ? content.GetString() : null;

    // A template, or several with names, of which the one for chats without tools is named "default".
    private static string TemplateOf(string path, JsonElement config)
    {
        switch (Member(config, "chat_template"))
        {
            case { ValueKind: JsonValueKind.String } template: return template.GetString()!;
            case { ValueKind: JsonValueKind.Array } several:
                foreach (var entry in several.EnumerateArray())
                {
                    if (Member(entry, "name") is not { ValueKind: JsonValueKind.String } name || !name.ValueEquals("default")) continue;
                    if (Member(entry, "template") is { ValueKind: JsonValueKind.String } its) return its.GetString()!;
                }

                throw Wrong(path, "chat_template has no template of the name \"default\"");
            case null: throw Wrong(path, $"it has no chat_template; give a {JinjaName}, if there is one beside it");
            default: throw Wrong(path, "chat_template is neither a string nor an array of templates");
        }
    }

    private static JsonElement? Member(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var its) && its.ValueKind != JsonValueKind.Null
        ? its : null;

    private static JsonDocument Parse(string path) => Guarded(path, () => JsonDocument.Parse(File.ReadAllBytes(path)));

    // A string that is not Unicode is found only when it is read.
    private static T Guarded<T>(string path, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw Wrong(path, JsonProblem.Of(e), e);
        }
    }

    private static TokenizerException Wrong(string path, string problem, Exception? inner = null) =>
        new($"The chat template '{path}' cannot be used: {problem}.", inner);
}

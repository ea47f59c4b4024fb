using System.Text.Json;
using MatFormer.Tests;

namespace MatFormer.Runtime.Tests.Chat;

/// <summary>Compares templates with texts that Oracle/record.py recorded from Hugging Face's transformers and Jinja.</summary>
public sealed class ChatTemplateOracleTests
{
    private static readonly JsonElement s_expected = Read("expected.json");

    public static TheoryData<string> Templates =>
        [.. Directory.GetFiles(At("templates")).Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal)];

    [Fact]
    public void ExpressionsAndWhiteSpaceEqualThoseOfJinja()
    {
        var cases = Read("cases.json");
        var variables = Variables(cases.GetProperty("variables"));
        var pairs = cases.GetProperty("templates").EnumerateArray().Zip(s_expected.GetProperty("cases").EnumerateArray()).ToList();
        Assert.True(pairs.Count > 200);
        Assert.Empty(
            pairs.Select(pair => Difference(pair.First.GetString()!, variables, pair.Second, pair.First.ToString())).OfType<string>());
        Oracles.Compared("Jinja: rendered expressions", pairs.Count);
    }

    [Theory]
    [MemberData(nameof(Templates))]
    public void ConversationsEqualThoseOfTransformers(string file)
    {
        var source = File.ReadAllText(At(Path.Combine("templates", file)));
        var conversations = Read("conversations.json").EnumerateArray().ToDictionary(c => c.GetProperty("name").GetString()!);
        var recorded = s_expected.GetProperty("conversations").EnumerateArray().Where(c => c[0].GetString() == file).ToList();
        Assert.Equal(conversations.Count, recorded.Count);
        Assert.Empty(recorded.Select(r =>
        {
            Dictionary<string, object?> variables = new()
            {
                ["tools"] = null,
                ["documents"] = null,
                ["add_generation_prompt"] = true,
                ["bos_token"] = "<s>",
                ["eos_token"] = "</s>",
            };
            foreach (var (name, value) in Variables(conversations[r[1].GetString()!])) variables[name] = value;
            variables.Remove("name");
            return Difference(source, variables, r[2], r[1].GetString()!);
        }).OfType<string>());
        Oracles.Compared("transformers: conversations rendered by chat templates", recorded.Count);
    }

    // Returns how a text differs from the recorded one, or null if it does not.
    private static string? Difference(
        string source, IEnumerable<KeyValuePair<string, object?>> variables, JsonElement expected, string what)
    {
        string? text = null, problem = null;
        var isRaised = false;
        try
        {
            text = JinjaTemplate.Parse(source).Render(variables, new DateTime(2026, 3, 7, 9, 5, 1));
        }
        catch (JinjaException e)
        {
            Assert.True(e.Line > 0, e.Message);
            (problem, isRaised) = (e.Problem, e.IsRaised);
        }

        var isSame = expected.ValueKind switch
        {
            JsonValueKind.Null => text is null && !isRaised,
            JsonValueKind.Object => isRaised && problem == expected.GetProperty("raised").GetString(),
            _ => text == expected.GetString(),
        };
        return isSame ? null : $"{what}: {expected.GetRawText()}, not {(text is null ? problem : JsonSerializer.Serialize(text))}";
    }

    internal static Dictionary<string, object?> Variables(JsonElement value) =>
        value.EnumerateObject().ToDictionary(member => member.Name, member => Value(member.Value));

    private static object? Value(JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Null: return null;
            case JsonValueKind.True or JsonValueKind.False: return value.GetBoolean();
            case JsonValueKind.String: return value.GetString();
            case JsonValueKind.Number when value.TryGetInt64(out var whole): return whole;
            case JsonValueKind.Number: return value.GetDouble();
            case JsonValueKind.Array: return value.EnumerateArray().Select(Value).ToList();
        }

        var dict = new JinjaDict();
        foreach (var member in value.EnumerateObject()) dict[member.Name] = Value(member.Value);
        return dict;
    }

    internal static string At(string name) => Path.Combine(AppContext.BaseDirectory, "Chat", "Oracle", name);

    private static JsonElement Read(string name) => JsonDocument.Parse(File.ReadAllBytes(At(name))).RootElement;
}

using Microsoft.Extensions.AI;

namespace MatFormer.Runtime.Tests.Chat;

/// <summary>Tests templates that are loaded from files of Hugging Face.</summary>
public sealed class ChatTemplateTests : IDisposable
{
    private const string Turns =
        "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}: {{ m.content }}</turn>\n{% endfor %}"
        + "{% if add_generation_prompt %}<turn>model: {% endif %}";

    private static readonly ChatMessage[] s_hello = [new(ChatRole.User, "Hello")];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void ATemplateComesFromTheConfigOrFromAFileOfItsOwn()
    {
        var config = Config("""{"bos_token": "<s>", "eos_token": {"content": "</s>", "special": true},"""
            + $$$""" "chat_template": "{{{Escaped("A {{ bos_token }}{{ eos_token }}")}}}"}""");
        Assert.Equal("A <s></s>", ChatTemplate.Load(config).Prompt(s_hello));
        Assert.Equal("A <s></s>", ChatTemplate.Load(_folder.Path).Prompt(s_hello));

        // A file of its own wins, and gets the tokens of the config.
        var jinja = _folder["chat_template.jinja"];
        File.WriteAllText(jinja, "B {{ bos_token }}{{ tools is none }}{{ unk_token is defined }}\n");
        Assert.Equal("B <s>TrueFalse", ChatTemplate.Load(_folder.Path).Prompt(s_hello));
        Assert.Equal("B <s>TrueFalse", ChatTemplate.Load(jinja).Prompt(s_hello));
        Assert.Equal("A <s></s>", ChatTemplate.Load(config).Prompt(s_hello));
        File.Delete(config);
        Assert.Equal("B TrueFalse", ChatTemplate.Load(_folder.Path).Prompt(s_hello));
    }

    [Fact]
    public void OfSeveralTemplatesTheDefaultIsTaken()
    {
        var config = Config(
            """{"chat_template": [{"name": "tool_use", "template": "{% nonsense %}"}, {"name": "default", "template": "D"}]}""");
        Assert.Equal("D", ChatTemplate.Load(config).Prompt(s_hello));
        Config("""{"chat_template": [{"name": "rag", "template": "R"}]}""");
        Assert.Contains("no template of the name \"default\"",
            Assert.Throws<TokenizerException>(() => ChatTemplate.Load(config)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnswersEndAtTheEndOfTheTextAndOfTheTurn()
    {
        // The mark in angle brackets need not be listed.
        Assert.Equal(["<eos>", "</turn>"], Load(Turns, "\"eos_token\": \"<eos>\"").StopStrings);
        Assert.Equal(["</turn>"], Load(Turns).StopStrings);

        // A listed token is found as it is, the longest first, also after white space.
        const string Marked = "{% for m in messages %}{{ m.content }} ##END{% endfor %}";
        Assert.Equal(["##END"], Load(Marked, "\"added_tokens_decoder\": {\"1\": {\"content\": \"##\", \"special\": true}, "
            + "\"2\": {\"content\": \"##END\", \"special\": true}}").StopStrings);
        Assert.Empty(Load(Marked).StopStrings);
        Assert.Equal(
            ["</s>"], Load("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", "\"eos_token\": \"</s>\"").StopStrings);
        Assert.Empty(Load("{{ raise_exception('never') }}").StopStrings);
    }

    [Theory]
    [InlineData("<s>", "\"bos_token\": \"<s>\"")]
    [InlineData("<x>", "\"additional_special_tokens\": [\"<x>\"]")]
    [InlineData("<x>", "\"additional_special_tokens\": [{\"content\": \"<x>\"}]")]
    [InlineData("<x>", "\"extra_special_tokens\": {\"image_token\": \"<x>\"}")]
    [InlineData("<x>", "\"added_tokens_decoder\": {\"7\": {\"content\": \"<x>\", \"special\": true}}")]
    [InlineData("</turn>", "\"eos_token\": null")]
    public void AMessageWithASpecialTokenIsRefused(string token, string config)
    {
        var template = Load(Turns, config);
        Assert.Contains("user: Hello", template.Prompt(s_hello), StringComparison.Ordinal);
        var e = Assert.Throws<ArgumentException>(() => template.Prompt([.. s_hello, new(ChatRole.Assistant, "x" + token)]));
        Assert.Contains($"A message of the role assistant contains {token},", e.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => template.Prompt([new(new ChatRole(token), "x")]));
    }

    [Fact]
    public void TokensThatAreNotSpecialMayStandInMessages()
    {
        var template = Load(
            Turns, "\"pad_token\": \"!\", \"added_tokens_decoder\": {\"7\": {\"content\": \"<think>\", \"special\": false}}");
        Assert.Contains("Hi! <think>", template.Prompt([new(ChatRole.User, "Hi! <think>")]), StringComparison.Ordinal);
    }

    [Fact]
    public void TheSpecialTokensOfTheTokenizerBesideATemplateAreRefusedToo()
    {
        File.WriteAllText(_folder["tokenizer.json"],
            """{"added_tokens": [{"content": "<turn>", "special": true}, {"content": "<tool>", "special": false}]}""");
        var template = Load(Turns);
        Assert.Contains("<tool>", template.Prompt([new(ChatRole.User, "<tool>")]), StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => template.Prompt([new(ChatRole.User, "<turn>")]));
    }

    [Fact]
    public void WhatATemplateRefusesIsSaidInItsOwnWords()
    {
        var template = Load(
            "{% if messages|length % 2 == 0 %}{{ raise_exception('Roles must alternate!') }}{% endif %}{{ messages[0].content.x.y }}x");
        var e = Assert.Throws<ArgumentException>(() => template.Prompt([.. s_hello, .. s_hello]));
        Assert.StartsWith("The chat template refuses the messages: Roles must alternate!", e.Message, StringComparison.Ordinal);
        Assert.Equal("messages", e.ParamName);
        e = Assert.Throws<ArgumentException>(() => template.Prompt(s_hello));
        Assert.Contains("cannot format the messages: line 1: a string has no 'x'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FilesWithoutAUsableTemplateAreRefused()
    {
        Refused("does not exist", _folder["nowhere.json"]);
        Refused("with neither chat_template.jinja nor", _folder.Path);
        Refused("it has no chat_template", Config("{}"));
        Refused("with neither chat_template.jinja nor", _folder.Path);
        Refused("line 1:", Config("{"));
        Refused("neither a string nor an array", Config("""{"chat_template": 5}"""));
        Refused("a string is not valid Unicode", Config("""{"chat_template": "\ud800"}"""));
        Refused("line 2: the filter 'wordwrap' is not supported", Config("""{"chat_template": "\n{{ x|wordwrap }}"}"""));
        // What fails with any messages fails at once.
        Refused("line 1: 'x' is undefined", Config("""{"chat_template": "{{ x.y }}"}"""));
        Assert.Throws<ArgumentException>(() => ChatTemplate.Load(""));

        void Refused(string problem, string path)
        {
            var e = Assert.Throws<TokenizerException>(() => ChatTemplate.Load(path));
            Assert.Contains(problem, e.Message, StringComparison.Ordinal);
            Assert.Contains(path, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task AClientUsesTheTemplateAndItsStopStrings()
    {
        var template = Load(Turns, "\"bos_token\": \"<s>\"");
        const string Prompt = "<s><turn>user: Hello</turn>\n<turn>model: ";
        Assert.Equal(Prompt, template.Prompt(s_hello));
        using var model = new Decoding.ScriptedModel("yes</turn>no", promptLength: Prompt.Length);
        using var client = new MatFormerChatClient(model, template: template);
        Assert.Equal("yes", (await client.GetResponseAsync(s_hello)).Text);
        await Assert.ThrowsAsync<ArgumentException>(() => client.GetResponseAsync("<s>"));
    }

    private static string Escaped(string text) =>
        text.Replace("\n", "\\n", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal);

    private string Config(string json)
    {
        var path = _folder["tokenizer_config.json"];
        File.WriteAllText(path, json);
        return path;
    }

    private ChatTemplate Load(string template, string? members = null) =>
        ChatTemplate.Load(Config($$"""{"chat_template": "{{Escaped(template)}}"{{(members is null ? "" : ", " + members)}}}"""));
}

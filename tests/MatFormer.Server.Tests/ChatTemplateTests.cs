using System.Text.Json;

namespace MatFormer.Server.Tests;

/// <summary>Tests chats that are formatted by a template of a file.</summary>
public sealed class ChatTemplateTests : IDisposable
{
    private const string Chat = "/v1/chat/completions";

    private const string Config = """
        {"bos_token": "[", "eos_token": "##", "chat_template": "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != loop.first %}{{ raise_exception('Roles must alternate') }}{% endif %}{{ m.content|trim }}{% endfor %}]"}
        """;

    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-chat-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task AChatEqualsTheCompletionOfTheFormattedText()
    {
        await using var server = await Start();
        var chat = await server.PostOk(
            Chat, new { model = "TinyLm", messages = new[] { new { role = "user", content = " hello " } }, max_tokens = 8, seed = 3 });
        var text = await server.PostOk(
            "/v1/completions", new { model = "TinyLm", prompt = "[hello]", max_tokens = 8, seed = 3, stop = "##" });
        Assert.Equal(
            text.GetProperty("choices")[0].GetProperty("text").GetString(),
            chat.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString());
        Assert.Equal(7, chat.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
    }

    [Theory]
    [InlineData("Roles must alternate", """{"role": "user", "content": "a"}, {"role": "user", "content": "b"}""")]
    [InlineData("of the role user contains ##", """{"role": "user", "content": "a##"}""")]
    public async Task MessagesThatTheTemplateRefusesAreABadRequest(string problem, string messages)
    {
        await using var server = await Start();
        using var response = await server.Post(Chat, $$"""{"model": "TinyLm", "messages": [{{messages}}]}""");
        var error = JsonElement.Parse(await response.Content.ReadAsStringAsync()).GetProperty("error");
        Assert.Equal(400, (int)response.StatusCode);
        Assert.Equal("messages", error.GetProperty("param").GetString());
        Assert.Contains(problem, error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    private async Task<TestServer> Start()
    {
        var path = Path.Combine(_folder, "tokenizer_config.json");
        await File.WriteAllTextAsync(path, Config);
        return await TestServer.Start(new ModelServerOptions { Scheduler = Models.Patient, ChatTemplate = ChatTemplate.Load(path) });
    }
}

using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;

namespace MatFormer.Server.Tests;

/// <summary>A server of a TinyLm at a free port, and its client.</summary>
internal sealed class TestServer : IAsyncDisposable
{
    private TestServer(TinyLm model, ModelServer server, ModelServerHost host, HttpClient client) =>
        (Model, Server, Host, Client) = (model, server, host, client);

    public TinyLm Model { get; }

    public ModelServer Server { get; }

    public ModelServerHost Host { get; }

    public HttpClient Client { get; }

    public static async Task<TestServer> Start(ModelServerOptions? options = null, int sequences = 4, bool embeds = true)
    {
        var model = Models.New();
        var engine = DecodingEngine.Create(model, new DecodingOptions { Sequences = sequences, Threads = 2, HiddenStates = embeds });
        var server = ModelServer.Create<TinyLm>(engine, options ?? new ModelServerOptions { Scheduler = Models.Patient });
        var host = await ModelServerHost.StartAsync(server, new ListenOptions { Port = 0 });
        return new TestServer(model, server, host, new HttpClient { BaseAddress = host.Address, Timeout = TimeSpan.FromMinutes(20) });
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Host.DisposeAsync();
        Model.Dispose();
    }

    public Task<HttpResponseMessage> Post(string path, string json, CancellationToken cancellationToken = default)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(json, Encoding.UTF8, "application/json") };
        return Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
    }

    public async Task<JsonElement> PostOk(string path, object body)
    {
        using var response = await Client.PostAsJsonAsync(path, body);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        Assert.Equal(new MediaTypeHeaderValue("application/json", "utf-8"), response.Content.Headers.ContentType);
        return JsonElement.Parse(text);
    }

    /// <summary>Returns the events of a stream without the last one, which must be [DONE].</summary>
    public async Task<List<JsonElement>> Stream(string path, object body)
    {
        using var response = await Post(path, JsonSerializer.Serialize(body));
        Assert.True(response.IsSuccessStatusCode);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType!.MediaType);
        var events = (await response.Content.ReadAsStringAsync()).Split("\n\n");
        Assert.Equal(["data: [DONE]", string.Empty], events[^2..]);
        return [.. events[..^2].Select(e => JsonElement.Parse(e["data: ".Length..]))];
    }

    public static string? TextOf(IEnumerable<JsonElement> events) => string.Concat(events.SelectMany(e => e.GetProperty("choices").EnumerateArray())
        .Select(c => c.TryGetProperty("text", out var text) ? text.GetString()
            : c.GetProperty("delta").TryGetProperty("content", out var content) ? content.GetString() : string.Empty));
}

/// <summary>A server that tests share if they do not change its state.</summary>
public sealed class SharedServer : IAsyncLifetime
{
    internal TestServer Its { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Its = await TestServer.Start();

    public ValueTask DisposeAsync() => Its.DisposeAsync();
}

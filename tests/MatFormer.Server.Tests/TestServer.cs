using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;

namespace MatFormer.Server.Tests;

/// <summary>A server of a TinyLm or a TinyEncoder at a free port, and its client.</summary>
internal sealed class TestServer : IAsyncDisposable
{
    private readonly TinyLm? _model;
    private readonly ModelServer _server;

    private TestServer(TinyLm? model, ModelServer server, ModelServerHost host)
    {
        (_model, _server, Host) = (model, server, host);
        Client = new HttpClient { BaseAddress = host.Address, Timeout = TimeSpan.FromMinutes(20) };
    }

    public TinyLm Model => _model!;

    public LanguageModelServer Server => (LanguageModelServer)_server;

    public EncoderServer EncoderServer => (EncoderServer)_server;

    public ModelServerHost Host { get; }

    public HttpClient Client { get; }

    public static async Task<TestServer> Start(ModelServerOptions? options = null, int sequences = 4, bool embeds = true)
    {
        var model = Models.New();
        var engine = DecodingEngine.Create(model, new DecodingOptions { Sequences = sequences, Threads = 2, HiddenStates = embeds });
        var server = ModelServer.Create<TinyLm>(engine, options ?? new ModelServerOptions { Scheduler = Models.Patient });
        var host = await ModelServerHost.StartAsync(server, new ListenOptions { Port = 0 });
        return new TestServer(model, server, host);
    }

    /// <summary>Starts a server of another language model. It does not dispose of the model.</summary>
    public static async Task<TestServer> StartText<TModel>(MatFormerModel model, ModelServerOptions? options = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var engine = DecodingEngine.Create(model, new DecodingOptions { Sequences = 4, Threads = 2, HiddenStates = true });
        var server = ModelServer.Create<TModel>(engine, options ?? new ModelServerOptions { Scheduler = Models.Patient });
        return new TestServer(null, server, await ModelServerHost.StartAsync(server, new ListenOptions { Port = 0 }));
    }

    /// <summary>Starts a server of an encoder, by default of <see cref="Encoders.New"/>.</summary>
    public static async Task<TestServer> StartEncoder(EncoderServerOptions? options = null, MatFormerModel? encoder = null)
    {
        var server = ModelServer.Create<TinyEncoder>(encoder ?? Encoders.New(), options);
        return new TestServer(null, server, await ModelServerHost.StartAsync(server, new ListenOptions { Port = 0 }));
    }

    /// <summary>Starts a server of an encoder of texts or images.</summary>
    public static async Task<TestServer> StartVision<TModel>(MatFormerModel model, EncoderServerOptions? options = null)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var server = ModelServer.Create<TModel>(model, options);
        return new TestServer(null, server, await ModelServerHost.StartAsync(server, new ListenOptions { Port = 0 }));
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Host.DisposeAsync();
        _model?.Dispose();
    }

    public Task<HttpResponseMessage> Post(string path, string json, CancellationToken cancellationToken = default)
    {
        var request =
            new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(json, Encoding.UTF8, "application/json") };
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

    public static string? TextOf(IEnumerable<JsonElement> events) => string.Concat(events
        .SelectMany(e => e.GetProperty("choices").EnumerateArray())
        .Select(c => c.TryGetProperty("text", out var text) ? text.GetString()
            : c.GetProperty("delta").TryGetProperty("content", out var content) ? content.GetString() : string.Empty));
}

/// <summary>A server of an encoder that tests share if they do not change its state.</summary>
public sealed class SharedEncoder : IAsyncLifetime
{
    internal TestServer Its { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Its = await TestServer.StartEncoder();

    public ValueTask DisposeAsync() => Its.DisposeAsync();
}

/// <summary>A server of a vision transformer that tests share if they do not change its state.</summary>
public sealed class SharedVision : IAsyncLifetime
{
    internal TestServer Its { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Its = await TestServer.StartVision<TinyViT>(Images.New());

    public ValueTask DisposeAsync() => Its.DisposeAsync();
}

/// <summary>A server that tests share if they do not change its state.</summary>
public sealed class SharedServer : IAsyncLifetime
{
    internal TestServer Its { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Its = await TestServer.Start();

    public ValueTask DisposeAsync() => Its.DisposeAsync();
}

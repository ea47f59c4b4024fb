using System.ClientModel;
using System.ClientModel.Primitives;
using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using Fleet;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using OpenAI;
using OpenAI.Chat;

namespace MatFormer.Server.Tests;

/// <summary>Tests the proxy of examples/Fleet with servers in other processes, one of which ends.</summary>
public sealed class FleetTests : IAsyncDisposable
{
    private const string Completions = "/v1/completions";
    private const int Endless = 2_000_000_000;

    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-fleet-").FullName;
    private readonly List<ServedReplica> _replicas = [];
    private TinyLm? _model;
    private WebApplication? _proxy;
    private HttpClient? _client;

    private HttpClient Client => _client!;

    public async ValueTask DisposeAsync()
    {
        _client?.Dispose();
        if (_proxy is not null) await _proxy.DisposeAsync();
        foreach (var replica in _replicas) await replica.DisposeAsync();
        _model?.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task AllRequestsButThoseThatHadBegunSurviveAKilledReplica()
    {
        await Start(3, "--sequences", "4", "--max-tokens", "2000000000");
        var keys = await KeysByReplica();
        var (killed, other) = (0, 1);

        // Four endless answers fill the replica that is going to be killed. One of them is read by OpenAI's client.
        var begun = new List<Task<Exception>>();
        var beginnings = new List<Task>();
        for (var i = 0; i < 3; i++) begun.Add(ReadUntilBroken(keys[killed], Began()));
        begun.Add(ReadByOpenAIUntilBroken(keys[killed], Began()));
        var readElsewhere = 0;
        using var leaving = new CancellationTokenSource();
        var elsewhere = ReadUntilBroken(keys[other], Began(), () => readElsewhere++, leaving.Token);
        await Task.WhenAll(beginnings);

        // These wait at the same replica, so none of them has begun.
        var waiting = Enumerable.Range(0, 12).Select(i => Answer(keys[killed], $"waits {i}", streams: i % 3 == 0)).ToList();
        await Models.Until(() => Metric(_replicas[killed], "matformer_requests_waiting") == waiting.Count);
        Assert.Equal(4, Metric(_replicas[killed], "matformer_requests_running"));

        // Others come and go all the time, to all replicas.
        var begunToWork = new TaskCompletionSource();
        var answered = 0;
        var load = Enumerable.Range(0, 6).Select(async worker =>
        {
            for (var i = 0; i < 20; i++)
            {
                await Answer($"{worker} {i}", $"load {worker} {i}", streams: i % 2 == 0);
                if (Interlocked.Increment(ref answered) == 10) begunToWork.SetResult();
            }
        }).ToList();
        var loaded = Task.WhenAll(load);
        await Task.WhenAny(begunToWork.Task, loaded, Task.Delay(TimeSpan.FromSeconds(2))); // some wait behind the endless ones
        _replicas[killed].Kill();

        await Task.WhenAll(waiting);
        await loaded;
        foreach (var broken in begun) Assert.IsAssignableFrom<IOException>(await broken);
        var read = readElsewhere;
        await Models.Until(() => readElsewhere > read + 20);
        await leaving.CancelAsync();
        Assert.IsAssignableFrom<OperationCanceledException>(await elsewhere);
        Assert.Equal(120, answered);

        TaskCompletionSource Began()
        {
            var began = new TaskCompletionSource();
            beginnings.Add(began.Task);
            return began;
        }
    }

    [Fact]
    public async Task AStoppingReplicaEndsItsAnswersAndGetsNoMore()
    {
        await Start(2, "--grace", "600");
        var keys = await KeysByReplica();
        using var response = await Send(keys[0], "long", 4000, streams: true);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        for (var i = 0; i < 10; i++) await reader.ReadLineAsync();
        var stopping = _replicas[0].Stop();
        for (var i = 0; i < 20; i++) await Answer(keys[0], $"after {i}", streams: i % 2 == 0);
        var last = string.Empty;
        while (await reader.ReadLineAsync() is { } line) last = line.Length > 0 ? line : last;
        Assert.Equal("data: [DONE]", last);
        Assert.Equal(0, await stopping);
    }

    [Fact]
    public async Task AConversationStaysWhereItsBeginningIsKept()
    {
        await Start(2);
        var cached = 0;
        var replicas = new HashSet<string>();
        // The replicas' ports decide which conversations are whose, so it may take more than a few to see both replicas.
        for (var conversation = 0; conversation < 8 || (replicas.Count < 2 && conversation < 64); conversation++)
        {
            var messages = new List<object> { new { role = "user", content = $"{conversation} asks" } };
            var stays = new HashSet<string>();
            for (var turn = 0; turn < 3; turn++)
            {
                using var response = await Client.PostAsJsonAsync(
                    "/v1/chat/completions", new { model = "TinyLm", messages, max_tokens = 2, temperature = 0 });
                var answer = await response.Content.ReadFromJsonAsync<JsonElement>();
                stays.Add(ReplicaOf(response));
                var details = answer.GetProperty("usage").GetProperty("prompt_tokens_details");
                if (turn > 0) cached += details.GetProperty("cached_tokens").GetInt32();
                messages.Add(new { role = "assistant", content = "is" });
                messages.Add(new { role = "user", content = "on" });
            }

            replicas.Add(Assert.Single(stays));
        }

        Assert.Equal(2, replicas.Count);
        Assert.True(cached > 0, "no turn reused the beginning of its conversation");
    }

    [Fact]
    public async Task WithoutAReplicaThereIsAnError()
    {
        await StartProxy([new Uri("http://127.0.0.1:1")]);
        using var response = await Send("x", "x", 1, streams: false);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, response.StatusCode);
        var error = (await response.Content.ReadFromJsonAsync<JsonElement>()).GetProperty("error");
        Assert.Equal("server_error", error.GetProperty("type").GetString());
        using var ready = await Client.GetAsync("/readyz");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, ready.StatusCode);
        using var alive = await Client.GetAsync("/livez");
        Assert.Equal(HttpStatusCode.OK, alive.StatusCode);
    }

    [Fact]
    public async Task AnAddressThatTheMachineDoesNotHaveIsAnsweredByOneLine()
    {
        string[] arguments =
            [Path.Combine(AppContext.BaseDirectory, "Fleet.dll"), "--replica", "http://127.0.0.1:1", "--host", "192.0.2.1"];
        using var process = Process.Start(new ProcessStartInfo("dotnet", arguments) { RedirectStandardError = true })!;
        var error = await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 2, error);
        Assert.EndsWith("Give another --host or --port.", Assert.Single(error.Trim().Split('\n')), StringComparison.Ordinal);
    }

    [Fact]
    public async Task ReadyReplicasAreCounted()
    {
        await using var its = await TestServer.Start();
        await StartProxy([its.Host.Address]);
        var said = string.Empty;
        for (var i = 0; i < 600 && !said.StartsWith('1'); i++)
        {
            if (i > 0) await Task.Delay(100);
            using var ready = await Client.GetAsync("/readyz");
            said = await ready.Content.ReadAsStringAsync();
        }

        Assert.Equal("1 replica is ready", said);
    }

    [Fact]
    public async Task OtherNamesOfThisMachineAreRefused()
    {
        await StartProxy([new Uri("http://127.0.0.1:1")]);
        using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/models") { Headers = { Host = "example.com" } };
        using var response = await Client.SendAsync(request);
        Assert.Equal(HttpStatusCode.MisdirectedRequest, response.StatusCode);
    }

    [Theory]
    [InlineData(
        """{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]}""",
        """{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}""")]
    [InlineData(
        """{"messages": [{"role": "user", "content": "a"}], "user": "me"}""",
        """{"messages": [{"role": "user", "content": "b"}], "user": "me"}""")]
    [InlineData(
        """{"prompt": "a", "prompt_cache_key": "k", "user": "me"}""", """{"prompt": "b", "prompt_cache_key": "k", "user": "you"}""")]
    [InlineData("""{"prompt": ["a"]}""", """{"prompt": "a"}""")]
    public void RequestsOfAConversationHaveOneKey(string one, string next)
    {
        Assert.NotNull(KeyOf(one));
        Assert.Equal(KeyOf(one), KeyOf(next));
        Assert.Equal(KeyOf(one, "s"), KeyOf("""{"prompt": "other"}""", "s"));
    }

    [Theory]
    [InlineData(
        """{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]}""",
        """{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "b"}]}""")]
    [InlineData("""{"prompt": "a"}""", """{"prompt": "b"}""")]
    [InlineData("""{"prompt": "a", "user": "me"}""", """{"prompt": "a", "user": "you"}""")]
    public void OtherConversationsHaveOtherKeys(string one, string other) => Assert.NotEqual(KeyOf(one), KeyOf(other));

    [Theory]
    [InlineData("""{"input": "a"}""")]
    [InlineData("""{"prompt": ["a", "b"]}""")]
    [InlineData("""{"prompt": "\ud800"}""")]
    [InlineData("[1]")]
    [InlineData("{")]
    [InlineData("")]
    public void WhatIsNoConversationHasNoKey(string body) => Assert.Null(KeyOf(body));

    [Fact]
    public void AReplicaThatLeavesMovesItsConversationsOnly()
    {
        string[] replicas = ["a", "b", "c", "d"];
        var firsts = new Dictionary<string, int>();
        foreach (var key in Enumerable.Range(0, 400).Select(i => $"key {i}"))
        {
            var order = ConversationKey.Order(key, replicas, name => name).ToList();
            Assert.Equal(order.Where(name => name != "c"), ConversationKey.Order(key, ["d", "a", "b"], name => name));
            firsts[order[0]] = firsts.GetValueOrDefault(order[0]) + 1;
        }

        Assert.All(replicas, name => Assert.InRange(firsts[name], 70, 130)); // 100 each, with a standard deviation of 9
    }

    private static string? KeyOf(string body, string? session = null)
    {
        var headers = new HeaderDictionary();
        if (session is not null) headers[ConversationKey.Header] = session;
        return ConversationKey.Of(headers, Encoding.UTF8.GetBytes(body));
    }

    private static string ReplicaOf(HttpResponseMessage response) => response.Headers.GetValues(FleetProxy.ReplicaHeader).Single();

    private static double Metric(ServedReplica replica, string name)
    {
        var metrics = replica.Client.GetStringAsync("/metrics").GetAwaiter().GetResult();
        return double.Parse(metrics.Split('\n').Single(line => line.StartsWith(name + " ", StringComparison.Ordinal))[(name.Length + 1)..]);
    }

    private async Task Start(int replicas, params string[] options)
    {
        var checkpoint = Path.Combine(_folder, "model.safetensors");
        _model = Models.New();
        _model.Save(checkpoint);
        _replicas.AddRange(await ServedReplica.Start(replicas, checkpoint, options));
        await StartProxy([.. _replicas.Select(replica => replica.Address)]);
    }

    private async Task StartProxy(IReadOnlyList<Uri> replicas)
    {
        // A replica that a busy machine keeps from answering is not taken for one that is gone.
        _proxy = FleetProxy.Build(
            new FleetOptions { Replicas = replicas, Port = 0, Slack = 1000, ProbeTimeout = TimeSpan.FromMinutes(5) });
        await _proxy.StartAsync();
        _client = new HttpClient { BaseAddress = new Uri(_proxy.Urls.First()), Timeout = TimeSpan.FromMinutes(20) };
    }

    // Returns the key of a conversation for each replica.
    private async Task<string[]> KeysByReplica()
    {
        var keys = new Dictionary<int, string>();
        for (var i = 0; keys.Count < _replicas.Count; i++)
        {
            Assert.True(i < 200, "200 conversations do not reach all replicas");
            using var response = await Send($"key {i}", "x", 1, streams: false);
            keys.TryAdd(_replicas.FindIndex(replica => ReplicaOf(response) == replica.Address.Authority), $"key {i}");
        }

        return [.. keys.OrderBy(key => key.Key).Select(key => key.Value)];
    }

    private Task<HttpResponseMessage> Send(string key, string prompt, int tokens, bool streams)
    {
        var body = new { model = "TinyLm/M", prompt, max_tokens = tokens, temperature = 0, stream = streams, user = key };
        var request = new HttpRequestMessage(HttpMethod.Post, Completions) { Content = JsonContent.Create(body) };
        return Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
    }

    // Asks for a short text, and checks that it is the model's.
    private async Task Answer(string key, string prompt, bool streams)
    {
        using var response = await Send(key, prompt, 12, streams);
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, text);
        if (streams)
        {
            var events = text.Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
            Assert.Equal("data: [DONE]", events[^1]);
            text = TestServer.TextOf(events[..^1].Select(e => JsonElement.Parse(e["data: ".Length..])));
        }
        else
        {
            text = JsonElement.Parse(text).GetProperty("choices")[0].GetProperty("text").GetString();
        }

        Assert.Equal(Expected(prompt), text);
    }

    private string Expected(string prompt)
    {
        lock (_model!) return Models.Alone(_model, TinyLm.Granularities[1], prompt, new GenerationOptions { Tokens = 12 });
    }

    // Reads an endless answer, and returns why it ended.
    private async Task<Exception> ReadUntilBroken(
        string key, TaskCompletionSource began, Action? read = null, CancellationToken cancellationToken = default)
    {
        try
        {
            using var response = await Send(key, "endless", Endless, streams: true);
            using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(cancellationToken));
            while (await reader.ReadLineAsync(cancellationToken) is not null)
            {
                began.TrySetResult();
                read?.Invoke();
            }

            return new InvalidOperationException("The answer ended as if it were complete.");
        }
        catch (Exception e) when (began.Task.IsCompleted)
        {
            return e;
        }
    }

    private async Task<Exception> ReadByOpenAIUntilBroken(string key, TaskCompletionSource began)
    {
        var endpoint = new OpenAIClientOptions { Endpoint = new Uri(Client.BaseAddress!, "v1"), RetryPolicy = new ClientRetryPolicy(0) };
        var client = new OpenAIClient(new ApiKeyCredential("any"), endpoint).GetChatClient("TinyLm/M");
        var options = new ChatCompletionOptions { MaxOutputTokenCount = Endless, EndUserId = key };
        try
        {
            UserChatMessage[] messages = [new("endless")];
            await foreach (var update in client.CompleteChatStreamingAsync(messages, options)) began.TrySetResult();
            return new InvalidOperationException("The answer ended as if it were complete.");
        }
        catch (Exception e) when (began.Task.IsCompleted)
        {
            return e;
        }
    }
}

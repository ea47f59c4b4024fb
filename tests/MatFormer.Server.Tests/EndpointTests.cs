using System.Net;
using System.Net.Http.Json;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace MatFormer.Server.Tests;

public sealed class EndpointTests(SharedServer shared) : IClassFixture<SharedServer>
{
    private const string Chat = "/v1/chat/completions";
    private const string Text = "/v1/completions";
    private const string Embeddings = "/v1/embeddings";

    [Fact]
    public async Task ModelsAreListedWithTheirCosts()
    {
        await using var its = await TestServer.Start();
        var list = JsonElement.Parse(await its.Client.GetStringAsync("/v1/models")).GetProperty("data").EnumerateArray().ToList();
        Assert.Equal(
            ["TinyLm", "TinyLm/auto", "TinyLm/S", "TinyLm/M", "TinyLm/XL", "TinyLm/Mixed"],
            list.Select(m => m.GetProperty("id").GetString()));
        var mixed = list[^1].GetProperty("profile");
        Assert.Equal("1*S 1*XL", mixed.GetProperty("pattern").GetString());
        Assert.Equal(TinyLm.Profiles[0].ParameterCount, mixed.GetProperty("parameters").GetInt64());
        Assert.Equal(TinyLm.Profiles[0].Flops, mixed.GetProperty("flops_per_token").GetInt64());
        Assert.True(mixed.GetProperty("ms_per_token").GetDouble() > 0);
    }

    [Fact]
    public async Task StreamedAndWholeAnswersEqualGenerationAlone()
    {
        await using var its = await TestServer.Start();
        foreach (var profile in TinyLm.Granularities.Concat(TinyLm.Profiles))
        {
            var options = new GenerationOptions
            {
                Tokens = 45,
                Temperature = 0.9,
                TopP = 0.9,
                TopK = 50,
                MinP = 0.001,
                RepetitionPenalty = 1.2,
                Seed = -7,
            };
            var body = new Dictionary<string, object?>
            {
                ["model"] = $"TinyLm/{profile.Name}",
                ["prompt"] = "Größe: ",
                ["max_tokens"] = 45,
                ["temperature"] = 0.9,
                ["top_p"] = 0.9,
                ["top_k"] = 50,
                ["min_p"] = 0.001,
                ["repetition_penalty"] = 1.2,
                ["seed"] = -7,
                ["n"] = 1,
                ["user"] = "me",
                ["logprobs"] = null,
            };
            var wanted = Models.Alone(its.Model, profile, "Größe: ", options);
            var whole = await its.PostOk(Text, body);
            var choice = whole.GetProperty("choices")[0];
            Assert.Equal((wanted, "length"), (choice.GetProperty("text").GetString(), choice.GetProperty("finish_reason").GetString()));
            Assert.Equal($"TinyLm/{profile.Name}", whole.GetProperty("model").GetString());
            Assert.Equal((9, 45, 54), UsageOf(whole));
            body["stream"] = true;
            body["stream_options"] = new { include_usage = true };
            var events = await its.Stream(Text, body);
            Assert.Equal(wanted, TestServer.TextOf(events));
            Assert.Equal("length", events[^2].GetProperty("choices")[0].GetProperty("finish_reason").GetString());
            Assert.Equal((9, 45, 54), UsageOf(events[^1]));

            // A chat of one message gives the same text as the prompt.
            body.Remove("prompt");
            body["messages"] = new object[] { new { role = "user", content = new object[] { new { type = "text", text = "Größe: " } } } };
            var chat = await its.Stream(Chat, body);
            Assert.Equal("assistant", chat[0].GetProperty("choices")[0].GetProperty("delta").GetProperty("role").GetString());
            Assert.Equal(wanted, TestServer.TextOf(chat));
            Assert.Equal("length", chat[^2].GetProperty("choices")[0].GetProperty("finish_reason").GetString());
            body.Remove("stream");
            body.Remove("stream_options");
            var answer = await its.PostOk(Chat, body);
            Assert.Equal("chat.completion", answer.GetProperty("object").GetString());
            Assert.Equal(wanted, answer.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString());
        }
    }

    [Fact]
    public async Task TheNextTurnOfAChatReusesTheCache()
    {
        await using var its = await TestServer.Start();
        await using var fresh = await TestServer.Start();
        var messages = new List<object> { new { role = "user", content = "A question" } };
        var first = await its.PostOk(Chat, Body("TinyLm/M"));
        Assert.Equal(0, CachedOf(first));
        messages.Add(new { role = "assistant", content = TextOf(first) });
        messages.Add(new { role = "user", content = "more" });
        var second = await its.PostOk(Chat, Body("TinyLm/M"));
        Assert.InRange(CachedOf(second), "A question".Length, UsageOf(second).Prompt - "\nmore".Length);
        Assert.Equal(TextOf(await fresh.PostOk(Chat, Body("TinyLm/M"))), TextOf(second));
        Assert.Contains($"matformer_cached_tokens_total {CachedOf(second)}\n", await its.Client.GetStringAsync("/metrics"));

        // A stream reports cached tokens too. Another size shares none.
        var streamed = await its.Stream(Chat, Body("TinyLm/M", streams: true));
        Assert.Equal(UsageOf(second).Prompt - 1, CachedOf(streamed[^1]));
        Assert.Equal(TextOf(second), TestServer.TextOf(streamed));
        Assert.Equal(0, CachedOf(await its.PostOk(Chat, Body("TinyLm/S"))));

        object Body(string model, bool streams = false) => streams
            ? new { model, messages, max_tokens = 3, temperature = 0, stream = true, stream_options = new { include_usage = true } }
            : new { model, messages, max_tokens = 3, temperature = 0 };

        static string TextOf(JsonElement answer) =>
            answer.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString()!;

        static int CachedOf(JsonElement answer) =>
            answer.GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32();
    }

    [Fact]
    public async Task AStopStringIsNotSent()
    {
        await using var its = await TestServer.Start();
        var body = new Dictionary<string, object> { ["model"] = "TinyLm", ["prompt"] = "x", ["seed"] = 3, ["max_tokens"] = 200 };
        var whole = (await its.PostOk(Text, body)).GetProperty("choices")[0].GetProperty("text").GetString()!;
        var stop = whole.First(c => c is > ' ' and < '\u007F');
        body["stop"] = new[] { $"{stop}", "never, never" };
        var stopped = await its.PostOk(Text, body);
        Assert.Equal(whole[..whole.IndexOf(stop)], stopped.GetProperty("choices")[0].GetProperty("text").GetString());
        Assert.Equal("stop", stopped.GetProperty("choices")[0].GetProperty("finish_reason").GetString());
    }

    [Fact]
    public async Task ProfilesServedTogetherGiveTheTextOfEachAlone()
    {
        await using var its = await TestServer.Start();
        string[] names = ["S", "M", "XL", "Mixed", "1*M 1*XL", "2*S", "XL M", "S XL"];
        var answers = await Task.WhenAll(names.Select((name, i) => its.Stream(
            Text, new { model = "TinyLm/" + name, prompt = "the same", seed = i, max_tokens = 70, temperature = 1.1, stream = true })));
        foreach (var (i, name) in names.Index())
        {
            var options = new GenerationOptions { Tokens = 70, Temperature = 1.1, Seed = i };
            Assert.Equal(Models.Alone(its.Model, Profile<TinyLm>.Parse(name), "the same", options), TestServer.TextOf(answers[i]));
        }

        // A pattern that is written differently names the same model.
        Assert.All(answers[6], e => Assert.Equal("TinyLm/1*XL 1*M", e.GetProperty("model").GetString()));
        var metrics = await its.Client.GetStringAsync("/metrics");
        Assert.Contains("matformer_profile_requests_total{profile=\"other\"} 4\n", metrics);
        Assert.Contains("matformer_profile_requests_total{profile=\"XL\"} 1\n", metrics);
        Assert.Contains($"matformer_generated_tokens_total {70 * names.Length}\n", metrics);
        Assert.Contains($"matformer_first_token_seconds_count {names.Length}\n", metrics);
        Assert.All(metrics.TrimEnd('\n').Split('\n'),
            line => Assert.Matches(@"^(# (HELP|TYPE) matformer_\w+ .+|matformer_\w+(\{\w+=""[^""]+""\})? [0-9.eE+-]+)$", line));
    }

    [Fact]
    public async Task BudgetsChooseTheSize()
    {
        await using var its = await TestServer.Start(new ModelServerOptions { AutoMsPerToken = 1e6 });
        Assert.Equal("TinyLm/XL", await Chosen("TinyLm"));
        Assert.Equal("TinyLm/XL", await Chosen("TinyLm/auto"));
        var sizes = its.Server.Profiles.ToDictionary(p => p.Name);
        Assert.Equal("TinyLm/Mixed", await Chosen("TinyLm", flops: sizes["Mixed"].Flops));
        Assert.Equal("TinyLm/M", await Chosen("TinyLm", flops: sizes["Mixed"].Flops - 1));
        Assert.Equal("TinyLm/S", await Chosen("TinyLm/auto", flops: sizes["M"].Flops - 1));
        Assert.Equal("TinyLm/XL", await Chosen("TinyLm", ms: 1e6));

        async Task<string> Chosen(string model, long? flops = null, double? ms = null) => (await its.PostOk(
            Text, new { model, prompt = "x", max_tokens = 1, max_flops_per_token = flops, max_ms_per_token = ms }))
            .GetProperty("model").GetString()!;
    }

    // The times are given, so that the choice does not depend on this machine.
    [Fact]
    public void LoadAndBudgetsChooseTheSizeByGivenTimes()
    {
        var first = shared.Its.Server.Profiles[0];
        var catalog = new ProfileCatalog(
            TinyLm.Spec, TinyLm.Spec.WholeLayers, [Size("S", 1, 1, 0.1), Size("M", 2, 2, 0.2), Size("L", 4, 4, 0.5)], 5);
        Assert.Equal(["L", "L", "M", "M", "S", "S", "S"],
            new[] { 1, 3, 4, 16, 17, 41, 500 }.Select(load => catalog.Select("TinyLm/auto", null, null, load).Name));
        Assert.Equal("M", catalog.Select("TinyLm", null, 3.9, 500).Name);
        Assert.Equal("S", catalog.Select("TinyLm/auto", 3, 3.9, 20).Name);

        ServedProfile Size(string name, long flops, double ms, double further) => first with
        {
            Name = name,
            Flops = flops,
            Ms = ms,
            MsPerFurther = further,
            Layers = name == "L" ? TinyLm.Spec.WholeLayers : first.Layers,
        };
    }

    [Fact]
    public async Task EmbeddingsHaveLengthOne()
    {
        await using var its = await TestServer.Start();
        var both = await its.PostOk(Embeddings, new { model = "TinyLm/Mixed", input = new[] { "one text", "another" } });
        Assert.Equal(15, both.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
        var vectors = both.GetProperty("data").EnumerateArray()
            .Select(d => d.GetProperty("embedding").EnumerateArray().Select(x => x.GetSingle()).ToArray()).ToList();
        Assert.All(vectors, v => Assert.Equal(1, v.Sum(x => x * x), 1e-5));
        Assert.Equal((2, TinyLm.Spec.Width), (vectors.Count, vectors[1].Length));

        // Tokens as the input, and base64 as the output, give the same embedding.
        var again = await its.PostOk(Embeddings, new
        {
            model = "TinyLm/Mixed",
            input = Encoding.ASCII.GetBytes("another").Select(b => (int)b),
            encoding_format = "base64",
            dimensions = 32,
        });
        var bytes = again.GetProperty("data")[0].GetProperty("embedding").GetBytesFromBase64();
        Assert.Equal(vectors[1], MemoryMarshal.Cast<byte, float>(bytes).ToArray());
    }

    [Fact]
    public async Task AServerWithoutHiddenStatesHasNoEmbeddings()
    {
        await using var without = await TestServer.Start(embeds: false);
        using var response = await without.Post(Embeddings, """{"model": "TinyLm", "input": "x"}""");
        Assert.Equal(HttpStatusCode.NotImplemented, response.StatusCode);
    }

    [Theory]
    [InlineData(Text, 400, null, "")]
    [InlineData(Text, 400, null, "{")]
    [InlineData(Text, 400, null, "[]")]
    [InlineData(Text, 400, null, """{"model": "TinyLm", "model": "TinyLm", "prompt": "x"}""")]
    [InlineData(Text, 400, "model", """{"prompt": "x"}""")]
    [InlineData(Text, 400, "model", """{"model": 3, "prompt": "x"}""")]
    [InlineData(Text, 404, "model", """{"model": "gpt-4", "prompt": "x"}""")]
    [InlineData(Text, 404, "model", """{"model": "TinyLm/Huge", "prompt": "x"}""")]
    [InlineData(Text, 404, "model", """{"model": "TinyLm/3*S", "prompt": "x"}""")]
    [InlineData(Text, 400, "prompt", """{"model": "TinyLm"}""")]
    [InlineData(Text, 400, "prompt", """{"model": "TinyLm", "prompt": 5}""")]
    [InlineData(Text, 400, "prompt", """{"model": "TinyLm", "prompt": "\ud800"}""")]
    [InlineData(Text, 400, "user", """{"model": "TinyLm", "prompt": "x", "user": "\ud800"}""")]
    [InlineData(Text, 400, "suffix", """{"model": "TinyLm", "prompt": "x", "suffix": "\udc00"}""")]
    [InlineData(Text, 400, "metadata.a[1].b", """{"model": "TinyLm", "prompt": "x", "metadata": {"a": [1, {"b": "\ud800"}]}}""")]
    [InlineData(Text, 400, null, """{"model": "TinyLm", "prompt": "x", "\ud800": 1}""")]
    [InlineData(Text, 400, null, """{"model": "TinyLm", "prompt": "x", "stream": true, "stream_options": {"\ud800": 1}}""")]
    [InlineData(Chat, 400, null, """{"model": "TinyLm", "messages": [{"role": "user", "content": "x", "\ud800": 1}]}""")]
    [InlineData(Chat, 400, "messages[0].role", """{"model": "TinyLm", "messages": [{"role": "\ud800", "content": "x"}]}""")]
    [InlineData(Text, 422, "prompt", """{"model": "TinyLm", "prompt": ["x", "y"]}""")]
    [InlineData(Text, 422, "prompt", """{"model": "TinyLm", "prompt": "more than the thirty-two tokens of the context"}""")]
    [InlineData(Text, 400, "promt", """{"model": "TinyLm", "prompt": "x", "promt": "y"}""")]
    [InlineData(Text, 422, "temperature", """{"model": "TinyLm", "prompt": "x", "temperature": -1}""")]
    [InlineData(Text, 400, "temperature", """{"model": "TinyLm", "prompt": "x", "temperature": "hot"}""")]
    [InlineData(Text, 422, "top_p", """{"model": "TinyLm", "prompt": "x", "top_p": 0}""")]
    [InlineData(Text, 422, "top_k", """{"model": "TinyLm", "prompt": "x", "top_k": -1}""")]
    [InlineData(Text, 400, "top_k", """{"model": "TinyLm", "prompt": "x", "top_k": 1.5}""")]
    [InlineData(Text, 422, "min_p", """{"model": "TinyLm", "prompt": "x", "min_p": 2}""")]
    [InlineData(Text, 422, "repetition_penalty", """{"model": "TinyLm", "prompt": "x", "repetition_penalty": 0}""")]
    [InlineData(Text, 422, "max_tokens", """{"model": "TinyLm", "prompt": "x", "max_tokens": 0}""")]
    [InlineData(Text, 422, "max_tokens", """{"model": "TinyLm", "prompt": "x", "max_tokens": 5000}""")]
    [InlineData(Text, 422, "max_tokens", """{"model": "TinyLm", "prompt": "x", "max_tokens": 5, "max_completion_tokens": 6}""")]
    [InlineData(Text, 400, "seed", """{"model": "TinyLm", "prompt": "x", "seed": 1e30}""")]
    [InlineData(Text, 422, "n", """{"model": "TinyLm", "prompt": "x", "n": 2}""")]
    [InlineData(Text, 422, "echo", """{"model": "TinyLm", "prompt": "x", "echo": true}""")]
    [InlineData(Text, 422, "stop", """{"model": "TinyLm", "prompt": "x", "stop": [""]}""")]
    [InlineData(Text, 400, "stop[1]", """{"model": "TinyLm", "prompt": "x", "stop": ["a", 1]}""")]
    [InlineData(Text, 400, "stream", """{"model": "TinyLm", "prompt": "x", "stream": 1}""")]
    [InlineData(Text, 400, "stream_options", """{"model": "TinyLm", "prompt": "x", "stream_options": {"include_usage": true}}""")]
    [InlineData(Text, 422, "presence_penalty", """{"model": "TinyLm", "prompt": "x", "presence_penalty": 2.5}""")]
    [InlineData(Text, 422, "frequency_penalty", """{"model": "TinyLm", "prompt": "x", "frequency_penalty": -2.5}""")]
    [InlineData(Text, 400, "logit_bias", """{"model": "TinyLm", "prompt": "x", "logit_bias": [1]}""")]
    [InlineData(Text, 422, "logit_bias", """{"model": "TinyLm", "prompt": "x", "logit_bias": {"256": 1}}""")]
    [InlineData(Text, 422, "logit_bias", """{"model": "TinyLm", "prompt": "x", "logit_bias": {"x": 1}}""")]
    [InlineData(Text, 422, "logit_bias", """{"model": "TinyLm", "prompt": "x", "logit_bias": {"5": 101}}""")]
    [InlineData(Text, 422, "logit_bias", """{"model": "TinyLm", "prompt": "x", "logit_bias": {"5": "much"}}""")]
    [InlineData(Text, 422, "logprobs", """{"model": "TinyLm", "prompt": "x", "logprobs": 6}""")]
    [InlineData(Text, 400, "logprobs", """{"model": "TinyLm", "prompt": "x", "logprobs": true}""")]
    [InlineData(Chat, 400, "logprobs", """{"model": "TinyLm", "messages": [{"role": "user", "content": "x"}], "logprobs": 3}""")]
    [InlineData(Chat, 422, "top_logprobs",
        """{"model": "TinyLm", "messages": [{"role": "user", "content": "x"}], "logprobs": true, "top_logprobs": 21}""")]
    [InlineData(Chat, 422, "top_logprobs", """{"model": "TinyLm", "messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}""")]
    [InlineData(Text, 422, "max_flops_per_token", """{"model": "TinyLm", "prompt": "x", "max_flops_per_token": 10}""")]
    [InlineData(Text, 422, "max_ms_per_token", """{"model": "TinyLm", "prompt": "x", "max_ms_per_token": 1e-9}""")]
    [InlineData(Text, 422, "max_flops_per_token", """{"model": "TinyLm/S", "prompt": "x", "max_flops_per_token": 1000000}""")]
    [InlineData(Chat, 400, "messages", """{"model": "TinyLm"}""")]
    [InlineData(Chat, 400, "messages", """{"model": "TinyLm", "messages": []}""")]
    [InlineData(Chat, 400, "messages[0]", """{"model": "TinyLm", "messages": ["hello"]}""")]
    [InlineData(Chat, 400, "messages[0].role", """{"model": "TinyLm", "messages": [{"content": "hello"}]}""")]
    [InlineData(Chat, 422, "messages[0].role", """{"model": "TinyLm", "messages": [{"role": "tool", "content": "hello"}]}""")]
    [InlineData(Chat, 400, "messages[0].content", """{"model": "TinyLm", "messages": [{"role": "user"}]}""")]
    [InlineData(
        Chat, 422, "messages[0].content[0]", """{"model": "TinyLm", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}""")]
    [InlineData(Chat, 422, "messages",
        """{"model": "TinyLm", "messages": [{"role": "user", "content": "more than the thirty-two tokens of the context"}]}""")]
    [InlineData(Chat, 422, "tools", """{"model": "TinyLm", "messages": [{"role": "user", "content": "x"}], "tools": [{}]}""")]
    [InlineData(Chat, 422, "response_format",
        """{"model": "TinyLm", "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"}}""")]
    [InlineData(Embeddings, 400, "input", """{"model": "TinyLm"}""")]
    [InlineData(Embeddings, 422, "input", """{"model": "TinyLm", "input": ""}""")]
    [InlineData(Embeddings, 422, "input", """{"model": "TinyLm", "input": [1, 256]}""")]
    [InlineData(Embeddings, 400, "input[1]", """{"model": "TinyLm", "input": ["x", 3]}""")]
    [InlineData(Embeddings, 422, "input", """{"model": "TinyLm", "input": "more than the thirty-two tokens of the context"}""")]
    [InlineData(Embeddings, 400, "dimensions", """{"model": "TinyLm", "input": "x", "dimensions": 8}""")]
    [InlineData(Embeddings, 422, "encoding_format", """{"model": "TinyLm", "input": "x", "encoding_format": "hex"}""")]
    public async Task AnInvalidRequestIsRefusedWithTheNameOfTheField(string path, int status, string? field, string body)
    {
        using var response = await shared.Its.Post(path, body);
        await IsError(response, status, field);
    }

    [Fact]
    public async Task UnsupportedRequestsAreRefusedWithTheirStatus()
    {
        await using var its = await TestServer.Start(new ModelServerOptions { MaxBodyBytes = 1000 });
        using (var response = await its.Client.GetAsync("/v1/nothing")) await IsError(response, 404, null);
        using (var response = await its.Client.GetAsync(Text)) await IsError(response, 405, null);
        using (var response = await its.Client.PostAsync(
            Text, new StringContent("model=TinyLm", Encoding.UTF8, "application/x-www-form-urlencoded")))
            await IsError(response, 415, null);
        using (var response = await its.Post(Text, $$"""{"model": "TinyLm", "prompt": "{{new string('x', 1000)}}"}"""))
            await IsError(response, 413, null);
        using var foreign = new HttpRequestMessage(HttpMethod.Get, "/v1/models") { Headers = { Host = "example.com" } };
        using (var response = await its.Client.SendAsync(foreign)) await IsError(response, 421, null);
        var metrics = await its.Client.GetStringAsync("/metrics");
        Assert.Contains("matformer_http_responses_total{code=\"413\"} 1\n", metrics);
    }

    [Fact]
    public async Task TheHealthCheckAnswersOk() =>
        Assert.Equal("ok", JsonElement.Parse(await shared.Its.Client.GetStringAsync("/healthz")).GetProperty("status").GetString());

    [Fact]
    public async Task ThePageLoadsNothingFromElsewhere()
    {
        using var page = await shared.Its.Client.GetAsync("/");
        Assert.Contains("default-src 'none'", page.Headers.GetValues("Content-Security-Policy").Single());
        var html = await page.Content.ReadAsStringAsync();
        Assert.Contains("v1/completions", html);
        Assert.DoesNotContain("://", html);
    }

    [Fact]
    public async Task ADrainingServerIsNotReadyButAnswers()
    {
        await using var its = await TestServer.Start();
        Assert.Equal((200, "ok"), await Health("/readyz"));
        its.Server.Drain();
        Assert.Equal((503, "draining"), await Health("/readyz"));
        Assert.Equal((503, "draining"), await Health("/healthz"));
        Assert.Equal((200, "draining"), await Health("/livez"));
        await its.PostOk("/v1/completions", new { model = "TinyLm", prompt = "x", max_tokens = 1 });
        await its.Server.StopAsync(TimeSpan.FromSeconds(1));
        Assert.Equal((503, "stopping"), await Health("/readyz"));
        Assert.Equal((200, "stopping"), await Health("/livez"));

        async Task<(int, string?)> Health(string path)
        {
            using var response = await its.Client.GetAsync(path);
            return ((int)response.StatusCode, (await response.Content.ReadFromJsonAsync<JsonElement>()).GetProperty("status").GetString());
        }
    }

    [Fact]
    public async Task ARequestWithoutTheTokenIsRefused()
    {
        await using var its = await TestServer.Start(new ModelServerOptions { Token = "sesame" });
        foreach (var given in (string?[])[null, "Bearer wrong", "Bearer sesam", "Basic sesame", "Bearer"])
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/models");
            if (given is not null) request.Headers.TryAddWithoutValidation("Authorization", given);
            using var response = await its.Client.SendAsync(request);
            await IsError(response, 401, null);
            Assert.Equal("Bearer", response.Headers.WwwAuthenticate.Single().Scheme);
        }

        using (var metrics = await its.Client.GetAsync("/metrics")) await IsError(metrics, 401, null);
        using (var health = await its.Client.GetAsync("/healthz")) Assert.Equal(HttpStatusCode.OK, health.StatusCode);
        its.Client.DefaultRequestHeaders.Authorization = new("bearer", "sesame");
        await its.PostOk(Text, new { model = "TinyLm", prompt = "x", max_tokens = 2 });
    }

    private static async Task IsError(HttpResponseMessage response, int status, string? field)
    {
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(status == (int)response.StatusCode, $"{response.StatusCode}: {text}");
        var error = JsonElement.Parse(text).GetProperty("error");
        Assert.Equal(field, error.GetProperty("param").GetString());
        Assert.NotEqual(string.Empty, error.GetProperty("type").GetString());
        var message = error.GetProperty("message").GetString()!;
        if (field is not null && status != 404) Assert.Contains(field, message);
        Assert.InRange(message.Length, 15, 400);
    }

    private static (int Prompt, int Completion, int Total) UsageOf(JsonElement answer)
    {
        var usage = answer.GetProperty("usage");
        return (usage.GetProperty("prompt_tokens").GetInt32(),
            usage.GetProperty("completion_tokens").GetInt32(), usage.GetProperty("total_tokens").GetInt32());
    }
}

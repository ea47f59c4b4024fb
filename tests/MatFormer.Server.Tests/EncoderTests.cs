using System.Net;
using System.Text;
using System.Text.Json;
using static TorchSharp.torch;

namespace MatFormer.Server.Tests;

public sealed class EncoderTests(SharedEncoder shared) : IClassFixture<SharedEncoder>
{
    private const string Embeddings = "/v1/embeddings";

    private static readonly string[] s_texts = ["read a file", "Größe", "x", "a text with all of 24 b."];

    [Theory]
    [InlineData("TinyEncoder", "XL", null)]
    [InlineData("TinyEncoder/S", "S", 4)]
    [InlineData("TinyEncoder/Mixed", "Mixed", 8)]
    [InlineData("TinyEncoder/1*M 1*S", "1*M 1*S", 16)]
    public async Task EachTextGetsTheEmbeddingOfTheSizeAndDimension(string model, string profile, int? dimensions)
    {
        var answer = await shared.Its.PostOk(Embeddings, new { model, input = s_texts, dimensions });
        Assert.Equal($"TinyEncoder/{profile}", answer.GetProperty("model").GetString());
        var vectors = Vectors(answer);
        Assert.Equal(s_texts.Length, vectors.Count);
        foreach (var (text, vector) in s_texts.Zip(vectors)) Encoders.Near(Encoders.Alone(profile, text, dimensions), vector);
    }

    [Fact]
    public async Task OneTextAndItsTokensGetTheSameEmbedding()
    {
        var byText = await shared.Its.PostOk(Embeddings, new { model = "TinyEncoder", input = "Größe" });
        var tokens = Encoding.UTF8.GetBytes("Größe").Select(b => (int)b).ToArray();
        var byTokens = await shared.Its.PostOk(Embeddings, new { model = "TinyEncoder", input = tokens });
        var byLists = await shared.Its.PostOk(Embeddings, new { model = "TinyEncoder", input = new[] { tokens } });
        Encoders.Near(Assert.Single(Vectors(byText)), Assert.Single(Vectors(byTokens)));
        Encoders.Near(Assert.Single(Vectors(byText)), Assert.Single(Vectors(byLists)));
    }

    [Fact]
    public async Task Base64HasLittleEndianFloats()
    {
        var floats = await shared.Its.PostOk(Embeddings, new { model = "TinyEncoder", input = "x", encoding_format = "float" });
        var base64 = await shared.Its.PostOk(Embeddings, new { model = "TinyEncoder", input = "x", encoding_format = "base64" });
        var bytes = base64.GetProperty("data")[0].GetProperty("embedding").GetBytesFromBase64();
        Assert.Equal(Vectors(floats)[0], Enumerable.Range(0, 16).Select(i => BitConverter.ToSingle(bytes.AsSpan(4 * i))));
    }

    [Fact]
    public async Task TheUsageCountsTheTokensOfAllTexts()
    {
        var answer = await shared.Its.PostOk(Embeddings, new { model = "TinyEncoder", input = s_texts });
        var tokens = s_texts.Sum(Encoding.UTF8.GetByteCount);
        Assert.Equal(tokens, answer.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
        Assert.Equal(tokens, answer.GetProperty("usage").GetProperty("total_tokens").GetInt32());
    }

    [Fact]
    public async Task SizesAreListedWithTheirCostsPerText()
    {
        var list = JsonElement.Parse(await shared.Its.Client.GetStringAsync("/v1/models")).GetProperty("data").EnumerateArray().ToList();
        Assert.Equal(
            ["TinyEncoder", "TinyEncoder/auto", "TinyEncoder/S", "TinyEncoder/M", "TinyEncoder/XL", "TinyEncoder/Mixed"],
            list.Select(m => m.GetProperty("id").GetString()));
        var mixed = list[^1].GetProperty("profile");
        Assert.Equal(TinyEncoder.Profiles[0].Flops, mixed.GetProperty("flops_per_text").GetInt64());
        Assert.True(mixed.GetProperty("ms_per_text").GetDouble() > 0);
        Assert.False(mixed.TryGetProperty("flops_per_token", out _));
    }

    [Fact]
    public async Task DeclaredRoutingBudgetsAreServedBesideTheSizes()
    {
        await using var its = await TestServer.StartVision<TinyRoutedEncoder>(NewRouted());
        var list = JsonElement.Parse(await its.Client.GetStringAsync("/v1/models")).GetProperty("data").EnumerateArray().ToList();
        var entry = list.Single(m => m.GetProperty("id").GetString() == "TinyRoutedEncoder/routed-0.5").GetProperty("profile");
        Assert.Equal(0.5, entry.GetProperty("budget").GetDouble());
        Assert.Equal(RoutingBudget.Of(TinyRoutedEncoder.Spec, 0.5).Flops, entry.GetProperty("flops_per_text").GetInt64());
        var answer = await its.PostOk(Embeddings, new { model = "TinyRoutedEncoder/routed-0.5", input = s_texts });
        using var model = NewRouted();
        var embedder = TextEmbedder.Of(model, 0.5, Tokenizer.ByteLevel);
        foreach (var (text, vector) in s_texts.Zip(Vectors(answer))) Encoders.Near(embedder.Embed([text]), vector);

        static TinyRoutedEncoder NewRouted()
        {
            manual_seed(12);
            var model = DrawnModel.New<TinyRoutedEncoder>();
            using var unrecorded = no_grad();
            foreach (var (name, parameter) in model.named_parameters())
            {
                if (name.EndsWith("router.alpha", StringComparison.Ordinal)) parameter.fill_(0.5);
                else parameter.mul_(2.5);
            }

            return model;
        }
    }

    [Fact]
    public async Task BudgetsPerTextChooseTheSize()
    {
        var sizes = shared.Its.EncoderServer.Profiles.ToDictionary(p => p.Name);
        Assert.Equal(
            "TinyEncoder/Mixed", await Chosen(new { model = "TinyEncoder", input = "x", max_flops_per_text = sizes["Mixed"].Flops }));
        Assert.Equal(
            "TinyEncoder/S", await Chosen(new { model = "TinyEncoder/auto", input = "x", max_flops_per_text = sizes["M"].Flops - 1 }));
        Assert.Equal("TinyEncoder/XL", await Chosen(new { model = "TinyEncoder", input = "x", max_ms_per_text = 1e6 }));

        async Task<string?> Chosen(object body) => (await shared.Its.PostOk(Embeddings, body)).GetProperty("model").GetString();
    }

    [Theory]
    [InlineData(400, "dimensions", "4 or 8 or 16", """{"model": "TinyEncoder", "input": "x", "dimensions": 5}""")]
    [InlineData(400, "dimensions", "4 or 8 or 16", """{"model": "TinyEncoder", "input": "x", "dimensions": 5000000000}""")]
    [InlineData(400, "dimensions", "whole number", """{"model": "TinyEncoder", "input": "x", "dimensions": "4"}""")]
    [InlineData(400, "input", "missing", """{"model": "TinyEncoder"}""")]
    [InlineData(422, "input", "empty", """{"model": "TinyEncoder", "input": []}""")]
    [InlineData(422, "input[1]", "empty", """{"model": "TinyEncoder", "input": ["x", ""]}""")]
    [InlineData(422, "input", "25 tokens", """{"model": "TinyEncoder", "input": "a text with all of 24 b.."}""")]
    [InlineData(422, "input", "0 to 255", """{"model": "TinyEncoder", "input": [1, 256]}""")]
    [InlineData(422, "encoding_format", "float or base64", """{"model": "TinyEncoder", "input": "x", "encoding_format": "hex"}""")]
    [InlineData(404, "model", "TinyEncoder/XL", """{"model": "TinyEncoder/Huge", "input": "x"}""")]
    [InlineData(400, "max_flops_per_token", "unknown", """{"model": "TinyEncoder", "input": "x", "max_flops_per_token": 5}""")]
    [InlineData(422, "max_flops_per_text", "smallest size", """{"model": "TinyEncoder", "input": "x", "max_flops_per_text": 5}""")]
    [InlineData(400, "colour", "unknown", """{"model": "TinyEncoder", "input": "x", "colour": 5}""")]
    public async Task AnInvalidRequestIsRefusedWithTheNameOfTheField(int status, string field, string says, string body)
    {
        using var response = await shared.Its.Post(Embeddings, body);
        var text = await response.Content.ReadAsStringAsync();
        Assert.Equal((HttpStatusCode)status, response.StatusCode);
        var error = JsonElement.Parse(text).GetProperty("error");
        Assert.Equal(field, error.GetProperty("param").GetString());
        Assert.Contains(says, error.GetProperty("message").GetString());
    }

    [Theory]
    [InlineData("/v1/chat/completions")]
    [InlineData("/v1/completions")]
    public async Task AnEncoderWritesNoText(string path)
    {
        using var response = await shared.Its.Post(path, """{"model": "TinyEncoder", "prompt": "x"}""");
        Assert.Equal(HttpStatusCode.NotFound, response.StatusCode);
        Assert.Contains("/v1/embeddings", await response.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task AnEncoderHasNoPage()
    {
        using var response = await shared.Its.Client.GetAsync("/");
        Assert.Equal(HttpStatusCode.NotFound, response.StatusCode);
    }

    [Fact]
    public async Task MetricsCountTextsAndTokens()
    {
        await using var its = await TestServer.StartEncoder();
        await its.PostOk(Embeddings, new { model = "TinyEncoder/S", input = new[] { "one", "three" } });
        var metrics = await its.Client.GetStringAsync("/metrics");
        Assert.Contains("matformer_texts_total 2\n", metrics);
        Assert.Contains("matformer_prompt_tokens_total 8\n", metrics);
        Assert.Contains("matformer_requests_total{outcome=\"completed\"} 1\n", metrics);
        Assert.Contains("matformer_profile_requests_total{profile=\"S\"} 1\n", metrics);
    }

    [Fact]
    public async Task ASliceIsServedAsItsOnlySize()
    {
        TestServer its;
        using (var whole = Encoders.New()) its = await TestServer.StartEncoder(encoder: whole.Extract(TinyEncoder.Granularities[0]));
        await using (its)
        {
            var answer = await its.PostOk(Embeddings, new { model = "TinyEncoder", input = "x", dimensions = 8 });
            Assert.Equal("TinyEncoder/S", answer.GetProperty("model").GetString());
            Encoders.Near(Encoders.Alone("S", "x", 8), Vectors(answer)[0]);
            foreach (var other in (string[])["TinyEncoder/XL", "TinyEncoder/1*S 1*M"])
            {
                using var response = await its.Post(Embeddings, $$"""{"model": "{{other}}", "input": "x"}""");
                Assert.Equal(HttpStatusCode.NotFound, response.StatusCode);
            }
        }
    }

    [Fact]
    public async Task AllConcurrentRequestsGetTheirEmbeddings()
    {
        string[] names = ["S", "M", "XL", "Mixed"];
        var answers = await Task.WhenAll(Enumerable.Range(0, 24).Select(i => shared.Its.PostOk(
            Embeddings, new { model = "TinyEncoder/" + names[i % 4], input = new[] { $"text {i}" } })));
        foreach (var (i, answer) in answers.Index()) Encoders.Near(Encoders.Alone(names[i % 4], $"text {i}"), Vectors(answer)[0]);
    }

    [Fact]
    public async Task MoreTextsThanAllowedAreRefused()
    {
        await using var its = await TestServer.StartEncoder(new EncoderServerOptions { MaxInputs = 1 });
        await its.PostOk(Embeddings, new { model = "TinyEncoder", input = new[] { "a" } });
        using var response = await its.Post(Embeddings, """{"model": "TinyEncoder", "input": ["a", "b"]}""");
        Assert.Equal(HttpStatusCode.UnprocessableEntity, response.StatusCode);
        Assert.Contains("has 2 entries; at most 1 is allowed.", await response.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task AStoppedServerRefusesRequests()
    {
        await using var its = await TestServer.StartEncoder();
        await its.EncoderServer.StopAsync(TimeSpan.FromSeconds(1));
        var refused = await Assert.ThrowsAsync<ApiException>(
            () => its.EncoderServer.EmbedAsync(Some(its), CancellationToken.None));
        Assert.Equal(503, refused.Status);
        using var health = await its.Client.GetAsync("/healthz");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, health.StatusCode);
    }

    [Fact]
    public async Task AFullQueueAnswers429()
    {
        await using var its = await TestServer.StartEncoder(new EncoderServerOptions { Queue = 0 });
        await its.EncoderServer.Turn.WaitAsync(); // so that the request cannot end
        using var leaving = new CancellationTokenSource();
        var present = its.EncoderServer.EmbedAsync(Some(its), leaving.Token);
        using (var refused = await its.Post(Embeddings, """{"model": "TinyEncoder", "input": "x"}"""))
        {
            Assert.Equal(HttpStatusCode.TooManyRequests, refused.StatusCode);
            Assert.InRange(refused.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 60);
        }

        // A request that is cancelled makes room.
        await leaving.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => present);
        its.EncoderServer.Turn.Release();
        await its.PostOk(Embeddings, new { model = "TinyEncoder", input = "x" });
        Assert.Equal((1, 1), ((int)its.EncoderServer.Statistics.Cancelled, (int)its.EncoderServer.Statistics.Refused));
    }

    [Fact]
    public async Task StoppingCancelsRequestsAfterTheGracePeriod()
    {
        await using var its = await TestServer.StartEncoder();
        await its.EncoderServer.Turn.WaitAsync();
        var present = its.EncoderServer.EmbedAsync(Some(its), CancellationToken.None);
        await its.EncoderServer.StopAsync(TimeSpan.Zero);
        Assert.Equal(503, (await Assert.ThrowsAsync<ApiException>(() => present)).Status);
        Assert.Equal(0, its.EncoderServer.Statistics.Present);
    }

    [Fact]
    public async Task StoppingLetsRequestsEndWithinTheGracePeriod()
    {
        await using var its = await TestServer.StartEncoder();
        await its.EncoderServer.Turn.WaitAsync();
        var present = its.EncoderServer.EmbedAsync(Some(its), CancellationToken.None);
        var stopping = its.EncoderServer.StopAsync(TimeSpan.FromHours(1));
        its.EncoderServer.Turn.Release();
        Assert.Equal(16, Assert.Single(await present).Length);
        await stopping;
    }

    [Fact]
    public async Task DamagedWeightsFailTheRequest()
    {
        var encoder = Encoders.New();
        using (TorchSharp.torch.no_grad())
        {
            foreach (var (_, parameter) in encoder.named_parameters()) parameter.fill_(float.NaN);
        }

        await using var its = await TestServer.StartEncoder(encoder: encoder);
        using var response = await its.Post(Embeddings, """{"model": "TinyEncoder", "input": "x"}""");
        Assert.Equal(HttpStatusCode.InternalServerError, response.StatusCode);
    }

    [Fact]
    public void OnlyAnEncoderIsServedAsOne()
    {
        using var model = Models.New();
        Assert.Throws<ArgumentException>(() => ModelServer.Create<TinyLm>(model));
        Assert.Throws<ArgumentException>(() => ModelServer.Create<TinyEncoder>(model));
    }

    private static EmbeddingRequest Some(TestServer server) => new(server.EncoderServer.Profiles[0], [[1]], null, false);

    private static List<float[]> Vectors(JsonElement answer) =>
        [.. answer.GetProperty("data").EnumerateArray()
            .Select(d => d.GetProperty("embedding").EnumerateArray().Select(x => x.GetSingle()).ToArray())];
}

using System.Net;
using System.Net.Sockets;
using System.Text.Json;

namespace MatFormer.Server.Tests;

public sealed class LoadTests
{
    private const string Endless = """{"model": "TinyLm", "prompt": "x", "max_tokens": 1000000000, "stream": true}""";

    private static readonly ModelServerOptions s_endless = new() { MaxTokens = int.MaxValue, Scheduler = Models.Patient };

    [Fact]
    public async Task AFullQueueAnswers429AndAClientThatLeavesMakesRoom()
    {
        await using var its = await TestServer.Start(s_endless with { Scheduler = Models.Patient with { Queue = 1 } }, sequences: 1);
        var running = await its.Post("/v1/completions", Endless);
        using var patience = new CancellationTokenSource();
        var waiting = its.Post("/v1/completions", Endless, patience.Token);
        await Models.Until(() => its.Server.Scheduler.Statistics.Waiting == 1);
        using (var refused = await its.Post("/v1/completions", Endless))
        {
            Assert.Equal(HttpStatusCode.TooManyRequests, refused.StatusCode);
            Assert.InRange(refused.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 60);
            Assert.Contains("queue_full", await refused.Content.ReadAsStringAsync());
        }

        running.Dispose(); // closes the connection
        await Models.Until(() => its.Server.Scheduler.Statistics is { Running: 1, Waiting: 0 });
        await patience.CancelAsync();
        try
        {
            (await waiting).Dispose(); // its answer may have begun
        }
        catch (OperationCanceledException)
        {
        }

        await Models.Until(() => its.Server.Scheduler.Statistics is { Running: 0, Cancelled: 2 });
        await its.PostOk("/v1/completions", new { model = "TinyLm", prompt = "x", max_tokens = 2 });
    }

    [Fact]
    public async Task StoppingLetsStreamsEndOrCancelsThem()
    {
        foreach (var grace in (TimeSpan[])[TimeSpan.FromHours(1), TimeSpan.Zero])
        {
            await using var its = await TestServer.Start(s_endless);
            var body = grace > TimeSpan.Zero ? Endless.Replace("1000000000", "3000") : Endless;
            using var response = await its.Post("/v1/completions", body);
            var text = response.Content.ReadAsStringAsync();
            await Models.Until(() => its.Server.Scheduler.Statistics.GeneratedTokens > 10);
            await its.Host.StopAsync(grace);
            Assert.EndsWith(grace > TimeSpan.Zero ? "data: [DONE]\n\n" : "\"code\":\"stopping\"}}\n\n", await text);
            var late = await Assert.ThrowsAsync<HttpRequestException>(() => its.Client.GetAsync("/healthz"));
            Assert.IsType<SocketException>(late.InnerException);
        }
    }

    [Fact]
    public async Task SixtyFourClientsGetTheTextOfEachAlone()
    {
        await using var its = await TestServer.Start(sequences: 16);
        string[] models = ["TinyLm", "TinyLm/auto", "TinyLm/S", "TinyLm/M", "TinyLm/Mixed", "TinyLm/1*M 1*XL"];
        var answers = await Task.WhenAll(Enumerable.Range(0, 64).Select(async client =>
        {
            var texts = new List<(int Seed, string Model, string Text)>();
            for (var i = 0; i < 4; i++)
            {
                var (seed, model) = ((64 * i) + client, models[(client + i) % models.Length]);
                var events = await its.Stream(
                    "/v1/completions", new { model, prompt = $"client {client}", seed, max_tokens = 20 + (client % 30), temperature = 1, stream = true });
                texts.Add((seed, events[0].GetProperty("model").GetString()!, TestServer.TextOf(events)!));
            }

            return texts;
        }));
        foreach (var (seed, model, text) in answers.SelectMany(a => a).Where(a => a.Seed % 7 == 0))
        {
            var client = seed % 64;
            var options = new GenerationOptions { Tokens = 20 + (client % 30), Temperature = 1, Seed = seed };
            Assert.Equal(Models.Alone(its.Model, Profile<TinyLm>.Parse(model["TinyLm/".Length..]), $"client {client}", options), text);
        }

        var statistics = its.Server.Scheduler.Statistics;
        Assert.Equal((256, 0, 0, 0), ((int)statistics.Completed, (int)statistics.Failed, (int)statistics.Cancelled, (int)statistics.Refused));
        await Models.Until(() => its.Server.Scheduler.Statistics is { Running: 0, Waiting: 0 });
    }
}

using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
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
            var said = await refused.Content.ReadAsStringAsync();
            Assert.Contains("queue_full", said);
            Assert.Contains("1 request runs and 1 waits; the queue is full.", said);
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
                    "/v1/completions",
                    new { model, prompt = $"client {client}", seed, max_tokens = 20 + (client % 30), temperature = 1, stream = true });
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
        Assert.Equal(
            (256, 0, 0, 0), ((int)statistics.Completed, (int)statistics.Failed, (int)statistics.Cancelled, (int)statistics.Refused));
        await Models.Until(() => its.Server.Scheduler.Statistics is { Running: 0, Waiting: 0 });
    }

    // MATFORMER_LOAD_SECONDS says how long the clients keep asking.
    [Fact]
    public async Task TwoHundredClientsThatComeAndGoLeaveNothingBehind()
    {
        var seconds = Environment.GetEnvironmentVariable("MATFORMER_LOAD_SECONDS") is { Length: > 0 } given
            ? double.Parse(given, CultureInfo.InvariantCulture) : 2;
        await using var its = await TestServer.Start(sequences: 16);

        // One request of each client makes what the process keeps, such as threads and buffers.
        var warm = await Crowd(its, TimeSpan.Zero);
        var before = await Kept(its);
        var load = await Crowd(its, TimeSpan.FromSeconds(seconds));
        var after = await Kept(its);
        var statistics = its.Server.Scheduler.Statistics;
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"{load.Read} answers were read to the end, {load.Left} left; {statistics.Completed} completed, {statistics.Cancelled} "
            + $"cancelled; heap {before.Heap:n0} bytes before, {after.Heap:n0} after; "
            + $"handles {before.Handles} before, {after.Handles} after; "
            + $"working set {before.WorkingSet:n0} bytes before, {after.WorkingSet:n0} after");
        Assert.Equal((0, 0), ((int)statistics.Failed, (int)statistics.Refused));
        Assert.True(statistics.Completed >= warm.Read + load.Read && statistics.Cancelled > 0);
        Assert.InRange(after.Heap, 0, before.Heap + 2_000_000);
        Assert.InRange(after.Handles, 0, before.Handles + 10); // each client had a connection, which has two ends in this process
        var options = new GenerationOptions { Tokens = 30, Temperature = 1, Seed = 5 };
        var events = await its.Stream(
            "/v1/completions",
            new { model = "TinyLm/M", prompt = "after it all", seed = 5, max_tokens = 30, temperature = 1, stream = true });
        Assert.Equal(Models.Alone(its.Model, TinyLm.Profile.M, "after it all", options), TestServer.TextOf(events));
    }

    // Two hundred clients stream answers, at least one each. A third of the answers is not read to the end, some not even begun.
    private static async Task<(int Read, int Left)> Crowd(TestServer its, TimeSpan time)
    {
        using var client = new HttpClient { BaseAddress = its.Host.Address, Timeout = Timeout.InfiniteTimeSpan };
        var end = Stopwatch.GetTimestamp() + (long)(time.TotalSeconds * Stopwatch.Frequency);
        var counts = await Task.WhenAll(Enumerable.Range(0, 200).Select(async index =>
        {
            var random = new Random(index);
            var (read, left) = (0, 0);
            do
            {
                if (await Ask(client, random)) read++;
                else left++;
            }
            while (Stopwatch.GetTimestamp() < end);
            return (read, left);
        }));
        return (counts.Sum(c => c.read), counts.Sum(c => c.left));
    }

    // Returns whether the answer was read to its end.
    private static async Task<bool> Ask(HttpClient client, Random random)
    {
        string[] sizes = ["TinyLm", "TinyLm/auto", "TinyLm/S", "TinyLm/M", "TinyLm/Mixed"];
        var body = JsonSerializer.Serialize(new
        {
            model = sizes[random.Next(sizes.Length)],
            prompt = new string('x', random.Next(1, 30)),
            max_tokens = random.Next(1, 60),
            temperature = 1,
            stream = true,
        });
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions")
        {
            Content = new StringContent(body, Encoding.UTF8, "application/json"),
        };
        var kind = random.Next(10);
        using var patience = new CancellationTokenSource();
        if (kind == 0) patience.CancelAfter(random.Next(20));
        try
        {
            using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, patience.Token);
            if (!response.IsSuccessStatusCode) Assert.Fail(await response.Content.ReadAsStringAsync());
            using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(patience.Token));
            var last = string.Empty;
            for (var lines = 0; await reader.ReadLineAsync(patience.Token) is { } line; lines++)
            {
                if (kind <= 3 && lines == 2 * kind) return false;
                if (line.Length > 0) last = line;
            }

            Assert.Equal("data: [DONE]", last); // else it is an error
            return true;
        }
        catch (OperationCanceledException) when (patience.IsCancellationRequested)
        {
            return false;
        }
    }

    // What the process holds when no client is left: bytes of the heap, handles, of which each connection has one or two, and bytes of all
    // its memory, which the test only prints, because the system decides when it takes memory back.
    private static async Task<(long Heap, int Handles, long WorkingSet)> Kept(TestServer its)
    {
        await Models.Until(() => its.Server.Scheduler.Statistics is { Running: 0, Waiting: 0 });
        using var process = Process.GetCurrentProcess();
        var handles = int.MaxValue;
        while (true)
        {
            // Connections close a little later than their clients.
            process.Refresh();
            if (process.HandleCount >= handles) break;
            handles = process.HandleCount;
            await Task.Delay(200);
        }

        var heap = GC.GetTotalMemory(forceFullCollection: true);
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true); // gives free memory back
        process.Refresh();
        return (heap, handles, process.WorkingSet64);
    }
}

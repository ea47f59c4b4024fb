using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using TorchSharp;

namespace MatFormer.Benchmarks;

/// <summary>
/// Measures a server under 64 clients that stream for a minute. Each request has another size, length and prompt. Some clients leave early,
/// and some requests are invalid. Clients and server share this process and its cores.
/// </summary>
internal static class ServeBenchmark
{
    private const int Clients = 64;
    private const int Sequences = 16;
    private static readonly TimeSpan s_warm = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan s_duration = TimeSpan.FromSeconds(60);

    public static IEnumerable<Result> Run()
    {
        var load = new Load();
        load.RunAsync().GetAwaiter().GetResult();
        yield return new Result("serve.requests", load.Requests, "answered");
        yield return new Result("serve.errors", load.Errors, "wrong answers");
        yield return new Result("serve.left_early", load.LeftEarly, "requests");
        yield return new Result("serve.malformed", load.Malformed, "invalid requests, each refused with the reason");
        yield return new Result("serve.tokens_per_s", load.Tokens / load.Seconds, "tokens/s");
        yield return new Result("serve.first_token_p50_ms", Quantile(load.FirstTokens, 0.5), "ms");
        yield return new Result("serve.first_token_p99_ms", Quantile(load.FirstTokens, 0.99), "ms");
        yield return new Result("serve.waiting_most", load.MostWaiting, "requests");
        yield return new Result("serve.memory_growth", load.MemoryGrowth / 1e6, "MB in the minute");
        yield return new Result("serve.stop_ms", load.StopMilliseconds, "ms");
    }

    private static double Quantile(List<double> values, double share)
    {
        values.Sort();
        return values[(int)(share * (values.Count - 1))];
    }

    private sealed class Load
    {
        private readonly Lock _gate = new();

        public int Requests { get; private set; }

        public int Errors { get; private set; }

        public int LeftEarly { get; private set; }

        public int Malformed { get; private set; }

        public long Tokens { get; private set; }

        public double Seconds { get; private set; }

        public List<double> FirstTokens { get; } = [];

        public int MostWaiting { get; private set; }

        public long MemoryGrowth { get; private set; }

        public double StopMilliseconds { get; private set; }

        public async Task RunAsync()
        {
            torch.manual_seed(1);
            DecodingEngine engine;
            using (var model = new BenchLm())
            {
                engine = DecodingEngine.Create(
                    model,
                    new DecodingOptions { Sequences = Sequences, Weights = DecodingWeights.BFloat16, Threads = torch.get_num_threads() });
            }

            await using var server = ModelServer.Create<BenchLm>(engine);
            await using var host = await ModelServerHost.StartAsync(server, new ListenOptions { Port = 0 });
            using var client = new HttpClient { BaseAddress = host.Address, Timeout = TimeSpan.FromMinutes(5) };
            await RunFor(client, server, s_warm);
            (Requests, Errors, LeftEarly, Malformed, Tokens, MostWaiting) = (0, 0, 0, 0, 0, 0);
            FirstTokens.Clear();
            var before = Memory();
            var start = Stopwatch.GetTimestamp();
            await RunFor(client, server, s_duration);
            Seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            MemoryGrowth = Memory() - before;
            start = Stopwatch.GetTimestamp();
            await host.StopAsync(TimeSpan.FromSeconds(10));
            StopMilliseconds = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        }

        private async Task RunFor(HttpClient client, LanguageModelServer server, TimeSpan time)
        {
            var end = Stopwatch.GetTimestamp() + (long)(time.TotalSeconds * Stopwatch.Frequency);
            await Task.WhenAll(Enumerable.Range(0, Clients).Select(async index =>
            {
                var random = new Random(index);
                while (Stopwatch.GetTimestamp() < end)
                {
                    try
                    {
                        await Ask(client, random);
                    }
                    catch (Exception e) when (e is HttpRequestException or IOException or JsonException or InvalidDataException)
                    {
                        Console.Error.WriteLine($"client {index}: {e.Message}");
                        lock (_gate) Errors++;
                    }

                    lock (_gate) MostWaiting = Math.Max(MostWaiting, server.Scheduler.Statistics.Waiting);
                }
            }));
        }

        private async Task Ask(HttpClient client, Random random)
        {
            string[] models = ["BenchLm", "BenchLm/auto", "BenchLm/S", "BenchLm/M", "BenchLm/L", "BenchLm/4*S 4*XL"];
            var kind = random.Next(20);
            var prompt = new string('x', random.Next(1, 200));
            var tokens = kind == 0 ? -1 : random.Next(16, 128);
            using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions")
            {
                Content = new StringContent(
                    string.Create(CultureInfo.InvariantCulture, $$"""
                    {"model": "{{models[random.Next(models.Length)]}}", "prompt": "{{prompt}}", "max_tokens": {{tokens}}, "seed": {{random.Next()}},
                    "temperature": 1, "stream_options": {"include_usage": true}, "stream": true}
                    """), Encoding.UTF8, "application/json"),
            };
            var start = Stopwatch.GetTimestamp();
            using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
            if (kind == 0)
            {
                var refusal = await response.Content.ReadAsStringAsync();
                if ((int)response.StatusCode != 422 || !refusal.Contains("max_tokens", StringComparison.Ordinal))
                    throw new InvalidDataException($"{response.StatusCode} instead of 422: {refusal}");
                lock (_gate) Malformed++;
                return;
            }

            response.EnsureSuccessStatusCode();
            using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
            double? first = null;
            var (generated, isDone, pieces) = (0, false, 0);
            while (await reader.ReadLineAsync() is { } line)
            {
                if (line.Length == 0) continue;
                first ??= Stopwatch.GetElapsedTime(start).TotalMilliseconds;
                if (kind == 1 && ++pieces == 8)
                {
                    lock (_gate) LeftEarly++;
                    return;
                }

                if (line == "data: [DONE]")
                {
                    isDone = true;
                    continue;
                }

                var piece = JsonElement.Parse(line["data: ".Length..]);
                if (piece.TryGetProperty("error", out var error)) throw new InvalidDataException(error.ToString());
                if (piece.TryGetProperty("usage", out var usage)) generated = usage.GetProperty("completion_tokens").GetInt32();
            }

            if (!isDone || generated != tokens) throw new InvalidDataException($"{generated} of {tokens} tokens, done: {isDone}");
            lock (_gate)
            {
                Requests++;
                Tokens += generated;
                FirstTokens.Add(first!.Value);
            }
        }

        private static long Memory()
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            GC.Collect();
            using var process = Process.GetCurrentProcess();
            return process.WorkingSet64;
        }
    }
}

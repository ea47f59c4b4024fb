using System.Collections.Immutable;
using static TorchSharp.torch;

namespace MatFormer.Server.Tests;

public sealed class SchedulerTests
{
    private static readonly ImmutableArray<LayerSlice> s_whole = TinyLm.Spec.WholeLayers;

    [Fact]
    public async Task RequestsTogetherGiveTheTextOfEachAlone()
    {
        using var model = Models.New();

        // A pass has few tokens, so that prompts are cut. Some prompts and texts are longer than the context of 32. There are more requests
        // than sequences.
        await using var scheduler = Models.Scheduler(
            model, 5, Models.Patient with { TokensPerPass = 9, PromptTokens = 3, PiecesAhead = 4 });
        string[] prompts =
        [
            "a", string.Empty, "a prompt that is longer than the context, of which the end counts",
            "as long as the context is: 32 xx", "short",
        ];
        var wanted = new List<string>();
        var requests = new List<Task<(string Text, int Tokens, FinishReason Reason)>>();
        foreach (var profile in TinyLm.Granularities.Concat(TinyLm.Profiles).Append(Profile<TinyLm>.Parse("1*M 1*XL")))
        {
            foreach (var (i, prompt) in prompts.Index())
            {
                var options = new GenerationOptions
                {
                    Tokens = 20 + (15 * i),
                    Temperature = i % 3,
                    TopK = 40,
                    TopP = 0.95,
                    RepetitionPenalty = 1.3,
                    Seed = i,
                };
                wanted.Add(Models.Alone(model, profile, prompt, options));
                requests.Add(Models.Read(scheduler.TryGenerate(prompt, profile.Layers, options)));
            }
        }

        var got = await Task.WhenAll(requests);
        Assert.Equal(wanted, got.Select(g => g.Text));
        Assert.InRange(wanted.Distinct().Count(), wanted.Count - 5, wanted.Count); // different texts cannot be right by chance
        Assert.All(got, (g, i) => Assert.Equal((20 + (15 * (i % prompts.Length)), FinishReason.Length), (g.Tokens, g.Reason)));
        var statistics = scheduler.Statistics;
        Assert.Equal((0, 0, requests.Count, requests.Count), (statistics.Waiting, 0, (int)statistics.Submitted, (int)statistics.Completed));
        Assert.Equal(got.Sum(g => g.Tokens), statistics.GeneratedTokens);
        Assert.Equal(requests.Count, statistics.FirstTokens.Sum());
    }

    [Fact]
    public async Task AStopStringEndsARequest()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        var options = new GenerationOptions { Tokens = 50, Temperature = 1 };
        var whole = await Models.Read(scheduler.TryGenerate("x", s_whole, options));
        var stop = whole.Text[20..23];
        var stopped = await Models.Read(scheduler.TryGenerate("x", s_whole, options with { StopStrings = [stop] }));
        if (stop.Contains('\uFFFD')) Assert.Equal(whole.Text, stopped.Text); // half a character, which never matches a stop string
        else Assert.Equal(
            (whole.Text[..whole.Text.IndexOf(stop, StringComparison.Ordinal)], FinishReason.Stop), (stopped.Text, stopped.Reason));
        Assert.Equal(
            (string.Empty, 0, FinishReason.Length), await Models.Read(scheduler.TryGenerate("x", s_whole, options with { Tokens = 0 })));
    }

    [Fact]
    public async Task ASlowReaderDoesNotStallOthers()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 2, Models.Patient with { PiecesAhead = 2 });
        var options = new GenerationOptions { Tokens = 60, Temperature = 1 };
        var slow = scheduler.TryGenerate("slow", s_whole, options);
        for (var i = 0; i < 3; i++)
            Assert.Equal(Models.Alone(model, TinyLm.Granularities[^1], $"{i}", options),
                (await Models.Read(scheduler.TryGenerate($"{i}", s_whole, options))).Text);
        Assert.Equal(1, scheduler.Statistics.Running);
        Assert.Equal(Models.Alone(model, TinyLm.Granularities[^1], "slow", options), (await Models.Read(slow)).Text);
    }

    [Fact]
    public async Task ARequestThatNobodyReadsIsCancelled()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(
            model, 1, new SchedulerOptions { PiecesAhead = 2, ReaderTimeout = TimeSpan.FromMilliseconds(50) });
        var options = new GenerationOptions { Tokens = 100 };
        var never = scheduler.TryGenerate("never", s_whole, options);

        // The next request has no more pieces than may wait, so it never waits for its reader, however long that takes.
        var next = await Models.Read(scheduler.TryGenerate("next", s_whole, options with { Tokens = 2 }));
        Assert.Equal(FinishReason.Length, next.Reason);
        Assert.Equal(FinishReason.Cancelled, (await Models.Read(never)).Reason);
        Assert.Equal(1, scheduler.Statistics.Cancelled);
    }

    [Fact]
    public async Task TheQueueIsBoundedAndCancellingMakesRoom()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1, Models.Patient with { Queue = 2, PiecesAhead = 1 });
        var endless = new GenerationOptions { Tokens = int.MaxValue };
        var running = scheduler.TryGenerate("running", s_whole, endless);
        await Models.Until(() => scheduler.Statistics.Running == 1);
        var waiting = scheduler.TryGenerate("waiting", s_whole, endless);
        var last = scheduler.TryGenerate("last", s_whole, endless with { Tokens = 3 });
        Assert.NotNull(last);
        Assert.Null(scheduler.TryGenerate("refused", s_whole, endless));
        Assert.Null(scheduler.TryEmbed([1], s_whole));

        // Cancels the waiting request, and the running one by its token. Then the last request has its turn.
        waiting!.Cancel();
        Assert.Equal(FinishReason.Cancelled, (await Models.Read(waiting)).Reason);
        using var stop = new CancellationTokenSource();
        var pieces = new List<TextPiece>();
        await foreach (var piece in running!.ReadAsync(stop.Token))
        {
            pieces.Add(piece);
            if (pieces.Count == 5) await stop.CancelAsync();
        }

        Assert.Equal(FinishReason.Cancelled, pieces[^1].FinishReason);
        Assert.Equal((3, FinishReason.Length), ((await Models.Read(last)) is var (_, tokens, reason) ? (tokens, reason) : default));
        await Models.Until(() => scheduler.Statistics.Running == 0);
        Assert.Equal((2, 2), ((int)scheduler.Statistics.Cancelled, (int)scheduler.Statistics.Refused));
        await Assert.ThrowsAsync<InvalidOperationException>(() => Models.Read(last));
    }

    [Fact]
    public async Task AReaderThatLeavesEarlyFreesItsSequence()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 1);
        await foreach (var piece in scheduler.TryGenerate("left", s_whole, new GenerationOptions { Tokens = int.MaxValue })!.ReadAsync())
            break;
        Assert.Equal(4, (await Models.Read(scheduler.TryGenerate("next", s_whole, new GenerationOptions { Tokens = 4 }))).Tokens);
    }

    [Theory]
    [InlineData(DecodingWeights.Float32)]
    [InlineData(DecodingWeights.BFloat16)]
    [InlineData(DecodingWeights.Int8)]
    public async Task ACommonPrefixIsReused(DecodingWeights weights)
    {
        const string Prompt = "a prompt of it";
        using var model = Models.New();
        DecodingScheduler Scheduler(bool reuses) => new(
            DecodingEngine.Create(model, new DecodingOptions { Threads = 2, HiddenStates = true, Weights = weights }),
            Models.Patient with { PiecesAhead = 2, ReusesPrefixes = reuses });
        await using var reusing = Scheduler(true);
        await using var whole = Scheduler(false);
        await Check(0, 0, Prompt);
        await Check(Prompt.Length - 1, Prompt.Length - 1, Prompt); // the logits of the last token are not kept, so it is computed again
        await Check(Prompt.Length, Prompt.Length + 3, Prompt + ", and more");
        await Check(8, 8, Prompt[..8] + "!");

        // Another submodel has other keys and values, and takes the only sequence.
        await Check(0, 0, Prompt, TinyLm.Granularities[0].Layers);
        await Check(0, 0, Prompt);

        // An embedding needs the hidden states of all its tokens. The keys and values that it leaves are a prefix like any other.
        var tokens = Prompt.Select(c => (int)c).ToArray();
        Assert.Equal(await whole.TryEmbed(tokens, s_whole)!.Result, await reusing.TryEmbed(tokens, s_whole)!.Result);
        await Check(Prompt.Length, Prompt.Length, Prompt + ", and more");

        // One request is cancelled while it generates, another perhaps in the middle of its prompt.
        await foreach (var piece in reusing.TryGenerate(Prompt, s_whole, new GenerationOptions { Tokens = int.MaxValue })!.ReadAsync())
            break;
        await Check(Prompt.Length - 1, Prompt.Length - 1, Prompt);
        reusing.TryGenerate("another prompt of more tokens", s_whole, new GenerationOptions())!.Cancel();
        await Check(0, Prompt.Length - 1, Prompt);

        // A sequence that has gone beyond the context no longer holds the beginning of its text.
        await Check(Prompt.Length - 1, Prompt.Length - 1, Prompt, tokens: 60);
        await Check(0, 2, Prompt);
        Assert.Equal(0, whole.Statistics.CachedTokens);

        async Task Check(int least, int most, string prompt, ImmutableArray<LayerSlice>? layers = null, int tokens = 3)
        {
            var before = reusing.Statistics;
            var options = new GenerationOptions { Tokens = tokens, Temperature = 1, Seed = 5 };
            var request = reusing.TryGenerate(prompt, layers ?? s_whole, options);
            Assert.Equal(await Models.Read(whole.TryGenerate(prompt, layers ?? s_whole, options)), await Models.Read(request));
            Assert.InRange(request!.CachedTokens, least, most);
            Assert.Equal(request.CachedTokens, reusing.Statistics.CachedTokens - before.CachedTokens);
            if (tokens == 3) Assert.Equal(prompt.Length - request.CachedTokens, reusing.Statistics.PromptTokens - before.PromptTokens);
        }
    }

    [Fact]
    public async Task ConversationsWithACommonPrefixKeepTheirOwnSequences()
    {
        using var model = Models.New();
        await using var scheduler = Models.Scheduler(model, 2);
        var (one, other) = ("You. One long question", "You. Other long words");
        foreach (var text in (string[])[one, other]) Assert.InRange(await Cached(text), 0, 5);
        foreach (var text in (string[])[one, other]) Assert.InRange(await Cached(text + "!"), text.Length, text.Length + 2);

        // A third conversation takes the least recently used sequence.
        Assert.InRange(await Cached("You. A third that is new"), 0, 5);
        Assert.InRange(await Cached(other + "?"), other.Length, other.Length + 2);

        async Task<int> Cached(string prompt)
        {
            var options = new GenerationOptions { Tokens = 2 };
            var request = scheduler.TryGenerate(prompt, s_whole, options);
            Assert.Equal(Models.Alone(model, TinyLm.Granularities[^1], prompt, options), (await Models.Read(request)).Text);
            return request!.CachedTokens;
        }
    }

    [Fact]
    public async Task StoppingLetsRequestsEndOrCancelsThem()
    {
        using var model = Models.New();
        foreach (var grace in (TimeSpan[])[TimeSpan.FromHours(1), TimeSpan.Zero])
        {
            await using var scheduler = Models.Scheduler(model, 1, Models.Patient with { PiecesAhead = 1000 });
            var tokens = grace > TimeSpan.Zero ? 50 : int.MaxValue;
            var running = scheduler.TryGenerate("running", s_whole, new GenerationOptions { Tokens = tokens });
            var waiting = scheduler.TryGenerate("waiting", s_whole, new GenerationOptions { Tokens = tokens });
            var embedding = scheduler.TryEmbed([1, 2], s_whole);
            await scheduler.StopAsync(grace);
            Assert.Null(scheduler.TryGenerate("late", s_whole, new GenerationOptions()));
            var reason = grace > TimeSpan.Zero ? FinishReason.Length : FinishReason.Cancelled;
            Assert.Equal((reason, reason), ((await Models.Read(running)).Reason, (await Models.Read(waiting)).Reason));
            if (grace > TimeSpan.Zero) await embedding!.Result;
            else await Assert.ThrowsAnyAsync<OperationCanceledException>(() => embedding!.Result);
        }
    }

    [Fact]
    public async Task DamagedWeightsFailOnlyTheRequestsThatUseThem()
    {
        using var model = Models.New();
        using (no_grad())
        {
            // The hidden units from 32 on belong to the widest size only.
            foreach (var (name, parameter) in model.named_parameters())
            {
                if (name.EndsWith("layers.1.mlp.down_proj.weight", StringComparison.Ordinal)) parameter.narrow(1, 32, 32).fill_(float.NaN);
            }
        }

        await using var scheduler = Models.Scheduler(model, 3);
        var options = new GenerationOptions { Tokens = 5 };
        var narrow = scheduler.TryGenerate("x", TinyLm.Granularities[0].Layers, options);
        var wide = scheduler.TryGenerate("x", s_whole, options);
        var embedding = scheduler.TryEmbed([1, 2], s_whole);
        Assert.Equal(5, (await Models.Read(narrow)).Tokens);
        await Assert.ThrowsAsync<DecodingException>(() => Models.Read(wide));
        await Assert.ThrowsAsync<DecodingException>(() => embedding!.Result);
        Assert.Equal(2, scheduler.Statistics.Failed);
    }

    [Fact]
    public async Task EmbeddingsAreTheMeanOfTheHiddenStates()
    {
        using var model = Models.New();
        var tokens = "a text to embed of 29 letters"u8.ToArray().Select(b => (int)b).ToArray();
        foreach (var profile in TinyLm.Granularities)
        {
            using var engine = DecodingEngine.Create(model, new DecodingOptions { HiddenStates = true, Threads = 2 });
            engine.Use(0, profile.Layers);
            engine.Append(0, tokens, allLogits: true);
            engine.Run();
            var embed = model.named_parameters().Single(p => p.name.EndsWith("embed_tokens.weight", StringComparison.Ordinal)).parameter;
            var weights = embed.data<float>().ToArray();
            var mean = new double[TinyLm.Spec.Width];
            for (var t = 0; t < tokens.Length; t++)
            {
                var hidden = engine.HiddenStates(t).ToArray();
                var logit = hidden.Select((h, i) => (double)h * weights[(70 * hidden.Length) + i]).Sum();
                Assert.Equal(engine.Logits(t)[70], logit, 1e-3);
                for (var i = 0; i < mean.Length; i++) mean[i] += hidden[i];
            }

            await using var scheduler = Models.Scheduler(model, 2, Models.Patient with { TokensPerPass = 8, PromptTokens = 8 });
            var other = scheduler.TryGenerate("beside it", s_whole, new GenerationOptions { Tokens = 30 });
            var got = await scheduler.TryEmbed(tokens, profile.Layers)!.Result;
            await Models.Read(other);
            var length = Math.Sqrt(mean.Sum(x => x * x));
            Assert.All(got, (x, i) => Assert.Equal(mean[i] / length, x, 1e-6));
        }
    }

    [Fact]
    public async Task InvalidRequestsAreRefusedAtOnce()
    {
        using var model = Models.New();
        using var slice = model.Extract(TinyLm.Granularities[0]);
        await using var scheduler = new DecodingScheduler(DecodingEngine.Create(slice));
        var options = new GenerationOptions();
        Assert.Throws<ArgumentException>(() => scheduler.TryGenerate("x", s_whole, options));
        Assert.Throws<ArgumentException>(() => scheduler.TryGenerate("x", slice.Layers, options with { TopP = 0 }));
        Assert.Throws<NotSupportedException>(() => scheduler.TryEmbed([1], slice.Layers));
        Assert.Throws<ArgumentException>(() => scheduler.TryEmbed([], slice.Layers));
        Assert.Throws<ArgumentException>(() => scheduler.TryEmbed([256], slice.Layers));
        Assert.Throws<ArgumentException>(() => scheduler.TryEmbed(new int[33], slice.Layers));
        using var engine = DecodingEngine.Create(slice);
        Assert.Throws<ArgumentException>(() => new DecodingScheduler(engine, new SchedulerOptions { PiecesAhead = 0 }));
    }
}

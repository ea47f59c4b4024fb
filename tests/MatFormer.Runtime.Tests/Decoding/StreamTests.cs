using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests.Decoding;

public sealed class StreamTests
{
    private static async Task<List<TextPiece>> All(IAsyncEnumerable<TextPiece> pieces)
    {
        var all = new List<TextPiece>();
        await foreach (var piece in pieces) all.Add(piece);
        return all;
    }

    [Fact]
    public async Task AStreamEqualsGenerateAndLeaksNoTensors()
    {
        manual_seed(1);
        using var model = TinyModel.Create();
        var options = new GenerationOptions { Tokens = 60, Temperature = 1.2, TopP = 0.95, RepetitionPenalty = 1.1, StopStrings = ["zq"] };
        await All(TextGenerator.StreamAsync(model, "ab", options));
        var live = Tensor.TotalCount;
        var pieces = await All(TextGenerator.StreamAsync(model, "ab", options));
        Assert.Equal(live, Tensor.TotalCount);
        var texts = new List<string>();
        var result = TextGenerator.Generate(model, "ab", options, texts.Add);
        Assert.Equal(texts, pieces.Select(p => p.Text).Where(t => t.Length > 0));
        var bytes = pieces.SelectMany(p => p.Tokens).Select(t => (byte)t).ToArray();
        Assert.Equal(result.Tokens, bytes.Length);
        Assert.Equal(result.Bytes, bytes[..result.Bytes.Length]);
        Assert.Equal(result.FinishReason, pieces[^1].FinishReason);
        Assert.All(pieces.SkipLast(1), p => Assert.True(p.FinishReason is null && p.Text.Length > 0 && !p.Tokens.IsEmpty));
    }

    [Fact]
    public async Task PiecesHaveTheirTokensIncludingThoseOfAStopString()
    {
        using var model = new ScriptedModel("x é. STOP");
        var options = new GenerationOptions { StopStrings = ["STOP"] };
        var pieces = await All(TextGenerator.StreamAsync(model, "a", options));
        Assert.Equal(["x", " ", "é", ".", " ", ""], pieces.Select(p => p.Text));
        Assert.Equal([1, 1, 2, 1, 1, 4], pieces.Select(p => p.Tokens.Length));
        Assert.Equal([null, null, null, null, null, FinishReason.Stop], pieces.Select(p => p.FinishReason));
        pieces = await All(TextGenerator.StreamAsync(model, "a", options with { Tokens = 2 }));
        Assert.Equal([(" ", FinishReason.Length)], pieces.Skip(1).Select(p => (p.Text, p.FinishReason!.Value)));
        pieces = await All(TextGenerator.StreamAsync(model, "a", options with { Tokens = 0 }));
        Assert.Equal(FinishReason.Length, Assert.Single(pieces).FinishReason);
    }

    [Fact]
    public async Task TheComputingThreadHasEndedWhenAReaderStopsEarly()
    {
        var (inside, tokens) = (0, 0);
        using var model = new ScriptedModel("abc", beforeToken: () =>
        {
            Interlocked.Exchange(ref inside, 1);
            Interlocked.Increment(ref tokens);
            Thread.Sleep(1);
            Interlocked.Exchange(ref inside, 0);
        });
        var live = Tensor.TotalCount;
        await foreach (var piece in TextGenerator.StreamAsync(model, "a", new GenerationOptions { Tokens = 4000 }))
        {
            if (piece.Text == "c") break;
        }

        // Nothing computes any more, neither now nor a little later.
        var (seen, still) = (Volatile.Read(ref tokens), Volatile.Read(ref inside));
        await Task.Delay(30);
        Assert.Equal((seen, 0), (Volatile.Read(ref tokens), still));
        Assert.Equal(live, Tensor.TotalCount);
        Assert.Single(model.Threads);
    }

    [Fact]
    public async Task AStreamWaitsForItsReader()
    {
        var tokens = 0;
        using var model = new ScriptedModel("abc", beforeToken: () => Interlocked.Increment(ref tokens));
        await using var pieces = TextGenerator.StreamAsync(model, "a", new GenerationOptions { Tokens = 4000 }).GetAsyncEnumerator();
        Assert.Equal(0, tokens); // nothing is computed before the first piece is asked for
        Assert.True(await pieces.MoveNextAsync());
        for (var (before, now) = (-1, 0); before != now;)
        {
            await Task.Delay(50);
            (before, now) = (now, Volatile.Read(ref tokens));
        }

        Assert.InRange(tokens, 16, 20);
    }

    [Fact]
    public async Task ACancelledStreamEndsWithAllTheTextThatWasHeldBack()
    {
        using var stop = new CancellationTokenSource();
        using var model = new ScriptedModel("abcd");
        var options = new GenerationOptions { Tokens = 4000, StopStrings = ["cdx"] };
        var pieces = new List<TextPiece>();
        await foreach (var piece in TextGenerator.StreamAsync(model, "a", options).WithCancellation(stop.Token))
        {
            pieces.Add(piece);
            if (pieces.Count == 5) stop.Cancel();
        }

        Assert.Equal(FinishReason.Cancelled, pieces[^1].FinishReason);
        Assert.InRange(pieces.Count, 6, 40);
        var said = string.Concat(pieces.Select(p => p.Text));
        Assert.Equal(pieces.Sum(p => p.Tokens.Length), said.Length);
        Assert.Equal(
            FinishReason.Cancelled, Assert.Single(await All(TextGenerator.StreamAsync(model, "a", options, stop.Token))).FinishReason);
    }

    [Fact]
    public void InvalidArgumentsAreRefusedBeforeTheFirstPiece()
    {
        using var model = new ScriptedModel("abc");
        var e = Assert.Throws<ArgumentException>(() => TextGenerator.StreamAsync(model, "a", new GenerationOptions { TopP = 2 }));
        Assert.Contains("TopP is 2", e.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentNullException>(() => TextGenerator.StreamAsync(model, null!));
    }

    [Fact]
    public async Task ErrorsOfTheModelReachTheReader()
    {
        var tokens = 0;
        using var failing = new ScriptedModel("abc", beforeToken: () =>
        {
            if (++tokens == 4) throw new InvalidOperationException("the fourth token");
        });
        var seen = new List<string>();
        var thrown = await Assert.ThrowsAsync<InvalidOperationException>(async () =>
        {
            await foreach (var piece in TextGenerator.StreamAsync(failing, "a")) seen.Add(piece.Text);
        });
        Assert.Equal("the fourth token", thrown.Message);
        Assert.Equal(["a", "b", "c"], seen);
    }

    [Fact]
    public async Task SeveralStreamsOfOneModelAreIndependent()
    {
        manual_seed(1);
        using var model = TinyModel.Create();
        GenerationOptions Options(int seed) => new() { Tokens = 40, Temperature = 1, Seed = seed };
        var both = await Task.WhenAll(Enumerable.Range(1, 4).Select(seed => All(TextGenerator.StreamAsync(model, "ab", Options(seed)))));
        for (var seed = 1; seed <= 4; seed++)
        {
            Assert.Equal(
                TextGenerator.Generate(model, "ab", Options(seed)).Text, string.Concat(both[seed - 1].Select(p => p.Text)));
        }
    }
}

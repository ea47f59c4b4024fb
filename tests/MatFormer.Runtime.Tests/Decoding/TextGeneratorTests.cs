using System.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests.Decoding;

public sealed class TextGeneratorTests : IDisposable
{
    private readonly TinyModel _model;

    public TextGeneratorTests()
    {
        manual_seed(1);
        _model = TinyModel.Create();
    }

    public void Dispose() => _model.Dispose();

    [Fact]
    public void GreedyTextIsTheArgmaxOfTheForwardPassWithoutACache()
    {
        var result = TextGenerator.Generate(_model, "abc", new GenerationOptions { Tokens = 10 });
        var text = new List<byte>("abc"u8.ToArray());
        using var unrecorded = no_grad();
        for (var i = 0; i < 10; i++)
        {
            using var scope = NewDisposeScope();
            text.Add(Next([.. text.Select(b => (long)b)]));
        }

        Assert.Equal(text.Skip(3), result.Bytes);
        Assert.Equal("abc"u8.ToArray(), result.Prompt);
        Assert.True(result.TokensPerSecond > 0);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(16)]
    [InlineData(40)]
    public void TextContinuesBeyondTheContext(int promptLength)
    {
        // The context is 16 tokens. When it is full, positions start again with the last 8 bytes.
        var prompt = new string('x', promptLength);
        var result = TextGenerator.Generate(_model, prompt, new GenerationOptions { Tokens = 50 });
        Assert.Equal(50, result.Bytes.Length);

        var text = Encoding.UTF8.GetBytes(promptLength == 0 ? "\n" : prompt).ToList();
        var seen = Math.Min(16, text.Count);
        var start = text.Count;
        using var unrecorded = no_grad();
        while (text.Count < start + 50)
        {
            using var scope = NewDisposeScope();
            if (seen > 16) seen = 8;
            var window = text.TakeLast(seen).Select(b => (long)b).ToArray();
            text.Add(Next(window));
            seen++;
        }

        Assert.Equal(text.Skip(start), result.Bytes);
    }

    // Returns the likeliest byte after the tokens, computed without a cache.
    private byte Next(long[] tokens) =>
        (byte)_model.call(tensor(tokens, [1, tokens.Length])).narrow(2, 0, 256).argmax(-1).narrow(1, tokens.Length - 1, 1).ToInt64();

    [Fact]
    public void TheSeedDecidesWhatIsDrawn()
    {
        GenerationResult Draw(long seed) =>
            TextGenerator.Generate(_model, "abc", new GenerationOptions { Tokens = 30, Temperature = 1.5, Seed = seed });
        Assert.Equal(Draw(1).Bytes, Draw(1).Bytes);
        Assert.NotEqual(Draw(1).Bytes, Draw(2).Bytes);
    }

    [Theory]
    [InlineData(0.0, 1)]
    [InlineData(1.3, 5)]
    public void ABatchGivesWhatEachPromptGivesAlone(double temperature, int count)
    {
        // The prompts are shorter than, as long as and longer than the context of 16, which all texts exceed.
        string[] prompts = [.. new[] { "abc", "", "a longer prompt of many bytes", "sixteen bytes ..", "x" }.Take(count)];
        var options = new GenerationOptions { Tokens = 45, Temperature = temperature, RepetitionPenalty = 1.2 };

        // Tensors that other tests left to the garbage collector must not be finalized while tensors are counted.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        var live = Tensor.TotalCount;
        var together = TextGenerator.GenerateBatch(_model, prompts, options);
        Assert.Equal(live, Tensor.TotalCount);
        Assert.Equal(prompts, together.Select(r => Encoding.UTF8.GetString(r.Prompt)));
        for (var row = 0; row < count; row++)
        {
            var alone = Alone(prompts[row], row, options);
            Assert.Equal(alone, together[row].Bytes);
            Assert.Equal((45, FinishReason.Length), (together[row].Tokens, together[row].FinishReason));
        }

        Assert.Equal(TextGenerator.Generate(_model, prompts[0], options).Bytes, together[0].Bytes);
    }

    // Generates with a sampler and the forward pass without a cache.
    private byte[] Alone(string prompt, int row, GenerationOptions options)
    {
        var sampler = new Sampler(options, row);
        var tokens = Encoding.UTF8.GetBytes(prompt.Length == 0 ? "\n" : prompt).Select(b => (int)b).ToList();
        var (first, seen) = (tokens.Count, Math.Min(16, tokens.Count));
        using var unrecorded = no_grad();
        for (var i = 0; i < options.Tokens; i++)
        {
            using var scope = NewDisposeScope();
            if (seen > 16) seen = 8;
            var window = tokens.TakeLast(seen).Select(t => (long)t).ToArray();
            var logits = _model.call(tensor(window, [1, window.Length])).narrow(1, window.Length - 1, 1).narrow(2, 0, 256).contiguous();
            tokens.Add(sampler.Next(logits.data<float>().ToArray(), [.. tokens], i));
            seen++;
        }

        return [.. tokens.Skip(first).Select(t => (byte)t)];
    }

    [Fact]
    public void EachPromptOfABatchEndsAtItsOwnStopString()
    {
        var options = new GenerationOptions { Tokens = 60, Temperature = 2 };
        string[] prompts = ["abc", "the other", "abc"];
        var whole = TextGenerator.GenerateBatch(_model, prompts, options);
        Assert.NotEqual(whole[0].Bytes, whole[2].Bytes); // equal prompts draw different texts
        var stop = whole[1].Bytes.Skip(10).First(b => b is > 32 and < 127);
        var stopped = TextGenerator.GenerateBatch(_model, prompts, options with { StopStrings = [((char)stop).ToString()] });
        for (var row = 0; row < prompts.Length; row++)
        {
            var end = Array.IndexOf(whole[row].Bytes, stop);
            Assert.Equal(end < 0 ? whole[row].Bytes : whole[row].Bytes[..end], stopped[row].Bytes);
            Assert.Equal(
                end < 0 ? (60, FinishReason.Length) : (end + 1, FinishReason.Stop), (stopped[row].Tokens, stopped[row].FinishReason));
        }

        Assert.True(stopped.Select(r => r.Tokens).Distinct().Count() > 1);
    }

    [Fact]
    public void ABatchMayGenerateNoTokens()
    {
        var results = TextGenerator.GenerateBatch(_model, ["a", "b"], new GenerationOptions { Tokens = 0 });
        Assert.All(results, r => Assert.Equal(0, r.Tokens));
    }

    [Fact]
    public void ABatchWithMissingPromptsIsRefused()
    {
        foreach (string[] wrong in (string[][])[[], ["a", null!]])
        {
            var e = Assert.Throws<ArgumentException>(() => TextGenerator.GenerateBatch(_model, wrong));
            Assert.Contains("give at least one", e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void ACancelledBatchStops()
    {
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => TextGenerator.GenerateBatch(_model, ["a"], cancellationToken: cancelled.Token));
    }

    [Fact]
    public void GenerationLeaksNoTensors()
    {
        TextGenerator.Generate(_model, "a", new GenerationOptions { Tokens = 2 });
        var live = Tensor.TotalCount;
        TextGenerator.Generate(_model, "a", new GenerationOptions { Tokens = 40, Temperature = 1 });
        Assert.Equal(live, Tensor.TotalCount);
    }

    [Fact]
    public void ACancelledRunStops()
    {
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => TextGenerator.Generate(_model, "a", cancellationToken: cancelled.Token));
    }

    [Fact]
    public void BytePairTextComesInWholeCharacters()
    {
        var tokenizer = BytePairs();
        var options = new GenerationOptions { Tokenizer = tokenizer, Tokens = 300, Temperature = 3, Seed = 2 };
        var pieces = new List<string>();
        var result = TextGenerator.Generate(_model, "日本", options, pieces.Add);
        Assert.Equal(result.Text, string.Concat(pieces));
        Assert.All(pieces, piece => Assert.False(char.IsHighSurrogate(piece[^1])));
        Assert.True(result.Tokens > 10);
    }

    [Fact]
    public void AModelThatAlwaysEndsTheDocumentGeneratesNoText()
    {
        var tokenizer = BytePairs();
        var end = tokenizer.EndOfText!.Value;
        using (var unrecorded = no_grad())
        {
            var embedding = (Tensor)_model.named_parameters().First(p => p.Item1 == "model.embed_tokens.weight").Item2;
            embedding.fill_(1);
            embedding.narrow(0, end, 1).fill_(2);
        }

        var options = new GenerationOptions { Tokenizer = tokenizer, Tokens = 300, Temperature = 0 };
        var nothing = TextGenerator.Generate(_model, string.Empty, options);
        Assert.Equal((0, string.Empty), (nothing.Tokens, nothing.Text));
    }

    [Fact]
    public void AModelOfAnotherTokenizerIsRefused()
    {
        _model.TokenizerFingerprint = BytePairs().Fingerprint;
        var e = Assert.Throws<TokenizerException>(() => TextGenerator.Generate(_model, "a"));
        Assert.Contains("trained with another tokenizer", e.Message, StringComparison.Ordinal);
    }

    // Learns a tokenizer. The characters take several bytes, and some pairs of these bytes become tokens.
    private static Tokenizer BytePairs()
    {
        var words = new WordCounts();
        words.Add(Encoding.UTF8.GetBytes("日本語 日本 日々 ありがとう ありがたい 👍👍🏽"));
        return TokenizerTraining.Run(words, new TokenizerOptions { Vocabulary = 265 }, CancellationToken.None);
    }
}

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
    public void GreedyTextIsTheArgmaxOfTheWholeForward()
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
    public void TextGoesOnBeyondTheContext(int promptLength)
    {
        // Context 16; when it is full, positions start again with the last 8 bytes.
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

    // The likeliest byte after the tokens, without a cache.
    private byte Next(long[] tokens) =>
        (byte)_model.call(tensor(tokens, [1, tokens.Length])).narrow(2, 0, 256).argmax(-1).narrow(1, tokens.Length - 1, 1).ToInt64();

    [Fact]
    public void ASeedDecidesWhatIsDrawn()
    {
        GenerationResult Draw(long seed) =>
            TextGenerator.Generate(_model, "abc", new GenerationOptions { Tokens = 30, Temperature = 1.5, Seed = seed });
        Assert.Equal(Draw(1).Bytes, Draw(1).Bytes);
        Assert.NotEqual(Draw(1).Bytes, Draw(2).Bytes);
    }

    [Fact]
    public void NothingLeaksAndACancelledRunIsRefused()
    {
        TextGenerator.Generate(_model, "a", new GenerationOptions { Tokens = 2 });
        var live = Tensor.TotalCount;
        TextGenerator.Generate(_model, "a", new GenerationOptions { Tokens = 40, Temperature = 1 });
        Assert.Equal(live, Tensor.TotalCount);
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => TextGenerator.Generate(_model, "a", cancellationToken: cancelled.Token));
    }

    [Fact]
    public void TextOfBytePairsComesInWholeCharactersUntilTheDocumentEnds()
    {
        // Characters of several bytes, of which some pairs are tokens.
        var words = new WordCounts();
        words.Add(Encoding.UTF8.GetBytes("日本語 日本 日々 ありがとう ありがたい 👍👍🏽"));
        var tokenizer = TokenizerTraining.Run(words, new TokenizerOptions { Vocabulary = 265 }, CancellationToken.None);
        var options = new GenerationOptions { Tokenizer = tokenizer, Tokens = 300, Temperature = 3, Seed = 2 };
        var pieces = new List<string>();
        var result = TextGenerator.Generate(_model, "日本", options, pieces.Add);
        Assert.Equal(result.Text, string.Concat(pieces));
        Assert.All(pieces, piece => Assert.False(char.IsHighSurrogate(piece[^1])));
        Assert.True(result.Tokens > 10);

        // A model that always ends the document says nothing.
        var end = tokenizer.EndOfText!.Value;
        using (var unrecorded = no_grad())
        {
            var embedding = (Tensor)_model.named_parameters().First(p => p.Item1 == "model.embed_tokens.weight").Item2;
            embedding.fill_(1);
            embedding.narrow(0, end, 1).fill_(2);
        }

        var nothing = TextGenerator.Generate(_model, string.Empty, options with { Temperature = 0 });
        Assert.Equal((0, string.Empty), (nothing.Tokens, nothing.Text));

        _model.TokenizerFingerprint = tokenizer.Fingerprint;
        var e = Assert.Throws<TokenizerException>(() => TextGenerator.Generate(_model, "a"));
        Assert.Contains("trained with another tokenizer", e.Message, StringComparison.Ordinal);
    }
}

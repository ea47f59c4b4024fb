using System.Text;
using FsCheck;
using FsCheck.Fluent;

namespace MatFormer.Runtime.Tests.Decoding;

public sealed class StopStringTests
{
    private static (GenerationResult Result, List<string> Pieces) Say(string script, int tokens, params string[] stops)
    {
        var pieces = new List<string>();
        using var model = new ScriptedModel(script);
        var result = TextGenerator.Generate(model, "a", new GenerationOptions { Tokens = tokens, StopStrings = [.. stops] }, pieces.Add);
        Assert.Equal(result.Text, string.Concat(pieces));
        Assert.All(pieces, piece => Assert.NotEqual(string.Empty, piece));
        return (result, pieces);
    }

    [Fact]
    public void TextEndsBeforeTheFirstStopString()
    {
        var (result, pieces) = Say("one two three", 13, "three", "two", "xyz");
        Assert.Equal(("one ", FinishReason.Stop, 7), (result.Text, result.FinishReason, result.Tokens));

        // The 't' that could begin the stop string was held back.
        Assert.Equal(["o", "n", "e", " "], pieces);
    }

    [Fact]
    public void TextIsHeldBackOnlyWhileItMayBeginAStopString()
    {
        var (result, pieces) = Say("abacabab", 8, "ababb", "cc");
        Assert.Equal(("abacabab", FinishReason.Length, 8), (result.Text, result.FinishReason, result.Tokens));
        Assert.Equal(["aba", "c", "abab"], pieces);
    }

    [Fact]
    public void TheLongestOfSeveralCompletedStopStringsCounts() => Assert.Equal("a", Say("abcd", 4, "cd", "bcd", "d").Result.Text);

    [Fact]
    public void StopStringsMaySpanTokens()
    {
        // Each byte is a token; 'é' (C3 A9) and 'è' (C3 A8) begin with the same byte.
        var (result, pieces) = Say("crème brûlée 👍 fin", 30, "é", "👎");
        Assert.Equal(("crème brûl", FinishReason.Stop), (result.Text, result.FinishReason));
        Assert.Equal("crème brûl".EnumerateRunes().Select(r => r.ToString()), pieces);
    }

    [Fact]
    public void AStopStringMayEndWithinAToken()
    {
        var words = new WordCounts();
        words.Add("stopping stopping stopping"u8.ToArray());
        var tokenizer = TokenizerTraining.Run(words, new TokenizerOptions { Vocabulary = 264 }, CancellationToken.None);
        var script = tokenizer.Encode("go stopping");
        Assert.True(script.Length < 8);
        using var model = new ScriptedModel(script);
        var options = new GenerationOptions { Tokenizer = tokenizer, Tokens = 20, StopStrings = ["top"] };
        Assert.Equal("go s", TextGenerator.Generate(model, string.Empty, options).Text);
    }

    [Fact]
    public void HeldBackTextIsReleasedAtTheEndOfTheText()
    {
        var words = new WordCounts();
        words.Add("abc"u8.ToArray());
        var tokenizer = TokenizerTraining.Run(words, new TokenizerOptions { Vocabulary = 257 }, CancellationToken.None);
        using var model = new ScriptedModel([.. tokenizer.Encode("abc"), tokenizer.EndOfText!.Value]);
        var options = new GenerationOptions { Tokenizer = tokenizer, StopStrings = ["bcd"] };
        var pieces = new List<string>();
        var result = TextGenerator.Generate(model, string.Empty, options, pieces.Add);
        Assert.Equal(("abc", FinishReason.Stop, 3), (result.Text, result.FinishReason, result.Tokens));
        Assert.Equal(["a", "bc"], pieces);
        result = TextGenerator.Generate(model, string.Empty, options with { Tokens = 2 });
        Assert.Equal(("ab", FinishReason.Length, 2), (result.Text, result.FinishReason, result.Tokens));
        result = TextGenerator.Generate(model, string.Empty, options with { Tokens = 0 });
        Assert.Equal((string.Empty, FinishReason.Length, 0), (result.Text, result.FinishReason, result.Tokens));
    }

    [Fact]
    public void RandomTextEndsWhereASearchOfTheWholeTextEndsIt()
    {
        var texts = Gen.Choose(1, 40).SelectMany(length => Gen.ArrayOf(Gen.Elements('a', 'b', 'é', 'è'), length))
            .Select(c => new string(c));
        var stops = Gen.Choose(1, 3).SelectMany(count =>
            Gen.ArrayOf(
                Gen.Choose(1, 4).SelectMany(n => Gen.ArrayOf(Gen.Elements('a', 'b', 'é', 'è'), n)).Select(c => new string(c)), count));
        var cases = from text in texts from stop in stops select (text, stop);
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(300), Prop.ForAll(cases.ToArbitrary(), given =>
        {
            var (text, stop) = given;
            var end = Enumerable.Range(1, text.Length).FirstOrDefault(n => stop.Any(s => text[..n].EndsWith(s, StringComparison.Ordinal)));
            var expected = end == 0
                ? text : text[..(end - stop.Where(s => text[..end].EndsWith(s, StringComparison.Ordinal)).Max(s => s.Length))];
            var (result, _) = Say(text, Encoding.UTF8.GetByteCount(text), stop);
            return result.Text == expected && result.FinishReason == (end == 0 ? FinishReason.Length : FinishReason.Stop);
        }));
    }
}

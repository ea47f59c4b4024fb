using System.Text;
using System.Text.Json;
using MatFormer.Tests;

namespace MatFormer.Runtime.Tests.Tokenizers;

/// <summary>
/// Compares tokenizers of SentencePiece's kind, and tokens that are added around texts, with values that Oracle/record.py recorded from
/// Hugging Face's tokenizers.
/// </summary>
public sealed class PieceOracleTests
{
    private static readonly JsonElement Expected = JsonDocument.Parse(File.ReadAllBytes(At("pieces.json"))).RootElement;
    private static readonly string[] Texts = [.. Expected.GetProperty("texts").EnumerateArray().Select(t => t.GetString()!)];

    public static TheoryData<string> Names => [.. Expected.GetProperty("files").EnumerateObject().Select(f => f.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void TokensEqualThoseOfHuggingFace(string name)
    {
        var (tokenizer, expected) = (Tokenizer.Load(At(name + ".json")), Expected.GetProperty("files").GetProperty(name));
        var ids = expected.GetProperty("ids").EnumerateArray().Select(t => t.GetString()!).ToList();
        Assert.Equal(Texts.Length, ids.Count);
        foreach (var (text, its) in Texts.Zip(ids)) AssertTokens(text, its, tokenizer.Encode(text));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void PlainTextHasTheTokensThatHuggingFaceGivesItWithoutSpecialTokens(string name)
    {
        var (tokenizer, expected) = (Tokenizer.Load(At(name + ".json")), Expected.GetProperty("files").GetProperty(name));
        Assert.NotEmpty(expected.GetProperty("plain").EnumerateObject());
        foreach (var plain in expected.GetProperty("plain").EnumerateObject())
        {
            var text = Texts[int.Parse(plain.Name)];
            AssertTokens(text, plain.Value.GetString()!, tokenizer.Encode(text, specialTokens: false));
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void TokensDecodeToTheTextOfHuggingFace(string name)
    {
        var (tokenizer, expected) = (Tokenizer.Load(At(name + ".json")), Expected.GetProperty("files").GetProperty(name));
        var (decoded, names) = (expected.GetProperty("decoded"), expected.GetProperty("names"));
        foreach (var (i, text) in Texts.Index())
        {
            var tokens = tokenizer.Encode(text);
            var its = decoded.TryGetProperty($"{i}", out var other) ? other.GetString()! : text;
            AssertSame(text, its, tokenizer.Decode(tokens, specialTokens: false));
            Oracles.Compared("Hugging Face's tokenizers: decoded tokens", tokens.Length);
            if (names.TryGetProperty($"{i}", out var withNames)) AssertSame(text, withNames.GetString()!, tokenizer.Decode(tokens));

            var stream = new TokenStream(tokenizer);
            AssertSame(text, tokenizer.Decode(tokens), string.Concat(tokens.Select(stream.Add)) + stream.Finish());
        }
    }

    // Merges as llama.cpp does it (llm_tokenizer_spm): the neighbours whose piece has the highest score first, the leftmost of equal ones.
    [Theory]
    [InlineData("llama2")]
    [InlineData("mistral")]
    public void TheScoresOfGgufGiveTheSameTokens(string name)
    {
        var tokenizer = Tokenizer.Load(At(name + ".json"));
        var content = tokenizer.Content;
        Assert.Null(GgufTokenizer.Problem(tokenizer));
        var scores = GgufTokenizer.Scores(content)!;
        var (pieces, kinds) = GgufTokenizer.Vocabulary(content, content.Tokens.Length + 1);
        Assert.Equal(256, kinds.Count(kind => kind == 6));
        Assert.Equal((2, 3, 1, 5), (kinds[0], kinds[1], kinds[300], kinds[^1]));
        var ids = pieces.Index().ToDictionary(p => p.Item, p => p.Index);
        foreach (var text in Texts.Where(t => !tokenizer.SpecialTokens.Keys.Any(t.Contains)))
        {
            // Metaspace puts no space before a space.
            if (text.Length == 0 || (name == "mistral" && text[0] is ' ' or '\u2581')) continue;
            var symbols = ("\u2581" + text.Replace(' ', '\u2581')).EnumerateRunes().Select(rune => rune.ToString()).ToList();
            while (true)
            {
                var (best, at) = (float.NegativeInfinity, -1);
                for (var i = 0; i + 1 < symbols.Count; i++)
                {
                    if (ids.TryGetValue(symbols[i] + symbols[i + 1], out var piece) && scores[piece] > best)
                        (best, at) = (scores[piece], i);
                }

                if (at < 0) break;
                symbols[at] += symbols[at + 1];
                symbols.RemoveAt(at + 1);
            }

            var tokens = symbols.SelectMany<string, int>(
                symbol => ids.TryGetValue(symbol, out var id) ? [id] : [.. Encoding.UTF8.GetBytes(symbol).Select(b => ids[$"<0x{b:X2}>"])]);
            AssertSame(text, string.Join(' ', tokenizer.Encode(text, specialTokens: false)), string.Join(' ', tokens));
        }
    }

    // Gemma's small file has added pieces without merges, and the other cuts and normalizes text.
    [Theory]
    [InlineData("gemma", "merges pairs in its own way")]
    [InlineData("metaspace", "normalizes text in its own way")]
    public void WhatGgufCannotExpressIsSaid(string name, string says) =>
        Assert.Equal(says, GgufTokenizer.Problem(Tokenizer.Load(At(name + ".json"))));

    private static void AssertTokens(string text, string expected, int[] ours)
    {
        AssertSame(text, expected, string.Join(' ', ours));
        Oracles.Compared("Hugging Face's tokenizers: tokens", ours.Length);
    }

    private static void AssertSame(string text, string expected, string ours) =>
        Assert.True(expected == ours, $"{Quoted(text)}: {Quoted(expected)}, not {Quoted(ours)}");

    private static string Quoted(string text) => JsonSerializer.Serialize(text);

    private static string At(string name) => Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", name);
}

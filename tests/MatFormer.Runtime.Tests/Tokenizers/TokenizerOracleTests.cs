using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using MatFormer.Tests;

namespace MatFormer.Runtime.Tests.Tokenizers;

/// <summary>Compares tokenizers with values that Oracle/record.mjs recorded from Hugging Face's tokenizers.</summary>
public sealed class TokenizerOracleTests
{
    private static readonly JsonElement Expected = JsonDocument.Parse(File.ReadAllBytes(At("expected.json"))).RootElement;

    private static Tokenizer Trained => TokenizerTraining.Run(Words(), new TokenizerOptions { Vocabulary = 1000 }, CancellationToken.None);

    [Theory]
    [InlineData("trained")]
    [InlineData("bytes")]
    [InlineData("llama3")]
    [InlineData("qwen2")]
    public void TokensEqualThoseOfHuggingFaceAndDecodeToTheText(string name)
    {
        var tokenizer = Tokenizer.Load(At(name + ".json"));
        var texts = Expected.GetProperty("texts").EnumerateArray().Select(t => t.GetString()!).ToList();
        var tokens = Expected.GetProperty("files").GetProperty(name).EnumerateArray().Select(t => t.GetString()!).ToList();
        Assert.Equal(texts.Count, tokens.Count);
        foreach (var (text, expected) in texts.Zip(tokens))
        {
            var encoded = tokenizer.Encode(text);
            var ours = string.Join(' ', encoded);
            Assert.True(expected == ours, $"{JsonSerializer.Serialize(text)}: {expected}, not {ours}");
            Assert.Equal(name == "qwen2" ? text.Normalize(NormalizationForm.FormC) : text, tokenizer.Decode(encoded));
            Oracles.Compared("Hugging Face's tokenizers: tokens", encoded.Length);
        }
    }

    [Fact]
    public void TrainedTokenizersEqualTheRecordedFiles()
    {
        using var folder = new TemporaryFolder();
        foreach (var (tokenizer, name) in new[] { (Trained, "trained.json"), (Tokenizer.ByteLevel, "bytes.json") })
        {
            tokenizer.Save(folder[name]);
            var update = Environment.GetEnvironmentVariable("UPDATE_BASELINES") == "1";
            if (update) File.Copy(folder[name], Path.Combine(Source(), name), overwrite: true);
            else Assert.Equal(File.ReadAllText(At(name)), File.ReadAllText(folder[name]));
            Assert.Equal(tokenizer.Fingerprint, Tokenizer.Load(folder[name]).Fingerprint);
        }
    }

    [Fact]
    public void TrainingLearnsTheSamePairsAsHuggingFaceInTheSameOrder()
    {
        // Training goes on until the text has no pairs left, frequent or not.
        using var folder = new TemporaryFolder();
        var options = new TokenizerOptions { Vocabulary = 30_000, SpecialTokens = [], MinimumCount = 1 };
        TokenizerTraining.Run(Words(), options, CancellationToken.None).Save(folder["all.json"]);
        using var file = JsonDocument.Parse(File.ReadAllBytes(folder["all.json"]));
        var merges = file.RootElement.GetProperty("model").GetProperty("merges").EnumerateArray().Select(m => $"{m[0]} {m[1]}").ToList();
        var expected = Expected.GetProperty("merges");
        Assert.Equal(expected.GetProperty("first").EnumerateArray().Select(m => m.GetString()), merges.Take(20));
        Assert.Equal(expected.GetProperty("count").GetInt32(), merges.Count);
        var hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', merges))));
        Assert.Equal(expected.GetProperty("sha256").GetString(), hash);
        Oracles.Compared("Hugging Face's tokenizers: learnt pairs", merges.Count);
    }

    // Counts words line by line, as Hugging Face's trainer reads files.
    private static WordCounts Words()
    {
        var words = new WordCounts();
        var text = File.ReadAllBytes(At("text.txt")).AsSpan();
        while (!text.IsEmpty)
        {
            var end = text.IndexOf((byte)'\n') is var line && line < 0 ? text.Length : line + 1;
            words.Add(text[..end]);
            text = text[end..];
        }

        return words;
    }

    private static string At(string name) => Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", name);

    private static string Source([CallerFilePath] string path = "") => Path.Combine(Path.GetDirectoryName(path)!, "Oracle");
}

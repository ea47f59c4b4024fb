using System.Text;
using System.Text.Json.Nodes;

namespace MatFormer.Runtime.Tests.Tokenizers;

public sealed class TokenizerTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void ByteLevelTokensAreBytes()
    {
        var tokenizer = Tokenizer.ByteLevel;
        Assert.Equal((256, null), (tokenizer.VocabularySize, tokenizer.EndOfText));
        Assert.Equal([0xC3, 0xA4, 10, 0], tokenizer.Encode("ä\n\0"));
        Assert.Equal("ä\n", tokenizer.Decode([0xC3, 0xA4, 10]));
        Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Decode([256]));
        Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Decode([-1]));
    }

    [Fact]
    public void OfEquallyFrequentPairsTheSmallerTokensAreLearntFirst()
    {
        // All pairs occur twice. The order is a, b, c, then the space, as in the byte alphabet, and learnt tokens come last.
        Assert.Equal(["ab", "cd", "Ġab", "Ġabcd"], Train(" abcd abcd zy", vocabulary: 300));

        // No other pair occurs twice, so there are fewer tokens than asked for. A run of a letter is counted as it is merged.
        Assert.Equal(["aa", "aaaa"], Train("aaaaaaaab", vocabulary: 300));
        Assert.Equal(["ab"], Train(" abcd abcd zy", vocabulary: 258));
    }

    [Fact]
    public void TrainingOptionsOutOfRangeAreRefused()
    {
        foreach (var (options, says) in new (TokenizerOptions, string)[]
        {
            (new() { Vocabulary = 256 }, "at least 257"),
            (new() { Vocabulary = 1 << 25 }, "Vocabulary is"),
            (new() { MinimumCount = 0 }, "MinimumCount is 0"),
            (new() { SpecialTokens = ["<a>", "<a>"] }, "SpecialTokens"),
            (new() { SpecialTokens = [""] }, "SpecialTokens"),
            (new() { SpecialTokens = ["ab"] }, "'ab' became a token"),
        })
        {
            var words = new WordCounts();
            words.Add("abababab"u8);
            var e = Assert.Throws<ArgumentException>(() => TokenizerTraining.Run(words, options, CancellationToken.None));
            Assert.Contains(says, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void MergesOfRandomWordsEqualTheirDefinition()
    {
        var tokenizer = Tokenizer.Load(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", "trained.json"));
        var root = Oracle();
        var vocab = root["model"]!["vocab"]!.AsObject().ToDictionary(v => v.Key, v => v.Value!.GetValue<int>());
        var merges = root["model"]!["merges"]!.AsArray().Select(m => ($"{m![0]}", $"{m[1]}")).ToList();
        var ranks = merges.Index().ToDictionary(m => m.Item, m => m.Index);
        var random = new Random(3);
        for (var round = 0; round < 200; round++)
        {
            // The text has letters only, so it is one word.
            var length = random.Next(1, round < 190 ? 20 : 500);
            var word = string.Concat(Enumerable.Range(0, length).Select(_ => "aaonterils"[random.Next(10)]));
            var symbols = word.Select(c => c.ToString()).ToList();
            while (true)
            {
                var best = Enumerable.Range(0, symbols.Count - 1).Where(i => ranks.ContainsKey((symbols[i], symbols[i + 1])))
                    .OrderBy(i => ranks[(symbols[i], symbols[i + 1])]).Cast<int?>().FirstOrDefault();
                if (best is not { } at) break;
                symbols[at] += symbols[at + 1];
                symbols.RemoveAt(at + 1);
            }

            Assert.Equal(symbols.Select(s => vocab[s]), tokenizer.Encode(word));
        }
    }

    [Fact]
    public void BytesThatAreNotUtf8AreKept()
    {
        foreach (var name in new[] { "trained.json", "llama3.json", "qwen2.json" })
        {
            var tokenizer = Tokenizer.Load(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", name));
            var random = new Random(1);
            var bytes = new byte[5000];
            random.NextBytes(bytes);
            var tokens = new List<int>();
            tokenizer.Encode(bytes, tokens);
            Assert.Equal(bytes, tokens.SelectMany(t => tokenizer.BytesOf(t).ToArray()));
        }
    }

    [Fact]
    public void NamesOfSpecialTokensCanBeEncodedAsText()
    {
        var tokenizer = Tokenizer.Load(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", "llama3.json"));
        Assert.Equal(tokenizer.SpecialTokens["<|end_of_text|>"], tokenizer.EndOfText);
        Assert.Equal(2, tokenizer.SpecialTokens.Count);
        const string Text = "a<|end_of_text|><tool>";
        Assert.Equal(3, tokenizer.Encode(Text).Length);
        var plain = tokenizer.Encode(Text, specialTokens: false);
        Assert.DoesNotContain(tokenizer.EndOfText!.Value, plain);
        Assert.Equal(Text, tokenizer.Decode(plain));
        Assert.Equal(tokenizer.VocabularySize - 1, plain[^1]); // <tool> is not special, so it is always found
    }

    [Fact]
    public void ThreadsEncodeTheSameTokens()
    {
        var tokenizer = Tokenizer.Load(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", "trained.json"));
        var lines = File.ReadAllLines(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", "text.txt"));
        var expected = lines.Select(line => string.Join(' ', tokenizer.Encode(line))).ToArray();
        var actual = new string[lines.Length];
        Parallel.For(0, lines.Length, i => actual[i] = string.Join(' ', tokenizer.Encode(lines[i])));
        Assert.Equal(expected, actual);
    }

    [Fact]
    public void AStreamGivesWholeCharacters()
    {
        var stream = new TokenStream(Tokenizer.ByteLevel);
        string[] expected = ["a", "", "", "", "👍", "", "é", ""];
        Assert.Equal(expected, Encoding.UTF8.GetBytes("a👍é").Append((byte)0xC3).Select(b => stream.Add(b)));
        Assert.Equal("\uFFFD", stream.Finish());
        Assert.Equal(string.Empty, stream.Finish());
    }

    [Theory]
    [InlineData("version", "\"2.0\"", "version")]
    [InlineData("truncation", "{\"max_length\": 5}", "truncation")]
    [InlineData("padding", "{}", "padding")]
    [InlineData("normalizer", "{\"type\": \"Lowercase\"}", "normalizer.type is \"Lowercase\"")]
    [InlineData("pre_tokenizer", "null", "pre_tokenizer is missing")]
    [InlineData("pre_tokenizer", "{\"type\": \"Metaspace\"}", "pre_tokenizer.type is \"Metaspace\"")]
    [InlineData("pre_tokenizer.add_prefix_space", "true", "pre_tokenizer.add_prefix_space")]
    [InlineData("pre_tokenizer", "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, "
        + "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}]}", "pre_tokenizer.pretokenizers[0].type is \"Digits\"")]
    [InlineData("pre_tokenizer", "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"behavior\": \"Isolated\", "
        + "\"pattern\": {\"Regex\": \"x+\"}}, "
        + "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}]}", "pre_tokenizer.pretokenizers[0].pattern")]
    [InlineData("pre_tokenizer", "{\"type\": \"Sequence\", \"pretokenizers\": []}", "pre_tokenizer.pretokenizers is empty")]
    [InlineData("model", "null", "model is missing")]
    [InlineData("model.type", "\"WordPiece\"", "model.type is \"WordPiece\"")]
    [InlineData("model.type", "\"Unigram\"", "model.type is \"Unigram\"")]
    [InlineData("model.dropout", "0.1", "model.dropout is 0.1")]
    [InlineData("model.byte_fallback", "true", "model.byte_fallback")]
    [InlineData("model.end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix")]
    [InlineData("model.vocab", "null", "model.vocab is missing")]
    [InlineData("model.vocab.a", "\"x\"", "model.vocab['a'] is not a token id")]
    [InlineData("model.vocab.a", "65", "which another token has")]
    [InlineData("model.vocab.a", "5000", "none with the id 64")]
    [InlineData("model.vocab.\u4E00", "1000", "stands for no byte")]
    [InlineData("model.merges", "null", "model.merges is missing")]
    [InlineData("model.merges", "[\"a b c\"]", "model.merges[0] is \"a b c\", not two tokens")]
    [InlineData("model.merges", "[[\"z\", \"q\"]]", "but 'zq' is not in model.vocab")]
    [InlineData("model.ignore_merges", "1", "model.ignore_merges")]
    [InlineData("added_tokens", "[{\"id\": 1000}]", "added_tokens[0].content")]
    [InlineData("added_tokens", "[{\"id\": 999, \"content\": \"<x>\", \"lstrip\": true}]", "added_tokens[0].lstrip is true")]
    [InlineData("added_tokens", "[{\"id\": 5, \"content\": \"<x>\"}]", "'<x>' with the id 5")]
    [InlineData("added_tokens", "[{\"id\": 999, \"content\": \"a\"}]", "'a' with the id 999, but model.vocab has 64")]
    [InlineData("added_tokens", "3", "added_tokens is not an array")]
    public void UnsupportedFieldsAreRefused(string field, string value, string says)
    {
        var root = Oracle();
        JsonNode parent = root;
        var names = field.Split('.');
        foreach (var name in names[..^1]) parent = parent[name]!;
        parent[names[^1]] = JsonNode.Parse(value);
        var path = _folder["changed.json"];
        File.WriteAllText(path, root.ToJsonString());
        var e = Assert.Throws<TokenizerException>(() => Tokenizer.Load(path));
        Assert.Contains(says, e.Message, StringComparison.Ordinal);
        Assert.Contains(path, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DamagedFilesAreRefused()
    {
        foreach (var (text, says) in new[]
        {
            ("{", "is not valid JSON"), ("[]", "is not an object"), ("{}", "model is missing"), ("", "is not valid JSON"),
        })
        {
            File.WriteAllText(_folder["damaged.json"], text);
            var e = Assert.Throws<TokenizerException>(() => Tokenizer.Load(_folder["damaged.json"]));
            Assert.Contains(says, e.Message, StringComparison.Ordinal);
        }

        File.WriteAllBytes(_folder["damaged.json"], [.. "{\"version\": \""u8, 0xFF, .. "\"}"u8]);
        Assert.Throws<TokenizerException>(() => Tokenizer.Load(_folder["damaged.json"]));
        var none = Assert.Throws<TokenizerException>(() => Tokenizer.Load(_folder["none.json"]));
        Assert.Contains("does not exist", none.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void EveryFieldThatAffectsTokensChangesTheFingerprint()
    {
        var seen = new HashSet<string> { Tokenizer.ByteLevel.Fingerprint };
        foreach (var (field, value) in new[]
        {
            ("version", "\"1.0\""), ("normalizer", "{\"type\": \"NFC\"}"), ("pre_tokenizer.use_regex", "false"),
            ("model.ignore_merges", "true"), ("model.merges", "[]"), ("added_tokens", "[]"),
        })
        {
            var root = Oracle();
            if (field == "added_tokens") root["model"]!["vocab"]!["<|endoftext|>"] = 999;
            var names = field.Split('.');
            (names.Length == 1 ? root : root[names[0]]!)[names[^1]] = JsonNode.Parse(value);
            File.WriteAllText(_folder["changed.json"], root.ToJsonString());
            Assert.True(seen.Add(Tokenizer.Load(_folder["changed.json"]).Fingerprint), field);
        }

        // The formatting of the file does not change the fingerprint.
        File.WriteAllText(_folder["same.json"], Oracle().ToJsonString());
        Assert.False(seen.Add(Tokenizer.Load(_folder["same.json"]).Fingerprint));
    }

    [Fact]
    public void AModelWithTooSmallAVocabularyIsRefused()
    {
        var tokenizer = Tokenizer.Load(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", "trained.json"));
        var e = Assert.Throws<TokenizerException>(() => tokenizer.CheckFits(TinyModel.Spec));
        Assert.Contains("TinyModel has a vocabulary of 320", e.Message, StringComparison.Ordinal);
        Assert.Contains("declare Vocabulary = 1024", e.Message, StringComparison.Ordinal);
        tokenizer.CheckFits(TinyModel.Spec with { Vocabulary = 1000 });
        var bytes = Assert.Throws<TokenizerException>(() => Tokenizer.ByteLevel.CheckFits(TinyModel.Spec with { Vocabulary = 255 }));
        Assert.Contains("declare Vocabulary = 256.", bytes.Message, StringComparison.Ordinal);
    }

    private static JsonNode Oracle() =>
        JsonNode.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", "trained.json")))!;

    // Returns the texts of the learnt tokens, in the order in which they were learnt.
    private static List<string> Train(string text, int vocabulary)
    {
        var words = new WordCounts();
        words.Add(Encoding.UTF8.GetBytes(text));
        var tokenizer = TokenizerTraining.Run(words, new TokenizerOptions { Vocabulary = vocabulary }, CancellationToken.None);
        return [.. Enumerable.Range(256, tokenizer.VocabularySize - 257).Select(t => ByteAlphabet.ToText(tokenizer.BytesOf(t)))];
    }
}

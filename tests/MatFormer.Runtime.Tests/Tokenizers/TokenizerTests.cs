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
    [InlineData("model.byte_fallback", "true", "model.vocab lacks a token for the byte 0x00")]
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

    [Theory]
    [InlineData("normalizer", "{\"type\": \"NFKC\"}", "normalizer.type is \"NFKC\"")]
    [InlineData("normalizer.normalizers", "3", "normalizer.normalizers is not an array")]
    [InlineData("normalizer.normalizers", "[{\"type\": \"Strip\"}]", "normalizer.normalizers[0].type is \"Strip\"")]
    [InlineData("normalizer.normalizers", "[{\"type\": \"Prepend\"}]", "normalizer.normalizers[0].prepend is missing")]
    [InlineData("normalizer.normalizers", "[{\"type\": \"Replace\", \"pattern\": {\"Regex\": \" \"}, \"content\": \"\"}]",
        "normalizer.normalizers[0].pattern")]
    [InlineData("pre_tokenizer", "{\"type\": \"ByteLevel\"}", "pre_tokenizer.type is \"ByteLevel\"")]
    [InlineData("pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"_\"}", "pre_tokenizer.replacement is \"_\"")]
    [InlineData("pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"\u2581\", \"prepend_scheme\": \"x\"}",
        "pre_tokenizer.prepend_scheme is \"x\"")]
    [InlineData("pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"\u2581\", \"prepend_scheme\": \"first\", "
        + "\"add_prefix_space\": false}", "pre_tokenizer.prepend_scheme is \"first\", but add_prefix_space is false")]
    [InlineData("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"String\": \"x\"}}", "pre_tokenizer.pattern")]
    [InlineData("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"Removed\"}",
        "pre_tokenizer.behavior is \"Removed\"")]
    [InlineData("decoder", "null", "decoder is missing")]
    [InlineData("decoder", "{\"type\": \"ByteLevel\"}", "decoder.type is \"ByteLevel\"")]
    [InlineData("decoder.decoders", "[]", "decoder.decoders has 0 steps")]
    [InlineData("decoder.decoders", "[{\"type\": \"Fuse\"}, {\"type\": \"Fuse\"}, {\"type\": \"Fuse\"}]",
        "decoder.decoders[0].type is \"Fuse\"")]
    [InlineData("model.vocab.<0x41>", "700", "model.vocab")]
    [InlineData("model.unk_token", "\"<none>\"", "model.unk_token is")]
    [InlineData("model.merges", "[[\"t\", \"zq\"]]", "but 'zq' is not in model.vocab")]
    [InlineData("post_processor", "{\"type\": \"Other\"}", "post_processor.type is \"Other\"")]
    [InlineData("post_processor", "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"RobertaProcessing\", \"cls\": [\"<s>\", 1], "
        + "\"sep\": [\"</s>\", 2]}, {\"type\": \"RobertaProcessing\", \"cls\": [\"<s>\", 1], \"sep\": [\"</s>\", 2]}]}",
        "post_processor.processors[1] adds tokens")]
    [InlineData("post_processor.single", "[]", "post_processor.single lacks the sequence")]
    [InlineData("post_processor.single", "[{\"Sequence\": {\"id\": \"B\"}}]", "post_processor.single[0]")]
    [InlineData("post_processor.special_tokens", "{}", "post_processor.special_tokens['<s>'] is missing")]
    [InlineData("post_processor.special_tokens", "{\"<s>\": {\"ids\": [686]}}", "post_processor.special_tokens['<s>'].ids has 686")]
    public void UnsupportedFieldsOfPiecesAreRefused(string field, string value, string says)
    {
        var e = Assert.Throws<TokenizerException>(() => Changed("llama2.json", (field, value)));
        Assert.Contains(says, e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"type\": \"RobertaProcessing\", \"cls\": [\"<s>\", 1], \"sep\": [\"</s>\", 2]}", "1", "2")]
    [InlineData("{\"type\": \"ByteLevel\"}", "", "")]
    [InlineData("null", "", "")]
    public void PostProcessorsAddTokensAroundATextAndLeaveTheFingerprint(string processor, string before, string after)
    {
        var tokenizer = Changed("llama2.json", ("post_processor", processor));
        Assert.Equal(Tokenizer.Load(At("llama2.json")).Fingerprint, tokenizer.Fingerprint);
        Assert.Equal((before, after), (string.Join(' ', tokenizer.Before), string.Join(' ', tokenizer.After)));
        var plain = string.Join(' ', tokenizer.Encode("a b", specialTokens: false));
        Assert.Equal($"{before} {plain} {after}".Trim(), string.Join(' ', tokenizer.Encode("a b")));
    }

    [Theory]
    [InlineData("trained.json", "9102168eb779790857c6ca4c1c8c1833c539880795d819e614b6d96fa4e59f76")]
    [InlineData("bytes.json", "0809745f962bb400121708c15becf6261cf6b856a7ba3056f7a0cff8ab01b0ae")]
    [InlineData("llama3.json", "5a34832a619953de3738b4e81b3ecbf9e81a842a8aed615083ceb88d9a3dd69d")]
    [InlineData("qwen2.json", "738d40e6cb34b057dbbb2ef707d45bbd1e6733d60cddc08f43631bcc6dec1a2d")]
    public void FingerprintsOfEarlierVersionsStay(string name, string fingerprint) =>
        Assert.Equal(fingerprint, Tokenizer.Load(At(name)).Fingerprint);

    [Fact]
    public void EveryFieldOfPiecesThatAffectsTokensChangesTheFingerprint()
    {
        var seen = new HashSet<string> { Tokenizer.Load(At("llama2.json")).Fingerprint };
        const string Metaspace = "{\"type\": \"Metaspace\", \"replacement\": \"\u2581\", ";
        foreach (var (field, value) in new[]
        {
            ("normalizer", "null"), ("normalizer", "{\"type\": \"NFC\"}"), ("normalizer", "{\"type\": \"Prepend\", \"prepend\": \"a\"}"),
            ("pre_tokenizer", Metaspace + "\"split\": true}"), ("pre_tokenizer", Metaspace + "\"split\": false}"),
            ("pre_tokenizer", Metaspace + "\"split\": false, \"prepend_scheme\": \"first\"}"),
            ("pre_tokenizer", Metaspace + "\"split\": false, \"prepend_scheme\": \"never\"}"),
            ("model.merges", "[]"), ("model.ignore_merges", "true"),
            ("added_tokens", "[{\"id\": 1, \"content\": \"<s>\", \"special\": true}]"),
            ("added_tokens", "[{\"id\": 1, \"content\": \"<s>\", \"special\": true, \"normalized\": true}]"),
        }) Assert.True(seen.Add(Changed("llama2.json", (field, value)).Fingerprint), value);
    }

    [Fact]
    public void APromptBeginsAsATextDoesButOnlyOnce()
    {
        const string Around = "{\"type\": \"RobertaProcessing\", \"cls\": [\"<s>\", 1], \"sep\": [\"</s>\", 2]}";
        var tokenizer = Changed("llama2.json", ("post_processor", Around));
        int[] text = [1, .. tokenizer.Encode("the model", specialTokens: false)];
        Assert.Equal(text, tokenizer.EncodePrompt("the model"u8));
        Assert.Equal(text, tokenizer.EncodePrompt("<s>the model"u8)); // as a chat template writes it
        Assert.Equal([1, .. text, 2], tokenizer.Encode("<s>the model"));
        Assert.Equal([1], tokenizer.EncodePrompt(""u8));
        Assert.Equal([2], Changed("llama2.json", ("post_processor", "null")).EncodePrompt(""u8));
        Assert.Equal([10], Tokenizer.ByteLevel.EncodePrompt(""u8));
    }

    [Theory]
    [InlineData("llama2.json", "</s>")]
    [InlineData("gemma.json", "<eos>")]
    public void TheEndOfTextOfOtherFamiliesIsFound(string name, string end)
    {
        var tokenizer = Tokenizer.Load(At(name));
        Assert.Equal(tokenizer.SpecialTokens[end], tokenizer.EndOfText);
    }

    [Fact]
    public void BytesWithoutAPieceAreKept()
    {
        var tokenizer = Tokenizer.Load(At("llama2.json"));
        var bytes = new byte[5000];
        new Random(1).NextBytes(bytes);
        var tokens = new List<int>();
        tokenizer.Encode(bytes, tokens, specialTokens: false);
        Assert.Equal([(byte)' ', .. bytes], tokens.SelectMany(t => tokenizer.BytesOf(t).ToArray()));
    }

    [Fact]
    public void AStreamThatContinuesATextKeepsTheFirstSpace()
    {
        var tokenizer = Tokenizer.Load(At("llama2.json"));
        var tokens = tokenizer.Encode("the model", specialTokens: false);
        var (own, continuing) = (new TokenStream(tokenizer), new TokenStream(tokenizer, continues: true));
        Assert.Equal("the model", string.Concat(tokens.Select(own.Add)));
        Assert.Equal(" the model", string.Concat(tokens.Select(continuing.Add)));
    }

    [Theory]
    [InlineData("", "the model")]
    [InlineData("of", " the model")]
    public void OnlyTextThatFollowsAPromptBeginsWithASpace(string prompt, string text)
    {
        var tokenizer = Tokenizer.Load(At("llama2.json"));
        var options = new GenerationOptions { Tokenizer = tokenizer, Temperature = 0 };
        var sequence = new GeneratedSequence(Encoding.UTF8.GetBytes(prompt), options, row: 0);
        Assert.Equal(tokenizer.Encode(prompt), sequence.Tokens.ToArray());
        foreach (var token in tokenizer.Encode("the model", specialTokens: false))
        {
            var logits = new float[tokenizer.VocabularySize];
            logits[token] = 1;
            sequence.Choose(logits);
        }

        Assert.Equal(text, Encoding.UTF8.GetString(sequence.Bytes));
        Assert.Equal(text, sequence.Piece()!.Text);
    }

    [Fact]
    public void DocumentsBeginAndEndAsTextsDo()
    {
        var tokenizer = Tokenizer.Load(At("llama2.json"));
        using var corpus = TextCorpus.Open(_folder.WriteTexts(documents: 40), _folder["out"], tokenizer);
        var split = corpus.Training;
        var (begin, end) = (1, tokenizer.EndOfText!.Value);
        var windows = Windows.Fixed(split, context: 64, count: 1000).ToList();
        var tokens = windows.SelectMany(w => w[..^1]).ToList();
        Assert.Equal(begin, tokens[0]);
        Assert.All(tokens.Index().Where(t => t.Item == begin).Skip(1), t => Assert.Equal(end, tokens[t.Index - 1]));
        Assert.All(tokens.SkipLast(1).Index().Where(t => t.Item == end), t => Assert.Equal(begin, tokens[t.Index + 1]));
        Assert.InRange(tokens.Count(t => t == begin), 2, split.Documents);
        Assert.True(corpus.TextOf(begin).IsEmpty);
        Assert.Equal((byte)'\n', Windows.Text(corpus, windows[0])[0]);

        // Texts of pairs have nothing around them.
        Assert.DoesNotContain(begin, TokenRows.Encode("the model", tokenizer, 10, []));

        // The fingerprint is the same, but the documents are not.
        var plain = Changed("llama2.json", ("post_processor", "null"));
        using var other = TextCorpus.Open(_folder["texts"], _folder["out"], plain);
        Assert.DoesNotContain(begin, Windows.Fixed(other.Training, context: 64, count: 1000).SelectMany(w => w));
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

    private static string At(string name) => Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", name);

    // Loads a recorded tokenizer with another value of a field.
    private Tokenizer Changed(string name, (string Field, string Value) change)
    {
        var root = JsonNode.Parse(File.ReadAllText(At(name)))!;
        var parent = root;
        var names = change.Field.Split('.');
        foreach (var member in names[..^1]) parent = parent[member]!;
        parent[names[^1]] = JsonNode.Parse(change.Value);
        File.WriteAllText(_folder["changed.json"], root.ToJsonString());
        return Tokenizer.Load(_folder["changed.json"]);
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

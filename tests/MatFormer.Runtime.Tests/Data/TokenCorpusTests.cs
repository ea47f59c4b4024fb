using System.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests.Data;

public sealed class TokenCorpusTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly string _texts;

    public TokenCorpusTests() => _texts = _folder.WriteTexts();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void TokensDecodeToTheTextAndEachDocumentHasAnEndToken()
    {
        var tokenizer = Trained(300);
        using var corpus = TextCorpus.Open(_texts, _folder["out"], tokenizer);
        foreach (var split in new[] { corpus.Training, corpus.Validation })
        {
            var (tokens, text) = (new int[split.Tokens], new byte[split.Bytes]);
            split.Stored.Read(0, tokens);
            split.Text.Read(0, text);
            Assert.Equal(split.Documents, tokens.Count(t => t == tokenizer.EndOfText));
            var decoded = Encoding.UTF8.GetString([.. tokens.SelectMany(t => corpus.TextOf(t).ToArray())]);
            Assert.Equal(Encoding.UTF8.GetString(text), decoded);
            Assert.Equal((double)text.Length / tokens.Length, split.BytesPerToken);
        }

        Assert.True(corpus.Training.BytesPerToken > 2);
        Assert.Contains("300 tokens", corpus.Describe(), StringComparison.Ordinal);
        using var bytes = TextCorpus.Open(_texts, _folder["out"]);
        Assert.Equal(bytes.Fingerprint, corpus.Fingerprint);
        Assert.Equal(bytes.Training.Bytes, bytes.Training.Tokens);
    }

    [Fact]
    public void TheFileOfTokensIsUsedUntilTextOrTokenizerChange()
    {
        var file = _folder["out/tokens.bin"];
        var tokenizer = Trained(300);
        Assert.True(Written(tokenizer));
        Assert.False(Written(tokenizer));
        Assert.True(Written(Trained(280)));
        Assert.True(Written(tokenizer));
        var length = new FileInfo(file).Length;
        using (var stream = File.OpenWrite(file)) stream.SetLength(length - 1);
        Assert.True(Written(tokenizer));
        Assert.Equal(length, new FileInfo(file).Length);
        File.WriteAllBytes(file, []);
        Assert.True(Written(tokenizer));
        File.AppendAllText(Path.Combine(_texts, "00.txt"), "More.");
        Assert.True(Written(tokenizer));
        Assert.Equal(["out/corpus.bin", "out/tokens.bin"], _folder.Files.Where(f => f.StartsWith("out/", StringComparison.Ordinal)));

        bool Written(Tokenizer its)
        {
            var before = new DateTime(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc);
            if (File.Exists(file)) File.SetLastWriteTimeUtc(file, before);
            using var corpus = TextCorpus.Open(_texts, _folder["out"], its);
            return File.GetLastWriteTimeUtc(file) != before;
        }
    }

    [Theory]
    [InlineData(500)] // a token
    [InlineData(110)] // the hash
    [InlineData(-1)] // a length
    public void DamagedTokensAreMadeAgain(int place)
    {
        var (tokenizer, path) = (Trained(300), _folder["out/tokens.bin"]);
        using (TextCorpus.Open(_texts, _folder["out"], tokenizer)) { }
        var whole = File.ReadAllBytes(path);
        var damaged = whole.ToArray();
        damaged[place < 0 ? damaged.Length + place : place] ^= 1;
        File.WriteAllBytes(path, damaged);
        using (TextCorpus.Open(_texts, _folder["out"], tokenizer)) { }
        Assert.Equal(whole, File.ReadAllBytes(path));
    }

    [Fact]
    public void TokensOfALargeVocabularyTakeFourBytes()
    {
        // The vocabulary has all bytes, so many unused tokens that two bytes are not enough, and a word that no merge leads to.
        var tokens = Enumerable.Range(0, 256).Select(value => new[] { (byte)value }).Concat(
            Enumerable.Range(0, 70_000).Select(i => Encoding.UTF8.GetBytes($"unused {i}"))).Append(" model"u8.ToArray());
        var content = TokenizerContent.Bytes with { Tokens = [.. tokens], Pattern = WordPattern.Gpt2, WordsFirst = true };
        var tokenizer = new Tokenizer(content);
        using var corpus = TextCorpus.Open(_texts, _folder["out"], tokenizer);
        var read = new int[corpus.Training.Tokens];
        corpus.Training.Stored.Read(0, read);
        Assert.Contains(70_256, read);
        Assert.Contains('t', read);
        Assert.Equal(corpus.Training.Bytes, read.Sum(t => (long)tokenizer.BytesOf(t).Length));
        Assert.True(new FileInfo(_folder["out/tokens.bin"]).Length > 4 * corpus.Training.Tokens);
    }

    [Fact]
    public void ACancelledEncodingLeavesNoFiles()
    {
        using (TextCorpus.Open(_texts, _folder["out"])) { }
        var before = _folder.Files;
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        var tokenizer = Tokenizer.Load(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", "trained.json"));
        Assert.Throws<OperationCanceledException>(
            () => TextCorpus.Open(_texts, _folder["out"], tokenizer, cancellationToken: cancelled.Token));
        Assert.Equal(before, _folder.Files);
    }

    [Fact]
    public void ADisposedCorpusIsRefused()
    {
        var corpus = TextCorpus.Open(_texts, _folder["out"], Trained(300));
        corpus.Dispose();
        Assert.Throws<ObjectDisposedException>(() => corpus.Training.Stored.Read(0, new int[3]));
        Assert.Throws<ObjectDisposedException>(() => corpus.Training.Text.Read(0, new byte[3]));
    }

    [Fact]
    public void BitsPerByteCountTheBytesOfTheDecodedText()
    {
        manual_seed(1);
        using var model = TinyModel.Create();
        using var corpus = TextCorpus.Open(_texts, _folder["out"], Trained(300));
        var evaluation = Evaluator.Run(model, corpus, new EvaluationOptions { Windows = 20, Batch = 6 });
        Assert.Equal(20 * 16, evaluation.Tokens);

        // The expected value is the negative log-likelihood of the targets, divided by the bytes of the decoded targets.
        var (nats, bytes) = (0.0, 0L);
        foreach (var window in Windows.Fixed(corpus.Validation, 16, 20))
        {
            using var scope = NewDisposeScope();
            var logits = model.call(tensor([.. window[..16].Select(t => (long)t)], [1, 16])).log_softmax(-1).view(16, -1);
            for (var t = 0; t < 16; t++)
            {
                nats -= logits.narrow(0, t, 1).narrow(1, window[t + 1], 1).item<float>();
                bytes += window[t + 1] == corpus.Tokenizer.EndOfText ? 2 : corpus.Tokenizer.BytesOf(window[t + 1]).Length;
            }
        }

        Assert.Equal(bytes, evaluation.Bytes);
        Assert.True(bytes > 2 * evaluation.Tokens);
        Assert.Equal(nats / evaluation.Tokens, evaluation.Rows[2].NatsPerToken, 4);
        Assert.Equal(nats / bytes / Math.Log(2), evaluation.Rows[2].BitsPerByte, 4);
    }

    [Fact]
    public void AModelOfAnotherTokenizerIsNotEvaluated()
    {
        using var model = TinyModel.Create();
        using var corpus = TextCorpus.Open(_texts, _folder["out"], Trained(300));
        model.TokenizerFingerprint = Tokenizer.ByteLevel.Fingerprint;
        Assert.Throws<TokenizerException>(() => Evaluator.Run(model, corpus));
    }

    [Fact]
    public void AModelOfAnotherTokenizerIsNotTrained()
    {
        using var pairs = TextCorpus.Open(_texts, _folder["out"], Trained(300));
        using var model = TinyModel.Create();
        using var trainer = new Trainer<TinyModel>(model, new TrainerOptions { Steps = 2, Batch = 2 });
        trainer.Step(pairs);
        Assert.Equal(pairs.Tokenizer.Fingerprint, model.TokenizerFingerprint);
        using var bytes = TextCorpus.Open(_texts, _folder["bytes"]);
        var e = Assert.Throws<TokenizerException>(() => trainer.Step(bytes));
        Assert.Contains("trained with another tokenizer", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AModelWithTooSmallAVocabularyIsNotTrained()
    {
        using var large = TextCorpus.Open(
            _texts, _folder["large"], Tokenizer.Load(Path.Combine(AppContext.BaseDirectory, "Tokenizers", "Oracle", "trained.json")));
        using var other = TinyModel.Create();
        using var second = new Trainer<TinyModel>(other, new TrainerOptions { Steps = 2, Batch = 2 });
        var small = Assert.Throws<TokenizerException>(() => second.Step(large));
        Assert.Contains("declare Vocabulary", small.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AResumedRunEqualsAnUninterruptedRun()
    {
        using var corpus = TextCorpus.Open(_texts, _folder["data"], Trained(300));
        var options = new TrainerOptions { Steps = 20, Batch = 4, Seed = 3 };
        Fit("whole", stopAt: null);
        Fit("stopped", stopAt: 9);
        Fit("stopped", stopAt: null);
        foreach (var name in new[] { "checkpoint.safetensors", "model.safetensors", "tokenizer.json" })
            Assert.Equal(File.ReadAllBytes(_folder["whole/" + name]), File.ReadAllBytes(_folder["stopped/" + name]));
        using var opened = Checkpoint.Open<TinyModel>(_folder["whole/model.safetensors"]);
        Assert.Equal(Tokenizer.Load(_folder["whole/tokenizer.json"]).Fingerprint, opened.TokenizerFingerprint);

        // Batches that are made ahead equal those of single steps.
        using var model = NewModel();
        using var trainer = new Trainer<TinyModel>(model, options);
        for (var step = 0; step < 20; step++) trainer.Step(corpus);
        model.Save(_folder["steps.safetensors"]);
        Assert.Equal(File.ReadAllBytes(_folder["whole/model.safetensors"]), File.ReadAllBytes(_folder["steps.safetensors"]));

        void Fit(string folder, int? stopAt)
        {
            using var its = NewModel();
            using var stop = new CancellationTokenSource();
            using var run = new Trainer<TinyModel>(its, options with { OutputFolder = _folder[folder] });
            if (File.Exists(_folder[folder + "/checkpoint.safetensors"])) run.Resume(_folder[folder + "/checkpoint.safetensors"]);
            run.Fit(corpus, result =>
            {
                if (result.Step == stopAt) stop.Cancel();
            }, stop.Token);
        }

        static TinyModel NewModel()
        {
            manual_seed(1);
            return TinyModel.Create();
        }
    }

    private Tokenizer Trained(int vocabulary)
    {
        using var corpus = TextCorpus.Open(_texts, _folder["learn"]);
        return Tokenizer.Train(corpus, new TokenizerOptions { Vocabulary = vocabulary });
    }
}

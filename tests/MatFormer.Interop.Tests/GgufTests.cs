using System.Text;
using System.Text.Json;
using MatFormer.Tests;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Interop.Tests;

/// <summary>llama.cpp loads the GGUF files, and computes and writes what our own decoder does.</summary>
public sealed class GgufTests : IDisposable
{
    private const int Prompt = 12;
    private const int Continued = 32;

    // The mean distance of logits, as a share of the largest.
    private const double Nearness = 1e-2;

    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-gguf-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>The weights fit every type exactly. What differs is that llama.cpp rounds states to the type of the weights.</summary>
    [Theory]
    [InlineData(WeightEncoding.Float32, 5e-6)]
    [InlineData(WeightEncoding.Float16, 6e-3)]
    [InlineData(WeightEncoding.BFloat16, 5e-2)]
    [InlineData(WeightEncoding.Q8, 8e-2)]
    public void LlamaCppComputesWhatOurDecoderComputes(WeightEncoding encoding, double tolerance)
    {
        Compare<TiedLlama>("llama");
        Compare<FullLlama>("deci");
        Compare<BiasedLlama>("llama");
        Compare<Llama3>("llama");
        Compare<LinearLlama>("llama");
        Compare<Qwen3>("qwen3");
        Compare<LinearQwen3>("qwen3");

        void Compare<TModel>(string architecture)
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            var checkpoint = SaveRandom<TModel>();
            foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
            {
                using var llama = new LlamaCpp(Gguf(checkpoint, profile, Tokenizer.ByteLevel, encoding));
                if (profile == TModel.Granularities[^1]) Assert.Equal(architecture, llama.Metadata["general.architecture"]);
                using var engine = DecodingEngine.Open(checkpoint, profile);
                var prompt = Enumerable.Range(0, Prompt).Select(t => ((t * 67) + 3) % 256).ToArray();
                var (expected, logits) = Continue(engine, prompt);
                var scale = logits.Max(row => row.Max(Math.Abs));
                var its = llama.Logits([.. prompt, .. expected[..^1]]);
                var worst = its.Zip(logits, (a, b) => a.Zip(b, (x, y) => Math.Abs(x - y)).Max()).Max();
                Assert.True(worst <= tolerance * scale, $"{encoding} {profile}: {worst / scale} of the largest logit");
                Oracles.Compared("llama.cpp: logits", its.Sum(row => row.LongLength));
                if (encoding != WeightEncoding.Float32) continue;
                var margin = logits[(Prompt - 1)..].Min(Margin);
                Assert.True(margin > 2 * tolerance * scale, $"{profile}: two tokens are as likely; take another seed");
                Assert.Equal(expected, llama.Continue(prompt, Continued));
                Oracles.Compared("llama.cpp: generated tokens", expected.Length);
            }
        }
    }

    /// <summary>
    /// Both compute with the same rounded weights, and both round the inputs of products to 8 bits in groups of 32 columns. llama.cpp keeps
    /// the scales of inputs as halves, and our decoder keeps keys and values in bfloat16.
    /// </summary>
    [Theory]
    [InlineData(WeightEncoding.Nested8, DecodingWeights.Nested8)]
    [InlineData(WeightEncoding.Nested4, DecodingWeights.Nested4)]
    public void LlamaCppComputesWithTheWeightsThatOurDecoderRounds(WeightEncoding encoding, DecodingWeights weights)
    {
        Compare<TiedLlama>();
        Compare<BiasedLlama>();
        Compare<Llama3>();
        Compare<LinearQwen3>();

        void Compare<TModel>()
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            var checkpoint = SaveNormal<TModel>();
            foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
            {
                using var llama = new LlamaCpp(Gguf(checkpoint, profile, Tokenizer.ByteLevel, encoding));
                using var engine = DecodingEngine.Open(checkpoint, profile, new DecodingOptions { Weights = weights });
                using var exact = DecodingEngine.Open(checkpoint, profile);
                var prompt = Enumerable.Range(0, Prompt).Select(t => ((t * 67) + 3) % 256).ToArray();
                var (expected, logits) = Continue(engine, prompt);
                int[] tokens = [.. prompt, .. expected[..^1]];
                var its = llama.Logits(tokens);
                exact.Append(0, tokens, allLogits: true);
                exact.Run();
                var unrounded = Enumerable.Range(0, tokens.Length).Select(i => exact.Logits(i).ToArray()).ToArray();
                var scale = logits.Max(row => row.Max(Math.Abs));
                var (apart, rounding) = (Mean(its, logits), Mean(logits, unrounded));
                Assert.True(apart <= Nearness * scale, $"{encoding} {profile}: {apart / scale} of the largest logit");
                Oracles.Compared("llama.cpp: logits", its.Sum(row => row.LongLength));

                // What both round is the same, so they differ far less from each other than from the exact weights.
                if (weights == DecodingWeights.Nested4)
                    Assert.True(apart < 0.2 * rounding, $"{encoding} {profile}: {apart} against {rounding}");

                // The likeliest tokens are the same, but for those that are as likely within this error.
                for (var i = 0; i < its.Length; i++)
                {
                    var (ours, theirs) = (Array.IndexOf(logits[i], logits[i].Max()), Array.IndexOf(its[i], its[i].Max()));
                    var worst = its[i].Zip(logits[i], (a, b) => Math.Abs(a - b)).Max();
                    Assert.True(ours == theirs || Margin(logits[i]) <= 2 * worst, $"{encoding} {profile}: token {i}");
                }
            }
        }

        static double Mean(float[][] some, float[][] others) =>
            some.Zip(others, (a, b) => a.Zip(b, (x, y) => Math.Abs((double)x - y)).Average()).Average();
    }

    [Fact]
    public void LlamaCppWritesTheTextThatOurDecoderWrites()
    {
        const string text = "a small model in all its sizes, ";
        var data = Path.Combine(_folder, "data");
        Directory.CreateDirectory(data);
        var repeated = string.Concat(Enumerable.Repeat(text, 50));
        for (var i = 0; i < 60; i++) File.WriteAllText(Path.Combine(data, $"{i}.txt"), $"{i}: {repeated}");
        using var corpus = TextCorpus.Open(data, _folder);
        manual_seed(3);
        using var model = new TiedLlama();
        var learning = new TrainerOptions { Steps = 100, Batch = 8, LearningRate = 1e-2, Objective = Objective.Joint };
        using (var trainer = new Trainer<TiedLlama>(model, learning))
        {
            for (var step = 0; step < 100; step++) trainer.Step(corpus);
        }

        var checkpoint = Path.Combine(_folder, "trained.safetensors");
        model.Save(checkpoint);
        var options = new GenerationOptions { Tokenizer = Tokenizer.ByteLevel, Tokens = Continued, Temperature = 0 };
        foreach (var profile in TiedLlama.Granularities.Concat(TiedLlama.Profiles))
        {
            using var engine = DecodingEngine.Open(checkpoint, profile);
            var expected = TextGenerator.Generate(engine, text[..Prompt], options).Text;
            Assert.Equal(text[Prompt..] + text[..Prompt], expected);
            foreach (var encoding in Enum.GetValues<WeightEncoding>())
            {
                using var llama = new LlamaCpp(Gguf(checkpoint, profile, Tokenizer.ByteLevel, encoding));
                var tokens = llama.Continue(llama.Tokenize(text[..Prompt]), Continued);
                Assert.Equal(expected, llama.TextOf(tokens));
                Oracles.Compared("llama.cpp: generated tokens", tokens.Length);
            }
        }
    }

    /// <summary>Texts are composed first where the tokenizer composes them (NFC), because llama.cpp does not.</summary>
    [Theory]
    [InlineData("bytes")]
    [InlineData("trained")]
    [InlineData("llama3")]
    [InlineData("qwen2", true)]
    public void LlamaCppCutsTextIntoTheSameTokens(string name, bool composes = false)
    {
        var tokenizer = Tokenizer.Load(PathOf(name + ".json"));
        using var llama = new LlamaCpp(Gguf(SaveRandom<PairLlama>(), PairLlama.Profile.S, tokenizer, WeightEncoding.Float32));
        using var recorded = JsonDocument.Parse(File.ReadAllBytes(PathOf("expected.json")));
        var texts = recorded.RootElement.GetProperty("texts").EnumerateArray().Select(text => text.GetString()!).ToList();
        Assert.True(texts.Count > 250);
        Assert.All(texts.Append(File.ReadAllText(PathOf("text.txt"))), text =>
        {
            var tokens = tokenizer.Encode(text);
            var composed = composes ? text.Normalize(NormalizationForm.FormC) : text;
            Assert.Equal(tokens, llama.Tokenize(composed));
            Assert.Equal(composed, llama.TextOf(tokens));
            Oracles.Compared("llama.cpp: tokens of texts", tokens.Length);
        });

        static string PathOf(string file) => Path.Combine(AppContext.BaseDirectory, "Tokenizers", file);
    }

    [Fact]
    public void LlamaCppFindsTheChatTemplate()
    {
        var path = Path.Combine(_folder, "chat.gguf");
        var template = "{% for message in messages %}{{ message.content }}{% endfor %}";
        Extraction.ToGguf(SaveRandom<PairLlama>(), PairLlama.Profile.S, path, Tokenizer.ByteLevel, chatTemplate: template);
        using var llama = new LlamaCpp(path);
        Assert.Equal(template, llama.Metadata["tokenizer.chat_template"]);
    }

    private string Gguf<TModel>(string checkpoint, Profile<TModel> profile, Tokenizer tokenizer, WeightEncoding encoding)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var path = Path.Combine(_folder, "model.gguf");
        Extraction.ToGguf(checkpoint, profile, path, tokenizer, encoding);
        return path;
    }

    // Returns the most likely tokens after a text, and the logits after all tokens but the last.
    private static (int[] Tokens, float[][] Logits) Continue(DecodingEngine engine, int[] prompt)
    {
        engine.Append(0, prompt, allLogits: true);
        engine.Run();
        var logits = Enumerable.Range(0, prompt.Length).Select(i => engine.Logits(i).ToArray()).ToList();
        var tokens = new List<int>();
        while (true)
        {
            tokens.Add(Array.IndexOf(logits[^1], logits[^1].Max()));
            if (tokens.Count == Continued) return ([.. tokens], [.. logits]);
            engine.Append(0, [tokens[^1]]);
            engine.Run();
            logits.Add(engine.Logits(0).ToArray());
        }
    }

    // The distance between the two largest numbers.
    private static double Margin(float[] logits)
    {
        var two = logits.OrderDescending().Take(2).ToArray();
        return two[0] - two[1];
    }

    private string SaveNormal<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(17);
        using var model = TModel.Create();
        using var unrecorded = no_grad();
        foreach (var (_, parameter) in model.named_parameters())
        {
            using var scope = NewDisposeScope();
            if (parameter.dim() == 1) parameter.add_(randn(parameter.shape) * 0.3);
            else parameter.copy_(randn(parameter.shape) * 0.15);
        }

        var path = Path.Combine(_folder, TModel.Spec.Name + ".normal.safetensors");
        model.Save(path);
        return path;
    }

    // Weights are a power of two times a whole number up to 127, which each block of 32 has, so every encoding holds them exactly. They are
    // large in the blocks, so that a text does not repeat its last token.
    private string SaveRandom<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(11);
        using var model = TModel.Create();
        using var unrecorded = no_grad();
        foreach (var (name, parameter) in model.named_parameters())
        {
            using var scope = NewDisposeScope();
            if (parameter.dim() == 1)
            {
                parameter.add_(randn(parameter.shape) * 0.3);
                continue;
            }

            var numbers = (randn(parameter.shape) * 40).round().clamp(-127, 127);
            numbers.slice(1, 0, parameter.shape[1], 32).fill_(127);
            parameter.copy_(numbers * Math.Pow(2, name.Contains("layers", StringComparison.Ordinal) ? -8 : -10));
        }

        var path = Path.Combine(_folder, TModel.Spec.Name + ".safetensors");
        model.Save(path);
        return path;
    }
}

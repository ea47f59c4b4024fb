using System.Collections.Immutable;
using System.Text;
using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace MatFormer.Functional.Tests;

/// <summary>Tests generation in which a narrow submodel answers while it is sure, and a wider one otherwise.</summary>
[Trait("Kernels", "any")]
public sealed class CascadeTests
{
    private static readonly string[] s_prompts = ["short", string.Empty, "a prompt that is longer than the context, whose end counts"];

    [Fact]
    public void AtThreshold0TheNarrowSizeAnswersAndAt1TheModel()
    {
        Ends<WindowedLm>();
        Ends<PositionedLm>();
        Ends<OracleBytes>();
    }

    private static void Ends<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var model = Sharp<TModel>();
        var narrow = TModel.Granularities[0];
        using var small = model.View(narrow);
        foreach (var temperature in (double[])[0, 1])
        {
            var options = new GenerationOptions { Tokens = 50, Temperature = temperature, RepetitionPenalty = 1.3, Seed = 11 };
            foreach (var prompt in s_prompts)
            {
                var (least, most) = (TextGenerator.Generate(small, prompt, options), TextGenerator.Generate(model, prompt, options));
                Assert.NotEqual(least.Bytes, most.Bytes);
                Assert.Null(most.Cascade);
                var always = TextGenerator.Generate(model, prompt, options with { Cascade = [new(narrow.Layers, 0)] });
                var never = TextGenerator.Generate(model, prompt, options with { Cascade = [new(narrow.Layers, 1)] });
                Same(least.Bytes, [50, 0], [50, 0], always);
                Same(most.Bytes, [0, 50], [0, 50], never);
                Assert.Equal((0, 1), (always.Cascade!.WidestShare, never.Cascade!.WidestShare));
            }
        }
    }

    private static void Same(byte[] text, int[] asked, int[] answered, GenerationResult its)
    {
        Assert.Equal(text, its.Bytes);
        Assert.Equal(asked, its.Cascade!.Asked);
        Assert.Equal(answered, its.Cascade.Answered);
    }

    [Theory]
    [InlineData(0.1)]
    [InlineData(0.5)]
    [InlineData(0.9)]
    public void ACascadeAsksTheNextSizeWhenOneIsNotSure(double quantile)
    {
        using var model = Sharp<WindowedLm>();
        ImmutableArray<ImmutableArray<LayerSlice>> sizes =
            [WindowedLm.Profile.S.Layers, WindowedLm.Profile.Mixed.Layers, WindowedLm.Spec.WholeLayers];
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = 1 });
        double[] thresholds = [Confidence(engine, sizes[0], quantile), Confidence(engine, sizes[1], quantile)];
        var shares = new List<double>();
        foreach (var prompt in s_prompts)
        {
            var options = new GenerationOptions { Tokens = 40, Cascade = [new(sizes[0], thresholds[0]), new(sizes[1], thresholds[1])] };
            var got = TextGenerator.Generate(engine, prompt, options);
            Assert.Equal<LayerSlice>(sizes[2].AsSpan(), engine.LayersOf(0).AsSpan());
            var (wanted, asked, answered) = ByHand(engine, prompt, 40, sizes, thresholds);
            Same(wanted, asked, answered, got);
            shares.Add(got.Cascade!.WidestShare);
        }

        // In between, no size does everything.
        if (quantile == 0.5) Assert.All(shares, share => Assert.InRange(share, 0.05, 0.95));
    }

    // The rule in the plainest code: each size computes the last token anew, beside the keys and values that are there.
    private static (byte[] Text, int[] Asked, int[] Answered) ByHand(
        DecodingEngine engine, string prompt, int count, ImmutableArray<ImmutableArray<LayerSlice>> sizes, double[] thresholds)
    {
        var tokens = Tokenizer.ByteLevel.EncodePrompt(Encoding.UTF8.GetBytes(prompt));
        var begin = Math.Max(0, tokens.Count - engine.Capacity);
        int[] asked = new int[3], answered = new int[3];
        engine.Truncate(0, 0);
        var generated = new List<byte>();
        while (generated.Count < count)
        {
            if (engine.Length(0) == engine.Capacity)
            {
                engine.Truncate(0, 0);
                begin = tokens.Count - (engine.Capacity / 2);
            }

            var length = engine.Length(0);
            var logits = Array.Empty<float>();
            for (var size = length == 0 ? 2 : 0; size < 3; size++)
            {
                engine.Truncate(0, length);
                engine.Use(0, sizes[size]);
                var row = engine.Append(0, [.. tokens.Skip(begin + length)]);
                engine.Run();
                logits = engine.Logits(row).ToArray();
                asked[size]++;
                if (size < 2 && !(1 / logits.Sum(l => Math.Exp((double)l - logits.Max())) > thresholds[size])) continue;
                answered[size]++;
                break;
            }

            tokens.Add(logits.Index().MaxBy(l => l.Item).Index);
            generated.Add((byte)tokens[^1]);
        }

        engine.Truncate(0, 0);
        engine.Use(0, sizes[2]);
        return ([.. generated], asked, answered);
    }

    [Fact]
    public async Task BatchesAndStreamsGiveTheTextOfEachPromptAlone()
    {
        using var model = Sharp<WindowedLm>();
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = 1 });
        var narrow = WindowedLm.Profile.S.Layers;
        var cascade = new CascadeLevel(narrow, Confidence(engine, narrow, 0.5));
        var options = new GenerationOptions { Tokens = 40, RepetitionPenalty = 1e6, RepetitionWindow = 20, Cascade = [cascade] };
        var together = TextGenerator.GenerateBatch(model, s_prompts, options);
        var (asked, answered) = (new int[2], new int[2]);
        for (var i = 0; i < s_prompts.Length; i++)
        {
            var alone = TextGenerator.Generate(model, s_prompts[i], options);
            Assert.Equal(alone.Bytes, together[i].Bytes);
            for (var size = 0; size < 2; size++)
                (asked[size], answered[size]) = (asked[size] + alone.Cascade!.Asked[size], answered[size] + alone.Cascade.Answered[size]);
            var streamed = new List<byte>();
            await foreach (var piece in TextGenerator.StreamAsync(model, s_prompts[i], options))
                streamed.AddRange(piece.Tokens.Select(t => (byte)t));
            Assert.Equal(alone.Bytes, streamed);
        }

        foreach (var its in together) Same(its.Bytes, asked, answered, its);
        Assert.True(answered[0] > 0 && answered[1] > s_prompts.Length, "one size did everything");
    }

    [Fact]
    public void AStopStringEndsTheText()
    {
        using var model = Sharp<OracleBytes>();
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = 1 });
        var level = new CascadeLevel(OracleBytes.Profile.S.Layers, Confidence(engine, OracleBytes.Profile.S.Layers, 0.5));
        var options = new GenerationOptions { Tokens = 40, Temperature = 1, Seed = 3, Cascade = [level], LogitBias = Letters };
        var whole = TextGenerator.Generate(engine, "x", options).Text;
        var stop = whole[20..22];
        var stopped = TextGenerator.Generate(engine, "x", options with { StopStrings = [stop] });
        Assert.Equal((whole[..whole.IndexOf(stop, StringComparison.Ordinal)], FinishReason.Stop), (stopped.Text, stopped.FinishReason));
    }

    private static ImmutableDictionary<int, double> Letters =>
        Enumerable.Range(0, 256).Where(b => b is < 'a' or > 'z').ToImmutableDictionary(b => b, _ => -1000.0);

    [Fact]
    public void InvalidCascadesAreRefused()
    {
        using var model = DrawnModel.New<WindowedLm>();
        using var small = model.Extract(WindowedLm.Profile.S);
        using var heads = DrawnModel.New<HeadsLm>();
        using var shallow = DrawnModel.New<ShallowLm>();
        using var narrow = DrawnModel.New<NarrowBytes>();
        ImmutableArray<LayerSlice> s = WindowedLm.Profile.S.Layers, mixed = WindowedLm.Profile.Mixed.Layers;
        (string Says, MatFormerModel Model, GenerationOptions Options)[] cases =
        [
            ("1*S 1*XL 1*S before 3*S, of which it is not a part", small, new() { Cascade = [new(mixed, 0.5)] }),
            ("1*S 1*XL 1*S before 3*S, of which it is not a part", model, new() { Cascade = [new(mixed, 0.5), new(s, 0.5)] }),
            ("another number of layers", model, new() { Cascade = [new(default, 0.5)] }),
            ("3*S, which keeps 2 of the 6 heads of layer 0", heads, new() { Cascade = [new(HeadsLm.Profile.S.Layers, 0.5)] }),
            ("which keeps 32 of 64 channels", narrow, new() { Cascade = [new(NarrowBytes.Profile.S.Layers, 0.5)] }),
            ("which keeps 0 of the 2 heads of layer 1", shallow, new() { Cascade = [new(ShallowLm.Profile.Shallow.Layers, 0.5)] }),
            ("Cascade is at the threshold 1.5", model, new() { Cascade = [new(s, 1.5)] }),
            ("Cascade is at the threshold NaN", model, new() { Cascade = [new(s, double.NaN)] }),
            ("Cascade is default", model, new() { Cascade = default }),
            ("Cascade is given beside a Draft", model, new() { Cascade = [new(s, 0.5)], Draft = s }),
        ];
        foreach (var (says, its, options) in cases)
        {
            var error = Assert.Throws<ArgumentException>(() => TextGenerator.Generate(its, "a", options));
            Assert.Contains(says, error.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("S")]
    [InlineData("S:")]
    [InlineData(":0.5")]
    [InlineData("S:1.01")]
    [InlineData("S:-0.1")]
    [InlineData("S:NaN")]
    [InlineData("S:0.5,")]
    public void TextThatIsNoCascadeIsRefused(string text) =>
        Assert.Contains(
            "not a profile and a threshold", Assert.Throws<ArgumentException>(() => CascadeLevel.Parse<OracleBytes>(text)).Message);

    [Fact]
    public void ACascadeIsRead()
    {
        var levels = CascadeLevel.Parse<OracleBytes>("S:0.7, 1*S 1*XL:0.25");
        Assert.Equal([0.7, 0.25], levels.Select(l => l.Threshold));
        Assert.Equal(OracleBytes.Profile.S.Layers, levels[0].Layers);
        Assert.Equal<LayerSlice>(OracleBytes.Profile.Mixed.Layers.AsSpan(), levels[1].Layers.AsSpan());
        Assert.Contains("Huge", Assert.Throws<ArgumentException>(() => CascadeLevel.Parse<OracleBytes>("Huge:0.5")).Message);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    [InlineData(37)]
    public void ConfidenceIsTheProbabilityOfTheLikeliestToken(int vocabulary)
    {
        var random = new Random(vocabulary);
        float[] logits = [.. Enumerable.Range(0, vocabulary).Select(_ => (float)(random.NextDouble() * 20) - 10)];
        var largest = (double)logits.Max();
        Assert.Equal(1 / logits.Sum(l => Math.Exp(l - largest)), Cascade.Confidence(logits), 6);
        logits[^1] = float.NegativeInfinity;
        if (vocabulary > 1) Assert.InRange(Cascade.Confidence(logits), 0.0, 1.0);
        foreach (var damage in (float[])[float.NaN, float.PositiveInfinity])
        {
            logits[^1] = damage;
            Assert.Equal(double.NaN, Cascade.Confidence(logits));
        }
    }

    [Fact]
    public void DecidingAllocatesNothing()
    {
        ImmutableArray<CascadeLevel> levels = [new(OracleBytes.Profile.S.Layers, 0.5), new(OracleBytes.Profile.M.Layers, 0.5)];
        var cascade = new Cascade(levels, OracleBytes.Spec.WholeLayers) { PromptEnd = 3 };
        var logits = new float[256];
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 50; i++)
        {
            cascade.For(i);
            cascade.Accepts(logits);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        Assert.Equal(50, cascade.Statistics.Asked.Sum());
    }

    [Fact]
    public void CalibrationMeasuresWhatTheModelsForwardPassSays()
    {
        var folder = Directory.CreateTempSubdirectory("matformer-cascade-").FullName;
        try
        {
            using var corpus = TestCorpus.Open(folder);
            using var model = Sharp<OracleBytes>();
            var context = OracleBytes.Spec.Context;
            var windows = Windows.Fixed(corpus.Validation, context, 7).ToList();
            using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = 1, Sequences = 3 });
            double[] between =
                [Confidence(engine, OracleBytes.Profile.S.Layers, 0.8), Confidence(engine, OracleBytes.Profile.S.Layers, 0.3)];
            var options = new CascadeCalibrationOptions { Thresholds = [.. between], Windows = 7, Tolerance = 0 };
            var calibration = CascadeCalibrator.Run(engine, [OracleBytes.Profile.S], corpus, options);
            Assert.Equal([0, between[1], between[0], 1], calibration.Rows.Select(r => r.Threshold));
            Assert.Equal((7L * 17, 7L * 17), (calibration.Tokens, calibration.Bytes));
            Assert.Equal(Bits(OracleBytes.Profile.S), calibration.Rows[0].BitsPerByte, 4);
            Assert.Equal(Bits(OracleBytes.Profile.XL), calibration.Rows[^1].BitsPerByte, 4);
            Assert.Equal((1.0, OracleBytes.Profile.XL.Flops), (calibration.Rows[^1].Agreement, (long)calibration.Rows[^1].Flops));
            Assert.Equal(OracleBytes.Profile.S.Flops, (long)calibration.Rows[0].Flops);
            Assert.All(calibration.Rows, row => Assert.Equal(1, row.Answered.Sum(), 9));
            Assert.All(calibration.Rows.Zip(calibration.Rows.Skip(1)), pair => Assert.True(pair.First.Asked[^1] < pair.Second.Asked[^1]));
            var within = calibration.Rows.Where(row => row.BitsPerByte <= calibration.Rows[^1].BitsPerByte);
            Assert.Equal(within.Min(row => row.Flops), calibration.Best.Flops);

            // With a generous tolerance, the narrowest size alone is the cheapest.
            Assert.Equal(
                0, CascadeCalibrator.Run(engine, [OracleBytes.Profile.S], corpus, options with { Tolerance = 100 }).Best.Threshold);

            double Bits(Profile<OracleBytes> profile)
            {
                using var unrecorded = no_grad();
                using var scope = NewDisposeScope();
                var (tokens, targets) = TokenBatch.Of(windows).ToTensors(CPU);
                var logits = model.Forward(profile, tokens).narrow(1, (context / 2) - 1, (context / 2) + 1);
                targets = targets.narrow(1, (context / 2) - 1, (context / 2) + 1);
                return functional.cross_entropy(logits.reshape(-1, 256), targets.reshape(-1)).item<float>() / Math.Log(2);
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task TheCommandsCalibrateAndUseACascade()
    {
        var folder = Directory.CreateTempSubdirectory("matformer-cascade-").FullName;
        try
        {
            var (text, weights) = (Path.Combine(folder, "text"), Path.Combine(folder, "model.safetensors"));
            TestCorpus.Write(text);
            using (var model = Sharp<OracleBytes>()) model.Save(weights);
            string[] common = ["--checkpoint", weights, "--out", folder, "--weights", "f32", "--threads", "1"];
            string[] calibrate = ["calibrate", "--data", text, "--windows", "2", .. common];
            using var measured = await Json([.. calibrate, "--cascade", "S,M", "--thresholds", "0.1,0.3", "--tolerance", "9", "--json"]);
            var rows = measured.RootElement.GetProperty("results");
            Assert.Equal([0, 0.1, 0.3, 1], rows.EnumerateArray().Select(row => row.GetProperty("threshold").GetDouble()));
            Assert.Equal("S:0,M:0", measured.RootElement.GetProperty("cascade").GetString());
            Assert.Equal(3, rows[1].GetProperty("asked").GetArrayLength());
            var (code, table, _) = await Run([.. calibrate, "--thresholds", "0.1", "--tolerance", "0"]);
            Assert.Equal(0, code);
            Assert.Contains("agrees with XL", table, StringComparison.Ordinal);

            string[] generate = ["generate", "--prompt", "a", "--tokens", "30", "--cascade", "S:0.1,M:0.2", .. common, "--json"];
            using var generated = await Json(generate);
            var sizes = generated.RootElement.GetProperty("cascade").EnumerateArray().ToList();
            Assert.Equal(30, sizes.Sum(its => its.GetProperty("answered").GetInt32()));
            Assert.Equal(["2*S", "2*M", "2*XL"], sizes.Select(its => its.GetProperty("pattern").GetString()));

            (string Says, string[] Arguments)[] wrong =
            [
                ("--cascade: 'S' is not a profile and a threshold", ["generate", "--cascade", "S", .. common]),
                ("--cascade: 'Huge' is not a profile", ["generate", "--cascade", "Huge:0.5", .. common]),
                ("before 2*S, of which it is not a part", ["generate", "--cascade", "M:0.5", "--profile", "S", .. common]),
                ("leave one of them out", ["generate", "--cascade", "S:0.5", "--draft", "S", .. common]),
                ("--thresholds must be within 0 and 1", ["calibrate", "--thresholds", "0.5,2", .. common]),
                ("--tolerance must be 0 or more", ["calibrate", "--tolerance", "-1", .. common]),
                ("--cascade: 'Huge' is not a profile", ["calibrate", "--cascade", "S,Huge", .. common]),
                ("before 2*S, of which it is not a part", ["calibrate", "--cascade", "M,S", "--windows", "1000000000", .. common]),
            ];
            foreach (var (says, arguments) in wrong)
            {
                var (exit, output, error) = await Run(arguments);
                Assert.Equal((2, string.Empty), (exit, output));
                Assert.Contains(says, error, StringComparison.Ordinal);
                Assert.Single(error.Trim().Split('\n'));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        static async Task<JsonDocument> Json(string[] arguments)
        {
            var (code, output, error) = await Run(arguments);
            Assert.True(code == 0, error);
            return JsonDocument.Parse(output);
        }

        static async Task<(int Code, string Output, string Error)> Run(string[] arguments)
        {
            using StringWriter output = new(), error = new();
            var code = await ModelProgram.RunAsync<OracleBytes>(arguments, output, error, CancellationToken.None);
            return (code, output.ToString(), error.ToString());
        }
    }

    // Returns a quantile of how sure a submodel is after the words of a text.
    private static double Confidence(DecodingEngine engine, ImmutableArray<LayerSlice> layers, double quantile)
    {
        engine.Truncate(0, 0);
        engine.Use(0, layers);
        var row = engine.Append(0, [.. "the model returns a width".Take(engine.Capacity).Select(c => (int)c)], allLogits: true);
        engine.Run();
        var all = Enumerable.Range(row, engine.Length(0)).Select(i => Cascade.Confidence(engine.Logits(i))).Order().ToList();
        engine.Truncate(0, 0);
        engine.Use(0, engine.Layers);
        return all[(int)(quantile * (all.Count - 1))];
    }

    // With the initial weights, the distributions are nearly uniform, so no size is ever sure.
    private static TModel Sharp<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(11);
        var model = DrawnModel.New<TModel>();
        using var unrecorded = no_grad();
        foreach (var (_, parameter) in model.named_parameters()) parameter.mul_(2.5);
        return model;
    }
}

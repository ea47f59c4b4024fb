using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Decoding with 8, 4 and 2 bits of one copy of the weights.</summary>
[Trait("Kernels", "any")]
public sealed class NestedDecodingTests
{
    /// <summary>The engine also rounds the inputs of products, keys and values, so it is only close.</summary>
    [Theory]
    [InlineData(DecodingWeights.Nested8)]
    [InlineData(DecodingWeights.Nested4)]
    [InlineData(DecodingWeights.Nested2)]
    public void TheEngineIsCloseToTheRoundedModel(DecodingWeights weights)
    {
        Compare<OracleLlama>();
        Compare<OracleClassic>();
        Compare<OracleOdd>();
        Compare<OracleElastic>();
        Compare<OracleUneven>();

        void Compare<TModel>()
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            using var model = NewModel<TModel>();
            using var rounded = TModel.Create();
            rounded.load_state_dict(model.state_dict());
            DecodingEngine.RoundWeights(rounded, weights);
            using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights });
            var tokens = Tokens(TModel.Spec, TModel.Spec.Context);
            using var given = tensor(tokens.Select(t => (long)t).ToArray(), [1, tokens.Length]);
            foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
            {
                using var unrecorded = no_grad();
                using var scope = NewDisposeScope();
                var wanted = rounded.Forward(profile, given).flatten().data<float>().ToArray();
                var exact = model.Forward(profile, given).flatten().data<float>().ToArray();
                engine.Truncate(0, 0);
                engine.Use(0, profile.Layers);
                engine.Append(0, tokens, allLogits: true);
                engine.Run();
                float[] got = [.. Enumerable.Range(0, tokens.Length).SelectMany(i => engine.Logits(i).ToArray())];
                var largest = wanted.Max(MathF.Abs);
                var error = Mean(wanted, got);
                Assert.True(error <= 0.01f * largest, $"{profile} as {weights}: {error / largest} of the largest logit");

                // Rounding weights to 4 or 2 bits does far more than the engine's rounding.
                if (weights != DecodingWeights.Nested8) Assert.True(error < 0.3 * Mean(exact, wanted), $"{profile} as {weights}: {error}");
            }
        }
    }

    /// <summary>Sequences of other bits and sizes in one pass give the bits that each gives alone.</summary>
    [Fact]
    public void SequencesOfDifferentBitsShareAPass()
    {
        Share<OracleLlama>();
        Share<OracleClassic>();
        Share<OracleOdd>();
        Share<OracleElastic>();
        Share<OracleUneven>();

        static void Share<TModel>()
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            using var model = NewModel<TModel>();
            var length = TModel.Spec.Context;
            var tokens = Tokens(TModel.Spec, length);
            DecodingWeights[] formats = [DecodingWeights.Nested8, DecodingWeights.Nested4, DecodingWeights.Nested2];
            var kinds = TModel.Granularities.Concat(TModel.Profiles)
                .SelectMany(profile => formats.Select(f => (profile, Weights: f))).ToList();
            using var together = DecodingEngine.Create(
                model, new DecodingOptions { Weights = DecodingWeights.Nested8, Sequences = kinds.Count, Threads = 2 });
            var alone = new List<float[]>();
            foreach (var (profile, weights) in kinds)
            {
                // This engine holds no more bits than it needs, and computes token by token.
                using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights, Threads = 1 });
                engine.Use(0, profile.Layers);
                var logits = new List<float>();
                for (var i = 0; i < length; i++)
                {
                    engine.Append(0, tokens.AsSpan(i, 1));
                    engine.Run();
                    logits.AddRange(engine.Logits(0));
                }

                alone.Add([.. logits]);
            }

            for (var i = 0; i < kinds.Count; i++)
            {
                together.Use(i, kinds[i].profile.Layers);
                together.Use(i, kinds[i].Weights);
                Assert.Equal(kinds[i].Weights, together.WeightsOf(i));
            }

            for (var from = 0; from < length;)
            {
                var count = Math.Min(1 + (from % 3), length - from);
                var first = kinds.Select((_, i) => together.Append(i, tokens.AsSpan(from, count), allLogits: true)).ToList();
                together.Run();
                for (var i = 0; i < kinds.Count; i++)
                {
                    for (var j = 0; j < count; j++)
                    {
                        var wanted = alone[i].AsSpan((from + j) * TModel.Spec.Vocabulary, TModel.Spec.Vocabulary);
                        Assert.True(wanted.SequenceEqual(together.Logits(first[i] + j)), $"{kinds[i]}, token {from + j}: the bits differ.");
                    }
                }

                from += count;
            }
        }
    }

    /// <summary>A prefix of columns that ends within a group keeps the scale of the whole group.</summary>
    [Fact]
    public void APartOfAFileIsRoundedAsTheWhole()
    {
        using var model = NewModel<OracleElastic>();
        var path = Path.GetTempFileName();
        try
        {
            model.Save(path);
            foreach (var weights in (DecodingWeights[])[DecodingWeights.Nested8, DecodingWeights.Nested4, DecodingWeights.Nested2])
            {
                using var whole = DecodingEngine.Open<OracleElastic>(path, options: new DecodingOptions { Weights = weights });
                using var part = DecodingEngine.Open(path, OracleElastic.Profile.Mixed, new DecodingOptions { Weights = weights });
                whole.Use(0, OracleElastic.Profile.Mixed.Layers);
                foreach (var engine in (DecodingEngine[])[whole, part])
                {
                    engine.Append(0, [1, 2, 3]);
                    engine.Run();
                }

                Assert.True(whole.Logits(0).SequenceEqual(part.Logits(0)), $"{weights}: the bits differ.");
                Assert.True(part.WeightBytes < whole.WeightBytes);
            }
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void FewerBitsAreFewerBytes()
    {
        using var model = NewModel<WideLm>();
        var bytes = new[] { DecodingWeights.Nested8, DecodingWeights.Nested4, DecodingWeights.Nested2 }.Select(weights =>
        {
            using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights });
            return engine.WeightBytes;
        }).ToArray();
        var matrices = WideLm.Spec.ParameterCount(WideLm.Spec.WholeLayers.AsSpan());
        Assert.InRange((bytes[0] - bytes[1]) * 8.0 / matrices, 3.95, 4);
        Assert.InRange((bytes[1] - bytes[2]) * 8.0 / matrices, 1.97, 2);
    }

    /// <summary>
    /// The mean error of logits, with random weights. (Rows of 256 columns lose some percent more than with a scale for a row, because the
    /// inputs of products are rounded too.)
    /// </summary>
    [Fact]
    public void EightBitsLoseNoMoreThanAScaleForARow()
    {
        using var model = NewModel<WideLm>();
        var tokens = Tokens(WideLm.Spec, WideLm.Spec.Context);
        var (exact, plain, nested) = (Logits(DecodingWeights.Float32), Logits(DecodingWeights.Int8), Logits(DecodingWeights.Nested8));
        var (its, ours) = (Mean(exact, plain), Mean(exact, nested));
        Assert.True(ours <= its, $"{ours} against {its}");

        float[] Logits(DecodingWeights weights)
        {
            using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights });
            engine.Append(0, tokens, allLogits: true);
            engine.Run();
            return [.. Enumerable.Range(0, tokens.Length).SelectMany(i => engine.Logits(i).ToArray())];
        }
    }

    [Fact]
    public void ADraftOfFewerBitsChangesNoToken()
    {
        Draft<WindowedLm>();
        Draft<HeadsLm>();

        static void Draft<TModel>()
            where TModel : MatFormerModel, IMatFormer<TModel>
        {
            using var model = NewModel<TModel>();
            string[] prompts = ["short", "a prompt that is longer than the context, whose end counts"];
            using var engine = DecodingEngine.Create(
                model, new DecodingOptions { Weights = DecodingWeights.Nested8, Sequences = prompts.Length });
            var (drafted, accepted) = (0, 0);
            foreach (var temperature in (double[])[0, 0.9])
            {
                var plain = new GenerationOptions { Tokens = 60, Temperature = temperature, RepetitionPenalty = 1.2, Seed = 4 };
                foreach (var draft in TModel.Granularities)
                {
                    foreach (var weights in (DecodingWeights[])[DecodingWeights.Nested4, DecodingWeights.Nested2])
                    {
                        var drafting = plain with { Draft = draft.Layers, DraftWeights = weights, DraftLength = 4 };
                        foreach (var prompt in prompts)
                        {
                            var result = TextGenerator.Generate(engine, prompt, drafting);
                            Assert.Equal(TextGenerator.Generate(engine, prompt, plain).Bytes, result.Bytes);
                            (drafted, accepted) = (drafted + result.Drafts!.Drafted, accepted + result.Drafts.Accepted);
                            Assert.Equal(DecodingWeights.Nested8, engine.WeightsOf(0));
                        }

                        var together = TextGenerator.GenerateBatch(engine, prompts, drafting with { Temperature = 0 });
                        for (var i = 0; i < prompts.Length; i++)
                        {
                            var wanted = TextGenerator.Generate(engine, prompts[i], plain with { Temperature = 0 });
                            Assert.Equal(wanted.Bytes, together[i].Bytes);
                        }
                    }
                }
            }

            Assert.InRange(accepted, 1, drafted - 1);
        }
    }

    [Fact]
    public void BitsThatTheEngineLacksAreRefused()
    {
        using var model = NewModel<WindowedLm>();
        using var four = DecodingEngine.Create(model, new DecodingOptions { Weights = DecodingWeights.Nested4 });
        using var plain = DecodingEngine.Create(model);
        var error = Assert.Throws<ArgumentException>(() => four.Use(0, DecodingWeights.Nested8));
        Assert.Contains(
            "holds the weights as Nested4, not as Nested8; create it with DecodingOptions.Weights = Nested8", error.Message,
            StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => four.Use(0, DecodingWeights.Int8));
        var options = new GenerationOptions { Draft = WindowedLm.Profile.S.Layers, DraftWeights = DecodingWeights.Nested4 };
        error = Assert.Throws<ArgumentException>(() => TextGenerator.Generate(plain, "a", options));
        Assert.Contains("holds the weights as Float32, not as Nested4", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => TextGenerator.Generate(model, "a", options));
        Assert.Contains("DraftWeights needs an engine that holds Nested4", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<ArgumentException>(() => TextGenerator.Generate(four, "a", options with { Draft = default }));
        Assert.Contains("DraftWeights is Nested4; it must be null without a Draft", error.Message, StringComparison.Ordinal);
        four.Append(0, [1]);
        Assert.Throws<InvalidOperationException>(() => four.Use(0, DecodingWeights.Nested2));
    }

    [Fact]
    public void WeightsThatAreNotFiniteAreRefused()
    {
        using var model = new WindowedLm();
        var down = model.named_parameters().First(p => p.Item1.EndsWith("down_proj.weight", StringComparison.Ordinal)).Item2;
        using (no_grad()) down[2, 3] = float.NaN;
        var error = Assert.Throws<DecodingException>(
            () => DecodingEngine.Create(model, new DecodingOptions { Weights = DecodingWeights.Nested4 }));
        Assert.Contains(
            "down_proj.weight' cannot be rounded: row 2 has a value that is not finite", error.Message, StringComparison.Ordinal);
    }

    private static TModel NewModel<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(7);
        var model = TModel.Create();
        using var frozen = no_grad();
        foreach (var (_, parameter) in model.named_parameters())
        {
            using var noise = empty(parameter.shape).normal_();
            using var small = noise.mul(0.1);
            parameter.add_(small);
        }

        return model;
    }

    private static int[] Tokens(ModelSpec spec, int count)
    {
        var random = new Random(3);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(spec.Vocabulary))];
    }

    private static double Mean(float[] wanted, float[] got) => wanted.Zip(got, (a, b) => Math.Abs((double)a - b)).Average();
}

/// <summary>A model with rows as long as those of real models, whose largest weight is far from the others.</summary>
[MatLM(Layers = 1, Width = 1024, Heads = 16, Context = 16, Vocabulary = 256)]
[FeedForward(2048, Activation.SwiGlu)]
[Granularity("S", 128), Granularity("XL", 2048)]
public sealed partial class WideLm;

using System.Collections.Immutable;
using System.Reflection;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Compares the decoding engine with the forward pass of the model.</summary>
[Trait("Kernels", "any")]
public sealed class DecodingEngineTests
{
    [Fact]
    public void TheEngineEqualsTheModelForOracleModels()
    {
        EngineEqualsModel<OracleLlama>();
        EngineEqualsModel<OracleClassic>();
        EngineEqualsModel<OracleGemma>();
        EngineEqualsModel<OracleOdd>();
        EngineEqualsModel<OracleElastic>();
        EngineEqualsModel<OracleUneven>();
        EngineEqualsModel<OracleLinear>();
        EngineEqualsModel<OracleLlama3>();
        EngineEqualsModel<Qwen2Tied>();
        EngineEqualsModel<Qwen2Untied>();
        EngineEqualsModel<OracleNarrow>();
        EngineEqualsModel<NarrowClassic>();
        EngineEqualsModel<RoutedLm>();
    }

    [Fact]
    public void TheEngineEqualsTheModelForRandomDeclarations()
    {
        var check = typeof(DecodingEngineTests).GetMethod(nameof(EngineEqualsModel), BindingFlags.Static | BindingFlags.NonPublic)!;
        foreach (var model in RandomDeclarations.Compile(30, seed: 20261121, decodersOnly: true))
        {
            try
            {
                check.MakeGenericMethod(model).Invoke(null, null);
            }
            catch (TargetInvocationException e)
            {
                throw new InvalidOperationException($"{model.Name}: {e.InnerException!.Message}", e.InnerException);
            }
        }
    }

    [Theory]
    [InlineData(DecodingWeights.BFloat16)]
    [InlineData(DecodingWeights.Int8)]
    public void RoundedWeightsGiveTheLogitsOfTheRoundedModel(DecodingWeights weights)
    {
        manual_seed(7);
        using var model = new OracleLlama();
        Perturb(model);
        foreach (var bits in (int[])[128, 256, 512])
        {
            if (bits > DecodingKernels.RegisterBits) continue;
            using var engine = DecodingEngine.Create(model, new DecodingOptions { Weights = weights, RegisterBits = bits });
            using var rounded = new OracleLlama();
            rounded.load_state_dict(model.state_dict());
            DecodingEngine.RoundWeights(rounded, weights);
            using var unrecorded = no_grad();
            using var given = tensor(new long[] { 3, 1, 4, 1, 5 }, [1, 5]);
            using var all = rounded.forward(given);
            using var exact = model.forward(given);
            var (wanted, unrounded) = (all.flatten().data<float>().ToArray(), exact.flatten().data<float>().ToArray());
            engine.Append(0, [3, 1, 4, 1, 5], allLogits: true);
            engine.Run();
            float[] got = [.. Enumerable.Range(0, 5).SelectMany(i => engine.Logits(i).ToArray())];

            // The engine also rounds keys and values, to 8 bits of mantissa.
            var largest = wanted.Max(MathF.Abs);
            Close(wanted, got, 0.02f * largest, $"{weights} in {bits} bits");
            Assert.NotEqual(unrounded, wanted);
        }
    }

    [Fact]
    public void AFileIsDecodedWithoutAModel()
    {
        using var model = new OracleElastic();
        Perturb(model);
        var folder = Directory.CreateTempSubdirectory("matformer-engine-");
        try
        {
            var (whole, slice) = (Path.Combine(folder.FullName, "whole.safetensors"), Path.Combine(folder.FullName, "slice.safetensors"));
            model.Save(whole);
            using (var mixed = model.Extract<OracleElastic.Mixed>()) mixed.Save(slice);
            int[] tokens = [1, 2, 3];
            using var packed = DecodingEngine.Create(model);
            using var read = DecodingEngine.Open<OracleElastic>(whole);
            using var part = DecodingEngine.Open(whole, OracleElastic.Profile.Mixed);
            using var alone = DecodingEngine.Open<OracleElastic>(slice);
            Assert.Equal(("XL", "XL", "Mixed", "Mixed"), (packed.ProfileName, read.ProfileName, part.ProfileName, alone.ProfileName));
            Assert.True(part.WeightBytes < read.WeightBytes && part.WeightBytes == alone.WeightBytes);
            Same(Logits(packed, tokens), Logits(read, tokens), "read");
            foreach (var engine in (DecodingEngine[])[packed, read])
            {
                engine.Truncate(0, 0);
                engine.Use(0, OracleElastic.Profile.Mixed.Layers);
            }

            var wanted = Logits(packed, tokens);
            Same(wanted, Logits(read, tokens), "read, as the mix");
            Same(wanted, Logits(part, tokens), "a part of the file");
            Same(wanted, Logits(alone, tokens), "the slice's file");

            var refused = Assert.Throws<CheckpointException>(() => DecodingEngine.Open(slice, OracleElastic.Profile.S));
            Assert.Contains("is already the slice Mixed", refused.Message, StringComparison.Ordinal);
            Assert.Throws<CheckpointException>(() => DecodingEngine.Open<OracleLlama>(whole));
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        static float[] Logits(DecodingEngine engine, int[] tokens)
        {
            engine.Append(0, tokens);
            engine.Run();
            return engine.Logits(0).ToArray();
        }
    }

    [Fact]
    public void ASubmodelThatNeedsMissingKeysAndValuesIsRefused()
    {
        using var model = new OracleElastic();
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Sequences = 2 });
        engine.Append(0, [1, 2]);
        engine.Run();
        engine.Use(0, OracleElastic.Profile.S.Layers);
        engine.Append(0, [3]);
        Assert.Throws<InvalidOperationException>(() => engine.Use(0, OracleElastic.Profile.XL.Layers));
        Assert.Throws<InvalidOperationException>(() => engine.Truncate(0, 1));
        engine.Run();
        var error = Assert.Throws<ArgumentException>(() => engine.Use(0, OracleElastic.Profile.XL.Layers));
        Assert.Contains("tokens from 2 on, computed as 2*S, have 2", error.Message, StringComparison.Ordinal);
        engine.Truncate(0, 2);
        engine.Use(0, OracleElastic.Profile.XL.Layers);
        engine.Append(0, [3]);
        engine.Append(1, [1, 2, 3]);
        engine.Run();
        Same(engine.Logits(1), engine.Logits(0), "after going back");
    }

    [Fact]
    public void TokensBeyondTheContextAreRefused()
    {
        using var model = new OracleElastic();
        using var engine = DecodingEngine.Create(model);
        engine.Append(0, [1, 2, 3]);
        engine.Run();
        Assert.Contains("8 of 9 are in it", Assert.Throws<ArgumentException>(() => Fill()).Message, StringComparison.Ordinal);

        void Fill()
        {
            engine.Append(0, [1, 1, 1, 1, 1]);
            engine.Append(0, [1, 1]);
        }
    }

    [Fact]
    public void ATokenBeyondTheVocabularyIsRefused()
    {
        using var model = new OracleElastic();
        using var engine = DecodingEngine.Create(model);
        var error = Assert.Throws<ArgumentException>(() => engine.Append(0, [19]));
        Assert.Contains("Token 0 is 19; OracleElastic has a vocabulary of 19", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ASliceRefusesSubmodelsThatItDoesNotContain()
    {
        using var model = new OracleElastic();
        using var small = model.Extract<OracleElastic.S>();
        using var few = DecodingEngine.Create(small);
        var error = Assert.Throws<ArgumentException>(() => few.Use(0, OracleElastic.Profile.Mixed.Layers));
        Assert.Contains("has the weights of OracleElastic.S (2*S), not of 1*S 1*L", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OptionsOutOfRangeAreRefused()
    {
        using var model = new OracleElastic();
        foreach (var (options, says) in ((DecodingOptions, string)[])[
            (new() { Sequences = 0 }, "Sequences is 0"),
            (new() { Threads = 0 }, "Threads is 0"), (new() { Capacity = 10 }, "Capacity is 10"),
            (new() { Weights = (DecodingWeights)7 }, "Weights is 7")])
            Assert.Contains(
                says, Assert.Throws<ArgumentException>(() => DecodingEngine.Create(model, options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void APassAllocatesNothing()
    {
        using var model = new OracleLlama();
        using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = 1 });
        int[] tokens = [1];
        Pass();
        var before = GC.GetAllocatedBytesForCurrentThread();
        Pass();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void Pass()
        {
            engine.Truncate(0, 0);
            for (var i = 0; i < engine.Capacity; i++)
            {
                engine.Use(0, i % 2 == 0 ? OracleLlama.Profile.S.Layers : OracleLlama.Profile.Mixed.Layers);
                engine.Append(0, tokens);
                engine.Run();
            }
        }
    }

    private static void EngineEqualsModel<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(7);
        using var model = TModel.Create();
        Perturb(model);
        var spec = TModel.Spec;
        var random = new Random(3);
        var length = spec.Context;
        var tokens = Enumerable.Range(0, length).Select(_ => random.Next(spec.Vocabulary)).ToArray();
        using var given = tensor(tokens.Select(t => (long)t).ToArray(), [1, length]);
        foreach (var profile in TModel.Granularities.Concat(TModel.Profiles))
        {
            using var scope = NewDisposeScope();
            using var frozen = no_grad();
            var wanted = model.Forward(profile, given).flatten().data<float>().ToArray();
            var largest = wanted.Max(MathF.Abs);
            float[]? whole = null;
            foreach (var bits in (int[])[128, 256, 512])
            {
                if (bits > DecodingKernels.RegisterBits) continue;
                var threads = bits == DecodingKernels.RegisterBits ? 2 : 1;
                using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = threads, RegisterBits = bits });
                engine.Use(0, profile.Layers);
                engine.Append(0, tokens, allLogits: true);
                engine.Run();
                whole = [.. Enumerable.Range(0, length).SelectMany(i => engine.Logits(i).ToArray())];
                Close(wanted, whole, 2e-4f * MathF.Max(1, largest), $"{profile} in {bits} bits");
            }

            // The bits are the same one token at a time, in pieces, with other numbers of threads, from a slice, and beside other sequences
            // of other submodels. Three threads wait long for a busy machine's two cores, so one size of each model has them.
            using var slice = model.Extract(profile);
            using var alone = DecodingEngine.Create(slice, new DecodingOptions { Threads = 1 });
            var most = profile == TModel.Granularities[^1] ? 3 : 1;
            using var three = DecodingEngine.Create(model, new DecodingOptions { Threads = most, Sequences = 3 });
            three.Use(1, profile.Layers);
            three.Use(2, TModel.Granularities[0].Layers);
            for (var i = 0; i < length; i++)
            {
                alone.Append(0, tokens.AsSpan(i, 1));
                alone.Run();
                Same(Row(whole!, i, spec.Vocabulary), alone.Logits(0), $"{profile}, token {i} alone");
            }

            for (var i = 0; i < length;)
            {
                var count = Math.Min(random.Next(1, 6), length - i);
                three.Append(0, tokens.AsSpan(i, count));
                var first = three.Append(1, tokens.AsSpan(i, count), allLogits: true);
                three.Append(2, tokens.AsSpan(i, 1));
                three.Run();
                for (var j = 0; j < count; j++)
                    Same(Row(whole!, i + j, spec.Vocabulary), three.Logits(first + j), $"{profile}, token {i + j} beside others");
                i += count;
            }

            // They are also the same if the sequence is cut and continued from there.
            var cut = length / 3;
            three.Truncate(1, cut);
            three.Append(1, tokens.AsSpan(cut), allLogits: true);
            three.Run();
            for (var i = cut; i < length; i++)
                Same(Row(whole!, i, spec.Vocabulary), three.Logits(i - cut), $"{profile}, token {i} after a cut");
        }
    }

    // Norms and biases are initially ones and zeros, which would hide mistakes.
    private static void Perturb(MatFormerModel model)
    {
        using var frozen = no_grad();
        foreach (var (_, parameter) in model.named_parameters())
        {
            using var noise = empty(parameter.shape).normal_();
            using var small = noise.mul(0.1);
            parameter.add_(small);
        }
    }

    private static ReadOnlySpan<float> Row(float[] all, int row, int width) => all.AsSpan(row * width, width);

    private static void Close(float[] wanted, float[] got, float tolerance, string what)
    {
        var worst = wanted.Zip(got, (a, b) => MathF.Abs(a - b)).Max();
        Assert.True(worst <= tolerance, $"{what}: {worst} apart, more than {tolerance}.");
    }

    private static void Same(ReadOnlySpan<float> wanted, ReadOnlySpan<float> got, string what) =>
        Assert.True(wanted.SequenceEqual(got), $"{what}: the bits differ.");
}

using System.Collections.Immutable;
using System.Reflection;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>The decoding engine against the model's own forward pass.</summary>
public sealed class DecodingEngineTests
{
    [Fact]
    public void OracleModels()
    {
        EngineEqualsModel<OracleLlama>();
        EngineEqualsModel<OracleClassic>();
        EngineEqualsModel<OracleGemma>();
        EngineEqualsModel<OracleOdd>();
        EngineEqualsModel<OracleElastic>();
        EngineEqualsModel<OracleUneven>();
    }

    [Fact]
    public void RandomModels()
    {
        var check = typeof(DecodingEngineTests).GetMethod(nameof(EngineEqualsModel), BindingFlags.Static | BindingFlags.NonPublic)!;
        foreach (var model in RandomDeclarations.Compile(30, seed: 20261121))
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
                using var engine = DecodingEngine.Create(model, new DecodingOptions { Threads = 2, RegisterBits = bits });
                engine.Use(0, profile.Layers);
                engine.Append(0, tokens, allLogits: true);
                engine.Run();
                whole = [.. Enumerable.Range(0, length).SelectMany(i => engine.Logits(i).ToArray())];
                Close(wanted, whole, 2e-4f * MathF.Max(1, largest), $"{profile} in {bits} bits");
            }

            // To the bit: one by one, in pieces, on other threads, from a slice, and beside other sequences of other submodels.
            using var slice = model.Extract(profile);
            using var alone = DecodingEngine.Create(slice, new DecodingOptions { Threads = 1 });
            using var three = DecodingEngine.Create(model, new DecodingOptions { Threads = 3, Sequences = 3 });
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
        }
    }

    // Norms and biases begin as ones and zeros, which would hide a wrong one.
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
        Assert.True(wanted.SequenceEqual(got), $"{what}: other bits.");
}

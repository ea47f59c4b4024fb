using System.Reflection;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>Activation checkpointing gives the same gradients, bit for bit, as keeping the activations.</summary>
public sealed class RecomputationTests : IDisposable
{
    private const int Batch = 5;
    private readonly string _folder = Directory.CreateTempSubdirectory("matformer-recomputation-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(ScalarType.Float32)]
    [InlineData(ScalarType.BFloat16)]
    public void RecomputedGradientsEqualKeptOnesForOracleModels(ScalarType type)
    {
        RecomputedEqualsKept<OracleLlama>(type);
        RecomputedEqualsKept<OracleClassic>(type);
        RecomputedEqualsKept<OracleGemma>(type);
        RecomputedEqualsKept<OracleOdd>(type);
        RecomputedEqualsKept<OracleElastic>(type);
        RecomputedEqualsKept<OracleUneven>(type);
        RecomputedEqualsKept<OracleViT>(type);
        RecomputedEqualsKept<OtherViT>(type);
        RecomputedEqualsKept<LookupViT>(type);
        RecomputedEqualsKept<CompressedViT>(type);
        RecomputedEqualsKept<OracleEncoder>(type);
        RecomputedEqualsKept<OtherEncoder>(type);
        RecomputedEqualsKept<OracleNarrow>(type);
        RecomputedEqualsKept<NarrowViT>(type);
    }

    [Fact]
    public void RecomputedGradientsEqualKeptOnesForRandomDeclarations()
    {
        var check = typeof(RecomputationTests).GetMethod(nameof(RecomputedEqualsKept), BindingFlags.Static | BindingFlags.NonPublic)!;
        foreach (var model in RandomDeclarations.Compile(12, seed: 20160421))
        {
            try
            {
                check.MakeGenericMethod(model).Invoke(null, [ScalarType.Float32]);
            }
            catch (TargetInvocationException e)
            {
                throw new InvalidOperationException($"{model.Name}: {e.InnerException!.Message}", e.InnerException);
            }
        }
    }

    [Fact]
    public void ARunWithRecomputationGivesTheSameWeights()
    {
        using var corpus = TestCorpus.Open(_folder);
        Assert.Equal(Weights(false), Weights(true));

        byte[][] Weights(bool recomputed)
        {
            manual_seed(2);
            using var model = DrawnModel.New<OracleBytes>();
            using var trainer = new Trainer<OracleBytes>(model, new()
            {
                Objective = Objective.Sandwich,
                Distillation = new(0.5, 2),
                Steps = 20,
                Batch = 3,
                Accumulation = 2,
                RecomputeActivations = recomputed,
            });
            for (var step = 0; step < 20; step++) trainer.Step(corpus);
            return [.. model.parameters().Select(parameter => parameter.bytes.ToArray())];
        }
    }

    [Fact]
    public void TheGraphOfTheLossDoesNotContainTheLayers()
    {
        using var model = DrawnModel.New<OracleUneven>();
        using var tokens = zeros(2, 7, ScalarType.Int64);
        var streams = Streams.Of(OracleUneven.Granularities[^1]);
        using var recomputation = new Recomputation();
        using var losses = model.Losses(streams, tokens, tokens, recomputation);
        using var loss = losses.sum();

        // A plain backward pass reaches what follows the layers, but not the layers themselves.
        loss.backward();
        var reached = model.named_parameters().Where(p => p.Item2.grad is not null).Select(p => p.Item1);
        Assert.Equal(["model.embed_tokens.weight", "model.norm.weight"], reached.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void ARecomputationServesOnePass()
    {
        using var model = DrawnModel.New<OracleLlama>();
        using var tokens = zeros(2, 7, ScalarType.Int64);
        using var recomputation = new Recomputation();
        using var kept = model.Loss(OracleLlama.Profile.S, tokens, tokens);
        var none = Assert.Throws<InvalidOperationException>(() => recomputation.Backward(kept));
        Assert.Contains("give it to Losses", none.Message, StringComparison.Ordinal);
        using var losses = model.Losses(Streams.Of(OracleLlama.Profile.S), tokens, tokens, recomputation);
        using var loss = losses.sum();
        recomputation.Backward(loss);
        Assert.Throws<InvalidOperationException>(() => recomputation.Backward(loss));
    }

    private static void RecomputedEqualsKept<TModel>(ScalarType type)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(12);
        using var model = DrawnModel.New<TModel>();
        model.ComputeType = type;
        var random = new Random(12);
        foreach (var objective in Enum.GetValues<Objective>())
        {
            if (Objectives.Mixes(objective) && !Objectives.CanMix(TModel.Spec)) continue;
            var planner = new Planner<TModel>(new() { Objective = objective, Batch = Batch });

            // In the last step, some layers are left out and the others count more (stochastic depth). TorchSharp's operations, which take
            // several times as long, run that step alone.
            for (var step = Kernels.Cpu.IsEnabled ? 1 : 3; step <= 3; step++)
            {
                var streams = planner.At(step).Streams;
                if (step == 3) streams = streams.Thinned([.. TModel.Spec.Blocks.Select((_, layer) => layer % 3 == 1 ? 0 : 1.5)]);
                Compare(model, streams, random, $"{typeof(TModel).Name}, {objective}");
            }
        }

        foreach (var profile in TModel.Profiles) Compare(model, Streams.Of(profile), random, $"{typeof(TModel).Name}, {profile.Name}");
    }

    private static void Compare<TModel>(TModel model, Streams streams, Random random, string what)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var scope = NewDisposeScope();
        var spec = TModel.Spec;
        long time = 1 + random.Next(spec.Context);
        var batches = Enumerable.Range(0, 2)
            .Select(_ => Inputs.Of(spec, Batch * spec.RowsPerExample, time))
            .Select(input => (input, Inputs.TargetsOf(spec, input)))
            .ToList();
        foreach (var distilled in (bool[])[false, true])
        {
            var (kept, recomputed) = (Gradients(false), Gradients(true));
            foreach (var ((name, expected), (_, actual)) in kept.Zip(recomputed))
                Assert.True(Agree(expected, actual, !spec.ElasticWidth), $"{what}, distilled: {distilled}: the gradients of {name} differ");

            // The gradients of two batches are added up.
            List<(string Name, byte[] Bits)> Gradients(bool again)
            {
                foreach (var (_, parameter) in model.named_parameters()) parameter.grad = null;
                foreach (var (input, targets) in batches)
                {
                    using var recomputation = again ? new Recomputation() : null;
                    var losses = distilled
                        ? model.DistilledLosses(streams, input, targets, 2, recomputation)
                        : model.Losses(streams, input, targets, recomputation);
                    var loss = losses.mean();
                    if (recomputation is null) loss.backward();
                    else recomputation.Backward(loss);
                }

                return [.. model.named_parameters().Select(p => (p.Item1, p.Item2.grad?.bytes.ToArray() ?? []))];
            }
        }
    }

    // Fused kernels add gradients in a fixed order. Without them, autograd chooses the order for a weight that is used twice, as the last
    // norm is by the passes of several widths.
    private static bool Agree(byte[] expected, byte[] actual, bool isOnePass)
    {
        if ((Kernels.Cpu.IsEnabled && isOnePass) || expected.Length != actual.Length) return expected.AsSpan().SequenceEqual(actual);
        ReadOnlySpan<float> kept = MemoryMarshal.Cast<byte, float>(expected), recomputed = MemoryMarshal.Cast<byte, float>(actual);
        var (error, largest) = (0f, 0f);
        for (var i = 0; i < kept.Length; i++)
            (error, largest) = (Math.Max(error, Math.Abs(kept[i] - recomputed[i])), Math.Max(largest, Math.Abs(kept[i])));
        return error <= 1e-5f * largest;
    }
}

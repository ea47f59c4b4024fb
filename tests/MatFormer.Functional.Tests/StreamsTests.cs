using System.Collections.Immutable;
using System.Reflection;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Functional.Tests;

/// <summary>A stacked pass over any streams gives the losses and gradients of a separate pass for each stream.</summary>
public sealed class StreamsTests
{
    private const double Tolerance = 2e-5;

    // A small gradient, above all of a bias, is a sum of larger ones that nearly cancel. So its rounding errors are theirs.
    private const float Least = 0.05f;
    private const int Batch = 5;

    [Fact]
    public void AStackedPassEqualsSequentialPassesForOracleModels()
    {
        StackedEqualsSequential<OracleLlama>();
        StackedEqualsSequential<OracleClassic>();
        StackedEqualsSequential<OracleGemma>();
        StackedEqualsSequential<OracleOdd>();
        StackedEqualsSequential<OracleElastic>();
        StackedEqualsSequential<OracleUneven>();
        StackedEqualsSequential<OracleViT>();
        StackedEqualsSequential<OtherViT>();
        StackedEqualsSequential<LookupViT>();
        StackedEqualsSequential<CompressedViT>();
        StackedEqualsSequential<OracleEncoder>();
        StackedEqualsSequential<OtherEncoder>();
        StackedEqualsSequential<OracleNarrow>();
        StackedEqualsSequential<NarrowClassic>();
        StackedEqualsSequential<NarrowViT>();
        StackedEqualsSequential<NarrowEncoder>();
    }

    [Fact]
    public void AStackedPassEqualsSequentialPassesForRandomDeclarations()
    {
        var check = typeof(StreamsTests).GetMethod(nameof(StackedEqualsSequential), BindingFlags.Static | BindingFlags.NonPublic)!;
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

    [Fact]
    public void StreamsThatDoNotFitAreRefused()
    {
        var (narrow, wide) = (OracleLlama.Granularities[0], OracleLlama.Granularities[^1]);
        var order = Assert.Throws<ArgumentException>(() => Streams.Of<OracleLlama>(narrow, wide));
        Assert.Contains("widest first", order.Message, StringComparison.Ordinal);
        var rows = Assert.Throws<ArgumentException>(() => Streams.Split<OracleLlama>([wide, narrow], [3, 0]));
        Assert.Contains("(3, 0)", rows.Message, StringComparison.Ordinal);
        using var model = DrawnModel.New<OracleLlama>();
        using var tokens = zeros(4, 3, ScalarType.Int64);
        var batch = Assert.Throws<ArgumentException>(
            () => model.Losses(Streams.Split<OracleLlama>([wide, narrow], [3, 2]), tokens, tokens));
        Assert.Contains("divide 5 rows among them (3, 2), but the batch has 4", batch.Message, StringComparison.Ordinal);
    }

    /// <summary>
    /// A layer that is left out is as if the profile skipped it. The outputs of the other layers are multiplied by their factors.
    /// </summary>
    [Fact]
    public void ThinnedStreamsLeaveLayersOut()
    {
        manual_seed(4);
        using var scope = NewDisposeScope();
        using var model = DrawnModel.New<OtherViT>();
        var input = Inputs.Of(OtherViT.Spec, 4);
        var targets = Inputs.TargetsOf(OtherViT.Spec, input);
        var whole = Streams.Of(OtherViT.Profile.XL);
        Same(model.Losses(whole, input, targets), model.Losses(whole.Thinned([1, 1, 1]), input, targets));
        var short_ = new Profile<OtherViT>("short", "XL Skip XL");
        Same(model.Losses(Streams.Of(short_), input, targets), model.Losses(whole.Thinned([1, 0, 1]), input, targets));
        Assert.False(model.Losses(whole, input, targets).eq(model.Losses(whole.Thinned([1, 1, 2]), input, targets)).all().item<bool>());

        // The factor 2 doubles the way from a layer's input to its output.
        var (x, y) = (ones(2, 3), full([2, 3], 4f, ScalarType.Float32));
        Assert.True(whole.Thinned([2, 1, 1]).Scaled(0, x, y).eq(7).all().item<bool>());

        // The layer at which the batch is divided among the streams cannot be left out.
        var parting = Streams.Of<OtherViT>(OtherViT.Profile.XL, OtherViT.Profile.S).Thinned([0, 0, 0.5]);
        Assert.Equal((false, true, false), (parting.Skips(0), parting.Skips(1), parting.Skips(2)));
        Assert.True(model.Losses(parting, input, targets).isfinite().all().item<bool>());

        static void Same(Tensor one, Tensor other) => Assert.True(one.eq(other).all().item<bool>());
    }

    [Fact]
    public void CopiesKeepTheReceiverOfScores()
    {
        Action<int, Tensor, Tensor> scores = (_, _, _) => { };
        var streams = Streams.Routed<RoutedBytes>(0.4).Collecting(scores);
        Assert.Same(scores, streams.Thinned([.. Enumerable.Repeat(1.0, RoutedBytes.Spec.Layers)]).Scores);
        using var lengths = zeros(2, ScalarType.Int64);
        Assert.Same(scores, streams.Over(lengths).Scores);
    }

    private static void StackedEqualsSequential<TModel>()
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        manual_seed(11);
        using var model = DrawnModel.New<TModel>();
        var random = new Random(11);
        var spec = TModel.Spec;

        // TorchSharp's operations take several times as long, so they run fewer plans.
        var (plans, steps) = Kernels.Cpu.IsEnabled ? (4, 2) : (2, 1);
        for (var plan = 0; plan < plans; plan++)
        {
            var profiles = RandomStreams<TModel>(random);
            int[] rows = [.. profiles.Select(_ => (1 + random.Next(2)) * spec.RowsPerExample)];
            Compare(model, Streams.Of<TModel>([.. profiles]), profiles, null, random);
            Compare(model, Streams.Split<TModel>([.. profiles], rows), profiles, rows, random);
        }

        // The streams that each objective really runs. Routed passes are no stacks of streams.
        double? routed = spec.Routing is null ? null : 0;
        foreach (var objective in Enum.GetValues<Objective>())
        {
            if (Objectives.Mixes(objective) && !Objectives.CanMix(spec)) continue;
            var planner = new Planner<TModel>(new() { Objective = objective, Batch = Batch, RoutedShare = routed });
            for (var step = 1; step <= steps; step++)
            {
                var streams = planner.At(step).Streams;
                var parts = streams.Groups.SelectMany(its => Enumerable.Range(0, its.Count).Select(s => Part<TModel>(its, s)));
                Compare(model, streams, [.. parts], streams.BatchRows, random);
            }
        }
    }

    // Returns the profile of one of the streams.
    private static Profile<TModel> Part<TModel>(Streams streams, int stream)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var part = new Profile<TModel>("part", streams.Layers(stream));
        return streams.Grid is { } grid ? part.At(grid) : part;
    }

    // The streams are the same up to a layer. From there on, each layer has different granularities, widest first.
    private static List<Profile<TModel>> RandomStreams<TModel>(Random random)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        var spec = TModel.Spec;
        var count = 1 + random.Next(4);
        var parting = random.Next(spec.Layers + 1);
        var layers = new ImmutableArray<LayerSlice>.Builder[count];
        int[] widths = spec.ElasticWidth
            ? [.. layers.Select(_ => random.Next(spec.Granularities.Length)).OrderDescending()] : new int[count];
        for (var stream = 0; stream < count; stream++) layers[stream] = ImmutableArray.CreateBuilder<LayerSlice>(spec.Layers);
        for (var layer = 0; layer < spec.Layers; layer++)
        {
            var common = random.Next(spec.Granularities.Length);
            var drawn = layers
                .Select((_, i) => layer < parting && !spec.ElasticWidth ? common : Inputs.Mixable(spec, widths[i], random))
                .OrderDescending()
                .ToList();
            for (var stream = 0; stream < count; stream++) layers[stream].Add(spec.Granularities[drawn[stream]].Layers[layer]);
        }

        return [.. layers.Select((l, i) => new Profile<TModel>($"stream {i}", l.ToImmutable()))];
    }

    private static void Compare<TModel>(TModel model, Streams streams, List<Profile<TModel>> profiles, int[]? rows, Random random)
        where TModel : MatFormerModel, IMatFormer<TModel>
    {
        using var scope = NewDisposeScope();
        var spec = TModel.Spec;
        long batch = rows?.Sum() ?? Batch * spec.RowsPerExample, time = 1 + random.Next(spec.Context);
        var input = Inputs.Of(spec, batch, time);
        var targets = Inputs.TargetsOf(spec, input);
        float[] weights = [.. profiles.Select(_ => 0.2f + random.NextSingle())];
        var (temperature, what) = (0.5 + (2 * random.NextDouble()),
            $"{string.Join(" | ", profiles.Select(p => p.Pattern))}, rows ({string.Join(", ", rows ?? [])})");

        Same(model.Losses(streams, input, targets),
            stack(Each((profile, x, y) => model.Losses(Streams.Of(profile), x, y).select(0, 0))), weights);
        Same(
            model.DistilledLosses(streams, input, targets, temperature),
            stack([
                stack(Each((profile, x, y) => model.Losses(Streams.Of(profile), x, y).select(0, 0))),
                stack(Each(Divergence)),
            ]),
            [.. weights, .. weights.Reverse()]);

        Tensor[] Each(Func<Profile<TModel>, Tensor, Tensor, Tensor> one)
        {
            var first = 0L;
            var results = new List<Tensor>();
            for (var stream = 0; stream < profiles.Count; stream++)
            {
                var count = rows?[stream] ?? batch;
                results.Add(one(profiles[stream], input.narrow(0, first, count), targets.narrow(0, first, count)));
                if (rows is not null) first += count;
            }

            return [.. results];
        }

        // If the divergence is not a function of the logits alone, the model computes it, and OracleTests check the result.
        Tensor Divergence(Profile<TModel> profile, Tensor x, Tensor y)
        {
            if (spec.Kind == ModelKind.TextEncoder || spec.EmbeddingDimensions.Length > 1)
                return model.DistilledLosses(Streams.Of(profile), x, y, temperature).select(0, 1).select(0, 0);
            var known = (model.Forward(TModel.Granularities[^1], x).detach() / temperature).log_softmax(-1);
            var learnt = (model.Forward(profile, x) / temperature).log_softmax(-1);
            return (known.exp() * (known - learnt)).sum([-1]).mean() * (temperature * temperature);
        }

        void Same(Tensor stacked, Tensor sequential, float[] factors)
        {
            Near(sequential, stacked, sequential.abs().max().item<float>(), "losses");
            var expected = Gradients(sequential, factors);
            var actual = Gradients(stacked, factors);
            var scale = expected.Max(g => g.Gradient?.abs().max().item<float>() ?? 0);
            foreach (var ((name, gradient), (_, its)) in expected.Zip(actual))
            {
                // A layer that no stream uses has no gradient in one form, and a gradient of zeros in the other.
                var wanted = gradient ?? zeros_like(its ?? tensor(0f));
                Near(wanted, its ?? zeros_like(wanted), Math.Max(wanted.abs().max().item<float>(), Least * scale), "gradient of " + name);
            }
        }

        List<(string Name, Tensor? Gradient)> Gradients(Tensor losses, float[] factors)
        {
            foreach (var (_, parameter) in model.named_parameters()) parameter.grad = null;
            (losses * tensor(factors).view(losses.shape)).sum().backward();
            return [.. model.named_parameters().Select(p => (p.Item1, p.Item2.grad?.clone()))];
        }

        void Near(Tensor expected, Tensor actual, float scale, string of)
        {
            Assert.Equal(expected.shape, actual.shape);
            Assert.True(expected.isfinite().all().item<bool>(), $"{what}: {of}: not finite");
            var error = (expected - actual).abs().max().item<float>();

            // A small temperature divides the cosines and thus increases their rounding errors. The gradients of the pairs nearly cancel.
            var tolerance = spec.Kind == ModelKind.TextEncoder ? 80 * Tolerance : Tolerance;
            Assert.True(error <= tolerance * Math.Max(scale, 1e-3f), $"{what}: {of}: off by {error}, largest value {scale}");
        }
    }
}

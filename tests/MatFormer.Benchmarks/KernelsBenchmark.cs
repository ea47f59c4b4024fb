using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Benchmarks;

/// <summary>Compares each fused operation, forward and backward, with its composite form, in the same process and in turns.</summary>
internal static class KernelsBenchmark
{
    private const int Batch = 8;
    private const int Time = 256;
    private const int Width = 256;
    private const int Heads = 8;
    private const int Hidden = 1024;
    private const int Vocabulary = 4096;
    private const int Compressed = 25; // a grid of 5 x 5
    private const int Turns = 5;

    private static readonly int[] s_widths = [1024, 512, 256, 128];
    private static readonly int[] s_rows = [Batch, Batch, Batch, Batch];

    public static IEnumerable<Result> Run()
    {
        if (!Level.IsFused)
        {
            Console.Error.WriteLine(
                $"skipped kernels.*.vs_composite: {Kernels.CpuProblem}. The figures are of the composite form alone.");
        }

        foreach (var (type, name) in ((ScalarType, string)[])[(ScalarType.Float32, "f32"), (ScalarType.BFloat16, "bf16")])
        {
            foreach (var (operation, ours, composite) in Operations(type))
                yield return Measure($"kernels.{operation}.{name}", ours, composite);
        }

        foreach (var (operation, ours, composite) in OverParameters()) yield return Measure($"kernels.{operation}.f32", ours, composite);
    }

    // Each operation in both forms, with the leaves from which it computes.
    private static IEnumerable<(string Name, Action Ours, Action Composite)> Operations(ScalarType type)
    {
        using var _ = NewDisposeScope();
        manual_seed(0);
        var tokens = randint(0, Vocabulary, [Batch, Time], dtype: ScalarType.Int64);
        var head = Weight(Vocabulary, Width);
        yield return Pair(
            "embedding", () => Kernels.Embedding(head, tokens, type), () => Kernels.Composite.Embedding(head, tokens, type, Width), head);

        var x = Leaf(type, Batch, Time, Width);
        var square = Weight(Width, Width);
        var norm = new NormWeights(Leaf(ScalarType.Float32, Width), 1e-5);
        yield return Pair(
            "rms_norm", () => Kernels.RmsNorm(x, norm.Weight, 1e-5), () => Kernels.Composite.RmsNorm(x, norm.Weight, 1e-5), x, norm.Weight);
        yield return Pair("linear", () => Kernels.Linear(x, square), () => Kernels.Composite.Linear(x, square), x, square);

        var attention = new AttentionWeights
        {
            Norm = norm,
            Query = Weight(Width, Width),
            Key = Weight(Width, Width),
            Value = Weight(Width, Width),
            Output = Weight(Width, Width),
            HeadWidth = Width / Heads,
            IsCausal = true,
        };
        var angles = rand(Time, Width / Heads / 2);
        var (cos, sin) = (angles.cos(), angles.sin());
        yield return Pair(
            "attend",
            () => Kernels.Attend(x, attention, cos, sin),
            () => Kernels.Composite.Attend(x, attention, cos, sin, null, [Heads], [Batch]),
            x, norm.Weight, attention.Query, attention.Key, attention.Value, attention.Output);

        var feedForward = new FeedForwardWeights
        {
            Norm = norm,
            Kind = FeedForwardKind.SwiGlu,
            Gate = Weight(Hidden, Width),
            Up = Weight(Hidden, Width),
            Down = Weight(Width, Hidden),
        };
        Tensor[] leaves = [norm.Weight, feedForward.Gate, feedForward.Up, feedForward.Down];
        yield return Pair(
            "feed_forward",
            () => Kernels.FeedForward(x, feedForward, [Hidden]),
            () => Kernels.Composite.FeedForward(x, feedForward, [Hidden], [Batch]),
            [x, .. leaves]);
        var stacked = Leaf(type, s_widths.Length * Batch, Time, Width);
        yield return Pair(
            "nested_feed_forward",
            () => Kernels.FeedForward(stacked, feedForward, s_widths),
            () => Kernels.Composite.FeedForward(stacked, feedForward, s_widths, s_rows),
            [stacked, .. leaves]);

        // A quarter of the tokens takes each granularity.
        var route = new Route(
            Weight(s_widths.Length, Width), Leaf(ScalarType.Float32, 1),
            new RoutedLayer([.. s_widths.Order()], [.. s_widths.Select(_ => Time / s_widths.Length)]));
        yield return Pair(
            "routed_feed_forward", () => Kernels.FeedForward(x, feedForward, route), [x, route.Weight, route.Scale, .. leaves]);

        var gather = new GatherWeights
        {
            Norm = norm,
            LookupNorm = norm,
            Query = attention.Query,
            Key = attention.Key,
            Value = attention.Value,
            Output = attention.Output,
            HeadWidth = Width / Heads,
            LookupTokens = Time,
        };
        var light = feedForward with
        {
            Gate = Weight(Width / 2, Width),
            Up = Weight(Width / 2, Width),
            Down = Weight(Width, Width / 2),
        };
        var spread = new SpreadWeights { Norm = norm, Value = square, Light = light };
        var image = Leaf(type, Batch, Compressed + Time, Width);
        yield return Pair(
            "lookup",
            () =>
            {
                var gathered = Kernels.Gather(image, gather);
                return Kernels.Spread(gathered, gathered.Compressed, spread);
            },
            [image, norm.Weight, gather.Query, gather.Key, gather.Value, gather.Output, square, light.Gate, light.Up, light.Down]);

        yield return Pair(
            "cross_entropy",
            () => Kernels.LinearCrossEntropy(x, head, tokens, 1),
            () => Kernels.Composite.LinearCrossEntropy(x, head, tokens, [Batch], isShared: true),
            x, head);
    }

    // AdamW and clipping work in place on all parameters and their gradients.
    private static IEnumerable<(string Name, Action Ours, Action Composite)> OverParameters()
    {
        using var _ = NewDisposeScope();
        const int count = 8 * Hidden * Width;
        var (parameters, gradients, first, second) = (randn(count), randn(count), zeros(count), zeros(count));
        yield return (
            "adamw",
            () => Kernels.AdamW(parameters, gradients, first, second, 0.1, 1e-3, 0.9, 0.95, 1e-8, 10),
            () => Kernels.Composite.AdamW(parameters, gradients, first, second, 0.1, 1e-3, 0.9, 0.95, 1e-8, 10));

        // The limit is so high that the gradients stay as they are, and both sides have the same work.
        yield return (
            "clip_gradient_norm",
            () => Kernels.ClipGradientNorm(gradients, 1e9),
            () => Kernels.Composite.ClipGradientNorm(gradients, 1e9));
    }

    private static Tensor Weight(long rows, long columns) => Leaf(ScalarType.Float32, rows, columns);

    private static Tensor Leaf(ScalarType type, params long[] shape) => randn(shape).to(type).detach().requires_grad_();

    private static (string Name, Action Ours, Action Composite) Pair(
        string name, Func<Tensor> ours, Func<Tensor> composite, params Tensor[] leaves) =>
        (name, () => ForwardAndBackward(ours, leaves), () => ForwardAndBackward(composite, leaves));

    // An operation that has one form, of fused or of composite operations.
    private static (string Name, Action Ours, Action Composite) Pair(string name, Func<Tensor> operation, Tensor[] leaves) => (
        name,
        () => ForwardAndBackward(operation, leaves),
        () => Level.Composite(() =>
        {
            ForwardAndBackward(operation, leaves);
            return 0;
        }));

    private static void ForwardAndBackward(Func<Tensor> operation, Tensor[] leaves)
    {
        using var _ = NewDisposeScope();
        using var y = operation();
        y.backward([ones_like(y)]);
        KernelNode.ReleaseReturned();
        KernelNode.ThrowFailure();
        foreach (var leaf in leaves) leaf.grad = null;
    }

    private static Result Measure(string name, Action ours, Action composite)
    {
        // A turn has so many calls that the slower side takes a twentieth of a second.
        if (Level.IsFused) Seconds(ours, 1);
        Seconds(composite, 1);
        var calls = (int)Math.Clamp(0.05 / Seconds(composite, 1), 1, 1000);
        if (!Level.IsFused)
        {
            var alone = Benchmarks.Turns.RunWarm(Turns, () => Seconds(composite, calls))[0];
            return new Result($"{name}.composite.us", Benchmarks.Turns.Median(alone) / calls * 1e6, "us", Runs: alone.Length);
        }

        var times = Benchmarks.Turns.RunWarm(Turns, () => Seconds(ours, calls), () => Seconds(composite, calls));
        return Benchmarks.Turns.Ratio($"{name}.vs_composite", (times[0], times[1]), calls);
    }

    private static double Seconds(Action action, int calls)
    {
        var start = Stopwatch.GetTimestamp();
        for (var call = 0; call < calls; call++) action();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }
}

using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Benchmarks;

/// <summary>Each fused operation, forward and backward, against its definition in TorchSharp's API, in the same process and in turns.</summary>
internal static class KernelsBenchmark
{
    private const int Batch = 8;
    private const int Time = 256;
    private const int Width = 256;
    private const int Heads = 8;
    private const int Hidden = 1024;
    private const int Vocabulary = 4096;
    private const int Turns = 5;

    private static readonly int[] s_widths = [1024, 512, 256, 128];

    public static IEnumerable<Result> Run()
    {
        foreach (var (type, name) in ((ScalarType, string)[])[(ScalarType.Float32, "f32"), (ScalarType.BFloat16, "bf16")])
        {
            foreach (var (operation, ours, composite) in Operations(type)) yield return Measure($"kernels.{operation}.{name}.vs_composite", ours, composite);
        }

        foreach (var (operation, ours, composite) in OverParameters()) yield return Measure($"kernels.{operation}.f32.vs_composite", ours, composite);
    }

    // What each operation computes from the leaves made here, natively and by its definition.
    private static IEnumerable<(string Name, Action Ours, Action Composite)> Operations(ScalarType type)
    {
        using var _ = NewDisposeScope();
        manual_seed(0);
        var x = Leaf(type, Batch, Time, Width);
        var square = Leaf(ScalarType.Float32, Width, Width);
        var scale = Leaf(ScalarType.Float32, Width);
        yield return Pair("rms_norm", () => Kernels.RmsNorm(x, scale, 1e-5), () => Kernels.Composite.RmsNorm(x, scale, 1e-5), x, scale);
        yield return Pair("linear", () => Kernels.Linear(x, square), () => Kernels.Composite.Linear(x, square), x, square);

        var (query, key, value) = (HeadsOf(type), HeadsOf(type), HeadsOf(type));
        var angles = rand(Time, Width / Heads / 2);
        var (cos, sin) = (angles.cos(), angles.sin());
        yield return Pair("rotary", () => Kernels.Rotary(query, cos, sin), () => Kernels.Composite.Rotary(query, cos, sin), query);
        yield return Pair(
            "attention", () => Kernels.CausalAttention(query, key, value), () => Kernels.Composite.CausalAttention(query, key, value), query, key, value);

        var (gate, up, down) = (Leaf(ScalarType.Float32, Hidden, Width), Leaf(ScalarType.Float32, Hidden, Width), Leaf(ScalarType.Float32, Width, Hidden));
        foreach (var (name, input, widths) in ((string, Tensor, int[])[])[("feed_forward", x, [Hidden]), ("nested_feed_forward", Leaf(type, 4 * Batch, Time, Width), s_widths)])
        {
            yield return Pair(
                name,
                () => Kernels.FeedForward(input, gate, null, up, null, down, null, FeedForwardKind.SwiGlu, widths),
                () => Kernels.Composite.FeedForward(input, gate, null, up, null, down, null, FeedForwardKind.SwiGlu, widths),
                input, gate, up, down);
        }

        var head = Leaf(ScalarType.Float32, Vocabulary, Width);
        var targets = randint(0, Vocabulary, [Batch, Time], dtype: ScalarType.Int64);
        yield return Pair(
            "cross_entropy",
            () => Kernels.LinearCrossEntropy(x, head, targets, 1),
            () => Kernels.Composite.LinearCrossEntropy(x, head, targets, 1),
            x, head);
    }

    // AdamW and clipping work in place on parameters and their gradients.
    private static IEnumerable<(string Name, Action Ours, Action Composite)> OverParameters()
    {
        using var _ = NewDisposeScope();
        Tensor[] parameters = [.. Enumerable.Range(0, 8).Select(i => Leaf(ScalarType.Float32, Hidden, Width))];
        foreach (var parameter in parameters) parameter.grad = randn(parameter.shape);
        Tensor[] first = [.. parameters.Select(p => zeros_like(p))], second = [.. parameters.Select(p => zeros_like(p))];
        double[] decay = [.. parameters.Select(p => 0.1)];
        yield return (
            "adamw",
            () => Kernels.AdamW(parameters, first, second, decay, 1e-3, 0.9, 0.95, 1e-8, 10),
            () => Kernels.Composite.AdamW(parameters, first, second, decay, 1e-3, 0.9, 0.95, 1e-8, 10));

        // So high a limit leaves the gradients as they are, and both sides with the same work.
        yield return ("gradient_norm", () => Kernels.ClipGradientNorm(parameters, 1e9), () => Kernels.Composite.ClipGradientNorm(parameters, 1e9));
    }

    private static Tensor HeadsOf(ScalarType type) => Leaf(type, Batch, Time, Heads, Width / Heads);

    private static Tensor Leaf(ScalarType type, params long[] shape) => randn(shape).to(type).detach().requires_grad_();

    private static (string Name, Action Ours, Action Composite) Pair(string name, Func<Tensor> ours, Func<Tensor> composite, params Tensor[] leaves)
        => (name, () => ForwardAndBackward(ours, leaves), () => ForwardAndBackward(composite, leaves));

    private static void ForwardAndBackward(Func<Tensor> operation, Tensor[] leaves)
    {
        using var _ = NewDisposeScope();
        using var y = operation();
        y.backward([ones_like(y)]);
        foreach (var leaf in leaves) leaf.grad = null;
    }

    private static Result Measure(string name, Action ours, Action composite)
    {
        // As many calls to a turn as take the slower side a twentieth of a second.
        Seconds(ours, 1);
        Seconds(composite, 1);
        var calls = (int)Math.Clamp(0.05 / Seconds(composite, 1), 1, 1000);
        var times = Benchmarks.Turns.RunWarm(Turns, () => Seconds(ours, calls), () => Seconds(composite, calls));
        return Benchmarks.Turns.Ratio(name, (times[0], times[1]), calls);
    }

    private static double Seconds(Action action, int calls)
    {
        var start = Stopwatch.GetTimestamp();
        for (var call = 0; call < calls; call++) action();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }
}

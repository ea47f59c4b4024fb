using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.Runtime.Tests;

/// <summary>The form of the operations is a setting of the whole process, so no other test may run at the same time.</summary>
[CollectionDefinition(nameof(KernelCollection), DisableParallelization = true)]
public sealed class KernelCollection;

/// <summary>
/// Runs operations in each of their forms, and compares results and all gradients with <see cref="Definitions"/>. Weights are rounded to
/// the dtype of the activations beforehand, so that both compute from the same numbers.
/// </summary>
[Collection(nameof(KernelCollection))]
public abstract class KernelTestBase : IDisposable
{
    /// <summary>The form that runs TorchSharp's operations, one stream after the other.</summary>
    protected const string Composite = "composite";

    /// <summary>The form that runs TorchSharp's operations on all streams in one pass, as on a GPU.</summary>
    protected const string Stacked = "stacked";

    /// <summary>The form that runs TorchSharp's operations in many small blocks, as those of large models.</summary>
    protected const string Blocks = "blocks";

    private static readonly string[] s_compositeForms = [Composite, Stacked, Blocks];

    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly (long Numbers, long Queries) _blocks = (Kernels.Composite.BlockNumbers, Kernels.Composite.BlockQueries);
    private readonly Random _random = new(7);
    private readonly int _threads = get_num_threads();
    private string _form = Composite;

    /// <summary>Returns the fused loops with every instruction set of this machine and the forms of Composite, in both dtypes.</summary>
    public static TheoryData<string, ScalarType> Forms() => Data(CpuLibrary.InstructionSets, s_compositeForms);

    /// <summary>Returns the fused loops with the best instruction set of this machine and the forms of Composite, in both dtypes.</summary>
    public static TheoryData<string, ScalarType> MainForms() => Data(CpuLibrary.InstructionSets.Take(1), s_compositeForms);

    /// <summary>Returns the names of the main forms, for tests that do not depend on the dtype.</summary>
    public static TheoryData<string> MainFormNames() => [.. CpuLibrary.InstructionSets.Take(1), .. s_compositeForms];

    /// <summary>The dtype of activations.</summary>
    protected ScalarType Dtype { get; private set; } = ScalarType.Float32;

    /// <summary>How far bfloat16 results may be off, relative to the largest number.</summary>
    protected virtual double RoundedTolerance => 2e-2;

    /// <summary>Whether results have the same bits with gradients and without.</summary>
    protected bool IsBitForBit { get; set; } = true;

    /// <summary>Whether the fused loops run.</summary>
    protected bool IsCpu => !s_compositeForms.Contains(_form);

    public void Dispose()
    {
        Kernels.Cpu.IsEnabled = Kernels.Cpu.Problem is null;
        Kernels.Composite.Stacks = null;
        (Kernels.Composite.BlockNumbers, Kernels.Composite.BlockQueries) = _blocks;
        if (Kernels.Cpu.IsEnabled) CpuLibrary.UseInstructionSet(CpuLibrary.InstructionSets[0]);
        set_num_threads(_threads);
        _scope.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Selects the form in which the rest of the test runs.</summary>
    protected void Use(string form, ScalarType dtype = ScalarType.Float32)
    {
        (_form, Dtype) = (form, dtype);
        Kernels.Cpu.IsEnabled = IsCpu;
        if (IsCpu) CpuLibrary.UseInstructionSet(form);
        Kernels.Composite.Stacks = form == Stacked;
        (Kernels.Composite.BlockNumbers, Kernels.Composite.BlockQueries) = form == Blocks ? (500, 7) : _blocks;

        // The work is so small that several threads of libtorch would mostly wait for each other.
        set_num_threads(IsCpu ? _threads : 1);
    }

    /// <summary>Selects the fused loops, which must be available, for the rest of the test.</summary>
    protected void UseCpu()
    {
        Assert.Null(Kernels.Cpu.Problem);
        Use(CpuLibrary.InstructionSets[0]);
    }

    /// <summary>Returns a random activation that requires a gradient.</summary>
    protected Tensor X(params long[] shape) => Normal(1, shape).to(Dtype).requires_grad_();

    /// <summary>Returns a random weight (..., in) that keeps the size of the numbers it multiplies.</summary>
    protected Tensor Matrix(params long[] shape) => Vector(1 / Math.Sqrt(shape[^1]), shape);

    /// <summary>Returns a random weight around 0.</summary>
    protected Tensor Vector(double size, params long[] shape) => Normal(size, shape).to(Dtype).to(ScalarType.Float32).requires_grad_();

    /// <summary>Returns the weights of a norm, around 1. LayerNorm has a bias.</summary>
    protected NormWeights Norm(long width, bool isLayerNorm = false) => new(
        Normal(0.3, width).add_(1).to(Dtype).to(ScalarType.Float32).requires_grad_(), isLayerNorm ? Vector(0.3, width) : null, 1e-5);

    /// <summary>Returns random integers from 0 up to, but not including, <paramref name="below"/>.</summary>
    protected Tensor Integers(long below, params long[] shape) => tensor(
        [.. Enumerable.Range(0, (int)Count(shape)).Select(_ => _random.NextInt64(below))], shape);

    /// <summary>Returns normally distributed numbers.</summary>
    protected Tensor Normal(double size, params long[] shape) => tensor(
        [.. Enumerable.Range(0, (int)Count(shape)).Select(_ => (float)(size * NextNormal()))], shape);

    protected AttentionWeights Attention(
        long width, int heads, int keyHeads, int depth, bool isBiased = false, bool isLayerNorm = false, bool normsHeads = false) => new()
        {
            Norm = Norm(width, isLayerNorm),
            Query = Matrix(heads * depth, width),
            Key = Matrix(keyHeads * depth, width),
            Value = Matrix(keyHeads * depth, width),
            Output = Matrix(width, heads * depth),
            QueryBias = isBiased ? Vector(0.5, heads * depth) : null,
            KeyBias = isBiased ? Vector(0.5, keyHeads * depth) : null,
            ValueBias = isBiased ? Vector(0.5, keyHeads * depth) : null,
            OutputBias = isBiased ? Vector(0.5, width) : null,
            QueryNorm = normsHeads ? Norm(depth, isLayerNorm) : null,
            KeyNorm = normsHeads ? Norm(depth, isLayerNorm) : null,
            HeadWidth = depth,
        };

    protected FeedForwardWeights FeedForward(
        long width, long hidden, FeedForwardKind kind, bool isBiased = false, bool isLayerNorm = false)
    {
        var isGated = kind is FeedForwardKind.SwiGlu or FeedForwardKind.GeGlu;
        return new()
        {
            Norm = Norm(width, isLayerNorm),
            Kind = kind,
            Gate = isGated ? Matrix(hidden, width) : null,
            GateBias = isGated && isBiased ? Vector(0.5, hidden) : null,
            Up = Matrix(hidden, width),
            UpBias = isBiased ? Vector(0.5, hidden) : null,
            Down = Matrix(width, hidden),
            DownBias = isBiased ? Vector(0.5, width) : null,
        };
    }

    protected static Tensor[] All(AttentionWeights w) => Present(
        w.Norm.Weight, w.Norm.Bias, w.Query, w.Key, w.Value, w.Output, w.QueryBias, w.KeyBias, w.ValueBias, w.OutputBias,
        w.QueryNorm?.Weight, w.QueryNorm?.Bias, w.KeyNorm?.Weight, w.KeyNorm?.Bias);

    protected static Tensor[] All(FeedForwardWeights w) => Present(
        w.Norm.Weight, w.Norm.Bias, w.Gate, w.GateBias, w.Up, w.UpBias, w.Down, w.DownBias);

    /// <summary>Returns the cosines and sines (time, depth / 2) of random angles, or nulls.</summary>
    protected (Tensor? Cos, Tensor? Sin) Angles(bool areThere, long time, long depth)
    {
        if (!areThere) return (null, null);
        var angles = Normal(2, time, depth / 2);
        return (angles.cos(), angles.sin());
    }

    protected static void Clear(params ReadOnlySpan<Tensor> leaves)
    {
        foreach (var leaf in leaves) leaf.grad = null;
    }

    protected static byte[] Bits(Tensor x) => x.detach().contiguous().bytes.ToArray();

    /// <summary>
    /// Asserts that the result and the gradients of all leaves equal those of the definition, for a random gradient of the result.
    /// </summary>
    protected void AssertEqual(Func<Tensor> actual, Func<Tensor> definition, params ReadOnlySpan<Tensor> leaves)
    {
        using var inner = NewDisposeScope();
        set_num_threads(1);
        var expected = definition();
        var slope = Normal(1, expected.shape).to(Dtype).to(ScalarType.Float32);
        var expectedGradients = Gradients(expected, slope, leaves);
        if (IsCpu) set_num_threads(_threads);
        var result = actual();
        var gradients = Gradients(result, slope, leaves);
        AssertClose(result, expected, "result");

        // Some gradients are zero in theory, such as that of the keys' bias, or are small differences of large terms. Their rounding errors
        // are therefore compared with the largest gradient. A wrong sign is still noticed in a gradient with 1/400 of the largest number
        // (in float32, 1/2,000,000).
        var largest = expectedGradients.Max(gradient => gradient is null ? 0 : Largest(gradient));
        for (var i = 0; i < leaves.Length; i++)
        {
            Assert.Equal(leaves[i].dtype, gradients[i]!.dtype);
            AssertClose(gradients[i]!, expectedGradients[i] ?? zeros_like(leaves[i]), $"gradient {i}", largest / 10);
        }

        using var unrecorded = no_grad();
        var alone = actual();
        Assert.False(alone.requires_grad);
        if (IsBitForBit) Assert.Equal(Bits(result), Bits(alone));
        else AssertClose(alone, expected, "result without gradients");
    }

    /// <summary>Asserts that the distance is small, relative to the largest number.</summary>
    protected void AssertClose(Tensor actual, Tensor expected, string what, double atLeast = 0)
    {
        Assert.Equal(expected.shape, actual.shape);
        var tolerance = Dtype == ScalarType.Float32 ? 1e-5 : RoundedTolerance;
        var (distance, size) = (Largest(Wide(actual) - Wide(expected)), Math.Max(Largest(expected), atLeast));
        Assert.True(distance <= tolerance * size, $"{what} {Shape(expected)}: off by {distance / size:g3} of the largest, {size:g3}");
    }

    /// <summary>Asserts equal bits for the fused loops. The last bits of Composite's products may depend on strides.</summary>
    protected void AssertSame(Tensor actual, Tensor expected, string what)
    {
        if (IsCpu) Assert.True(Bits(actual).SequenceEqual(Bits(expected)), what);
        else AssertClose(actual, expected, what);
    }

    /// <summary>Returns the gradients of the leaves if <paramref name="slope"/> is the gradient of the result.</summary>
    protected static Tensor?[] Gradients(Tensor result, Tensor slope, params ReadOnlySpan<Tensor> leaves)
    {
        Clear(leaves);
        Wide(result).mul(slope).sum().backward();
        var gradients = new Tensor?[leaves.Length];
        for (var i = 0; i < leaves.Length; i++) gradients[i] = leaves[i].grad;
        Clear(leaves);
        return gradients;
    }

    protected static Tensor Wide(Tensor x) => x.to(ScalarType.Float32);

    protected static float[] Values(Tensor x) => Wide(x.detach()).contiguous().data<float>().ToArray();

    private static double Largest(Tensor x) => Wide(x.detach()).abs().max().item<float>();

    private static string Shape(Tensor x) => $"({string.Join(", ", x.shape)})";

    private static long Count(long[] shape) => shape.Aggregate(1L, (product, size) => product * size);

    private static Tensor[] Present(params Tensor?[] tensors) => [.. tensors.OfType<Tensor>()];

    private static TheoryData<string, ScalarType> Data(IEnumerable<string> sets, IEnumerable<string> compositeForms)
    {
        var data = new TheoryData<string, ScalarType>();
        foreach (var form in sets.Concat(compositeForms))
        {
            data.Add(form, ScalarType.Float32);
            data.Add(form, ScalarType.BFloat16);
        }

        // The tile matrix unit multiplies bfloat16 only.
        if (sets.Contains("avx512_bf16")) data.Add(CpuLibrary.EmulatedTiles, ScalarType.BFloat16);
        return data;
    }

    private double NextNormal() => Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble())) * Math.Cos(2 * Math.PI * _random.NextDouble());
}

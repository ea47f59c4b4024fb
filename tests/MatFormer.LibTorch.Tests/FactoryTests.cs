using MatFormer.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.LibTorch.Tests;

public class FactoryTests
{
    [Fact]
    public void ShapesAndTypes()
    {
        using var scope = NewDisposeScope();
        Assert.Equal([2L, 3], zeros(2, 3).shape);
        Assert.Equal([2L, 3, 4, 5], ones(2L, 3, 4, 5).shape);
        Assert.Equal([7L], empty(7).shape);
        Assert.Equal([3L, 1], full([3L, 1L], 2).shape);
        Assert.Equal([], zeros(Array.Empty<long>()).shape);
        Assert.Equal(float32, zeros(1).dtype);
        Assert.Equal(bfloat16, zeros(1, dtype: bfloat16).dtype);
        Assert.Equal([int64, float32, ScalarType.Bool], new[] { full(1, 3), full(1, 3.0), full(1, true) }.Select(static t => t.dtype));
        Assert.True(zeros(1, requires_grad: true).requires_grad);
        Assert.Equal([0L, 1, 2], arange(3).data<long>().ToArray());
        Assert.Equal([1f, 1.5f], arange(1, 2, 0.5).data<float>().ToArray());
        Assert.Equal([0f, 0.5f, 1], linspace(0, 1, 3).data<float>().ToArray());
        Assert.Equal([1f, 0, 0, 1], eye(2).flatten().data<float>().ToArray());
        Assert.Equal([1L, 1], ones_like(zeros(2, dtype: int64)).data<long>().ToArray());
        Assert.Equal(5, full_like(zeros(1), 5).ToSingle());
        Assert.Equal(float64, zeros_like(zeros(1), float64).dtype);
        Assert.Equal([4L, 2], empty_like(zeros(4, 2)).shape);
        Assert.Contains("named", Assert.Throws<ArgumentException>(() => zeros(2, names: ["a"])).Message);
    }

    [Fact]
    public void FromManagedData()
    {
        using var scope = NewDisposeScope();
        Assert.Equal(2.5, tensor(2.5).item<double>());
        Assert.Equal(2, tensor(2).item<int>());
        Assert.Equal(2, tensor(2L).item<long>());
        Assert.Equal(float64, tensor(new float[] { 1 }, dtype: float64).dtype);
        Assert.Equal([2L, 2], tensor(new[,] { { 1, 2 }, { 3, 4 } }).shape);
        Assert.Equal([1L, 2, 2], tensor(new float[,,] { { { 1, 2 }, { 3, 4 } } }).shape);
        Assert.Equal([2L, 1], tensor(new List<long> { 1, 2 }, 2, 1).shape);
        Assert.Equal([1, 2, 255], tensor(new byte[] { 1, 2, 255 }).data<byte>().ToArray());
        Assert.Equal([true, false], tensor(new[] { true, false }).data<bool>().ToArray());
        Assert.Equal([0L], tensor(Array.Empty<float>()).shape);
        var array = new float[] { 1, 2 };
        var copied = tensor(array);
        array[0] = 9;
        Assert.Equal(1, copied[0].ToSingle());
        Assert.Equal(9, from_array(array)[0].ToSingle());
        Assert.Equal(ScalarType.Int8, from_array(new sbyte[] { -1 }).dtype);
        Assert.Equal(float64, from_array(array, float64).dtype);
        Tensor number = 3f;
        Assert.Equal(3, (float)number);
        Assert.Equal((3, 3L, 3.0), ((int)number, (long)number, (double)number));
    }

    [Fact]
    public void DefaultsCanBeChanged()
    {
        try
        {
            set_default_dtype(float64);
            using var x = zeros(1);
            Assert.Equal(float64, x.dtype);
        }
        finally
        {
            set_default_dtype(float32);
        }

        Assert.Throws<ArgumentException>(() => set_default_dtype(int64));
        Assert.Equal(DeviceType.CPU, get_default_device().type);
    }

    [Fact]
    public void RandomNumbersFollowTheSeed()
    {
        using var scope = NewDisposeScope();
        manual_seed(7);
        var first = Draw();
        manual_seed(7);
        var second = Draw();
        manual_seed(8);
        var other = Draw();
        Assert.Equal(first, second);
        Assert.NotEqual(first, other);
        Assert.Equal(8, initial_seed());

        static float[] Draw() =>
        [
            .. randn(3).data<float>().ToArray(), .. rand(2, 2).flatten().data<float>().ToArray(),
            .. randint(0, 100, [5]).to(float32).data<float>().ToArray(), .. randperm(6).to(float32).data<float>().ToArray(),
            .. zeros(3).normal_().data<float>().ToArray(), .. zeros(3).uniform_(-1, 1).data<float>().ToArray(),
            .. ones(5).multinomial(3).to(float32).data<float>().ToArray(),
        ];
    }

    [Fact]
    public void TheRandomStateRoundTrips()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        randn(5);
        var state = get_rng_state();
        var bytes = state.bytes.ToArray();
        var first = randn(4).data<float>().ToArray();
        set_rng_state(tensor(bytes));
        Assert.Equal(first, randn(4).data<float>().ToArray());
    }

    [Fact]
    public void AGeneratorOfItsOwnLeavesTheDefaultAlone()
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(5);
        manual_seed(1);
        var before = get_rng_state().bytes.ToArray();
        var first = randn([3L], generator: generator).data<float>().ToArray();
        Assert.Equal(before, get_rng_state().bytes.ToArray());
        generator.manual_seed(5);
        Assert.Equal(first, zeros(3).normal_(generator: generator).data<float>().ToArray());
        var state = generator.get_state();
        var next = rand([2L], generator: generator).data<float>().ToArray();
        generator.set_state(state);
        Assert.Equal(next, rand([2L], generator: generator).data<float>().ToArray());
        Assert.Equal(5, generator.initial_seed());
        generator.Dispose();
        Assert.Throws<ObjectDisposedException>(() => rand([1L], generator: generator));
        Generator.Default.Dispose();
        Assert.Equal(1, Generator.Default.initial_seed());
    }

    [Fact]
    public void ThreadsCanBeCounted()
    {
        var before = get_num_threads();
        try
        {
            set_num_threads(1);
            Assert.Equal(1, get_num_threads());
        }
        finally
        {
            set_num_threads(before);
        }
    }

    [Fact]
    public void TheVersionIsLibtorchs() => Assert.Matches(@"^\d+\.\d+", Native.LibTorchVersion);

    [Fact]
    public void TextIsShort()
    {
        using var x = tensor(new[] { 1.5f, -2 });
        Assert.Equal("[2], type = Float32, device = cpu, value = [1.5, -2]", x.ToString());
        Assert.Equal("[100x100], type = Float32, device = cpu", zeros(100, 100).ToString());
    }

    [Fact]
    public void ScalarsKeepTheirKind()
    {
        Assert.Equal(
            [ScalarType.Float64, ScalarType.Int64, ScalarType.Bool],
            new Scalar[] { 1.5f, 2, true }.Select(static s => s.Type));
        Assert.Equal((2, 2L, 2f, 2.0, true), (2.ToScalar().ToInt32(), 2.ToScalar().ToInt64(), 2.ToScalar().ToSingle(),
            2.ToScalar().ToDouble(), 2.ToScalar().ToBoolean()));
        using var integers = ones(2, dtype: int64);
        Assert.Equal(int64, (integers + 1).dtype);
        Assert.Equal(float32, (integers + 1.5).dtype);
        Assert.Equal(long.MaxValue, full(1, long.MaxValue).item<long>());
    }

    [Fact]
    public void WorkOnSeveralThreadsIsIndependent()
    {
        Parallel.For(0, 4, static i =>
        {
            using var scope = NewDisposeScope();
            var x = full(16, (double)i, requires_grad: true);
            using (i % 2 == 0 ? no_grad() : enable_grad())
            {
                for (var n = 0; n < 50; n++)
                {
                    var y = (x * x).sum();
                    Assert.Equal(i % 2 != 0, y.requires_grad);
                    Assert.Equal(16f * i * i, y.item<float>());
                }
            }
        });
    }
}

using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace MatFormer.LibTorch.Tests;

public class ErrorTests
{
    public static TheoryData<string, Func<Tensor>> Mistakes => new()
    {
        { "mat1 and mat2", static () => ones(2, 3).matmul(ones(2, 3)) },
        { "mat1 and mat2", static () => ones(2, 3).mm(ones(2, 3)) },
        { "batch2", static () => ones(2, 2, 3).bmm(ones(2, 2, 3)) },
        { "mat1 and mat2", static () => nn.functional.linear(ones(2, 3), ones(4, 5)) },
        { "shape '[4, 4]' is invalid", static () => ones(2, 3).view(4, 4) },
        { "view size is not compatible", static () => ones(2, 3).t().view(6) },
        { "size of tensor a", static () => ones(2) + ones(3) },
        { "size of tensor a", static () => ones(2).add_(ones(3)) },
        { "Sizes of tensors must match", static () => cat([ones(2, 2), ones(3, 3)]) },
        { "stack expects each tensor to be equal size", static () => stack([ones(2), ones(3)]) },
        { "non-empty", static () => cat(new List<Tensor>()) },
        { "Dimension out of range", static () => ones(2).sum(3) },
        { "Dimension out of range", static () => ones(2).softmax(3) },
        { "index out of range", static () => ones(2, 2).index_select(0, tensor(new long[] { 7 })) },
        { "out of bounds", static () => ones(3).gather(0, tensor(new long[] { 9 })) },
        { "out of range", static () => ones(3)[5] },
        { "negative", static () => zeros([-1L]) },
        { "k out of range", static () => ones(3).topk(5).values },
        { "out of bounds", static () => nn.functional.cross_entropy(ones(2, 3), tensor(new long[] { 0, 3 })) },
        { "prob", static () => tensor(new float[] { -1, 2 }).multinomial(1) },
        { "split", static () => ones(4).split(-1)[0] },
        { "bool", static () => ones(2, dtype: ScalarType.Bool) - ones(2, dtype: ScalarType.Bool) },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void LibtorchsErrorsBecomeExceptionsWithItsMessage(string expected, Func<Tensor> mistake)
    {
        var error = Assert.Throws<ExternalException>(mistake);
        Assert.Contains(expected, error.Message, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("frame #", error.Message);

        // The process and the thread go on as before.
        using var fine = ones(2) + 1;
        Assert.Equal([2f, 2f], fine.data<float>().ToArray());
    }

    [Fact]
    public void AnErrorInsideBackwardIsThrownToo()
    {
        using var x = ones(2, requires_grad: true);
        using var y = x * x;
        Assert.Contains("scalar outputs", Assert.Throws<ExternalException>(y.backward).Message);
        using var sum = y.sum();
        sum.backward();
        Assert.Contains("second time", Assert.Throws<ExternalException>(sum.backward).Message);
    }

    [Fact]
    public void EachThreadSeesItsOwnError()
    {
        var messages = new string[4];
        var threads = Enumerable.Range(0, messages.Length).Select(i => new Thread(() =>
        {
            for (var n = 0; n < 100; n++)
            {
                messages[i] = Assert.Throws<ExternalException>(() => ones(2).view(i + 3)).Message;
            }
        })).ToArray();
        Array.ForEach(threads, static t => t.Start());
        Array.ForEach(threads, static t => t.Join());
        for (var i = 0; i < messages.Length; i++)
        {
            Assert.Contains($"shape '[{i + 3}]'", messages[i]);
        }
    }

    [Fact]
    public void ADisposedTensorSaysSo()
    {
        var x = ones(2);
        x.name = "weights";
        x.Dispose();
        x.Dispose();
        Assert.True(x.IsInvalid);
        var error = Assert.Throws<ObjectDisposedException>(() => x.add(1));
        Assert.Contains("weights", error.Message);
        Assert.Contains("DisposeScope", error.Message);
        using var other = ones(2);
        Assert.Throws<ObjectDisposedException>(() => other.add(x));
        Assert.Throws<ObjectDisposedException>(() => other.add_(x));
        Assert.Throws<ObjectDisposedException>(() => cat([other, x]));
        Assert.Throws<ObjectDisposedException>(() => x.shape);
        Assert.Throws<ObjectDisposedException>(() => x.dtype);
        Assert.Throws<ObjectDisposedException>(() => x.bytes.Length);
        Assert.Equal("(disposed tensor)", x.ToString());
    }

    [Fact]
    public void AnAccessorOfADisposedTensorSaysSo()
    {
        var x = arange(4, dtype: ScalarType.Float32);
        var values = x.data<float>();
        Assert.Equal(3, values[3]);
        x.Dispose();
        Assert.Throws<ObjectDisposedException>(() => values[3]);
        Assert.Throws<ObjectDisposedException>(() => values.ToArray());
    }

    [Fact]
    public void ANullArgumentIsNamed()
    {
        using var x = ones(2);
        Assert.Equal("target", Assert.Throws<ArgumentNullException>(() => x.add((Tensor)null!)).ParamName);
        Assert.Equal("weights", Assert.Throws<ArgumentNullException>(() => nn.functional.linear(x, null!)).ParamName);
        Assert.Equal("value", Assert.Throws<ArgumentNullException>(() => x.fill_(null!)).ParamName);
    }

    [Fact]
    public void AWrongElementTypeIsNamed()
    {
        using var x = ones(2);
        var error = Assert.Throws<ArgumentException>(() => x.data<long>());
        Assert.Contains("Float32", error.Message);
        Assert.Contains("Int64", error.Message);
        Assert.Contains("2", Assert.Throws<ArgumentException>(() => x.item<float>()).Message);
    }

    [Fact]
    public void BytesNeedContiguousElementsAndTheRightLength()
    {
        using var x = ones(2, 3);
        using var transposed = x.t();
        Assert.Contains("contiguous", Assert.Throws<InvalidOperationException>(() => transposed.bytes.Length).Message);
        Assert.Contains("24", Assert.Throws<ArgumentException>(() => x.bytes = new byte[3]).Message);
    }

    [Fact]
    public void DataOfAnotherCountThanTheShapeIsRefused()
    {
        var error = Assert.Throws<ArgumentException>(() => tensor(new float[] { 1, 2, 3 }, [2, 2]));
        Assert.Contains("4", error.Message);
        Assert.Contains("3", error.Message);
    }

    [Fact]
    public void CudaWhereThereIsNoneIsRefusedEverywhere()
    {
        if (cuda.is_available())
        {
            Assert.True(cuda.device_count() > 0);
            return;
        }

        using var x = ones(2);
        Assert.Equal(0, cuda.device_count());
        Assert.Contains("CUDA", Assert.Throws<InvalidOperationException>(() => x.cuda()).Message);
        Assert.Throws<InvalidOperationException>(() => x.to("cuda:0"));
        Assert.Throws<InvalidOperationException>(() => x.to(DeviceType.CUDA));
        Assert.Throws<InvalidOperationException>(() => zeros(2, device: new Device("cuda")));
        Assert.Throws<InvalidOperationException>(() => device("cuda"));
        Assert.False(TryInitializeDeviceType(DeviceType.CUDA));
        Assert.Throws<ExternalException>(() => cuda.synchronize());
    }

    [Theory]
    [InlineData("gpu")]
    [InlineData("cuda:x")]
    [InlineData("cuda:")]
    [InlineData("")]
    [InlineData("1")]
    public void ANonsenseDeviceIsNamed(string description) =>
        Assert.Contains($"'{description}'", Assert.Throws<ArgumentException>(() => new Device(description)).Message);

    [Fact]
    public void DevicesPrintAsTheyAreWritten()
    {
        Assert.Equal("cpu", CPU.ToString());
        Assert.Equal("cuda", new Device("cuda").ToString());
        Assert.Equal("cuda:1", new Device("CUDA:1").ToString());
        Assert.Equal("cuda:2", new Device(2).ToString());
        Device implicitly = "cuda:3";
        Assert.Equal((DeviceType.CUDA, 3), (implicitly.type, implicitly.index));
    }
}

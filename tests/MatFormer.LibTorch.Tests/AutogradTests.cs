using System.Runtime.InteropServices;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer.LibTorch.Tests;

public class AutogradTests
{
    [Fact]
    public void GradientOfASumOfSquaresIsTwiceTheInput()
    {
        using var x = tensor(new float[] { 1, -2, 3 }, requires_grad: true);
        using var y = (x * x).sum();
        y.backward();
        using var grad = x.grad!;
        Assert.Equal([2f, -4f, 6f], grad.data<float>().ToArray());
    }

    [Fact]
    public void GradientsAddUpOverBackwards()
    {
        using var x = tensor(new float[] { 1, 2 }, requires_grad: true);
        x.sum().backward();
        (x * 3).sum().backward();
        Assert.Equal([4f, 4f], x.grad!.data<float>().ToArray());
        x.grad = null;
        Assert.Null(x.grad);
    }

    [Fact]
    public void NoGradRecordsNothingAndNests()
    {
        using var x = ones(2, requires_grad: true);
        using (no_grad())
        {
            Assert.False((x * 2).requires_grad);
            using (enable_grad())
            {
                Assert.True((x * 2).requires_grad);
            }

            Assert.False(is_grad_enabled());
        }

        Assert.True((x * 2).requires_grad);
    }

    [Fact]
    public void InferenceModeTensorsTakeNoPartInGradients()
    {
        using var x = ones(2, requires_grad: true);
        Tensor inside;
        using (inference_mode())
        {
            Assert.True(is_inference_mode_enabled());
            inside = x * 2;
        }

        Assert.False(is_inference_mode_enabled());
        Assert.Throws<ExternalException>(() => (inside * x).sum().backward());
    }

    [Fact]
    public void AutogradGradLeavesTheLeavesAlone()
    {
        using var x = tensor(new double[] { 2, 3 }, requires_grad: true);
        using var unused = ones(1, requires_grad: true);
        using var y = (x * x * x).sum();
        var grads = autograd.grad([y], [x, unused], allow_unused: true);
        Assert.Equal([12.0, 27.0], grads[0].data<double>().ToArray());
        Assert.Null(grads[1]);
        Assert.Null(x.grad);
    }

    [Fact]
    public void SecondDerivative()
    {
        using var x = tensor(3.0, requires_grad: true);
        using var y = x.pow(4);
        var first = autograd.grad([y], [x], create_graph: true)[0];
        var second = autograd.grad([first], [x])[0];
        Assert.Equal(108, first.item<double>(), 9);
        Assert.Equal(108, second.item<double>(), 9);
    }

    [Fact]
    public void BackwardWithWeightsAndRetainedGraph()
    {
        using var x = tensor(new float[] { 1, 2 }, requires_grad: true);
        using var y = x * x;
        y.backward([tensor(new float[] { 1, 10 })], retain_graph: true);
        y.backward([tensor(new float[] { 1, 10 })]);
        Assert.Equal([4f, 80f], x.grad!.data<float>().ToArray());
    }

    [Fact]
    public void LinearAndCrossEntropyMatchTheirDefinitions()
    {
        manual_seed(3);
        using var scope = NewDisposeScope();
        var w = randn(5, 4, dtype: float64, requires_grad: true);
        var x = randn(3, 4, dtype: float64);
        var target = tensor(new long[] { 0, 4, 2 });
        var logits = nn.functional.linear(x, w);
        nn.functional.cross_entropy(logits, target).backward();
        var expected = (logits.softmax(1) - nn.functional.one_hot(target, 5)).t().mm(x) / 3;
        Assert.True(w.grad!.allclose(expected));
    }

    [Fact]
    public void SettingAGradientOfAnotherShapeFails()
    {
        using var x = new Parameter(zeros(2, 2));
        var error = Assert.Throws<ExternalException>(() => x.grad = zeros(3));
        Assert.Contains("different size", error.Message);
    }

    [Fact]
    public void InPlaceOnALeafThatRecordsFails()
    {
        using var x = ones(2, requires_grad: true);
        Assert.Contains("leaf", Assert.Throws<ExternalException>(() => x.add_(1)).Message);
        using (no_grad())
        {
            Assert.Same(x, x.add_(1));
        }
    }
}

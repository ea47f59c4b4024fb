using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer.LibTorch.Tests;

public class ModuleTests
{
    [Fact]
    public void AParameterTakesItsDatasHandleOver()
    {
        using var scope = NewDisposeScope();
        var data = ones(2);
        var parameter = new Parameter(data);
        Assert.True(data.IsInvalid);
        Assert.True(parameter.requires_grad);
        Assert.True(parameter.is_leaf);
        Assert.True(scope.Contains(parameter));
        Assert.Equal(1, scope.DisposablesCount);
        Assert.False(nn.Parameter(ones(2), requires_grad: false).requires_grad);
    }

    [Fact]
    public void NamesMayHaveDotsAndChildrenAddThem()
    {
        using var model = new Outer();
        Assert.Equal(
            ["model.scale", "inner.weight", "inner.deep.bias"],
            model.named_parameters().Select(static p => p.name));
        Assert.Equal(["model.scale"], model.named_parameters(recurse: false).Select(static p => p.name));
        Assert.Equal(["inner", "inner.deep"], model.named_modules().Select(static m => m.name));
        Assert.Same(model.Scale, model.get_parameter("model.scale"));
        Assert.Same(model.Inner.Weight, model.get_parameter("inner.weight"));
        Assert.Null(model.get_parameter("inner.nothing"));
        Assert.True(model.has_parameter("inner.weight"));
        Assert.Equal(["model.scale", "inner.weight", "inner.deep.bias", "inner.steps"], model.state_dict().Keys);
        Assert.Equal(2, model.named_buffers().Count());
        Assert.Single(model.named_buffers(include_nonpersistent: false));
    }

    [Fact]
    public void ATakenNameAndADisposedTensorAreRefused()
    {
        using var model = new Outer();
        Assert.Contains("model.scale", Assert.Throws<InvalidOperationException>(
            () => model.register_parameter("model.scale", new Parameter(ones(1)))).Message);
        var gone = new Parameter(ones(1));
        gone.Dispose();
        Assert.Throws<ArgumentNullException>(() => model.register_parameter("gone", gone));
        Assert.Throws<ArgumentException>(() => model.register_module("a.b", new Inner()));
    }

    [Fact]
    public void ToReplacesAndDisposesWhatChanges()
    {
        using var model = new Outer();
        var scale = model.Scale;
        var steps = model.get_buffer("inner.steps");
        nn.functional.linear(ones(1, 2), model.Inner.Weight).sum().backward();
        Assert.Same(model, model.to(float64));
        Assert.True(scale.IsInvalid);
        var replaced = model.get_parameter("model.scale")!;
        Assert.Equal(float64, replaced.dtype);
        Assert.True(replaced.requires_grad);
        Assert.Same(replaced, model.Scale);
        Assert.Equal(float64, model.get_parameter("inner.weight")!.grad!.dtype);
        Assert.Same(steps, model.get_buffer("inner.steps"));
        Assert.Equal(int64, steps!.dtype);

        Assert.Same(replaced, model.to(float64).get_parameter("model.scale"));
        Assert.Same(replaced, model.cpu().get_parameter("model.scale"));
        Assert.Throws<ArgumentException>(() => model.to(int64));
    }

    [Fact]
    public void ToInsideAScopeKeepsTheNewParameters()
    {
        using var model = new Outer();
        using (NewDisposeScope())
        {
            model.to(float64);
        }

        Assert.False(model.Scale.IsInvalid);
    }

    [Fact]
    public void ZeroGradDropsOrZeroes()
    {
        using var model = new Outer();
        Backward();
        model.zero_grad(set_to_none: false);
        Assert.Equal([0f, 0f], model.Scale.grad!.data<float>().ToArray());
        Backward();
        model.zero_grad();
        Assert.Null(model.Scale.grad);

        void Backward() => model.call(ones(2)).sum().backward();
    }

    [Fact]
    public void StateDictRoundTrips()
    {
        using var source = new Outer();
        using var target = new Outer();
        using (no_grad())
        {
            source.Scale.fill_(7);
        }

        var (missing, unexpected) = target.load_state_dict(source.state_dict());
        Assert.Empty(missing);
        Assert.Empty(unexpected);
        Assert.Equal([7f, 7f], target.Scale.data<float>().ToArray());

        var partial = new Dictionary<string, Tensor> { ["model.scale"] = ones(2), ["stranger"] = ones(1) };
        var error = Assert.Throws<InvalidOperationException>(() => target.load_state_dict(partial));
        Assert.Contains("inner.weight", error.Message);
        Assert.Contains("stranger", error.Message);
        (missing, unexpected) = target.load_state_dict(partial, strict: false);
        Assert.Equal(3, missing.Count);
        Assert.Equal(["stranger"], unexpected);
    }

    [Fact]
    public void TrainAndEvalReachTheChildren()
    {
        using var model = new Outer();
        Assert.True(model.Inner.training);
        model.eval();
        Assert.False(model.training);
        Assert.False(model.Inner.training);
        model.train();
        Assert.True(model.Inner.training);
    }

    [Fact]
    public void DisposingAModuleDisposesItsTensors()
    {
        var model = new Outer();
        var weight = model.Inner.Weight;
        model.Dispose();
        model.Dispose();
        Assert.True(weight.IsInvalid);
        Assert.True(model.Scale.IsInvalid);
        Assert.Empty(model.parameters());
    }

    [Fact]
    public void HooksRunAroundForward()
    {
        using var model = new Outer();
        var before = model.register_forward_pre_hook(static (_, input) => input * 2);
        model.register_forward_hook(static (_, _, result) => result + 1);
        Assert.Equal([3f, 3f], model.call(ones(2)).data<float>().ToArray());
        before.remove();
        Assert.Equal([2f, 2f], model.call(ones(2)).data<float>().ToArray());
        Assert.Equal([1f, 1f], model.forward(ones(2)).data<float>().ToArray());
    }

    [Fact]
    public void ATensorSharedByTwoNamesIsOneParameter()
    {
        using var tied = new Parameter(ones(2));
        using var model = new Tied(tied);
        Assert.Equal(["first"], model.named_parameters().Select(static p => p.name));
    }

    [Fact]
    public void ClippingScalesToTheNormAndTellsTheOldOne()
    {
        using var a = new Parameter(zeros(2));
        using var b = new Parameter(zeros(1));
        using var unused = new Parameter(zeros(1));
        a.grad = tensor(new float[] { 3, 0 });
        b.grad = tensor(new float[] { 4 });
        Assert.Equal(5, nn.utils.clip_grad_norm_([a, b, unused], 1), 5);
        Assert.Equal(0.6f, a.grad!.data<float>()[0], 5);
        Assert.Equal(0.8f, b.grad!.data<float>()[0], 5);
        Assert.Equal(1, nn.utils.clip_grad_norm_([a, b], 10), 5);
        Assert.Equal(0.8f, b.grad!.data<float>()[0], 5);
        Assert.Equal(0.8, nn.utils.clip_grad_norm_([a, b], 100, double.PositiveInfinity), 5);
        Assert.Equal(0, nn.utils.clip_grad_norm_([unused], 1));
    }

    private sealed class Inner : nn.Module
    {
        public Inner()
            : base("inner")
        {
            Weight = new Parameter(ones(3, 2));
            register_parameter("weight", Weight);
            register_buffer("steps", zeros(1, dtype: int64));
            register_buffer("cache", zeros(1), persistent: false);
            register_module("deep", new Deep());
        }

        public Parameter Weight { get; }
    }

    private sealed class Deep : nn.Module
    {
        public Deep()
            : base("deep") => register_parameter("bias", new Parameter(zeros(3)));
    }

    private sealed class Tied : nn.Module
    {
        public Tied(Parameter parameter)
            : base("tied")
        {
            register_parameter("first", parameter);
            register_parameter("second", parameter);
        }
    }

    private sealed class Outer : nn.Module<Tensor, Tensor>
    {
        public Outer()
            : base("outer")
        {
            register_parameter("model.scale", new Parameter(ones(2)));
            Inner = new Inner();
            register_module("inner", Inner);
            Scale = get_parameter("model.scale")!;
        }

        public Parameter Scale { get; private set; }

        public Inner Inner { get; }

        public override Tensor forward(Tensor input) => input * Scale;

        // What generated code does: fields follow the registered parameters.
        protected override void _toEpilog(ScalarType? dtype, Device? device, bool non_blocking)
        {
            base._toEpilog(dtype, device, non_blocking);
            Scale = get_parameter("model.scale")!;
        }
    }
}

using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// Holds all weights of a model in one float32 tensor, and all gradients in another. The parameters are views of the first. Operations on
/// all weights, such as clipping or an optimizer step, then take a few calls for any model. Weights that decay come first.
/// </summary>
internal sealed class FlatWeights : IDisposable
{
    // Parameters begin at multiples of this many numbers: a cache line, which also suits vector loads.
    internal const long Unit = 16;

    private readonly List<(Parameter Parameter, long First, long Count)> _places = [];
    private readonly long _length;
    private Tensor? _gradients;
    private Tensor[]? _gradientViews;

    private FlatWeights(IReadOnlyList<Parameter> parameters, int decaying)
    {
        foreach (var parameter in parameters)
        {
            _places.Add((parameter, _length, parameter.numel()));
            _length += (parameter.numel() + Unit - 1) / Unit * Unit;
            if (_places.Count == decaying) Decaying = _length;
        }

        using var unrecorded = no_grad();
        Weights = zeros(_length, ScalarType.Float32, parameters[0].device).DetachFromDisposeScope();
        foreach (var (parameter, first, count) in _places)
        {
            using var view = View(Weights, parameter, first, count);
            view.copy_(parameter);
            parameter.set_(view);
        }
    }

    /// <summary>All weights, (n) float32, with zeros in the gaps.</summary>
    public Tensor Weights { get; }

    /// <summary>How many of the numbers decay. They are the first ones.</summary>
    public long Decaying { get; }

    /// <summary>All gradients, in the same layout as the weights.</summary>
    public Tensor Gradients => _gradients ??= zeros_like(Weights).DetachFromDisposeScope();

    /// <summary>
    /// Moves the parameters of a model into one tensor. Returns null unless there are trainable parameters that are all float32 and hold
    /// numbers.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="decaying">The parameters that decay.</param>
    public static FlatWeights? Of(nn.Module model, IEnumerable<Parameter> decaying)
    {
        var all = model.parameters().Where(parameter => parameter.requires_grad).ToList();
        if (all.Count == 0 || all.Any(parameter => parameter.dtype != ScalarType.Float32 || parameter.device_type == DeviceType.META))
            return null;
        var decay = new HashSet<Parameter>(decaying, ReferenceEqualityComparer.Instance);
        return new FlatWeights([.. all.Where(decay.Contains), .. all.Where(parameter => !decay.Contains(parameter))], decay.Count);
    }

    /// <summary>Returns the place of a parameter in <see cref="Weights"/>.</summary>
    public (Parameter Parameter, long First, long Count) PlaceOf(Parameter parameter) =>
        _places.Find(place => ReferenceEquals(place.Parameter, parameter));

    /// <summary>Returns the part of <paramref name="flat"/> that belongs to a parameter, as a view in the parameter's shape.</summary>
    public Tensor ViewOf(Tensor flat, Parameter parameter)
    {
        var (_, first, count) = PlaceOf(parameter);
        return View(flat, parameter, first, count);
    }

    /// <summary>
    /// Clears the gradients. Fused kernels overwrite old gradients, so for them the parameters' <c>grad</c> is null. Otherwise gradients
    /// are set to zero, and new ones are added to them.
    /// </summary>
    public void ClearGradients()
    {
        using var scope = NewDisposeScope();
        var views = GradientViews();
        var areFused = Kernels.Cpu.Takes(Weights);
        if (!areFused) Gradients.zero_();
        for (var i = 0; i < views.Length; i++) _places[i].Parameter.grad = areFused ? null : views[i];
    }

    /// <summary>Sets the <c>grad</c> of every parameter to null, so that the next backward pass starts anew.</summary>
    public void ForgetGradients()
    {
        foreach (var (parameter, _, _) in _places) parameter.grad = null;
    }

    /// <summary>The parameters in the order in which they lie in <see cref="Weights"/>, and their places there.</summary>
    public IReadOnlyList<(Parameter Parameter, long First, long Count)> Places => _places;

    /// <summary>Collects all gradients in <see cref="Gradients"/>. A weight without a gradient gets zeros.</summary>
    public void GatherGradients()
    {
        for (var i = 0; i < _places.Count; i++) GatherGradient(i);
    }

    /// <summary>
    /// Collects the gradient of one of <see cref="Places"/> in <see cref="Gradients"/>, and returns it there. Do not dispose it.
    /// </summary>
    public Tensor GatherGradient(int place)
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        var view = GradientViews()[place];
        using var gradient = _places[place].Parameter.grad;
        if (gradient is null) view.zero_();
        else if (TensorMemory.Of(gradient) == TensorMemory.Of(view)) return view;
        else view.copy_(gradient);
        _places[place].Parameter.grad = view;
        return view;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Weights.Dispose();
        _gradients?.Dispose();
        foreach (var view in _gradientViews ?? []) view.Dispose();
    }

    private static Tensor View(Tensor flat, Tensor parameter, long first, long count)
    {
        using var part = flat.narrow(0, first, count);
        return part.view(parameter.shape).DetachFromDisposeScope();
    }

    private Tensor[] GradientViews()
    {
        if (_gradientViews is not null) return _gradientViews;
        _gradientViews = [.. _places.Select(place => View(Gradients, place.Parameter, place.First, place.Count))];
        for (var i = 0; i < _gradientViews.Length; i++) MatFormer.Gradients.Place(_places[i].Parameter, _gradientViews[i]);
        return _gradientViews;
    }
}

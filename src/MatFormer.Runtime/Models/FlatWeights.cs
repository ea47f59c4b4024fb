using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// All weights of a model in one float32 tensor, of which its parameters are views, with another for their gradients. What is done to all
/// weights alike (clipping, an optimizer's step) is so a few operations, whatever the model. Weights that decay come first.
/// </summary>
internal sealed class FlatWeights : IDisposable
{
    // Parameters begin at multiples of so many numbers: a line of the cache, and what vector loads like.
    private const long Unit = 16;

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

    /// <summary>All weights, (n) float32, zeros in the gaps.</summary>
    public Tensor Weights { get; }

    /// <summary>How many of the numbers decay: the first ones.</summary>
    public long Decaying { get; }

    /// <summary>All gradients, laid out as the weights.</summary>
    public Tensor Gradients => _gradients ??= zeros_like(Weights).DetachFromDisposeScope();

    /// <summary>Moves the parameters of a model into one tensor, where they can be trained and are float32 on one device.</summary>
    /// <param name="model">The model.</param>
    /// <param name="decaying">Those of its parameters that decay.</param>
    public static FlatWeights? Of(nn.Module model, IEnumerable<Parameter> decaying)
    {
        var all = model.parameters().Where(parameter => parameter.requires_grad).ToList();
        if (all.Count == 0 || all.Any(parameter => parameter.dtype != ScalarType.Float32 || parameter.device_type == DeviceType.META)) return null;
        var decay = new HashSet<Parameter>(decaying, ReferenceEqualityComparer.Instance);
        return new FlatWeights([.. all.Where(decay.Contains), .. all.Where(parameter => !decay.Contains(parameter))], decay.Count);
    }

    /// <summary>A view of numbers that are laid out as the weights, in the shape of one of them.</summary>
    public Tensor ViewOf(Tensor flat, Parameter parameter)
    {
        var (_, first, count) = _places.Find(place => ReferenceEquals(place.Parameter, parameter));
        return View(flat, parameter, first, count);
    }

    /// <summary>
    /// Forgets the gradients. Where fused kernels run, they write the first ones over what was there; else all are zero and there, so that
    /// the others are added to them.
    /// </summary>
    public void ClearGradients()
    {
        using var scope = NewDisposeScope();
        var views = GradientViews();
        var areFused = Kernels.Cpu.Takes(Weights);
        if (!areFused) Gradients.zero_();
        for (var i = 0; i < views.Length; i++) _places[i].Parameter.grad = areFused ? null : views[i];
    }

    /// <summary>Takes the gradients from the parameters: what computes some next begins anew.</summary>
    public void ForgetGradients()
    {
        foreach (var (parameter, _, _) in _places) parameter.grad = null;
    }

    /// <summary>Brings all gradients together in <see cref="Gradients"/>: zeros for a weight that has none.</summary>
    public void GatherGradients()
    {
        using var unrecorded = no_grad();
        using var scope = NewDisposeScope();
        var views = GradientViews();
        for (var i = 0; i < views.Length; i++)
        {
            using var gradient = _places[i].Parameter.grad;
            if (gradient is null) views[i].zero_();
            else if (TensorMemory.Of(gradient) == TensorMemory.Of(views[i])) continue;
            else views[i].copy_(gradient);
            _places[i].Parameter.grad = views[i];
        }
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

using System.ComponentModel;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>
/// The routers of a universal model, one for each routed layer. They are weights like others, but no slice keeps them, because a slice has
/// nothing to choose from.
/// </summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed class Routers
{
    /// <summary>The end of the names of a language model's thresholds.</summary>
    internal const string ThresholdsName = "router.thresholds";

    private const string WeightName = "router.weight";
    private const string ScaleName = "router.alpha";

    private readonly Router?[] _layers;

    /// <summary>
    /// Creates routers with random weights. Their scales are 0, so that at first no score scales anything. The thresholds of a language
    /// model are infinite, so that at first every token takes the narrowest granularity.
    /// </summary>
    public Routers(ModelSpec spec, Device device)
    {
        ArgumentNullException.ThrowIfNull(spec);
        _layers = new Router?[spec.Layers];
        if (spec.Routing is null) return;
        var granularities = spec.Granularities.Length;
        foreach (var layer in spec.Routing.Layers)
        {
            _layers[layer] = new(Weights.Normal(0.02, device, granularities, spec.Width), Weights.Zeros(device, 1))
            {
                Thresholds = spec.Kind != ModelKind.LanguageModel ? null
                    : Weights.Untrained(float.PositiveInfinity, device, spec.Routing.Budgets.Length, granularities - 1),
            };
        }
    }

    /// <summary>Registers the weights under the names of their layers.</summary>
    public void Register(nn.Module module, Func<int, string> prefix)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(prefix);
        for (var layer = 0; layer < _layers.Length; layer++)
        {
            if (_layers[layer] is not { } its) continue;
            module.register_parameter(prefix(layer) + WeightName, its.Weight);
            module.register_parameter(prefix(layer) + ScaleName, its.Scale);
            if (its.Thresholds is { } thresholds) module.register_parameter(prefix(layer) + ThresholdsName, thresholds);
        }
    }

    /// <summary>Takes the module's parameters, which are new objects after it has moved.</summary>
    public void Bind(nn.Module module, Func<int, string> prefix)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(prefix);
        for (var layer = 0; layer < _layers.Length; layer++)
        {
            if (_layers[layer] is not { } its) continue;
            _layers[layer] = new(module.get_parameter(prefix(layer) + WeightName)!, module.get_parameter(prefix(layer) + ScaleName)!)
            {
                Thresholds = its.Thresholds is null ? null : module.get_parameter(prefix(layer) + ThresholdsName),
            };
        }
    }

    /// <summary>Returns the route of a layer, or null if all tokens use the same hidden units.</summary>
    public Route? Of(int layer, Streams streams)
    {
        ArgumentNullException.ThrowIfNull(streams);
        if (streams.Budget?.Layers[layer] is not { } routed || _layers[layer] is not { } its) return null;
        var texts = streams.Lengths is { } lengths ? streams.Budget.Over(layer, lengths) : null;
        return new Route(its.Weight, its.Scale, routed) { Texts = texts };
    }

    /// <summary>
    /// Returns the route of the tokens x (B, T, Width) of a language model in a layer, or null if all use the same hidden units.
    /// </summary>
    public Route? Of(int layer, Streams streams, Tensor x)
    {
        ArgumentNullException.ThrowIfNull(streams);
        ArgumentNullException.ThrowIfNull(x);
        if (streams.Budget?.Layers[layer] is null || _layers[layer] is not { } its) return null;
        return new Route(its.Weight, its.Scale, streams.Budget.Over(layer, checked((int)(x.shape[0] * x.shape[1]))))
        {
            Thresholds = its.Thresholds,
            Budget = streams.BudgetIndex,
            IsCausal = streams.IsCausal,
            Scores = streams.Scores is { } scores ? odds => scores(layer, its.Thresholds!, odds) : null,
            Use = streams.Use,
        };
    }

    private sealed record Router(Parameter Weight, Parameter Scale)
    {
        // (budgets, granularities - 1), of language models only. They are kept with the weights, but no gradient reaches them.
        public Parameter? Thresholds { get; init; }
    }
}

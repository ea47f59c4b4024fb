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
    private const string WeightName = "router.weight";
    private const string ScaleName = "router.alpha";

    private readonly (Parameter Weight, Parameter Scale)?[] _layers;

    /// <summary>Creates routers with random weights. Their scales are 0, so that at first no score scales anything.</summary>
    public Routers(ModelSpec spec, Device device)
    {
        ArgumentNullException.ThrowIfNull(spec);
        _layers = new (Parameter, Parameter)?[spec.Layers];
        foreach (var layer in spec.Routing?.Layers ?? [])
            _layers[layer] = (Weights.Normal(0.02, device, spec.Granularities.Length, spec.Width), Weights.Zeros(device, 1));
    }

    /// <summary>Registers the weights under the names of their layers.</summary>
    public void Register(nn.Module module, Func<int, string> prefix)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(prefix);
        for (var layer = 0; layer < _layers.Length; layer++)
        {
            if (_layers[layer] is not var (weight, scale)) continue;
            module.register_parameter(prefix(layer) + WeightName, weight);
            module.register_parameter(prefix(layer) + ScaleName, scale);
        }
    }

    /// <summary>Takes the module's parameters, which are new objects after it has moved.</summary>
    public void Bind(nn.Module module, Func<int, string> prefix)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(prefix);
        for (var layer = 0; layer < _layers.Length; layer++)
        {
            if (_layers[layer] is null) continue;
            _layers[layer] = (module.get_parameter(prefix(layer) + WeightName)!, module.get_parameter(prefix(layer) + ScaleName)!);
        }
    }

    /// <summary>Returns the route of a layer, or null if all tokens use the same hidden units.</summary>
    public Route? Of(int layer, Streams streams)
    {
        ArgumentNullException.ThrowIfNull(streams);
        return streams.Budget?.Layers[layer] is { } routed && _layers[layer] is var (weight, scale)
            ? new Route(weight, scale, routed)
            : null;
    }
}

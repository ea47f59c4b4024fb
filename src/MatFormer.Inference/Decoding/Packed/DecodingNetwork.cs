using System.Collections.Immutable;
using System.ComponentModel;

namespace MatFormer;

/// <summary>The packed weights of a model and the pass through them. Generated code derives a class for each model.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public abstract class DecodingNetwork : IDisposable
{
    private readonly WeightPacker _packer;

    /// <summary>Called by generated code, whose constructors pack all weights.</summary>
    /// <param name="spec">The declared model.</param>
    /// <param name="layers">The part of each layer that is kept.</param>
    /// <param name="packer">Packs the weights.</param>
    protected DecodingNetwork(ModelSpec spec, ImmutableArray<LayerSlice> layers, WeightPacker packer) =>
        (Spec, Layers, _packer) = (spec.Narrowed(layers.AsSpan()), layers, packer);

    /// <summary>The declared model, as wide as the residual stream that is kept.</summary>
    internal ModelSpec Spec { get; }

    internal ImmutableArray<LayerSlice> Layers { get; }

    internal DecodingWeights Type => _packer.Type;

    internal long Bytes => _packer.Bytes;

    /// <summary>True if tokens can choose their hidden units: the weights are those of the whole model, with its routers.</summary>
    internal bool CanRoute => _packer.HasRouters && Layers.AsSpan().SequenceEqual(Spec.WholeLayers.AsSpan());

    /// <summary>
    /// Computes one thread's share of a pass. All threads of the team run this method at once, each with its share of every step.
    /// </summary>
    public abstract void Run(DecodingThread thread);

    /// <inheritdoc/>
    public void Dispose() => _packer.Release();
}

using System.Collections.Immutable;
using System.ComponentModel;

namespace MatFormer;

/// <summary>The packed weights of a model and its pass through them: what generated code derives for each model.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public abstract class DecodingNetwork : IDisposable
{
    private readonly WeightPacker _packer;

    /// <summary>Called by generated code, which packs all weights then.</summary>
    /// <param name="spec">The declared model.</param>
    /// <param name="layers">What is kept of each layer.</param>
    /// <param name="packer">Packs the weights.</param>
    protected DecodingNetwork(ModelSpec spec, ImmutableArray<LayerSlice> layers, WeightPacker packer) =>
        (Spec, Layers, _packer) = (spec, layers, packer);

    internal ModelSpec Spec { get; }

    internal ImmutableArray<LayerSlice> Layers { get; }

    internal DecodingWeights Type => _packer.Type;

    internal long Bytes => _packer.Bytes;

    /// <summary>What one thread does of a pass: every thread of the team is in here at once, each with its share of every step.</summary>
    public abstract void Run(DecodingThread thread);

    /// <inheritdoc/>
    public void Dispose() => _packer.Release();
}

using System.Collections.Immutable;
using System.ComponentModel;

namespace MatFormer;

/// <summary>The interface that generated code implements for a declared model that can decode.</summary>
/// <typeparam name="TSelf">The declared model.</typeparam>
public interface IDecodable<TSelf> : IDeclaredModel<TSelf>
    where TSelf : IDecodable<TSelf>
{
    /// <summary>Packs the weights of a submodel for a <see cref="DecodingEngine"/>.</summary>
    [EditorBrowsable(EditorBrowsableState.Never)]
    static virtual DecodingNetwork CreateDecodingNetwork(ImmutableArray<LayerSlice> layers, WeightPacker packer) =>
        throw new NotSupportedException($"{TSelf.Spec.Name} is not a language model, so it cannot decode.");
}

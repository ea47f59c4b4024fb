using System.ComponentModel;
using static TorchSharp.torch;

namespace MatFormer;

/// <summary>The weights of a norm over the last dimension: LayerNorm with a bias, RMSNorm without one.</summary>
/// <param name="Weight">(W) float32.</param>
/// <param name="Bias">(W) float32, or null.</param>
/// <param name="Epsilon">The number added to the variance, or to the mean of the squares.</param>
[EditorBrowsable(EditorBrowsableState.Never)]
public readonly record struct NormWeights(Tensor Weight, Tensor? Bias, double Epsilon)
{
    /// <summary>Creates the weights of RMSNorm.</summary>
    public NormWeights(Tensor weight, double epsilon)
        : this(weight, null, epsilon)
    {
    }

    internal Tensor Apply(Tensor x) => Bias is null ? Kernels.RmsNorm(x, Weight, Epsilon) : Kernels.LayerNorm(x, Weight, Bias, Epsilon);
}

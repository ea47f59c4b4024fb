using System;

namespace MatFormer;

/// <summary>
/// Trains a model for weights of fewer bits: 8-bit numbers whose upper 4 and 2 bits are the weights of a model each (MatQuant, arXiv
/// 2502.06786). Training rounds the weights of a step to the bits, and profiles say by <see cref="ProfileAttribute.Bits"/> in how many bits
/// they are meant to be stored and decoded. The parameters themselves stay float32.
/// </summary>
/// <example><c>[Precision(8, 4, 2)]</c></example>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class PrecisionAttribute : Attribute
{
    /// <summary>Declares the bits.</summary>
    /// <param name="bits">8, and after it 4, 2 or both, widest first.</param>
    public PrecisionAttribute(params int[] bits) => Bits = bits;

    /// <summary>The bits, widest first.</summary>
    public int[] Bits { get; }
}

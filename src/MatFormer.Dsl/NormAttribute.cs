using System;

namespace MatFormer;

/// <summary>
/// Declares the norms in front of attention, feed-forward and head. Without this attribute, they are RMS norms with epsilon 1e-5, or layer
/// norms with epsilon 1e-12 for <see cref="MatViTAttribute"/>.
/// </summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class NormAttribute : Attribute
{
    /// <summary>Declares the norms.</summary>
    public NormAttribute(NormKind kind = NormKind.Rms) => Kind = kind;

    /// <summary>The kind of norm.</summary>
    public NormKind Kind { get; }

    /// <summary>The number added to the mean square, or to the variance, before the square root. The default is 1e-5.</summary>
    public double Epsilon { get; set; } = 1e-5;
}

using System;

namespace MatFormer;

/// <summary>
/// The norms in front of attention, feed-forward and head. RMS norms with epsilon 1e-5 if not declared; in <see cref="MatViTAttribute"/>
/// layer norms with epsilon 1e-12.
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

    /// <summary>Which norm.</summary>
    public NormKind Kind { get; }

    /// <summary>Added to the mean square, or to the variance, before the root is taken; 1e-5 if not given.</summary>
    public double Epsilon { get; set; } = 1e-5;
}

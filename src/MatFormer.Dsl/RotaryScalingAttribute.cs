using System;

namespace MatFormer;

/// <summary>
/// Slows the rotary angles down, so that a model reaches further than the context that it was trained for at first. Not scaled if not
/// declared.
/// </summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
#if MATFORMER_GENERATOR
internal
#else
public
#endif
sealed class RotaryScalingAttribute : Attribute
{
    /// <summary>Declares the scaling.</summary>
    /// <param name="kind">Which frequencies are scaled.</param>
    /// <param name="factor">What they are divided by; above 1.</param>
    public RotaryScalingAttribute(RotaryScalingKind kind, double factor) => (Kind, Factor) = (kind, factor);

    /// <summary>Which frequencies are scaled.</summary>
    public RotaryScalingKind Kind { get; }

    /// <summary>What they are divided by.</summary>
    public double Factor { get; }

    /// <summary>
    /// The context, in tokens, that the model was trained for at first: wavelengths are compared with it. Needed for
    /// <see cref="RotaryScalingKind.Llama3"/>, and of it alone.
    /// </summary>
    public int OriginalContext { get; set; }

    /// <summary>
    /// Wavelengths above <see cref="OriginalContext"/> / this are divided by the whole factor; 1 if not given. Of
    /// <see cref="RotaryScalingKind.Llama3"/> alone.
    /// </summary>
    public double LowFrequencyFactor { get; set; } = 1;

    /// <summary>
    /// Wavelengths below <see cref="OriginalContext"/> / this are left as they are; 4 if not given. Of
    /// <see cref="RotaryScalingKind.Llama3"/> alone.
    /// </summary>
    public double HighFrequencyFactor { get; set; } = 4;
}

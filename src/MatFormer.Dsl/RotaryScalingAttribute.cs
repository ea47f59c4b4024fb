using System;

namespace MatFormer;

/// <summary>
/// Scales rotary frequencies down, so that a model can use a longer context than the one that it was first trained with. Without this
/// attribute, frequencies are not scaled.
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
    /// <param name="kind">The frequencies to scale.</param>
    /// <param name="factor">The number that the frequencies are divided by. It must be above 1.</param>
    public RotaryScalingAttribute(RotaryScalingKind kind, double factor) => (Kind, Factor) = (kind, factor);

    /// <summary>The frequencies that are scaled.</summary>
    public RotaryScalingKind Kind { get; }

    /// <summary>The number that the frequencies are divided by.</summary>
    public double Factor { get; }

    /// <summary>
    /// The context, in tokens, that the model was first trained with. Wavelengths are compared with it.
    /// <see cref="RotaryScalingKind.Llama3"/> requires this value, and no other kind allows it.
    /// </summary>
    public int OriginalContext { get; set; }

    /// <summary>
    /// Frequencies whose wavelength is above <see cref="OriginalContext"/> / LowFrequencyFactor are divided by the whole factor. The
    /// default is 1. Only <see cref="RotaryScalingKind.Llama3"/> allows this value.
    /// </summary>
    public double LowFrequencyFactor { get; set; } = 1;

    /// <summary>
    /// Frequencies whose wavelength is below <see cref="OriginalContext"/> / HighFrequencyFactor are not scaled. The default is 4. Only
    /// <see cref="RotaryScalingKind.Llama3"/> allows this value.
    /// </summary>
    public double HighFrequencyFactor { get; set; } = 4;
}

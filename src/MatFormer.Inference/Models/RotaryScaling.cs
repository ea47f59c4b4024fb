namespace MatFormer;

/// <summary>How rotary angles are scaled down, so that a model supports a longer context than that of its first training.</summary>
/// <param name="Kind">Which frequencies are scaled.</param>
/// <param name="Factor">The divisor of the frequencies; above 1.</param>
public sealed record RotaryScaling(RotaryScalingKind Kind, double Factor)
{
    internal const double UsualLow = 1;
    internal const double UsualHigh = 4;

    /// <summary>The context, in tokens, of the model's first training; 0 if linear.</summary>
    public int OriginalContext { get; init; }

    /// <summary>
    /// Frequencies with a wavelength above <see cref="OriginalContext"/> / this value are divided by the whole factor; 0 if linear.
    /// </summary>
    public double LowFrequencyFactor { get; init; }

    /// <summary>Frequencies with a wavelength below <see cref="OriginalContext"/> / this value are not scaled; 0 if linear.</summary>
    public double HighFrequencyFactor { get; init; }

    /// <summary>Returns the name that Hugging Face's transformers gives a kind (<c>rope_type</c>).</summary>
    internal static string TypeOf(RotaryScalingKind kind) => kind == RotaryScalingKind.Linear ? "linear" : "llama3";

    /// <summary>Returns the divisor of a frequency, which is in radians per token.</summary>
    internal double Divisor(double frequency)
    {
        if (Kind == RotaryScalingKind.Linear) return Factor;
        var periods = OriginalContext * frequency / (2 * Math.PI); // in the original context
        if (periods < LowFrequencyFactor) return Factor;
        if (periods > HighFrequencyFactor) return 1;
        var kept = (periods - LowFrequencyFactor) / (HighFrequencyFactor - LowFrequencyFactor);
        return 1 / (kept + ((1 - kept) / Factor));
    }
}

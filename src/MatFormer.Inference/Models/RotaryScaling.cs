namespace MatFormer;

/// <summary>How rotary angles are slowed down, so that a model reaches further than it was trained for at first.</summary>
/// <param name="Kind">Which frequencies are scaled.</param>
/// <param name="Factor">What they are divided by; above 1.</param>
public sealed record RotaryScaling(RotaryScalingKind Kind, double Factor)
{
    internal const double UsualLow = 1;
    internal const double UsualHigh = 4;

    /// <summary>The context, in tokens, that the model was trained for at first; 0 if linear.</summary>
    public int OriginalContext { get; init; }

    /// <summary>Wavelengths above <see cref="OriginalContext"/> / this are divided by the whole factor; 0 if linear.</summary>
    public double LowFrequencyFactor { get; init; }

    /// <summary>Wavelengths below <see cref="OriginalContext"/> / this are left as they are; 0 if linear.</summary>
    public double HighFrequencyFactor { get; init; }

    /// <summary>The names that transformers have for the kinds (<c>rope_type</c>).</summary>
    internal static string TypeOf(RotaryScalingKind kind) => kind == RotaryScalingKind.Linear ? "linear" : "llama3";

    /// <summary>What a frequency, in radians per token, is divided by.</summary>
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

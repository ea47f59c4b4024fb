using System.Globalization;

namespace Paper;

/// <summary>A mean over seeds and half of its 95% confidence interval (Student's t). The interval is NaN for a single seed.</summary>
internal readonly record struct Estimate(double Mean, double HalfWidth)
{
    // The 97.5% quantiles of Student's t for 1, 2, ... degrees of freedom.
    private static readonly double[] s_t = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];

    /// <summary>True if the interval lies above zero.</summary>
    public bool IsPositive => Mean - HalfWidth > 0;

    /// <summary>True if the interval lies below zero.</summary>
    public bool IsNegative => Mean + HalfWidth < 0;

    public static Estimate Of(IEnumerable<double> values)
    {
        var all = values.ToList();
        var mean = all.Average();
        if (all.Count < 2) return new Estimate(mean, double.NaN);
        var deviation = Math.Sqrt(all.Sum(v => (v - mean) * (v - mean)) / (all.Count - 1));
        return new Estimate(mean, s_t[Math.Min(all.Count - 2, s_t.Length - 1)] * deviation / Math.Sqrt(all.Count));
    }

    /// <summary>True for a single seed, which has no interval.</summary>
    public bool IsAlone => double.IsNaN(HalfWidth);

    /// <summary>Formats the estimate, such as 1.234 ± 0.005.</summary>
    public string Format(string format = "0.000")
    {
        var mean = Mean.ToString(format, CultureInfo.InvariantCulture);
        return IsAlone ? mean : $"{mean} ± {HalfWidth.ToString(format.TrimStart('+').Split(';')[0], CultureInfo.InvariantCulture)}";
    }

    /// <summary>Formats the estimate with its sign, such as +1.234 ± 0.005.</summary>
    public string Signed() => Format("+0.000;-0.000;0.000");
}

/// <summary>The power law loss = C + A (parameters × tokens)^B, as in the paper's section 4.1.3 (table 3).</summary>
internal sealed record PowerLaw(double A, double B, double C)
{
    public double At(double x) => C + (A * Math.Pow(x, B));

    /// <summary>Fits by least squares. For each exponent B, A and C are a linear fit. C is not below zero.</summary>
    public static PowerLaw Fit(IReadOnlyList<(double X, double Loss)> points)
    {
        PowerLaw? best = null;
        var least = double.PositiveInfinity;
        for (var b = -1.0; b < -0.005; b += 0.001)
        {
            // The scale keeps the numbers near 1.
            var scale = points.Average(p => Math.Log(p.X));
            var powers = points.Select(p => Math.Exp(b * (Math.Log(p.X) - scale))).ToList();
            var (meanPower, meanLoss) = (powers.Average(), points.Average(p => p.Loss));
            var slope = powers.Zip(points, (power, p) => (power - meanPower) * (p.Loss - meanLoss)).Sum()
                / powers.Sum(power => (power - meanPower) * (power - meanPower));
            var floor = meanLoss - (slope * meanPower);
            if (floor < 0)
                (floor, slope) = (0, powers.Zip(points, (power, p) => power * p.Loss).Sum() / powers.Sum(power => power * power));
            var law = new PowerLaw(slope * Math.Exp(-b * scale), b, floor);
            var error = law.Error(points);
            if (error < least) (best, least) = (law, error);
        }

        return best!;
    }

    /// <summary>Returns the root mean square error.</summary>
    public double Error(IReadOnlyList<(double X, double Loss)> points) =>
        Math.Sqrt(points.Average(p => (At(p.X) - p.Loss) * (At(p.X) - p.Loss)));
}

namespace MatFormer;

/// <summary>
/// Chooses how many tokens to draft: the number that promises the most tokens per second, estimated from the share of accepted tokens and
/// from recent times of passes. If no draft promises a gain, nothing is drafted.
/// </summary>
/// <param name="fixedLength">The number of tokens to always draft, if not null.</param>
internal sealed class DraftLengths(int? fixedLength)
{
    /// <summary>The largest number of tokens that is drafted.</summary>
    public const int Longest = 8;

    // The weight of one token in the moving average of the accepted share.
    private const double Newest = 0.03;

    // The most that one longer time raises an estimate: a pass takes its shortest recent time, and the rest is load of other programs.
    private const double Drift = 1.02;

    // Passes without a draft: first to measure their time, and later before drafting is tried again.
    private const int Alone = 3;
    private const int Retry = 50;

    // The seconds of a pass, by the number of drafted tokens that it verifies; 0 is without a draft.
    private readonly double[] _passes = [.. Enumerable.Repeat(double.NaN, Longest + 1)];
    private double _acceptance = 0.8;
    private double _draftStep = double.NaN; // seconds
    private int _alone;

    /// <summary>Returns the number of tokens to draft before the next pass.</summary>
    public int Next()
    {
        if (fixedLength is { } length) return length;
        if (_alone < Alone) return 0;
        if (double.IsNaN(_draftStep)) return Longest / 2;
        var (best, most) = (0, 1 / _passes[0]);
        var expected = 1.0;
        for (var k = 1; k <= Longest; k++)
        {
            // The k-th token counts if it and all tokens before it are accepted (Leviathan et al., section 3.1).
            expected += Math.Pow(_acceptance, k);
            var rate = expected / ((k * _draftStep) + PassOf(k));
            if (rate > most) (best, most) = (k, rate);
        }

        return best == 0 && _alone >= Retry ? 1 : best;
    }

    /// <summary>Records the time that drafting took.</summary>
    public void Drafted(int steps, double seconds)
    {
        if (steps > 0) _draftStep = Least(_draftStep, seconds / steps);
    }

    /// <summary>Records the time of the model's pass, and the largest number of tokens drafted before it.</summary>
    public void Took(int drafted, double seconds)
    {
        _passes[drafted] = Least(_passes[drafted], seconds);
        _alone = drafted == 0 ? _alone + 1 : Math.Min(_alone, Alone);
    }

    /// <summary>Records how many drafted tokens were accepted.</summary>
    public void Verified(int drafted, int accepted)
    {
        // The first rejected token ends the draft: the tokens after it were not judged.
        for (var i = 0; i < Math.Min(drafted, accepted + 1); i++) _acceptance += Newest * ((i < accepted ? 1 : 0) - _acceptance);
    }

    // An unknown time is interpolated linearly from the pass without a draft and the nearest known pass.
    private double PassOf(int drafted)
    {
        for (var apart = 0; apart < Longest; apart++)
        {
            foreach (var known in (ReadOnlySpan<int>)[drafted - apart, drafted + apart])
            {
                if (known is < 1 or > Longest || double.IsNaN(_passes[known])) continue;
                return _passes[0] + (Math.Max(0, _passes[known] - _passes[0]) * drafted / known);
            }
        }

        return _passes[0];
    }

    private static double Least(double least, double value) => double.IsNaN(least) ? value : Math.Min(value, least * Drift);
}

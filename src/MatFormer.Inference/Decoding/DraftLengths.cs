namespace MatFormer;

/// <summary>
/// How many tokens to draft: those that promise the most tokens in a second, by the share that was accepted and by what passes took of
/// late. Without a promise of more than without a draft there is none.
/// </summary>
/// <param name="fixedLength">Always so many, if not null.</param>
internal sealed class DraftLengths(int? fixedLength)
{
    /// <summary>Tokens that are drafted at most.</summary>
    public const int Longest = 8;

    // Of the share that is accepted, what one token says.
    private const double Newest = 0.03;

    // How much a time may be outdated after each that was longer: the shortest of late is what a pass takes, the rest is others' work.
    private const double Drift = 1.02;

    // Passes without a draft, first to know what they take, then before it is tried again.
    private const int Alone = 3;
    private const int Retry = 50;

    // Seconds of a pass that verifies so many drafted tokens; at 0, without a draft.
    private readonly double[] _passes = [.. Enumerable.Repeat(double.NaN, Longest + 1)];
    private double _acceptance = 0.8;
    private double _draftStep = double.NaN; // seconds
    private int _alone;

    /// <summary>Tokens to draft before the next pass.</summary>
    public int Next()
    {
        if (fixedLength is { } length) return length;
        if (_alone < Alone) return 0;
        if (double.IsNaN(_draftStep)) return Longest / 2;
        var (best, most) = (0, 1 / _passes[0]);
        var expected = 1.0;
        for (var k = 1; k <= Longest; k++)
        {
            // The k-th counts if all before it are accepted (Leviathan et al., section 3.1).
            expected += Math.Pow(_acceptance, k);
            var rate = expected / ((k * _draftStep) + PassOf(k));
            if (rate > most) (best, most) = (k, rate);
        }

        return best == 0 && _alone >= Retry ? 1 : best;
    }

    /// <summary>What drafting took.</summary>
    public void Drafted(int steps, double seconds)
    {
        if (steps > 0) _draftStep = Least(_draftStep, seconds / steps);
    }

    /// <summary>What the model's pass took, so many tokens having been drafted at most.</summary>
    public void Took(int drafted, double seconds)
    {
        _passes[drafted] = Least(_passes[drafted], seconds);
        _alone = drafted == 0 ? _alone + 1 : Math.Min(_alone, Alone);
    }

    /// <summary>How many of so many drafted tokens were accepted.</summary>
    public void Verified(int drafted, int accepted)
    {
        // The first that is not accepted ends the draft: those behind it were not judged.
        for (var i = 0; i < Math.Min(drafted, accepted + 1); i++) _acceptance += Newest * ((i < accepted ? 1 : 0) - _acceptance);
    }

    // What is not known yet grows from the pass without a draft as it does up to the nearest that is known.
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

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

    // Of averages, the share that the newest value has.
    private const double Newest = 0.1;

    // Passes without a draft, first to know what they take, then before it is tried again.
    private const int Alone = 3;
    private const int Retry = 50;

    private double _acceptance = 0.8;
    private double _draftStep = double.NaN; // seconds
    private double _plainPass = double.NaN;
    private double _verifyingToken = double.NaN; // what each drafted token adds to a pass
    private int _alone;

    /// <summary>Tokens to draft before the next pass.</summary>
    public int Next()
    {
        if (fixedLength is { } length) return length;
        if (_alone < Alone) return 0;
        if (double.IsNaN(_draftStep)) return Longest / 2;
        var (best, most) = (0, 1 / _plainPass);
        var expected = 1.0;
        for (var k = 1; k <= Longest; k++)
        {
            // The k-th counts if all before it are accepted (Leviathan et al., section 3.1).
            expected += Math.Pow(_acceptance, k);
            var rate = expected / ((k * (_draftStep + _verifyingToken)) + _plainPass);
            if (rate > most) (best, most) = (k, rate);
        }

        return best == 0 && _alone >= Retry ? 1 : best;
    }

    /// <summary>What drafting took.</summary>
    public void Drafted(int steps, double seconds)
    {
        if (steps > 0) _draftStep = Average(_draftStep, seconds / steps);
    }

    /// <summary>What the model's pass took, so many tokens having been drafted at most.</summary>
    public void Took(int drafted, double seconds)
    {
        if (drafted == 0)
        {
            _plainPass = _alone++ == 0 ? seconds : Average(_plainPass, seconds);
            return;
        }

        _alone = Math.Min(_alone, Alone);
        _verifyingToken = Average(_verifyingToken, Math.Max(0, seconds - (double.IsNaN(_plainPass) ? seconds : _plainPass)) / drafted);
    }

    /// <summary>How many of so many drafted tokens were accepted.</summary>
    public void Verified(int drafted, int accepted)
    {
        // The first that is not accepted ends the draft: those behind it were not judged.
        for (var i = 0; i < Math.Min(drafted, accepted + 1); i++) _acceptance += Newest / 4 * ((i < accepted ? 1 : 0) - _acceptance);
    }

    private static double Average(double average, double value) => double.IsNaN(average) ? value : average + (Newest * (value - average));
}

using System.ComponentModel;

namespace MatFormer;

/// <summary>The router of a layer, which chooses the hidden units of each token. Used by generated code.</summary>
[EditorBrowsable(EditorBrowsableState.Never)]
public sealed unsafe class PackedRouter
{
    private readonly PackedTable _weight;
    private readonly PackedTable _scale;
    private readonly PackedTable _thresholds;
    private readonly int _granularities;

    internal PackedRouter(PackedTable weight, PackedTable scale, PackedTable thresholds, int granularities) =>
        (_weight, _scale, _thresholds, _granularities) = (weight, scale, thresholds, granularities);

    /// <summary>
    /// Returns the granularity of a token, and the factor of what its feed-forward adds: 1 + alpha * score. The widest granularity whose
    /// log-odds reach its threshold takes the token.
    /// </summary>
    /// <param name="kernels">The arithmetic.</param>
    /// <param name="x">The token before the norm, padded like the rows of the router.</param>
    /// <param name="budget">The place of the budget among the declared ones.</param>
    internal (int Granularity, float Factor) Choose(DecodingKernels kernels, float* x, int budget)
    {
        var logits = stackalloc float[_granularities];
        for (var g = 0; g < _granularities; g++) logits[g] = kernels.Dot(x, _weight.Row(g), _weight.Stride);
        var taken = _granularities - 1;
        var odds = Odds(logits, taken);
        while (taken > 0 && !(odds >= _thresholds.Row(budget)[taken - 1])) odds = Odds(logits, --taken);
        return (taken, 1 + (_scale.Row(0)[0] / (1 + MathF.Exp(-odds))));
    }

    // The log-odds of a softmax: the logit minus the log-sum-exp of the others. Its score is 1 / (1 + exp(-log-odds)).
    private float Odds(float* logits, int granularity)
    {
        var (largest, sum) = (float.NegativeInfinity, 0f);
        for (var g = 0; g < _granularities; g++)
            if (g != granularity) largest = MathF.Max(largest, logits[g]);
        for (var g = 0; g < _granularities; g++)
            if (g != granularity) sum += MathF.Exp(logits[g] - largest);
        return logits[granularity] - largest - MathF.Log(sum);
    }
}

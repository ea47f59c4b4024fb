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
    /// score reaches its threshold takes the token.
    /// </summary>
    /// <param name="kernels">The arithmetic.</param>
    /// <param name="x">The token before the norm, padded like the rows of the router.</param>
    /// <param name="budget">The place of the budget among the declared ones.</param>
    internal (int Granularity, float Factor) Choose(DecodingKernels kernels, float* x, int budget)
    {
        var scores = stackalloc float[_granularities];
        var largest = float.NegativeInfinity;
        for (var g = 0; g < _granularities; g++)
        {
            scores[g] = kernels.Dot(x, _weight.Row(g), _weight.Stride);
            largest = MathF.Max(largest, scores[g]);
        }

        var sum = 0f;
        for (var g = 0; g < _granularities; g++) sum += scores[g] = MathF.Exp(scores[g] - largest);
        var taken = _granularities - 1;
        while (taken > 0 && !(scores[taken] / sum >= _thresholds.Row(budget)[taken - 1])) taken--;
        return (taken, 1 + (_scale.Row(0)[0] * scores[taken] / sum));
    }
}

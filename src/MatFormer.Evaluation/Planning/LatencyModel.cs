namespace MatFormer;

/// <summary>
/// Predicts the time of a token, image or text as a sum: a base, plus for each layer the time that its choice takes beyond the narrowest
/// choice. Equal layers take equal times. Wider choices are never predicted to be faster.
/// </summary>
internal sealed class LatencyModel
{
    private const int MostSweeps = 100_000;

    // For each layer and choice, the milliseconds beyond the narrowest choice.
    private readonly double[][] _beyond;

    private LatencyModel(double[][] beyond, double whole) => (_beyond, Whole) = (beyond, whole);

    /// <summary>The milliseconds of the whole model.</summary>
    public double Whole { get; }

    /// <summary>Returns the milliseconds that a choice of a layer adds to those of the whole model.</summary>
    public double Difference(int layer, int choice) => _beyond[layer][choice] - _beyond[layer][^1];

    /// <summary>
    /// Returns the mixes to time: the granularities, and the whole model and the narrowest granularity with every second layer of a kind
    /// changed to each of its choices.
    /// </summary>
    public static IReadOnlyList<int[]> Probes(MixSpace space)
    {
        var granularities = space.Granularities.ToList();
        var probes = new List<int[]>();
        foreach (var mix in granularities) Add(mix);
        foreach (var kind in space.Kinds.Distinct())
        {
            for (var choice = 0; choice < space.Choices[kind].Length; choice++)
            {
                foreach (var others in (int[][])[granularities[^1], granularities[0]])
                {
                    int[] mix = [.. others];
                    var isHit = true;
                    for (var layer = 0; layer < mix.Length; layer++)
                    {
                        if (space.Kinds[layer] != kind) continue;
                        if (isHit) mix[layer] = choice;
                        isHit = !isHit;
                    }

                    Add(mix);
                }
            }
        }

        return probes;

        void Add(int[] mix)
        {
            if (space.KeepsAny(mix) && !probes.Any(p => p.AsSpan().SequenceEqual(mix))) probes.Add(mix);
        }
    }

    /// <summary>Fits a model to measured times by non-negative least squares of the relative errors.</summary>
    /// <param name="space">The space of mixes.</param>
    /// <param name="mixes">The timed mixes.</param>
    /// <param name="milliseconds">The measured milliseconds of these mixes.</param>
    public static LatencyModel Fit(MixSpace space, IReadOnlyList<int[]> mixes, ReadOnlySpan<double> milliseconds)
    {
        // The first unknown is the base. Then, for each kind of layer, there is one unknown per step from a choice to the next wider one.
        var first = new int[space.Layers];
        var unknowns = 1;
        for (var layer = 0; layer < space.Layers; layer++)
        {
            if (space.Kinds[layer] != layer) continue;
            first[layer] = unknowns;
            unknowns += space.Choices[layer].Length - 1;
        }

        var rows = new double[mixes.Count][];
        var ones = new double[mixes.Count];
        for (var i = 0; i < rows.Length; i++)
        {
            rows[i] = new double[unknowns];
            ones[i] = 1;
            rows[i][0] = 1;
            for (var layer = 0; layer < space.Layers; layer++)
                for (var step = 0; step < mixes[i][layer]; step++) rows[i][first[space.Kinds[layer]] + step]++;
            for (var unknown = 0; unknown < unknowns; unknown++) rows[i][unknown] /= milliseconds[i];
        }

        var fitted = NonNegativeLeastSquares(rows, ones);
        var beyond = new double[space.Layers][];
        var whole = fitted[0];
        for (var layer = 0; layer < space.Layers; layer++)
        {
            beyond[layer] = new double[space.Choices[layer].Length];
            for (var choice = 1; choice < beyond[layer].Length; choice++)
                beyond[layer][choice] = beyond[layer][choice - 1] + fitted[first[space.Kinds[layer]] + choice - 1];
            whole += beyond[layer][^1];
        }

        return new LatencyModel(beyond, whole);
    }

    /// <summary>
    /// Returns the non-negative x that minimises the squared distance between rows x and the targets. It uses coordinate descent: each
    /// number in turn is set to its best value, until none changes.
    /// </summary>
    internal static double[] NonNegativeLeastSquares(double[][] rows, double[] targets)
    {
        var count = rows[0].Length;
        var (gram, moments) = (new double[count][], new double[count]);
        for (var i = 0; i < count; i++)
        {
            gram[i] = [.. Enumerable.Range(0, count).Select(j => rows.Sum(row => row[i] * row[j]))];
            moments[i] = rows.Zip(targets, (row, target) => row[i] * target).Sum();
        }

        var x = new double[count];
        for (var sweep = 0; sweep < MostSweeps; sweep++)
        {
            var isDone = true;
            for (var i = 0; i < count; i++)
            {
                if (gram[i][i] == 0) continue;
                var slope = -moments[i];
                for (var j = 0; j < count; j++) slope += gram[i][j] * x[j];
                var next = Math.Max(0, x[i] - (slope / gram[i][i]));
                isDone &= Math.Abs(next - x[i]) <= 1e-12 * Math.Max(1e-3, Math.Abs(next));
                x[i] = next;
            }

            if (isDone) break;
        }

        return x;
    }
}

namespace MatFormer;

/// <summary>
/// The loss of a mix as a sum: that of the whole model, and for each layer what its choice adds. That is the mean of what it adds alone
/// where all other layers are whole and where they are of the narrowest granularity, put right so that the granularities have the losses
/// that they have.
/// </summary>
internal sealed class LossModel
{
    // What a layer without an effect of its own takes part in the corrections, of what layers have on average.
    private const double LeastShare = 0.1;

    // What makes no difference to a loss, but is not nothing.
    private const double Negligible = 1e-9;

    private readonly double[][] _added;

    private LossModel(double whole, double[][] added) => (Whole, _added) = (whole, added);

    /// <summary>The loss of the whole model.</summary>
    public double Whole { get; }

    /// <summary>What a choice of a layer adds to the loss of the whole model.</summary>
    public double Difference(int layer, int choice) => _added[layer][choice];

    /// <summary>
    /// The mixes to evaluate: the granularities, and the whole model and the narrowest granularity with each other choice of each layer.
    /// </summary>
    public static IReadOnlyList<int[]> Probes(MixSpace space)
    {
        var probes = new List<int[]>();
        foreach (var mix in space.Granularities) Add(mix);
        for (var layer = 0; layer < space.Layers; layer++)
        {
            for (var choice = 0; choice < space.Choices[layer].Length; choice++)
                foreach (var others in Backgrounds(space)) Add(With(others, layer, choice));
        }

        return probes;

        void Add(int[] mix)
        {
            if (space.KeepsAny(mix) && !probes.Any(p => p.AsSpan().SequenceEqual(mix))) probes.Add(mix);
        }
    }

    /// <summary>Makes it of what was measured.</summary>
    /// <param name="space">The mixes.</param>
    /// <param name="mixes">Those of <see cref="Probes"/>.</param>
    /// <param name="measured">Their losses.</param>
    public static LossModel Fit(MixSpace space, IReadOnlyList<int[]> mixes, ReadOnlySpan<double> measured)
    {
        var losses = measured.ToArray();
        var whole = LossOf(space.Whole);
        var added = new double[space.Layers][];
        for (var layer = 0; layer < space.Layers; layer++)
        {
            added[layer] = new double[space.Choices[layer].Length];
            for (var choice = 0; choice < added[layer].Length - 1; choice++)
            {
                // Only a model of one layer that may be left out has a choice that cannot be measured.
                if (!space.KeepsAny(With(space.Whole, layer, choice))) continue;
                added[layer][choice] = Backgrounds(space).Average(
                    others => LossOf(With(others, layer, choice)) - LossOf(With(others, layer, added[layer].Length - 1)));
            }
        }

        Correct(added, [.. space.Granularities.SkipLast(1)], [.. space.Granularities.SkipLast(1).Select(g => LossOf(g) - whole)]);
        return new LossModel(whole, added);

        double LossOf(int[] mix)
        {
            for (var i = 0; i < losses.Length; i++)
                if (mixes[i].AsSpan().SequenceEqual(mix)) return losses[i];
            throw new ArgumentException("A mix that is needed was not measured.", nameof(mixes));
        }
    }

    private static int[][] Backgrounds(MixSpace space) => [space.Whole, space.Granularities.First()];

    private static int[] With(int[] mix, int layer, int choice)
    {
        int[] changed = [.. mix];
        changed[layer] = choice;
        return changed;
    }

    // Changes them so that the mixes' sums are the totals. Each number takes a part that goes with its magnitude: of all changes that do,
    // it is the one whose squares over these are the least.
    private static void Correct(double[][] added, IReadOnlyList<int[]> mixes, double[] totals)
    {
        var mean = added.SelectMany(a => a.SkipLast(1)).Select(Math.Abs).DefaultIfEmpty().Average();
        var system = new double[mixes.Count][];
        for (var i = 0; i < system.Length; i++)
        {
            system[i] = new double[mixes.Count + 1];
            system[i][^1] = totals[i];
            for (var layer = 0; layer < added.Length; layer++)
            {
                var choice = mixes[i][layer];
                system[i][^1] -= added[layer][choice];
                for (var j = 0; j < mixes.Count; j++)
                    if (mixes[j][layer] == choice) system[i][j] += Share(layer, choice);
            }
        }

        var multipliers = Solve(system);
        var changes = Array.ConvertAll(added, choices => new double[choices.Length]);
        for (var i = 0; i < mixes.Count; i++)
        {
            for (var layer = 0; layer < added.Length; layer++)
                changes[layer][mixes[i][layer]] += multipliers[i] * Share(layer, mixes[i][layer]);
        }

        for (var layer = 0; layer < added.Length; layer++)
            for (var choice = 0; choice < added[layer].Length; choice++) added[layer][choice] += changes[layer][choice];

        // A whole layer adds nothing, whatever else is true.
        double Share(int layer, int choice) =>
            choice == added[layer].Length - 1 ? 0 : Math.Abs(added[layer][choice]) + (LeastShare * mean) + Negligible;
    }

    // Gauss and Jordan, the largest pivot of each column first; a number that the equations leave open is 0.
    private static double[] Solve(double[][] system)
    {
        var count = system.Length;
        var solution = new double[count];
        var pivots = new int[count];
        var row = 0;
        for (var column = 0; column < count && row < count; column++)
        {
            var best = Enumerable.Range(row, count - row).MaxBy(r => Math.Abs(system[r][column]));
            if (Math.Abs(system[best][column]) < 1e-12) continue;
            (system[row], system[best]) = (system[best], system[row]);
            for (var other = 0; other < count; other++)
            {
                if (other == row) continue;
                var factor = system[other][column] / system[row][column];
                for (var c = column; c <= count; c++) system[other][c] -= factor * system[row][c];
            }

            pivots[row++] = column;
        }

        while (row-- > 0) solution[pivots[row]] = system[row][count] / system[row][pivots[row]];
        return solution;
    }
}

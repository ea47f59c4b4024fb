namespace MatFormer;

/// <summary>
/// Predicts the loss of a mix as a sum: the loss of the whole model, plus what the choice of each layer adds. What a choice adds is
/// measured twice, with all other layers whole and with all other layers of the narrowest granularity, and averaged. A correction then
/// makes the predictions of the granularities exact.
/// </summary>
internal sealed class LossModel
{
    // Each choice takes a share of the corrections even if it has no effect: this part of the mean effect of all choices.
    private const double LeastShare = 0.1;

    // A positive number that is too small to matter for a loss. It keeps shares above 0.
    private const double Negligible = 1e-9;

    private readonly double[][] _added;

    private LossModel(double whole, double[][] added) => (Whole, _added) = (whole, added);

    /// <summary>The loss of the whole model.</summary>
    public double Whole { get; }

    /// <summary>Returns what a choice of a layer adds to the loss of the whole model.</summary>
    public double Difference(int layer, int choice) => _added[layer][choice];

    /// <summary>
    /// Returns the mixes to evaluate: the granularities, and the whole model and the narrowest granularity with one layer changed to each
    /// of its choices.
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

    /// <summary>Fits a model to measured losses.</summary>
    /// <param name="space">The space of mixes.</param>
    /// <param name="mixes">The mixes that <see cref="Probes"/> returned.</param>
    /// <param name="measured">The measured losses of these mixes.</param>
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
                // A choice cannot be measured if it leaves out the only layer of a model.
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

    // Changes what choices add, so that the sums of the given mixes equal the totals. Among all such changes, this one minimises the sum of
    // the squared changes divided by the shares, so that larger numbers change more.
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

        // A whole layer adds nothing by definition, so it takes no share.
        double Share(int layer, int choice) =>
            choice == added[layer].Length - 1 ? 0 : Math.Abs(added[layer][choice]) + (LeastShare * mean) + Negligible;
    }

    // Gauss-Jordan elimination with the largest pivot of each column. An unknown that the equations do not determine is 0.
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

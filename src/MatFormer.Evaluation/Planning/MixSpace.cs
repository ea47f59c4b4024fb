using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// All mixes of a model. Each layer has distinct choices, narrowest first: to be left out, if the model allows it, and then what the
/// granularities keep of the layer. A mix is the index of a choice for each layer.
/// </summary>
internal sealed class MixSpace
{
    // The levels are the granularities, preceded by leaving out if the model allows it. For each level: its choice in each layer.
    private readonly int[][] _levels;

    public MixSpace(ModelSpec spec)
    {
        Spec = spec;
        _levels = new int[spec.Granularities.Length + (spec.CanSkip ? 1 : 0)][];
        for (var level = 0; level < _levels.Length; level++) _levels[level] = new int[spec.Layers];
        var all = ImmutableArray.CreateBuilder<ImmutableArray<LayerSlice>>(spec.Layers);
        for (var layer = 0; layer < spec.Layers; layer++)
        {
            var choices = new List<LayerSlice>();
            for (var level = 0; level < _levels.Length; level++)
            {
                var granularity = level - _levels.Length + spec.Granularities.Length;
                var slice = granularity < 0 ? LayerSlice.Skipped : spec.Granularities[granularity].Layers[layer];
                if (choices.Count == 0 || choices[^1] != slice) choices.Add(slice);
                _levels[level][layer] = choices.Count - 1;
            }

            all.Add([.. choices]);
        }

        Choices = all.MoveToImmutable();
        Kinds = KindsOf(spec, Choices);
    }

    public ModelSpec Spec { get; }

    public int Layers => Spec.Layers;

    /// <summary>The choices of each layer, narrowest first.</summary>
    public ImmutableArray<ImmutableArray<LayerSlice>> Choices { get; }

    /// <summary>For each layer, the index of the first layer with an equal block and equal choices.</summary>
    public ImmutableArray<int> Kinds { get; }

    /// <summary>The granularities as mixes, narrowest first.</summary>
    public IEnumerable<int[]> Granularities => _levels[^Spec.Granularities.Length..].Select(level => level.ToArray());

    /// <summary>The whole model as a mix.</summary>
    public int[] Whole => [.. _levels[^1]];

    /// <summary>The number of mixes that <see cref="Increasing"/> visits.</summary>
    public double IncreasingCount
    {
        get
        {
            // For each level, the number of mixes of the layers so far that end on this level.
            var counts = new double[_levels.Length];
            counts[0] = 1;
            for (var layer = 0; layer < Layers; layer++)
            {
                var next = new double[counts.Length];
                for (var from = 0; from < counts.Length; from++)
                {
                    for (var level = from; level < counts.Length; level++)
                        if (IsFirst(level, from, layer)) next[level] += counts[from];
                }

                counts = next;
            }

            return counts.Sum() - (Spec.CanSkip ? 1 : 0);
        }
    }

    /// <summary>
    /// Visits every increasing mix once: every mix in which no layer is of a lower granularity than the one before it (MatFormer, arXiv
    /// 2310.07707, section 3.3). The mix that leaves out every layer is not visited.
    /// </summary>
    /// <param name="table">The costs of the choices.</param>
    /// <param name="visit">Called with each mix and its cost. The array is reused after the call.</param>
    public void Increasing(MixTable table, Action<int[], MixCost> visit)
    {
        var mix = new int[Layers];
        Visit(0, 0, table.Whole);

        void Visit(int layer, int from, MixCost cost)
        {
            if (layer == Layers)
            {
                if (KeepsAny(mix)) visit(mix, cost);
                return;
            }

            for (var level = from; level < _levels.Length; level++)
            {
                if (!IsFirst(level, from, layer)) continue;
                mix[layer] = _levels[level][layer];
                Visit(layer + 1, level, cost + table.Differences[layer][mix[layer]]);
            }
        }
    }

    /// <summary>
    /// Returns the mix that the compiler solves a budget to (MatFormer, arXiv 2310.07707, section 3.3): the largest mix of two adjacent
    /// granularities, the narrower one in the first layers, whose predicted costs meet the budget. Null if even the narrowest exceeds it.
    /// </summary>
    public int[]? Solve(MixTable table, PlanBudget budget)
    {
        var granularities = Granularities.ToList();
        int[]? solved = null;
        for (var narrow = 0; narrow < Math.Max(1, granularities.Count - 1); narrow++)
        {
            var wider = granularities[Math.Min(narrow + 1, granularities.Count - 1)];
            for (var wideLayers = 0; wideLayers <= Layers; wideLayers++)
            {
                int[] mix = [.. granularities[narrow][..^wideLayers], .. wider[^wideLayers..]];
                if (!budget.Admits(table.Of(mix))) return solved;
                solved = mix;
            }
        }

        return solved;
    }

    /// <summary>False for a mix that leaves out every layer.</summary>
    public bool KeepsAny(ReadOnlySpan<int> mix) => !Spec.CanSkip || mix.ContainsAnyExcept(0);

    /// <summary>Returns what a mix keeps of each layer.</summary>
    public ImmutableArray<LayerSlice> LayersOf(ReadOnlySpan<int> mix)
    {
        var layers = ImmutableArray.CreateBuilder<LayerSlice>(mix.Length);
        for (var layer = 0; layer < mix.Length; layer++) layers.Add(Choices[layer][mix[layer]]);
        return layers.MoveToImmutable();
    }

    /// <summary>Returns the mix that keeps the given part of each layer.</summary>
    public int[] MixOf(ImmutableArray<LayerSlice> layers) => [.. layers.Select((slice, layer) => Choices[layer].IndexOf(slice))];

    // Of levels with the same choice in a layer, only the lowest is used, because it allows the next layers the most levels.
    private bool IsFirst(int level, int from, int layer) => level == from || _levels[level][layer] != _levels[level - 1][layer];

    private static ImmutableArray<int> KindsOf(ModelSpec spec, ImmutableArray<ImmutableArray<LayerSlice>> choices) =>
    [
        .. Enumerable.Range(0, spec.Layers).Select(layer => Enumerable.Range(0, layer + 1).First(
            other => spec.Blocks[other] == spec.Blocks[layer] && choices[other].SequenceEqual(choices[layer]))),
    ];
}

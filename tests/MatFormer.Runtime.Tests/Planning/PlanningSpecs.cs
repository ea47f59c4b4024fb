using System.Collections.Immutable;

namespace MatFormer.Runtime.Tests.Planning;

/// <summary>Makes models without weights to plan for, and the costs of their mixes.</summary>
internal static class PlanningSpecs
{
    /// <summary>
    /// Draws a model with two kinds of layers. Its granularities may be equal in some layers, and some of them keep fewer heads.
    /// </summary>
    public static ModelSpec Draw(Random random, int mostLayers = 5)
    {
        var (layers, count, skips) = (random.Next(1, mostLayers + 1), random.Next(1, 5), random.Next(2) == 0);
        int[] kinds = [.. Enumerable.Range(0, layers).Select(_ => random.Next(2))];
        var granularities = new List<Granularity>();
        var slices = Enumerable.Range(0, layers).Select(layer => new LayerSlice(4 + (4 * kinds[layer]), 1)).ToArray();
        for (var g = 0; g < count; g++)
        {
            if (g > 0)
            {
                for (var layer = 0; layer < layers; layer++)
                    if (random.Next(4) > 0) slices[layer] = new LayerSlice(
                        slices[layer].HiddenWidth + random.Next(3) + 1, slices[layer].Heads + random.Next(2));
                slices[^1] = slices[^1] with { HiddenWidth = slices[^1].HiddenWidth + 1 };
            }

            granularities.Add(new Granularity($"G{g}", [.. slices]));
        }

        var blocks = kinds.Select((kind, layer) => new BlockSpec
        {
            HiddenWidth = slices[layer].HiddenWidth,
            Activation = Activation.SwiGlu,
            Bias = kind == 1,
            Heads = slices[layer].Heads,
            KeyValueHeads = slices[layer].Heads,
            Parameters = new(10, 3, 7),
            Flops = new(20, 6, 14),
            KeyValueCacheBytesPerToken = new(0, 0, 8),
        });
        return TinyModel.Spec with { Name = "Drawn", Granularities = [.. granularities], Blocks = [.. blocks], CanSkip = skips };
    }

    /// <summary>Returns all mixes that do not skip every layer.</summary>
    public static IEnumerable<int[]> All(MixSpace space)
    {
        IEnumerable<int[]> mixes = [[]];
        foreach (var choices in space.Choices)
            mixes = mixes.SelectMany(mix => Enumerable.Range(0, choices.Length).Select(choice => (int[])[.. mix, choice]));
        return mixes.Where(mix => space.KeepsAny(mix));
    }

    /// <summary>Returns the sizes of mixes, with two bytes of memory for each parameter.</summary>
    public static MixTable Sizes(MixSpace space) => MixTable.OfSizes(space, layers => 2 * space.Spec.ParameterCount(layers));

    /// <summary>
    /// Draws costs. Times grow with the width and are equal in layers of one kind. Losses mostly fall with the width and differ by layer.
    /// </summary>
    public static MixTable Draw(MixSpace space, Random random)
    {
        var sizes = Sizes(space);
        var differences = new MixCost[space.Layers][];
        for (var layer = 0; layer < space.Layers; layer++)
        {
            differences[layer] = [.. sizes.Differences[layer]];
            for (var choice = differences[layer].Length - 2; choice >= 0; choice--)
            {
                var wider = differences[layer][choice + 1];
                differences[layer][choice] = differences[layer][choice] with
                {
                    Milliseconds = space.Kinds[layer] == layer ? wider.Milliseconds - random.NextDouble()
                        : differences[space.Kinds[layer]][choice].Milliseconds,
                    Loss = wider.Loss + (random.NextDouble() * 0.1) - 0.01,
                };
            }
        }

        var fastest = differences.Sum(choices => choices.Min(c => c.Milliseconds));
        return new MixTable(sizes.Whole with { Milliseconds = 1 - fastest, Loss = 2 }, differences);
    }
}

/// <summary>Measures the costs of a table, with noise on the times.</summary>
internal sealed class TableMeter(MixSpace space, MixTable table, double noise = 0) : IMixMeter
{
    private readonly Random _random = new(5);

    /// <summary>The number of mixes that were timed.</summary>
    public int Timed { get; private set; }

    public double[] Milliseconds(IReadOnlyList<ImmutableArray<LayerSlice>> mixes)
    {
        Timed += mixes.Count;
        return [.. mixes.Select(m => table.Of(space.MixOf(m)).Milliseconds * (1 + (noise * (_random.NextDouble() - 0.5))))];
    }

    public double[] Losses(IReadOnlyList<ImmutableArray<LayerSlice>> mixes) => [.. mixes.Select(m => table.Of(space.MixOf(m)).Loss)];
}

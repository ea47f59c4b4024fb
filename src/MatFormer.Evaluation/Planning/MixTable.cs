namespace MatFormer;

/// <summary>The costs of mixes as sums over their layers.</summary>
/// <param name="Whole">The cost of the whole model.</param>
/// <param name="Differences">The cost that each choice of each layer adds to that of the whole model. It is usually negative.</param>
internal sealed record MixTable(MixCost Whole, MixCost[][] Differences)
{
    /// <summary>Returns the cost of a mix, summed from the first layer to the last.</summary>
    public MixCost Of(ReadOnlySpan<int> mix)
    {
        var cost = Whole;
        for (var layer = 0; layer < mix.Length; layer++) cost += Differences[layer][mix[layer]];
        return cost;
    }

    /// <summary>Creates the table of the costs that need no measurement: memory, parameters and FLOPs.</summary>
    /// <param name="space">The mixes.</param>
    /// <param name="memory">Returns the bytes that a model of the given layers takes.</param>
    public static MixTable OfSizes(MixSpace space, Func<ReadOnlySpan<LayerSlice>, long> memory)
    {
        var whole = Cost(space.Spec.WholeLayers.AsSpan());
        var differences = new MixCost[space.Layers][];
        for (var layer = 0; layer < space.Layers; layer++)
        {
            if (space.Kinds[layer] != layer)
            {
                differences[layer] = differences[space.Kinds[layer]];
                continue;
            }

            differences[layer] = new MixCost[space.Choices[layer].Length];
            for (var choice = 0; choice < differences[layer].Length; choice++)
            {
                LayerSlice[] layers = [.. space.Spec.WholeLayers];
                layers[layer] = space.Choices[layer][choice];
                var cost = Cost(layers);
                differences[layer][choice] = new MixCost(
                    0, 0, cost.MemoryBytes - whole.MemoryBytes, cost.Parameters - whole.Parameters,
                    cost.Flops - whole.Flops);
            }
        }

        return new MixTable(whole, differences);

        MixCost Cost(ReadOnlySpan<LayerSlice> layers) =>
            new(0, 0, memory(layers), space.Spec.ParameterCount(layers), space.Spec.Flops(layers));
    }

    /// <summary>Returns this table with times and losses added.</summary>
    public MixTable With(LatencyModel latency, LossModel loss)
    {
        var differences = new MixCost[Differences.Length][];
        for (var layer = 0; layer < differences.Length; layer++)
        {
            differences[layer] = new MixCost[Differences[layer].Length];
            for (var choice = 0; choice < differences[layer].Length; choice++)
            {
                differences[layer][choice] = Differences[layer][choice] with
                {
                    Milliseconds = latency.Difference(layer, choice),
                    Loss = loss.Difference(layer, choice),
                };
            }
        }

        return new MixTable(Whole with { Milliseconds = latency.Whole, Loss = loss.Whole }, differences);
    }

    /// <summary>Returns this table with other losses.</summary>
    /// <param name="losses">The loss that each choice of each layer adds to that of the whole model.</param>
    public MixTable WithLosses(double[][] losses) => new(
        Whole,
        [
            .. Differences.Select((choices, layer) =>
                choices.Select((cost, choice) => cost with { Loss = losses[layer][choice] }).ToArray()),
        ]);
}

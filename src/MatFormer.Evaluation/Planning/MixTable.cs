namespace MatFormer;

/// <summary>What mixes cost, as sums over their layers.</summary>
/// <param name="Whole">The whole model.</param>
/// <param name="Differences">What each choice of each layer adds to that, mostly less than nothing.</param>
internal sealed record MixTable(MixCost Whole, MixCost[][] Differences)
{
    /// <summary>What a mix costs, added up from the first layer to the last.</summary>
    public MixCost Of(ReadOnlySpan<int> mix)
    {
        var cost = Whole;
        for (var layer = 0; layer < mix.Length; layer++) cost += Differences[layer][mix[layer]];
        return cost;
    }

    /// <summary>What is known without measuring: memory, parameters and FLOPs.</summary>
    /// <param name="space">The mixes.</param>
    /// <param name="memory">Bytes of what a decoder of these layers takes.</param>
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

    /// <summary>The same with times and losses.</summary>
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
}
